// SPDX-License-Identifier: GPL-2.0
//! A value that is read in any context, at the cost of a load, while one replaces
//! it.
//!
//! Where readers may sleep, [`crate::srcu_cell`] serves instead.
//!
//! C header: `include/linux/rcupdate.h`.

use crate::{irq::IrqOff, plain::Plain};
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    bindings, new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        lock::{mutex::MutexBackend, Guard},
        rcu, Mutex,
    },
};

/// A value in memory of its own, not published yet, or not any more.
pub struct Unpublished<T>(KBox<Node<T>>);

#[repr(C)]
struct Node<T> {
    // The first field: its address is the node's.
    head: bindings::callback_head,
    value: T,
}

// SAFETY: The head is RCU's business while the node waits for a grace period, and
// unused before.
unsafe impl<T: Send> Send for Unpublished<T> {}

impl<T> Unpublished<T> {
    /// Allocates a node; after this nothing can fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(value: T) -> Result<Self> {
        let head = pin_init::zeroed();
        Ok(Self(KBox::new(Node { head, value }, GFP_KERNEL_ACCOUNT)?))
    }
}

/// A value that anybody reads, or none. Reading is an RCU read section; changes
/// are made by one at a time, under the cell's lock, by putting a new value in
/// place of the old.
///
/// An old value is dropped after a grace period, perhaps in soft interrupt
/// context, perhaps after the cell itself: `T` holds nothing whose end sleeps.
/// [`DropsDone`] waits for all of them.
///
/// # Invariants
///
/// `value` is null or came from `KBox::into_raw`; who takes it out owns it after a
/// grace period. It changes only while `changing` is held.
#[pin_data(PinnedDrop)]
pub struct RcuCell<T: Send + Sync + 'static> {
    #[pin]
    changing: Mutex<()>,
    value: Atomic<*mut Node<T>>,
}

// SAFETY: The cell hands out `&T` to any thread and drops `T` on any thread.
unsafe impl<T: Send + Sync> Send for RcuCell<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for RcuCell<T> {}

impl<T: Send + Sync> RcuCell<T> {
    /// A cell without a value.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            changing <- new_mutex!((), "RcuCell"),
            // INVARIANT: null.
            value: Atomic::new(core::ptr::null_mut()),
        })
    }

    /// Borrows the value. Nothing may sleep while a [`Reader`] exists. From any
    /// context.
    #[inline]
    pub fn read(&self) -> Option<Reader<'_, T>> {
        if self.value.get().is_null() {
            return None;
        }
        let guard = rcu::read_lock();
        let value = NonNull::new(self.value.get_acquire())?;
        // INVARIANT: whoever takes the value out waits for `guard`, and the cell is
        // borrowed.
        Some(Reader { value, _guard: guard, _cell: PhantomData })
    }

    /// The same where interrupts are off: RCU waits for the end of that as well
    /// (Documentation/RCU/rcu.rst and the requirements), so that there is nothing to do.
    #[inline]
    pub fn read_in<'a>(&'a self, _off: &'a IrqOff) -> Option<&'a T> {
        let value = NonNull::new(self.value.get_acquire())?;
        // SAFETY: Whoever takes the value out waits for this CPU, whose interrupts are off as
        // long as the borrow; nobody changes the value itself.
        Some(unsafe { &(*value.as_ptr()).value })
    }

    /// Keeps others from changing the value. Sleeps.
    pub fn lock(&self) -> Writer<'_, T> {
        Writer { cell: self, _changing: self.changing.lock() }
    }
}

#[pinned_drop]
impl<T: Send + Sync> PinnedDrop for RcuCell<T> {
    fn drop(self: Pin<&mut Self>) {
        let value = self.value.load(Relaxed);
        if !value.is_null() {
            // SAFETY: By the invariant it came from a box, and nobody can read any
            // more: readers borrow the cell.
            drop(unsafe { KBox::from_raw(value) });
        }
    }
}

/// A borrowed value of an [`RcuCell`].
///
/// # Invariants
///
/// The value stays as long as the guard exists, and the cell.
pub struct Reader<'a, T: Send + Sync + 'static> {
    value: NonNull<Node<T>>,
    _guard: rcu::Guard,
    _cell: PhantomData<&'a RcuCell<T>>,
}

impl<T: Send + Sync> Deref for Reader<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the invariant; nobody changes the value itself.
        unsafe { &self.value.as_ref().value }
    }
}

/// The right to change the value of an [`RcuCell`].
pub struct Writer<'a, T: Send + Sync + 'static> {
    cell: &'a RcuCell<T>,
    _changing: Guard<'a, (), MutexBackend>,
}

impl<T: Send + Sync> Writer<'_, T> {
    /// The value now.
    pub fn get(&self) -> Option<&T> {
        let value = NonNull::new(self.cell.value.load(Relaxed))?;
        // SAFETY: The lock is held, so by the cell's invariant nobody takes the
        // value out; `self` is borrowed until it is replaced.
        Some(unsafe { &(*value.as_ptr()).value })
    }

    /// Replaces the value. Readers may see the old one for a while yet.
    pub fn publish(&mut self, new: Unpublished<T>) {
        let old = self.exchange(new);
        if !old.is_null() {
            // SAFETY: The node was taken out, by the exchange alone; its head is
            // its first field. `free` runs after a grace period.
            unsafe { bindings::call_rcu(old.cast(), Some(free::<T>)) };
        }
    }

    /// Replaces the value and waits until nobody reads the old one any more, which
    /// comes back. Sleeps.
    pub fn publish_and_wait(&mut self, new: Unpublished<T>) -> Option<Unpublished<T>> {
        let old = self.exchange(new);
        wait_for_readers();
        if old.is_null() {
            return None;
        }
        // SAFETY: By the cell's invariant it came from a box; it was taken out by
        // the exchange alone, and the grace period is over.
        Some(Unpublished(unsafe { KBox::from_raw(old) }))
    }

    fn exchange(&mut self, new: Unpublished<T>) -> *mut Node<T> {
        // INVARIANT: as the cell's invariant says; the lock is held.
        self.cell.value.xchg(KBox::into_raw(new.0), Full)
    }
}

/// # Safety
///
/// `head` is that of a boxed `Node<T>` that nobody else knows of.
unsafe extern "C" fn free<T>(head: *mut bindings::callback_head) {
    // SAFETY: By this function's contract, `head` being the first field.
    drop(unsafe { KBox::from_raw(head.cast::<Node<T>>()) });
}

/// Waits until every RCU read section that has begun is over. Sleeps, but not for
/// long: other CPUs are interrupted for it.
pub fn wait_for_readers() {
    // SAFETY: No preconditions but that the caller may sleep.
    unsafe { bindings::synchronize_rcu_expedited() };
}

/// When it is dropped, every old value of every [`RcuCell`] is dropped too. For
/// whoever has the code that drops them, before it goes away. Sleeps.
pub struct DropsDone;

impl Drop for DropsDone {
    fn drop(&mut self) {
        rcu::rcu_barrier();
    }
}
