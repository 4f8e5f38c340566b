// SPDX-License-Identifier: GPL-2.0
//! Debug registers: the guest's around the guest, the host's otherwise.
//!
//! The host's own breakpoints are turned off while a guest runs, and put back
//! after it. DR7 is the VMCB's or VMCS's business; DR6 too on SVM.
//!
//! Intel SDM volume 3 section 19.2; AMD APM volume 2 section 13.1.

use crate::{bindings as own, irq::IrqOff};
use core::arch::asm;

/// All breakpoints off. Bit 10 is always set.
const DR7_OFF: u64 = 1 << 10;

/// Bits of DR7 that enable a breakpoint of the kernel.
const DR7_GLOBAL: u64 = 0xaa;

/// What DR6 is when nothing happened.
pub const DR6_NOTHING: u64 = 0xffff_0ff0;

/// Makes the debug registers fit for the guest: `addresses` are its DR0 to DR3 if
/// it uses them now.
#[inline]
pub fn before_entry(off: &IrqOff, addresses: Option<&[u64; 4]>) {
    if let Some(addresses) = addresses {
        load(off, addresses);
    } else if host_has_breakpoints() {
        // SAFETY: `after_exit` restores it.
        unsafe { asm!("mov dr7, {}", in(reg) DR7_OFF, options(nostack, preserves_flags)) };
    }
}

/// Makes the debug registers the host's. What the guest left in DR0 to DR3 doesn't
/// matter as long as DR7 is off, as an exit leaves it.
#[inline]
pub fn after_exit(_off: &IrqOff) {
    if host_has_breakpoints() {
        // SAFETY: Interrupts are off.
        unsafe { own::hw_breakpoint_restore() };
    }
}

/// DR0 to DR3 as the guest left them; before [`after_exit`].
#[inline]
pub fn addresses(_off: &IrqOff) -> [u64; 4] {
    let (a, b, c, d);
    // SAFETY: Reading them has no effect.
    unsafe {
        asm!(
            "mov {}, dr0",
            "mov {}, dr1",
            "mov {}, dr2",
            "mov {}, dr3",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d,
            options(nomem, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

/// DR6 as the guest left it, where an exit doesn't save it (VMX); before
/// [`after_exit`]. DR6 is [`DR6_NOTHING`] afterwards.
#[inline]
pub fn take_dr6(_off: &IrqOff) -> u64 {
    let value;
    // SAFETY: The host expects nothing in it; breakpoints are off.
    unsafe {
        asm!(
            "mov {}, dr6",
            "mov dr6, {}",
            out(reg) value, in(reg) DR6_NOTHING,
            options(nomem, nostack, preserves_flags),
        );
    }
    value
}

/// Loads the guest's DR6, where an entry doesn't (VMX).
#[inline]
pub fn load_dr6(_off: &IrqOff, value: u64) {
    // A bit above 31 would be #GP.
    let value = value & 0xffff_ffff;
    // SAFETY: DR6 only reports.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

#[cold]
fn load(_off: &IrqOff, &[a, b, c, d]: &[u64; 4]) {
    // SAFETY: Breakpoints are off first, so that nothing in the kernel hits one.
    unsafe {
        asm!(
            "mov dr7, {}",
            "mov dr0, {}",
            "mov dr1, {}",
            "mov dr2, {}",
            "mov dr3, {}",
            in(reg) DR7_OFF, in(reg) a, in(reg) b, in(reg) c, in(reg) d,
            options(nostack, preserves_flags),
        );
    }
}

/// Whether the kernel uses breakpoints on this CPU.
#[inline(always)]
fn host_has_breakpoints() -> bool {
    extern "C" {
        static cpu_dr7: u64;
    }
    let dr7: u64;
    // SAFETY: GS holds the CPU's base while in the kernel.
    unsafe {
        asm!(
            "mov {0}, qword ptr gs:[rip + {1}]",
            out(reg) dr7, sym cpu_dr7,
            options(readonly, nostack, preserves_flags),
        );
    }
    dr7 & DR7_GLOBAL != 0
}
