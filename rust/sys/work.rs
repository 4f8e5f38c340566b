// SPDX-License-Identifier: GPL-2.0
//! What the kernel crate's work queues lack: waiting for an item, and a queue whose use
//! the kernel's log has nothing to say about.

use kernel::{
    bindings,
    workqueue::{Queue, Work},
};

/// The queue for what may run on any CPU. The kernel crate's `system` and
/// `system_unbound` are deprecated ones, of which the kernel warns.
pub fn queue() -> &'static Queue {
    // SAFETY: The queue is made before modules are loaded, and never goes.
    unsafe { Queue::from_raw(bindings::system_dfl_wq) }
}

/// Waits until an item that was queued has run, and has let go of what holds it;
/// whether there was something to wait for. Sleeps.
pub fn wait<T: ?Sized, const ID: u64>(work: &Work<T, ID>) -> bool {
    // SAFETY: The reference is valid, and `Work` is initialised when it is made.
    unsafe { bindings::flush_work(Work::raw_get(work)) }
}
