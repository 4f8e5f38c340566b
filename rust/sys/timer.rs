// SPDX-License-Identifier: GPL-2.0
//! High-resolution timers that go off at a point of `CLOCK_MONOTONIC`.
//!
//! The `kernel` crate's `HrTimer` ties an armed timer to a handle that somebody
//! has to own and whose end cancels it. A guest's timer belongs to nobody in
//! particular: the vCPU's thread, the expiry itself and other threads arm it, move
//! it and stop it, in any order and at the same time. The C side's locks allow
//! exactly that, and so does this.
//!
//! C header: `include/linux/hrtimer.h`.

use core::ops::Deref;
use kernel::{bindings, prelude::*, types::Opaque};

/// What happens when a [`Timer`] goes off.
pub trait Expire: Send + Sync + 'static {
    /// Runs in hard interrupt context, interrupts off, never twice at the same
    /// time for one timer. `Some` is when to go off next, in ns of
    /// `CLOCK_MONOTONIC`; the past means at once. If another CPU starts the timer
    /// meanwhile, the later of the two wins.
    fn expired(&self) -> Option<i64>;
}

const MODE: bindings::hrtimer_mode = bindings::hrtimer_mode_HRTIMER_MODE_ABS_HARD;

/// A timer with what it acts on, stopped at first. Dropping it stops it, waits for
/// a callback that runs, and then drops the target; so it must not be dropped by
/// that callback, nor where interrupts are off.
///
/// # Invariants
///
/// `timer` is set up, and its callback is [`Self::run`].
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Timer<C: Expire> {
    // The first field: its address is the timer's own.
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    #[pin]
    target: C,
}

// SAFETY: The C side may be used from any CPU, and the target is `Send`.
unsafe impl<C: Expire> Send for Timer<C> {}
// SAFETY: The C side has its own locks, and the target is `Sync`.
unsafe impl<C: Expire> Sync for Timer<C> {}

impl<C: Expire> Timer<C> {
    /// A stopped timer.
    ///
    /// # Errors
    ///
    /// Those of the target's initializer.
    pub fn new<E>(target: impl PinInit<C, E>) -> impl PinInit<Self, E>
    where
        E: From<core::convert::Infallible>,
    {
        pin_init!(Self {
            target <- target,
            // INVARIANT: as the invariant says.
            timer <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is writable by the contract of `ffi_init`, and
                // pinned from here on.
                unsafe {
                    bindings::hrtimer_setup(
                        slot,
                        Some(Self::run),
                        bindings::CLOCK_MONOTONIC as bindings::clockid_t,
                        MODE,
                    )
                }
            }),
        }? E)
    }

    /// Arms the timer for the time `at`, in ns of `CLOCK_MONOTONIC`, whether or not
    /// it is armed; the past means at once. From any context.
    #[inline]
    pub fn start(&self, at: i64) {
        // SAFETY: By the invariant the timer is set up; it is stopped before its
        // memory goes.
        unsafe { bindings::hrtimer_start_range_ns(self.timer.get(), at, 0, MODE) };
    }

    /// Stops the timer; from any context. `false` if its callback runs right now
    /// (on another CPU, or as the caller), which may arm it again.
    pub fn try_cancel(&self) -> bool {
        // SAFETY: By the invariant the timer is set up.
        unsafe { bindings::hrtimer_try_to_cancel(self.timer.get()) >= 0 }
    }

    /// Stops the timer and waits until its callback doesn't run either; whether it
    /// was armed. Not from the callback, nor holding a lock that it takes.
    pub fn cancel(&self) -> bool {
        // SAFETY: By the invariant the timer is set up.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) > 0 }
    }

    /// Whether the timer is armed. Others may change that at any moment.
    pub fn is_queued(&self) -> bool {
        // SAFETY: By the invariant the timer is set up; the C side writes the flag
        // as a whole.
        unsafe { (&raw const (*self.timer.get()).is_queued).read_volatile() }
    }

    /// Lets an armed timer go off on the current CPU, where its vCPU now runs. As
    /// [`Self::cancel`], and nobody else may start it meanwhile.
    pub fn move_here(&self) {
        if self.is_queued() && self.cancel() {
            // SAFETY: By the invariant the timer is set up, and it isn't queued.
            let at = unsafe { (*self.timer.get()).node.expires };
            self.start(at);
        }
    }

    /// # Safety
    ///
    /// `timer` is the field of a `Timer<C>` that exists during the call.
    unsafe extern "C" fn run(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By this function's contract, `timer` being the first field.
        let this = unsafe { &*timer.cast_const().cast::<Self>() };
        if let Some(at) = this.target.expired() {
            // Not by asking for a restart, which would move a timer that somebody
            // else may have queued already.
            this.start(at);
        }
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

impl<C: Expire> Deref for Timer<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.target
    }
}

#[pinned_drop]
impl<C: Expire> PinnedDrop for Timer<C> {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

/// The time of `CLOCK_MONOTONIC`, in ns. From any context.
#[inline]
pub fn now() -> i64 {
    // SAFETY: No preconditions while the system isn't suspended, when no code of
    // ours runs.
    unsafe { bindings::ktime_get() }
}
