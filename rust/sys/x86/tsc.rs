// SPDX-License-Identifier: GPL-2.0
//! The time-stamp counter, and the kernel's clocks together with it.
//!
//! All clocks are in nanoseconds. None may be read while the kernel's time keeping
//! is suspended.

use super::has_feature;
use crate::bindings as own;
use core::{arch::asm, marker::PhantomData, mem::MaybeUninit, pin::Pin, ptr::addr_of};
use kernel::{
    bindings,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    types::Opaque,
};

/// The counter, read after everything before it in the program was done.
#[inline]
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Every 64-bit processor has both instructions.
    unsafe {
        asm!(
            "lfence",
            "rdtsc",
            out("eax") low, out("edx") high,
            options(nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The counter, read somewhere around here.
#[inline]
pub fn rdtsc_unordered() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: Every 64-bit processor has the instruction.
    unsafe {
        asm!(
            "rdtsc",
            out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Frequency of the counter in kHz as the kernel measured it, which it refines
/// some time after boot. 0 if it doesn't know.
pub fn khz() -> u32 {
    // SAFETY: A word that the kernel changes as a whole.
    unsafe { addr_of!(own::tsc_khz).read_volatile() }
}

/// Whether the counters of the CPUs differ, or stop, or change their frequency,
/// as far as the kernel found out. Once so, it stays so.
pub fn is_unstable() -> bool {
    // SAFETY: No preconditions.
    unsafe { own::check_tsc_unstable() != 0 }
}

/// Whether the frequency doesn't follow that of the processor.
pub fn is_constant() -> bool {
    has_feature(own::X86_FEATURE_CONSTANT_TSC)
}

/// Whether the counter goes on in every sleep state of the processor.
pub fn is_nonstop() -> bool {
    has_feature(own::X86_FEATURE_NONSTOP_TSC)
}

/// `CLOCK_MONOTONIC_RAW`: the undisciplined time since boot without suspend.
pub fn monotonic_raw() -> i64 {
    // SAFETY: No preconditions.
    unsafe { own::ktime_get_raw() }
}

/// `CLOCK_REALTIME`.
pub fn realtime() -> i64 {
    // SAFETY: No preconditions.
    unsafe { own::ktime_get_with_offset(own::tk_offsets_TK_OFFS_REAL) }
}

/// How far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: the time in suspend.
pub fn boot_offset() -> i64 {
    // SAFETY: No preconditions.
    unsafe { own::ktime_mono_to_any(0, own::tk_offsets_TK_OFFS_BOOT) }
}

/// A clock for [`read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boottime,
    /// `CLOCK_REALTIME`.
    Realtime,
}

/// What the clocks show when the counter shows `tsc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The counter.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw: i64,
    /// The clock that was asked for.
    pub time: i64,
}

/// Reads the counter and two clocks at the same moment. `None` if the kernel's
/// time doesn't come from the counter.
pub fn read(clock: Clock) -> Option<Reading> {
    let id = match clock {
        Clock::Monotonic => bindings::CLOCK_MONOTONIC,
        Clock::Boottime => bindings::CLOCK_BOOTTIME,
        Clock::Realtime => bindings::CLOCK_REALTIME,
    };
    let mut snapshot = MaybeUninit::<own::system_time_snapshot>::zeroed();
    // SAFETY: `snapshot` is writable; the id is one that the function knows.
    unsafe { own::ktime_get_snapshot_id(id as c_int, snapshot.as_mut_ptr()) };
    // SAFETY: Integers, all written or zero.
    let snapshot = unsafe { snapshot.assume_init() };
    // A clocksource may be a scaled counter, as on Hyper-V.
    let tsc = match own::clocksource_ids_CSID_X86_TSC {
        id if id == snapshot.cs_id => snapshot.cycles,
        id if id == snapshot.hw_csid => snapshot.hw_cycles,
        _ => return None,
    };
    (snapshot.valid != 0).then_some(Reading { tsc, raw: snapshot.monoraw, time: snapshot.systime })
}

/// Somebody who relies on the kernel's time coming from the counter.
pub trait ClockUser: 'static {
    /// The kernel's time doesn't come from the counter, and it did before or this
    /// is the first that is known of it. Runs in an interrupt soon after.
    fn counter_lost();
}

/// Calls a [`ClockUser`]; dropping it ends that.
///
/// # Invariants
///
/// `notifier` is on the kernel's list, with the callback of `T`; `work` is
/// initialised.
#[pin_data(PinnedDrop)]
pub struct ClockWatch<T: ClockUser> {
    #[pin]
    inner: Opaque<Inner>,
    _user: PhantomData<T>,
}

/// The notifier comes first, so that a pointer to it is one to the whole.
#[repr(C)]
struct Inner {
    notifier: own::notifier_block,
    work: own::irq_work,
    /// Only the callback reads and writes it, under the time keeper's lock.
    lost: bool,
}

// SAFETY: The kernel's list has its own lock, and `&ClockWatch` gives access to
// nothing.
unsafe impl<T: ClockUser> Send for ClockWatch<T> {}
// SAFETY: As above.
unsafe impl<T: ClockUser> Sync for ClockWatch<T> {}

impl<T: ClockUser> ClockWatch<T> {
    /// Begins to watch, and calls at once if the kernel's time doesn't come from
    /// the counter.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut Inner| {
                // SAFETY: `slot` is writable by the contract of `ffi_init`, zeroes
                // are valid for all of it, and the pinned memory stays in place
                // until `drop` takes it off the list.
                // INVARIANT: registering puts it on the list.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).notifier.notifier_call = Some(Self::changed);
                    kvm_helper_irq_work_init(&raw mut (*slot).work, Some(Self::lost));
                    own::pvclock_gtod_register_notifier(&raw mut (*slot).notifier);
                }
            }),
            _user: PhantomData,
        })
    }

    /// The time keeper changed something, which it does with every tick; its lock
    /// is held: no clock may be read here, and no work queued.
    ///
    /// # Safety
    ///
    /// `notifier` is that of an `Inner`; `keeper` is the time keeper.
    unsafe extern "C" fn changed(
        notifier: *mut own::notifier_block,
        _was_set: c_ulong,
        keeper: *mut c_void,
    ) -> c_int {
        let inner = notifier.cast::<Inner>();
        // SAFETY: By the contract, and by the lock that is held.
        unsafe {
            let lost = !kvm_helper_timekeeper_uses_tsc(keeper);
            if lost && !(*inner).lost {
                own::irq_work_queue(&raw mut (*inner).work);
            }
            (*inner).lost = lost;
        }
        0
    }

    extern "C" fn lost(_work: *mut own::irq_work) {
        T::counter_lost();
    }
}

#[pinned_drop]
impl<T: ClockUser> PinnedDrop for ClockWatch<T> {
    fn drop(self: Pin<&mut Self>) {
        let inner = self.inner.get();
        // SAFETY: By the invariant it is on the list; once it isn't, nobody queues
        // the work any more, and the second call waits for it.
        unsafe {
            own::pvclock_gtod_unregister_notifier(&raw mut (*inner).notifier);
            own::irq_work_sync(&raw mut (*inner).work);
        }
    }
}

#[expect(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_timekeeper_uses_tsc(keeper: *const c_void) -> bool;
    fn kvm_helper_irq_work_init(
        work: *mut own::irq_work,
        function: Option<unsafe extern "C" fn(*mut own::irq_work)>,
    );
}
