// SPDX-License-Identifier: GPL-2.0
//! The page at the usual address of local APICs, where the processor knows what accesses to it
//! mean (Intel's "virtualize APIC accesses"): it then has the task priority by itself, and tells
//! of other accesses where they are in the page and how they access it.
//!
//! All vCPUs of a VM find the same at an address. So the page is only there as long as all of
//! them have their local APIC there, as memory; a guest that uses x2APIC mode ends that. When the
//! VM is reset it comes back.

use super::LocalApic;
use crate::{
    control::Control,
    irqchip::Mode as Irqchip,
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::error::Result;
use kvm_core::vm::Vm;
use kvm_irqchip::lapic::{ApicBase, Mode, DEFAULT_ADDRESS};
use kvm_paging::addr::{Gpa, PAGE_SIZE};
use x86_defs::msr;

/// Offset of the EOI register: registers have the numbers of their MSRs, 16 bytes apart.
pub const EOI: u16 = ((msr::X2APIC_EOI - msr::X2APIC_BASE) << 4) as u16;

/// Physical address of the page that a new vCPU of `vm` finds where its local APIC is; `None` if
/// userspace has that.
///
/// # Errors
///
/// `ENOMEM`.
pub fn address<V: Vendor>(vm: &Vm<X86<V>>) -> Result<Option<u64>> {
    if vm.arch().irqchip().mode() == Irqchip::None {
        return Ok(None);
    }
    vm.memory().offer_page(Gpa::new(DEFAULT_ADDRESS).gfn()).map(Some)
}

/// Where in guest memory the page's byte at `offset` is.
pub fn place(offset: u16) -> Gpa {
    Gpa::new(DEFAULT_ADDRESS | u64::from(offset) & PAGE_SIZE.wrapping_sub(1))
}

/// Whether a local APIC is where the page is.
fn is_there(base: ApicBase) -> bool {
    base.mode() == Mode::XApic && base.address() == DEFAULT_ADDRESS
}

/// The base, which was `old`, has changed.
pub(super) fn follow<V: Vendor>(cx: &mut Cx<'_, V>, old: ApicBase) {
    let Some(now) = cx.state.apic.as_ref().map(LocalApic::base) else { return };
    let (was, is) = (is_there(old), is_there(now));
    if was == is {
        return;
    }
    // The page is in the first address space only.
    let memory = cx.vm.memory();
    if is {
        memory.agree_to_page();
    } else {
        memory.object_to_page();
    }
    cx.state.control.set_apic_page(is);
}
