// SPDX-License-Identifier: GPL-2.0
//! What the log says when the processor refuses an entry: which check failed, and on demand
//! (`dump_invalid_vmcs`) all of the control structure.

use crate::{control::VmxControl, params};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{
    preempt::PreemptOff,
    timer,
    x86::{cpuid, is_going_down, physical_bits, rdmsr},
};
use vmx_arch::{
    check::{first_failing, instruction_error, Limits},
    exit::{Exit, Reason},
    field::{Field, Slot},
};

/// Guests may ask for a refusal as often as they like; the log has one in this many ns.
const INTERVAL: i64 = 5_000_000_000;

/// When something was said last.
static LAST: Atomic<i64> = Atomic::new(0);

/// Says why the processor refused to enter the guest.
pub(crate) fn report(control: &VmxControl, reason: Option<Reason>) {
    if is_going_down() {
        // It was no processor that refused.
        return;
    }
    let now = timer::now();
    let last = LAST.load(Relaxed);
    if last != 0 && now.wrapping_sub(last) < INTERVAL {
        return;
    }
    LAST.store(now, Relaxed);
    say(control, reason);
    if params::DUMP_INVALID_VMCS.get() {
        dump(control);
    } else {
        pr_warn!("dump_invalid_vmcs=1 shows the control structure\n");
    }
}

fn say(control: &VmxControl, reason: Option<Reason>) {
    match reason.map(Reason::exit) {
        Some(Exit::InvalidState) => {
            match first_failing(&|slot| control.fields.get(slot), &limits()) {
                Some(failing) => pr_warn!("invalid guest state: {}\n", format_args!("{failing}")),
                None => pr_warn!("invalid guest state, by a check that isn't known\n"),
            }
        }
        Some(Exit::MsrLoading) => {
            pr_warn!("entry {} of the MSRs to load is refused\n", control.qualification());
        }
        Some(other) => pr_warn!("the entry fails: {:?}\n", other),
        None => {
            let number = control.fields.get(Slot::InstructionError);
            pr_warn!("no entry: {} (VM-instruction error {})\n", instruction_error(number), number);
        }
    }
}

/// What this CPU has of what is checked.
fn limits() -> Limits {
    const CR0_FIXED_0: u32 = 0x486;
    const CR0_FIXED_1: u32 = 0x487;
    const CR4_FIXED_0: u32 = 0x488;
    const CR4_FIXED_1: u32 = 0x489;
    const ADDRESSES: u32 = 0x8000_0008;
    let value = |msr| rdmsr(msr).unwrap_or(0);
    let [eax, ..] = cpuid(ADDRESSES, 0);
    Limits {
        physical_bits: physical_bits(),
        linear_bits: eax >> 8 & 0xff,
        cr0: (value(CR0_FIXED_0), value(CR0_FIXED_1)),
        cr4: (value(CR4_FIXED_0), value(CR4_FIXED_1)),
    }
}

/// All fields, by their encoding and what the module calls them.
fn dump(control: &VmxControl) {
    for slot in Slot::all() {
        if control.global.uses(slot) {
            let encoding = slot.field().encoding();
            pr_warn!("{:#06x} {:?}: {:#x}\n", encoding, slot, control.fields.get(slot));
        }
    }
    let here = PreemptOff::new();
    let loaded = control.fields.vmcs().load(here.pinned());
    for (name, field) in Field::HOST {
        pr_warn!("{:#06x} {}: {:#x}\n", field.encoding(), name, loaded.read(*field));
    }
}
