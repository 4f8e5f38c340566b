// SPDX-License-Identifier: GPL-2.0
//! Interrupt routes, in-kernel devices and counters, as the core wants them.

use crate::{
    adapter::{self, Route},
    flic::Flic,
    sie::Sie,
};
use kernel::prelude::*;
use kvm_core::{
    statistics,
    vm::Vm,
    wiring::{Delivery, Source, Wiring},
};
use kvm_sys::irq::IrqOff;
use kvm_uapi::irq::RoutingEntry;

/// There are no in-kernel devices on a bus.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {}

statistics! {
    /// What a VM counts.
    pub(crate) struct VmStats {
        /// Service signals that were injected.
        inject_service_signal: counter,
        /// Signals that routes to adapters got.
        io_set_adapter_int: counter,
        /// Interruptions of adapters from userspace.
        io_flic_inject_airq: counter,
    }
}

statistics! {
    /// What a vCPU counts.
    pub(crate) struct VcpuStats {
        /// Returns to userspace.
        exit_userspace: counter,
        /// The host was interrupted, or an access needed its tables.
        exit_null: counter,
        /// Instructions.
        exit_instruction: counter,
        /// Program interruptions.
        exit_program_interruption: counter,
        /// External interruptions.
        exit_external_interruption: counter,
        /// External interruptions that the guest can take now.
        exit_external_request: counter,
        /// I/O interruptions that the guest can take now.
        exit_io_request: counter,
        /// Stops.
        exit_stop_request: counter,
        /// Partial executions.
        exit_pei: counter,
        /// Invalid states.
        exit_validity: counter,
        /// Operation exceptions.
        exit_operation_exception: counter,
        /// Waits.
        exit_wait_state: counter,
        /// Instructions that waited for the host to be through with the guest's tables.
        instruction_ipte_interlock: counter,
        /// Signals while the guest ran.
        signal_exits: counter,
        /// Accesses that the host's tables refused.
        exit_host_fault: counter,
    }
}

impl Wiring<Self> for Sie {
    type Route = Route;
    type Device = Device;
    type AttrDevice = Flic;
    type VmStats = VmStats;
    type VcpuStats = VcpuStats;
    const COALESCED_PAGE: Option<u32> = None;
    const IRQCHIPS: bool = true;

    // Routes and irqfds are there whether or not userspace said that it wants them.
    fn has_irqchip(_vm: &Vm<Self>) -> bool {
        true
    }

    fn may_resample(_vm: &Vm<Self>) -> bool {
        true
    }

    fn parse_route(vm: &Vm<Self>, entry: &RoutingEntry) -> Result<Route> {
        adapter::parse(vm, entry)
    }

    fn deliver(
        vm: &Vm<Self>,
        route: &Route,
        _source: Source,
        level: bool,
        _report: bool,
    ) -> Delivery {
        if level {
            adapter::deliver(vm, route)
        } else {
            // Adapters have no level to be lowered.
            Delivery::COALESCED
        }
    }

    fn device_write(_vm: &Vm<Self>, device: Device, _address: u64, _data: &[u8]) -> bool {
        match device {}
    }

    fn device_read(
        _vm: &Vm<Self>,
        device: Device,
        _address: u64,
        _data: &mut [u8],
        _off: Option<&IrqOff>,
    ) -> bool {
        match device {}
    }
}
