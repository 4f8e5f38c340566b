// SPDX-License-Identifier: GPL-2.0
//! Sections with the CPU's interrupts off.
//!
//! C header: `include/linux/irqflags.h`.

use crate::preempt::Pinned;
use kernel::{interrupt::LocalInterruptDisabled, sync::SpinLockIrq, types::NotThreadSafe};

/// Whether spin locks spin, so that they can be taken with interrupts off; on real-time kernels
/// they sleep, but for raw ones.
pub const SPIN_LOCKS_SPIN: bool = cfg!(not(CONFIG_PREEMPT_RT));

/// Evidence that the interrupts of this CPU are off.
///
/// # Invariants
///
/// They are off as long as a reference to it exists, but for the time of
/// [`Self::window`].
pub struct IrqOff {
    /// Whether they were on before the section.
    outermost: bool,
    _not_send: NotThreadSafe,
}

impl IrqOff {
    /// The code can't migrate.
    #[inline]
    pub fn pinned(&self) -> Pinned<'_> {
        // SAFETY: Interrupts are off, by the invariant, until the borrow ends.
        unsafe { Pinned::new() }
    }

    /// The same for the kernel's own types.
    #[inline]
    fn token(&self) -> &LocalInterruptDisabled {
        // SAFETY: They are off, by the invariant, until the borrow ends.
        unsafe { LocalInterruptDisabled::assume_disabled() }
    }

    /// Lets pending interrupts in, for an instruction or two. Does nothing in a
    /// section within another one.
    #[inline]
    pub fn window(&mut self) {
        if self.outermost {
            // SAFETY: They were on before the section, so what surrounds it can
            // take them; the `&mut` says that nobody holds evidence.
            unsafe { raw::window() };
        }
    }
}

/// Does something with what a lock protects. `off`: interrupts are known to be off, and
/// [`SPIN_LOCKS_SPIN`]; that spares most of what the lock costs.
#[inline]
pub fn locked<T: Unpin, R>(
    lock: &SpinLockIrq<T>,
    off: Option<&IrqOff>,
    work: impl FnOnce(&mut T) -> R,
) -> R {
    match off {
        Some(off) => work(&mut lock.lock_with(off.token())),
        None => work(&mut lock.lock()),
    }
}

/// Runs `body` with interrupts off, and puts them as they were. Nothing may sleep
/// in it.
#[inline]
pub fn with_irqs_off<R>(body: impl FnOnce(&mut IrqOff) -> R) -> R {
    // SAFETY: Undone below.
    let outermost = unsafe { raw::disable_and_test() };
    // INVARIANT: They are off, and `body` can't turn them on but by `window`.
    let mut off = IrqOff { outermost, _not_send: NotThreadSafe };
    let result = body(&mut off);
    if outermost {
        // SAFETY: They were on before.
        unsafe { raw::enable() };
    }
    result
}

/// The instructions themselves, where nobody traces the interrupt flag. No host
/// with virtualization hardware has it emulated (Xen PV has none).
#[cfg(all(CONFIG_X86_64, not(CONFIG_TRACE_IRQFLAGS), not(CONFIG_DEBUG_ENTRY)))]
mod raw {
    use core::arch::asm;

    const RFLAGS_IF: u64 = 1 << 9;

    /// Whether they were on.
    ///
    /// # Safety
    ///
    /// The caller puts them as they were.
    #[inline(always)]
    pub(super) unsafe fn disable_and_test() -> bool {
        let flags: u64;
        // SAFETY: The kernel has no red zone, the rest is the caller's promise.
        unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
        flags & RFLAGS_IF != 0
    }

    /// # Safety
    ///
    /// Whatever is going on can take interrupts.
    #[inline(always)]
    pub(super) unsafe fn enable() {
        // SAFETY: By the caller's promise.
        unsafe { asm!("sti") };
    }

    /// Turns them on for a moment: `sti` holds them back for one instruction.
    ///
    /// # Safety
    ///
    /// As for `enable`.
    #[inline(always)]
    pub(super) unsafe fn window() {
        // SAFETY: By the caller's promise.
        unsafe { asm!("sti", "nop", "cli") };
    }
}

#[cfg(not(all(CONFIG_X86_64, not(CONFIG_TRACE_IRQFLAGS), not(CONFIG_DEBUG_ENTRY))))]
mod raw {
    extern "C" {
        #[link_name = "kvm_helper_irq_disable_and_test"]
        pub(super) fn disable_and_test() -> bool;
        #[link_name = "kvm_helper_irq_enable"]
        pub(super) fn enable();
        #[link_name = "kvm_helper_irq_window"]
        pub(super) fn window();
    }
}
