// SPDX-License-Identifier: GPL-2.0
//! What the kernel wants to know and do before a task goes into a guest, and
//! after it.
//!
//! In this order, interrupts off from 2 on:
//!
//! 1. [`handle_work`]: signals, rescheduling, task work; may sleep.
//! 2. [`prepare`], then [`work_pending`]: if there is any, back to 1.
//! 3. [`timing_enter`]: from here on, time counts as the guest's.
//! 4. [`in_guest`], as often as it likes.
//! 5. [`note_quiescence`], and [`IrqOff::window`], so that a tick still finds the guest.
//! 6. [`timing_exit`].
//!
//! C headers: `include/linux/entry-virt.h`, `include/linux/kvm_host.h`.

use crate::irq::IrqOff;
use kernel::{
    error::{to_result, Result},
    ffi::c_int,
};

/// Does what a task has to do before it goes to a guest: reschedules, and runs
/// task work. Called with preemption and interrupts on; may sleep.
///
/// # Errors
///
/// `EINTR` if a signal is pending: the task has to return to userspace.
#[inline]
pub fn handle_work() -> Result {
    if !maybe_work_pending() {
        return Ok(());
    }
    // SAFETY: No preconditions beyond what the documentation asks for.
    to_result(unsafe { kvm_helper_guest_handle_work() })
}

/// Whether there seems to be work; it may come and go at any moment.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn maybe_work_pending() -> bool {
    crate::task::flags() & crate::bindings::GUEST_MODE_WORK != 0
}

/// Whether there seems to be work; it may come and go at any moment.
#[cfg(not(CONFIG_X86_64))]
#[inline]
pub fn maybe_work_pending() -> bool {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_guest_work_pending() }
}

/// Last preparations, before the last [`work_pending`].
#[inline]
pub fn prepare(_off: &IrqOff) {
    // SAFETY: Interrupts are off.
    unsafe { kvm_helper_guest_prepare() };
}

/// Whether there is work that must be done first. Work that comes later
/// interrupts the guest.
#[inline]
pub fn work_pending(_off: &IrqOff) -> bool {
    maybe_work_pending()
}

/// From now on, processor time counts as guest time.
#[inline]
pub fn timing_enter(_off: &IrqOff) {
    // SAFETY: Interrupts are off.
    unsafe { kvm_helper_guest_timing_enter() };
}

/// From now on, processor time counts as the system's.
#[inline]
pub fn timing_exit(_off: &IrqOff) {
    // SAFETY: Interrupts are off.
    unsafe { kvm_helper_guest_timing_exit() };
}

/// Runs `guest` in what context tracking and lockdep take for user mode with interrupts
/// on. `guest` must do nothing but enter the guest: no RCU, no lock, no call to anything
/// that could be traced.
#[inline(always)]
pub fn in_guest<R>(_off: &IrqOff, guest: impl FnOnce() -> R) -> R {
    if tracking::is_on() {
        // SAFETY: Interrupts are off; undone below.
        unsafe { kvm_helper_guest_state_enter() };
    }
    let result = guest();
    if tracking::is_on() {
        // SAFETY: Pairs with the call above.
        unsafe { kvm_helper_guest_state_exit() };
    }
    result
}

/// Whether anybody is to hear of entries and exits, which doesn't change once the kernel is up.
#[cfg(all(CONFIG_X86_64, CONFIG_CONTEXT_TRACKING_USER, not(CONFIG_TRACE_IRQFLAGS)))]
mod tracking {
    use kernel::bindings;

    #[repr(C)]
    struct Key {
        key: bindings::static_key_false,
    }

    #[allow(improper_ctypes, reason = "empty lock classes are within, by their address")]
    extern "C" {
        static context_tracking_key: Key;
    }

    /// Context tracking alone: a no-op that the kernel patches.
    #[inline(always)]
    pub(super) fn is_on() -> bool {
        // SAFETY: C defined it.
        unsafe { kernel::jump_label::static_branch_unlikely!(context_tracking_key, Key, key) }
    }
}

#[cfg(not(all(CONFIG_X86_64, CONFIG_CONTEXT_TRACKING_USER, not(CONFIG_TRACE_IRQFLAGS))))]
mod tracking {
    /// Who watches the interrupt flag, if nobody else.
    #[inline(always)]
    pub(super) fn is_on() -> bool {
        true
    }
}

/// Tells RCU that the caller has no reference at the moment. It wants to know of one such
/// moment between any two interrupts of its clock, each of which gets the guest out: so
/// this is for when the guest is out for longer, before the interrupt is served.
#[inline]
pub fn note_quiescence(_off: &IrqOff) {
    // SAFETY: Interrupts are off.
    unsafe { kvm_helper_guest_note_quiescence() };
}

extern "C" {
    fn kvm_helper_guest_handle_work() -> c_int;
    #[cfg(not(CONFIG_X86_64))]
    fn kvm_helper_guest_work_pending() -> bool;
    fn kvm_helper_guest_prepare();
    fn kvm_helper_guest_timing_enter();
    fn kvm_helper_guest_timing_exit();
    fn kvm_helper_guest_state_enter();
    fn kvm_helper_guest_state_exit();
    fn kvm_helper_guest_note_quiescence();
}
