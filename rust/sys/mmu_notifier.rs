// SPDX-License-Identifier: GPL-2.0
//! Being told of changes to an address space (MMU notifiers).
//!
//! Whoever maps pages of a process elsewhere, without holding them, must stop
//! using them before the process's own mapping goes.
//!
//! C header: `include/linux/mmu_notifier.h`; `Documentation/mm/mmu_notifier.rst`.

use crate::{bindings as own, process::AddressSpace};
use core::{marker::PhantomData, ops::Deref, ptr::null_mut};
use kernel::{
    bindings, container_of,
    error::to_result,
    ffi::{c_int, c_ulong},
    prelude::*,
    types::Opaque,
};

/// Who is told. All ranges are user addresses in bytes, `end` exclusive. Calls
/// come from any thread, many at once.
pub trait MemoryEvents: Send + Sync + 'static {
    /// The pages of the range are about to change. On return nothing derived from
    /// them may be in use, and nothing may be derived anew until the matching
    /// [`Self::invalidate_end`]. Sleeps only if `may_sleep`.
    fn invalidate_start(&self, first: u64, end: u64, may_sleep: bool);

    /// The change is done. Doesn't sleep.
    fn invalidate_end(&self, first: u64, end: u64);

    /// Whether the range was used since the last call; starts anew. `flush`: the
    /// answer of the next call has to be exact. Called with spinlocks held.
    fn clear_young(&self, first: u64, end: u64, flush: bool) -> bool;

    /// Whether the page at an address was used. Called with spinlocks held.
    fn test_young(&self, address: u64) -> bool;

    /// The address space ends, or the registration does: nothing derived from it
    /// may be in use on return. May sleep.
    fn release(&self);
}

/// A receiver, told of changes while this lives.
///
/// # Invariants
///
/// `notifier` is registered with the address space until drop.
#[pin_data(PinnedDrop)]
pub struct Registration<T: MemoryEvents> {
    #[pin]
    notifier: Opaque<own::mmu_notifier>,
    space: AddressSpace,
    #[pin]
    receiver: T,
}

// SAFETY: Callbacks come from any thread anyway; the receiver may be shared.
unsafe impl<T: MemoryEvents> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: MemoryEvents> Sync for Registration<T> {}

impl<T: MemoryEvents> Registration<T> {
    /// Registers a receiver with the current process's address space, which is
    /// `space`. Takes its mmap lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if the process is being killed; the receiver's.
    pub fn new(space: AddressSpace, receiver: impl PinInit<T, Error>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            receiver <- receiver,
            space,
            // Last: events come from here on, and nothing can fail any more.
            notifier <- Opaque::try_ffi_init(|slot: *mut own::mmu_notifier| {
                if !space.is_current() {
                    return Err(EINVAL);
                }
                // SAFETY: `slot` is writable by the contract of `try_ffi_init`.
                unsafe { slot.write(Operations::<T>::NOTIFIER) };
                // INVARIANT: on success it is registered. It is pinned with the
                // rest, so it stays in place until `drop`.
                // SAFETY: The current process has users of its address space. The
                // operations live as long as the module whose file holds this.
                to_result(unsafe { own::mmu_notifier_register(slot, space.as_raw()) })
            }),
        })
    }
}

impl<T: MemoryEvents> Deref for Registration<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.receiver
    }
}

#[pinned_drop]
impl<T: MemoryEvents> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is registered. This calls `release` unless
        // that has happened, and waits for calls that are under way.
        unsafe { own::mmu_notifier_unregister(self.notifier.get(), self.space.as_raw()) };
    }
}

struct Operations<T>(PhantomData<T>);

impl<T: MemoryEvents> Operations<T> {
    const TABLE: own::mmu_notifier_ops = own::mmu_notifier_ops {
        release: Some(Self::release),
        clear_flush_young: Some(Self::clear_flush_young),
        clear_young: Some(Self::clear_young),
        test_young: Some(Self::test_young),
        invalidate_range_start: Some(Self::invalidate_range_start),
        invalidate_range_end: Some(Self::invalidate_range_end),
        arch_invalidate_secondary_tlbs: None,
        alloc_notifier: None,
        free_notifier: None,
    };

    /// One that isn't registered.
    const NOTIFIER: own::mmu_notifier = own::mmu_notifier {
        hlist: bindings::hlist_node { next: null_mut(), pprev: null_mut() },
        ops: &Self::TABLE,
        mm: null_mut(),
        rcu: bindings::callback_head { next: null_mut(), func: None },
        users: 0,
    };

    /// # Safety
    ///
    /// `notifier` is that of a live [`Registration<T>`] during the call.
    unsafe fn receiver<'a>(notifier: *mut own::mmu_notifier) -> &'a T {
        let notifier = notifier.cast::<Opaque<own::mmu_notifier>>();
        // SAFETY: By this function's contract it is the field of one.
        let registration = unsafe { container_of!(notifier, Registration<T>, notifier) };
        // SAFETY: It lives during the call; only shared references exist while it
        // is registered.
        unsafe { &(*registration).receiver }
    }

    /// # Safety
    ///
    /// As [`Self::receiver`].
    unsafe extern "C" fn release(notifier: *mut own::mmu_notifier, _mm: *mut bindings::mm_struct) {
        // SAFETY: By this function's contract.
        unsafe { Self::receiver(notifier) }.release();
    }

    /// # Safety
    ///
    /// As [`Self::receiver`].
    unsafe extern "C" fn clear_flush_young(
        notifier: *mut own::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: c_ulong,
        end: c_ulong,
    ) -> bool {
        // SAFETY: By this function's contract.
        unsafe { Self::receiver(notifier) }.clear_young(start as u64, end as u64, true)
    }

    /// # Safety
    ///
    /// As [`Self::receiver`].
    unsafe extern "C" fn clear_young(
        notifier: *mut own::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: c_ulong,
        end: c_ulong,
    ) -> bool {
        // SAFETY: By this function's contract.
        unsafe { Self::receiver(notifier) }.clear_young(start as u64, end as u64, false)
    }

    /// # Safety
    ///
    /// As [`Self::receiver`].
    unsafe extern "C" fn test_young(
        notifier: *mut own::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        address: c_ulong,
    ) -> bool {
        // SAFETY: By this function's contract.
        unsafe { Self::receiver(notifier) }.test_young(address as u64)
    }

    /// # Safety
    ///
    /// As [`Self::receiver`]; `range` is valid.
    unsafe extern "C" fn invalidate_range_start(
        notifier: *mut own::mmu_notifier,
        range: *const own::mmu_notifier_range,
    ) -> c_int {
        // SAFETY: By this function's contract.
        let (receiver, range) = unsafe { (Self::receiver(notifier), &*range) };
        let may_sleep = range.flags & own::MMU_NOTIFIER_RANGE_BLOCKABLE != 0;
        receiver.invalidate_start(range.start as u64, range.end as u64, may_sleep);
        0
    }

    /// # Safety
    ///
    /// As [`Self::receiver`]; `range` is valid.
    unsafe extern "C" fn invalidate_range_end(
        notifier: *mut own::mmu_notifier,
        range: *const own::mmu_notifier_range,
    ) {
        // SAFETY: By this function's contract.
        let (receiver, range) = unsafe { (Self::receiver(notifier), &*range) };
        receiver.invalidate_end(range.start as u64, range.end as u64);
    }
}
