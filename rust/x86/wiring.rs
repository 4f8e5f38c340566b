// SPDX-License-Identifier: GPL-2.0
//! Interrupt routes, in-kernel devices and counters of x86 VMs, as the core wants
//! them.

use crate::{
    irqchip::{self, ioapic, pic, route, Mode},
    vendor::{Vendor, X86},
};
use kernel::error::Result;
use kvm_core::{
    device::NoDevice,
    statistics,
    vm::Vm,
    wiring::{Delivery, Pin, Source, Wiring},
};
use kvm_sys::irq::IrqOff;
use kvm_uapi::irq::RoutingEntry;

pub use crate::irqchip::route::Route;

statistics! {
    /// What an x86 VM counts.
    pub struct VmStats {
        /// Shadow pages that were dropped.
        mmu_shadow_zapped: counter,
        /// Guest writes to shadowed tables.
        mmu_pte_write: counter,
        /// Shadowed directories that were dropped.
        mmu_pde_zapped: counter,
        /// Shadow pages dropped because the guest wrote to them a lot.
        mmu_flooded: counter,
        /// Shadow pages dropped for want of room.
        mmu_recycled: counter,
        /// Tables that had to be made.
        mmu_cache_miss: counter,
        /// Shadow pages that lag behind the guest's.
        mmu_unsync: gauge,
        /// Tables in use.
        mmu_shadow_pages: gauge,
        /// Mappings of 4 KiB.
        pages_4k: gauge,
        /// Mappings of 2 MiB.
        pages_2m: gauge,
        /// Mappings of 1 GiB.
        pages_1g: gauge,
        /// Huge pages split so that parts of them can be executed.
        nx_lpage_splits: gauge,
        /// Most mappings of one page.
        max_mmu_rmap_size: peak,
        /// Most collisions in the table of shadow pages.
        max_mmu_page_hash_collisions: peak,
    }
}

statistics! {
    /// What an x86 vCPU counts.
    pub struct VcpuStats {
        /// Page faults.
        pf_taken: counter,
        /// Faults that mapped something.
        pf_fixed: counter,
        /// Faults that led to emulation.
        pf_emulate: counter,
        /// Faults whose reason was gone.
        pf_spurious: counter,
        /// Faults that only had to change an entry.
        pf_fast: counter,
        /// Marks made for addresses without memory.
        pf_mmio_spte_created: counter,
        /// Faults for the guest to handle.
        pf_guest: counter,
        /// Flushes of the whole TLB.
        tlb_flush: counter,
        /// Invalidations of one page.
        invlpg: counter,
        /// Exits from the guest.
        exits: counter,
        /// Port accesses.
        io_exits: counter,
        /// Accesses to addresses without memory.
        mmio_exits: counter,
        /// Returns to userspace for a signal.
        signal_exits: counter,
        /// Exits because the guest can take an interrupt.
        irq_window_exits: counter,
        /// Exits because the guest can take an NMI.
        nmi_window_exits: counter,
        /// Flushes of the level 1 data cache.
        l1d_flush: counter,
        /// HLT.
        halt_exits: counter,
        /// Returns to userspace because it asked for an interrupt window.
        request_irq_exits: counter,
        /// Exits for the host's interrupts.
        irq_exits: counter,
        /// Loads of the host's state.
        host_state_reload: counter,
        /// Loads of the guest's FPU.
        fpu_reload: counter,
        /// Emulated instructions.
        insn_emulation: counter,
        /// Instructions that couldn't be emulated.
        insn_emulation_fail: counter,
        /// Hypercalls.
        hypercalls: counter,
        /// Injected interrupts.
        irq_injections: counter,
        /// Injected NMIs.
        nmi_injections: counter,
        /// Looks for something to inject.
        req_event: counter,
        /// Entries into a nested guest.
        nested_run: counter,
        /// Yields to another vCPU that were tried.
        directed_yield_attempted: counter,
        /// Those that another vCPU took.
        directed_yield_successful: counter,
        /// Preemptions that the guest was told of.
        preemption_reported: counter,
        /// Other preemptions.
        preemption_other: counter,
        /// Whether it runs a nested guest.
        guest_mode: flag,
        /// Exits because the guest didn't open a window for too long.
        notify_window_exits: counter,
    }
}

/// An in-kernel device. The 8259A and the 8254 have several ranges of ports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The two 8259A.
    Pic,
    /// The IOAPIC.
    IoApic,
    /// The 8254.
    Pit,
}

impl<V: Vendor> Wiring<Self> for X86<V> {
    type Route = Route;
    type Device = Device;
    type AttrDevice = NoDevice;
    type VmStats = VmStats;
    type VcpuStats = VcpuStats;
    const COALESCED_PAGE: Option<u32> = Some(2);
    const IRQCHIPS: bool = true;

    fn has_irqchip(vm: &Vm<Self>) -> bool {
        vm.arch().irqchip().mode() != Mode::None
    }

    fn may_resample(vm: &Vm<Self>) -> bool {
        vm.arch().irqchip().mode() == Mode::Kernel
    }

    fn parse_route(vm: &Vm<Self>, entry: &RoutingEntry) -> Result<Route> {
        route::parse(vm, entry)
    }

    fn route_pin(route: &Route) -> Option<Pin> {
        route::pin_of(route)
    }

    fn show_mappings(stats: &VmStats, [small, large, huge]: [u64; 3]) {
        stats.pages_4k.set(small);
        stats.pages_2m.set(large);
        stats.pages_1g.set(huge);
    }

    #[inline]
    fn deliver(
        vm: &Vm<Self>,
        route: &Route,
        source: Source,
        level: bool,
        report: bool,
    ) -> Delivery {
        route::deliver(vm, route, source, level, report)
    }

    fn routes_changed(vm: &Vm<Self>) {
        irqchip::rescan(vm);
    }

    fn acked(vm: &Vm<Self>, gsi: u32) {
        irqchip::pit::acked(vm, gsi);
    }

    fn device_write(vm: &Vm<Self>, device: Device, address: u64, data: &[u8]) -> bool {
        let irqchip = vm.arch().irqchip();
        let Some(board) = irqchip.board() else { return false };
        match device {
            Device::Pic => pic::write(vm, board, address as u16, data),
            Device::IoApic => return ioapic::write(vm, board, address, data),
            Device::Pit => match irqchip.pit() {
                Some(pit) => pit.write(vm, address, data),
                None => return false,
            },
        }
        true
    }

    fn device_read(
        vm: &Vm<Self>,
        device: Device,
        address: u64,
        data: &mut [u8],
        off: Option<&IrqOff>,
    ) -> bool {
        let irqchip = vm.arch().irqchip();
        let Some(board) = irqchip.board() else { return false };
        match device {
            Device::Pic => pic::read(vm, board, address as u16, data, off),
            Device::IoApic => return ioapic::read(board, address, data, off),
            Device::Pit => match irqchip.pit() {
                Some(pit) => pit.read(address, data, off),
                None => return false,
            },
        }
        true
    }
}
