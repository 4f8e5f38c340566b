// SPDX-License-Identifier: GPL-2.0
//! Event descriptors: signalling one, and hearing of its being signalled without a
//! thread that waits.
//!
//! C header: `include/linux/eventfd.h`.

use core::{ops::Deref, ptr};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result, Result},
    ffi::{c_int, c_uint, c_void},
    fs::LocalFile,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Full, Relaxed},
    },
    types::Opaque,
};

/// The counter behind an event descriptor. It outlives the descriptor.
///
/// # Invariants
///
/// The pointer is a valid eventfd context, with a reference of `self`.
pub struct EventFd(ptr::NonNull<bindings::eventfd_ctx>);

// SAFETY: References may be dropped, and signals given, anywhere.
unsafe impl Send for EventFd {}
// SAFETY: As above.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// That of a descriptor of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` if there is no such descriptor, `EINVAL` if it is of another kind.
    pub fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        Self::from_raw(unsafe { bindings::eventfd_ctx_fdget(fd) })
    }

    fn from_raw(context: *mut bindings::eventfd_ctx) -> Result<Self> {
        // INVARIANT: the kernel's function returned it with a reference.
        ptr::NonNull::new(from_err_ptr(context)?).map(Self).ok_or(EINVAL)
    }

    /// Adds one to the counter, which wakes whoever waits for it. From any context.
    #[inline]
    pub fn signal(&self) {
        // SAFETY: By the invariant.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl PartialEq for EventFd {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// A file that is an event descriptor, kept open.
///
/// # Invariants
///
/// The file is an eventfd.
pub struct EventFile(ARef<LocalFile>);

impl EventFile {
    /// The file of a descriptor of the current process.
    ///
    /// # Errors
    ///
    /// As for [`EventFd::from_fd`].
    pub fn from_fd(fd: u32) -> Result<Self> {
        let file = Self(LocalFile::fget(fd)?);
        // INVARIANT: it is one if it has a counter.
        file.event().map(|_| file)
    }

    /// The counter behind it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it isn't an event descriptor.
    fn event(&self) -> Result<EventFd> {
        // SAFETY: The file is open.
        EventFd::from_raw(unsafe { bindings::eventfd_ctx_fileget(self.0.as_ptr()) })
    }
}

/// What an event does to whom it is hooked up with. Both functions run wherever
/// the signal is given, interrupts off and the event's own lock held: they don't
/// sleep, and neither signal the same event nor drop the [`Hook`].
pub trait Wake: Send + Sync + 'static {
    /// The event was signalled; its counter is zero again.
    fn signalled(&self);
    /// The last descriptor was closed. There will be no more signals by that way.
    fn closed(&self);
}

/// Takes all signals of an event, so that nobody else sees them. Unhooks itself
/// when it is dropped, and waits for a callback that runs.
///
/// # Invariants
///
/// While `hooked`, `entry` is in the wait queue of `event`, with [`Self::wake`] for
/// its function.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Hook<W: Wake> {
    // The first field: its address is the hook's own.
    #[pin]
    entry: Opaque<bindings::wait_queue_entry>,
    hooked: Atomic<bool>,
    event: EventFd,
    target: W,
}

// SAFETY: The wait queue has its own lock; the target is `Send`.
unsafe impl<W: Wake> Send for Hook<W> {}
// SAFETY: As above, and the target is `Sync`.
unsafe impl<W: Wake> Sync for Hook<W> {}

impl<W: Wake> Hook<W> {
    /// A hook for the event behind `file`, not hooked up yet.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(file: &EventFile, target: W) -> impl PinInit<Self, Error> + use<'_, W> {
        try_pin_init!(Self {
            // INVARIANT: not hooked.
            entry <- Opaque::ffi_init(|slot: *mut bindings::wait_queue_entry| {
                let entry =
                    bindings::wait_queue_entry { func: Some(Self::wake), ..Default::default() };
                // SAFETY: `slot` is writable by the contract of `ffi_init`.
                unsafe { slot.write(entry) };
            }),
            hooked: Atomic::new(false),
            event: file.event()?,
            target,
        })
    }

    /// Hooks up; from now on the target hears of signals. Whether the counter
    /// wasn't zero before: the target doesn't hear of those. `file` is the one that
    /// the hook was made for.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody has hooked up with the event already, through this or
    /// another hook; `EINVAL` if `file` is another one.
    pub fn attach(&self, file: &EventFile) -> Result<bool> {
        if file.event()? != self.event {
            return Err(EINVAL);
        }
        if self.hooked.xchg(true, Full) {
            return Err(EBUSY);
        }
        let mut registering = Registering {
            table: bindings::poll_table_struct { _qproc: Some(queue), _key: !0 },
            entry: self.entry.get(),
            // What remains if the file has no wait queue.
            result: EINVAL.to_errno(),
        };
        let file = file.0.as_ptr();
        // SAFETY: The file is an eventfd by the type's invariant, and those can be
        // polled; `queue` finds the table where it expects it.
        let events = unsafe {
            match (*(*file).f_op).poll {
                Some(poll) => poll(file, &mut registering.table),
                None => 0,
            }
        };
        // INVARIANT: hooked only if the entry was queued.
        to_result(registering.result).inspect_err(|_| self.hooked.store(false, Relaxed))?;
        Ok(events & POLL_IN != 0)
    }

    /// Unhooks; whether it was hooked up. When this returns, no callback runs.
    /// Sleeps not, but isn't for the callbacks themselves.
    pub fn detach(&self) -> bool {
        let hooked = self.hooked.xchg(false, Full);
        if hooked {
            let mut count = 0;
            // SAFETY: By the invariant the entry is in this event's queue. What
            // was signalled and not heard of, which can't be, is dropped.
            unsafe {
                bindings::eventfd_ctx_remove_wait_queue(
                    self.event.0.as_ptr(),
                    self.entry.get(),
                    &mut count,
                )
            };
        }
        hooked
    }

    /// The event.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// # Safety
    ///
    /// `entry` is that of a `Hook<W>` that is hooked up; its queue is locked.
    unsafe extern "C" fn wake(
        entry: *mut bindings::wait_queue_entry,
        _mode: c_uint,
        _flags: c_int,
        key: *mut c_void,
    ) -> c_int {
        // SAFETY: By this function's contract, `entry` being the first field.
        let this = unsafe { &*entry.cast_const().cast::<Self>() };
        let events = key as usize as bindings::__poll_t;
        if events & POLL_IN != 0 {
            let mut count = 0;
            // SAFETY: The context is valid by its invariant, and its queue locked.
            unsafe { bindings::eventfd_ctx_do_read(this.event.0.as_ptr(), &mut count) };
            this.target.signalled();
        }
        if events & POLL_HANG_UP != 0 {
            this.target.closed();
        }
        // Whether the signal was taken.
        c_int::from(events & POLL_IN != 0)
    }
}

impl<W: Wake> Deref for Hook<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.target
    }
}

#[pinned_drop]
impl<W: Wake> PinnedDrop for Hook<W> {
    fn drop(self: Pin<&mut Self>) {
        self.detach();
    }
}

/// `EPOLLIN` and `EPOLLHUP`, whose type bindgen can't express.
const POLL_IN: bindings::__poll_t = 0x1;
const POLL_HANG_UP: bindings::__poll_t = 0x10;

/// What [`queue`] finds in place of the table that it is given.
#[repr(C)]
struct Registering {
    // The first field: its address is the structure's own.
    table: bindings::poll_table_struct,
    entry: *mut bindings::wait_queue_entry,
    result: c_int,
}

/// # Safety
///
/// `table` is that of a [`Registering`], `head` an event's wait queue.
unsafe extern "C" fn queue(
    _file: *mut bindings::file,
    head: *mut bindings::wait_queue_head,
    table: *mut bindings::poll_table_struct,
) {
    // SAFETY: By this function's contract.
    let registering = unsafe { &mut *table.cast::<Registering>() };
    // Ahead of all others, and alone: a second one would not hear of anything.
    // SAFETY: The entry is set up and in no queue.
    let result = unsafe { bindings::add_wait_queue_priority_exclusive(head, registering.entry) };
    registering.result = result;
}
