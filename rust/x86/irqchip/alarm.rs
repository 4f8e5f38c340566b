// SPDX-License-Identifier: GPL-2.0
//! [`Alarm`]: what a device's host timer does when it goes off.
//!
//! A device raises its interrupt through the VM's routes, and belongs to the VM
//! itself. So its timer's callback, which can't reach the VM, leaves the work to
//! the thread of a vCPU: of the first one, which has nothing better to do with the
//! interrupt than to take it in most cases, and which always exists once time
//! matters.

use crate::vendor::{Vendor, X86};
use kernel::sync::{
    atomic::{Atomic, Relaxed},
    barrier::{self, smp_mb},
    Arc, SetOnce,
};
use kvm_core::{request::Request, vcpu::Vcpu};
use kvm_sys::timer::Expire;

/// Leaves a request with the first vCPU.
pub(super) struct Alarm<V: Vendor> {
    request: Request,
    server: SetOnce<Arc<Vcpu<X86<V>>>>,
    /// It went off at least once.
    went_off: Atomic<bool>,
}

impl<V: Vendor> Alarm<V> {
    /// One for nobody yet.
    pub(super) fn new(request: Request) -> Self {
        Self { request, server: SetOnce::new(), went_off: Atomic::new(false) }
    }

    /// From now on `vcpu` is asked, at once if the timer went off before.
    pub(super) fn set_server(&self, vcpu: &Arc<Vcpu<X86<V>>>) {
        self.server.populate(vcpu.clone());
        // Either this sees that it went off, or `expired` sees the vCPU.
        smp_mb(barrier::Full);
        if self.went_off.load(Relaxed) {
            vcpu.request(self.request);
        }
    }
}

impl<V: Vendor> Expire for Alarm<V> {
    fn expired(&self) -> Option<i64> {
        self.went_off.store(true, Relaxed);
        smp_mb(barrier::Full);
        if let Some(vcpu) = self.server.as_ref() {
            vcpu.request(self.request);
        }
        None
    }
}
