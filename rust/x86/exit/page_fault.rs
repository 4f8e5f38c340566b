// SPDX-License-Identifier: GPL-2.0
//! An access to guest memory that the second-level tables don't allow.

use crate::{emulate, outcome::Next, pv::async_fault, state::Cx, trace, userspace, vendor::Vendor};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::Fault;
use kvm_paging::{addr::Gpa, entry::Access};
use kvm_sys::{irq::IrqOff, x86::trace::kvm_fast_mmio};
use kvm_uapi::run::{self, reason, KVM_INTERNAL_ERROR_DELIVERY_EV};

/// What the guest touched.
#[derive(Clone, Copy, Debug)]
pub struct Touched {
    /// Where.
    pub gpa: Gpa,
    /// How; a write if the processor doesn't say.
    pub access: Access,
    /// It is the instruction's own access, and none of the walk to it.
    pub is_final: bool,
}

/// An access to what is known to be a device.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn mmio<V: Vendor>(cx: &mut Cx<'_, V>, touched: Touched) -> Result<Next> {
    let Touched { gpa, access, .. } = touched;
    if access.contains(Access::WRITE) && cx.vm.io().fast_mmio(gpa.raw()) {
        kvm_fast_mmio(|| (gpa.raw(),));
        return emulate::skip_access(cx);
    }
    if cx.vm.memory_of(cx.state.smm.is_active()).is_mmio(gpa) {
        return device(cx, touched);
    }
    // The mark is from before a change of the slots.
    handle(cx, touched)
}

/// Handles an access to what is known to be a device's in any context in which spin locks may
/// be taken, if the kernel has what it accesses and a plain move makes it; whether it did.
#[inline(never)]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>, touched: Touched, off: &IrqOff) -> bool {
    let Touched { gpa, access, is_final } = touched;
    if access.contains(Access::WRITE) {
        let vm = cx.vm;
        let first = || emulate::access_next_at_once(cx);
        let next = vm.io().signal_any_length(gpa.raw(), first, off);
        if let Some(next) = next {
            kvm_fast_mmio(|| (gpa.raw(),));
            emulate::advance(cx, next);
            return true;
        }
    }
    is_final && emulate::access_at_once(cx, gpa, off)
}

/// An access to a device: an instruction's, which is emulated. The delivery of an event
/// can't be: its descriptors and its stack have to be memory.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn device<V: Vendor>(cx: &mut Cx<'_, V>, touched: Touched) -> Result<Next> {
    let Touched { gpa, is_final, .. } = touched;
    if cx.state.events.injected.is_none() {
        return emulate::access(cx, is_final.then_some(gpa));
    }
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let data = [0, 0, 0, gpa.raw(), cpu.into()];
    userspace::internal_error(cx, KVM_INTERNAL_ERROR_DELIVERY_EV, &data)
}

/// Maps what the guest touched, or emulates the access if there is no memory.
///
/// # Errors
///
/// `EFAULT` if the VMM's memory isn't there; `EHWPOISON` if a page of a file is broken;
/// `ENOMEM`; `EINTR`.
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>, touched: Touched) -> Result<Next> {
    let Touched { gpa, access, .. } = touched;
    trace::page_fault(cx, gpa.raw());
    let stats = &cx.vcpu.stats().arch;
    stats.pf_taken.add(1);
    let vm = cx.vm;
    let memory = vm.memory_of(cx.state.smm.is_active());
    let mut fault = if async_fault::may_delay(cx) {
        memory.quick_fault(&mut cx.state.memory, gpa, access)
    } else {
        memory.fault(&mut cx.state.memory, gpa, access)
    };
    if let Ok(Fault::Slow(address)) = fault {
        if let Some(next) = async_fault::begin(cx, gpa, address) {
            return Ok(next);
        }
        fault = memory.fault(&mut cx.state.memory, gpa, access);
    }
    match fault {
        Ok(Fault::Mapped) => stats.pf_fixed.add(1),
        Ok(Fault::Spurious) => stats.pf_spurious.add(1),
        Ok(Fault::Mmio | Fault::ReadOnly) => stats.pf_emulate.add(1),
        Ok(Fault::Retry | Fault::Slow(_)) | Err(_) => {}
    }
    match fault {
        Ok(Fault::Mapped | Fault::Spurious | Fault::Retry | Fault::Slow(_)) => Ok(Next::Resume),
        Ok(Fault::Mmio | Fault::ReadOnly) => device(cx, touched),
        Err(error) if error == EFAULT || error == EHWPOISON => {
            let fault = run::MemoryFault { flags: 0, gpa: gpa.raw() & !0xfff, size: 0x1000 };
            let _ = userspace::exit_with(cx, reason::KVM_EXIT_MEMORY_FAULT, fault)?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}
