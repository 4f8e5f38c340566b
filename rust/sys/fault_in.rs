// SPDX-License-Identifier: GPL-2.0
//! Pages that the kernel gets for a process while its threads do something else.
//!
//! C header: `include/linux/mm.h`.

use crate::{process::AddressSpace, work};
use kernel::{
    bindings,
    ffi::c_ulong,
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc,
    },
    workqueue::{Work, WorkItem},
};
use kvm_paging::addr::Hva;

/// Who is told that a page has come, or can't come.
pub trait Arrival: Send + Sync + 'static {
    /// It has. Called once, by any thread.
    fn arrived(&self);
}

/// A page that is on its way. Whoever has it waits for its end ([`Self::wait`])
/// before the module can go.
#[pin_data]
pub struct FaultIn<T: Arrival> {
    #[pin]
    work: Work<Self>,
    space: AddressSpace,
    address: Hva,
    done: Atomic<bool>,
    tell: T,
}

impl_has_work! {
    impl{T: Arrival} HasWork<FaultIn<T>> for FaultIn<T> { self.work }
}

impl<T: Arrival> FaultIn<T> {
    /// Has the page at `address` made present and writable by another thread, which
    /// tells `tell` when it is, or can't be.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn start(space: &AddressSpace, address: Hva, tell: T) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("kvm_fault_in"),
                space: space.clone(),
                address,
                done: Atomic::new(false),
                tell,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        // It isn't queued yet, so it will be.
        let _ = work::queue().enqueue(this.clone());
        Ok(this)
    }

    /// Whether the thread is through with it.
    pub fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    /// Waits until it is, and has left this module.
    pub fn wait(&self) {
        work::wait(&self.work);
    }
}

impl<T: Arrival> WorkItem for FaultIn<T> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: The reference keeps the `mm_struct`; the helper looks whether
        // there is still memory in it.
        unsafe { kvm_helper_fault_in(this.space.as_raw(), this.address.raw() as c_ulong) };
        this.done.store(true, Release);
        this.tell.arrived();
    }
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_fault_in(mm: *mut bindings::mm_struct, address: c_ulong);
}
