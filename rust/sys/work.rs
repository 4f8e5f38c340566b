// SPDX-License-Identifier: GPL-2.0
//! What the kernel crate's work queues lack: waiting for an item.

use kernel::{bindings, workqueue::Work};

/// Waits until an item that was queued has run, and has let go of what holds it;
/// whether there was something to wait for. Sleeps.
pub fn wait<T: ?Sized, const ID: u64>(work: &Work<T, ID>) -> bool {
    // SAFETY: The reference is valid, and `Work` is initialised when it is made.
    unsafe { bindings::flush_work(Work::raw_get(work)) }
}
