// SPDX-License-Identifier: GPL-2.0
//! Tracepoints.
//!
//! While nobody traces, one costs a no-op that the kernel patches into a jump
//! (`Documentation/trace/tracepoints.rst`). What is to be told is made up only then.
//!
//! They may be used in any context in which RCU watches: not between the last moment
//! before an entry and the first one after an exit.

/// Whether somebody traces: a no-op that the kernel patches.
macro_rules! is_traced {
    ($tracepoint:ident) => {{
        // SAFETY: C defined it.
        unsafe {
            kernel::jump_label::static_branch_unlikely!(
                $tracepoint,
                kernel::bindings::tracepoint,
                key
            )
        }
    }};
}
pub(crate) use is_traced;

/// Rust functions for tracepoints whose arguments are numbers, which C has defined
/// with `CREATE_RUST_TRACE_POINTS`. The argument is a function that makes up the
/// numbers.
macro_rules! tracepoints {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),+ $(,)?);)+) => {
        kernel::macros::paste! {
            #[allow(improper_ctypes, reason = "empty lock classes are within, by their address")]
            extern "C" {
                $(
                    static [<__tracepoint_ $name>]: kernel::bindings::tracepoint;
                    fn [<rust_do_trace_ $name>]($($arg: $type),+);
                )+
            }

            $(
                $(#[$doc])*
                #[inline(always)]
                pub fn $name(tell: impl FnOnce() -> ($($type,)+)) {
                    if $crate::trace::is_traced!([<__tracepoint_ $name>]) {
                        let ($($arg,)+) = tell();
                        // SAFETY: It copies numbers.
                        unsafe { [<rust_do_trace_ $name>]($($arg),+) };
                    }
                }
            )+
        }
    };
}
#[cfg(CONFIG_X86_64)]
pub(crate) use tracepoints;

use core::ffi::c_void;
use kernel::ffi::{c_int, c_uint};

tracepoints! {
    /// `KVM_RUN` returns: why, or the errno that it failed with, as a negative number.
    fn kvm_userspace_exit(reason: u32, error: c_int);
    /// A vCPU that slept goes on: after so many nanoseconds, whether it slept or only
    /// looked on, and whether there was a reason.
    fn kvm_vcpu_wakeup(ns: u64, waited: bool, valid: bool);
    /// A line is set: its number, its level, and who holds it.
    fn kvm_set_irq(gsi: c_uint, level: c_int, source: c_int);
    /// An interrupt of a line is over: number of the controller, and pin.
    fn kvm_ack_irq(chip: c_uint, pin: c_uint);
}

/// What happens to memory that is a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmio {
    /// A read that userspace has to answer.
    Unanswered,
    /// A read, with what was read.
    Read(u64),
    /// A write.
    Write(u64),
}

#[allow(improper_ctypes, reason = "as above")]
extern "C" {
    static __tracepoint_kvm_mmio: kernel::bindings::tracepoint;
    fn rust_do_trace_kvm_mmio(kind: c_int, len: c_int, gpa: u64, value: *mut c_void);
}

/// The guest accesses `len` bytes, at most eight, of a device in memory at `gpa`.
#[inline(always)]
pub fn kvm_mmio(gpa: u64, len: u8, what: Mmio) {
    if is_traced!(__tracepoint_kvm_mmio) {
        trace_mmio(gpa, len, what);
    }
}

#[cold]
fn trace_mmio(gpa: u64, len: u8, what: Mmio) {
    let (kind, mut value) = match what {
        Mmio::Unanswered => (0, 0),
        Mmio::Read(value) => (1, value),
        Mmio::Write(value) => (2, value),
    };
    let value = (&raw mut value).cast();
    // SAFETY: It copies at most eight bytes of the value.
    unsafe { rust_do_trace_kvm_mmio(kind, c_int::from(len.min(8)), gpa, value) };
}

/// Where a dirty ring stands.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// The vCPU's.
    pub index: u32,
    /// Entries that were ever added.
    pub added: u32,
    /// How many of them are free again.
    pub reset: u32,
}

#[allow(improper_ctypes, reason = "as above")]
extern "C" {
    static __tracepoint_kvm_dirty_ring_push: kernel::bindings::tracepoint;
    static __tracepoint_kvm_dirty_ring_reset: kernel::bindings::tracepoint;
    static __tracepoint_kvm_dirty_ring_exit: kernel::bindings::tracepoint;
    fn kvm_helper_trace_ring_push(index: c_int, added: u32, reset: u32, slot: u32, offset: u64);
    fn kvm_helper_trace_ring_reset(index: c_int, added: u32, reset: u32);
    fn kvm_helper_trace_ring_exit(vcpu_id: c_int);
}

/// A page of a slot was noted in a dirty ring.
#[inline(always)]
pub fn kvm_dirty_ring_push(ring: impl FnOnce() -> Ring, slot: u32, page: u64) {
    if is_traced!(__tracepoint_kvm_dirty_ring_push) {
        let Ring { index, added, reset } = ring();
        // SAFETY: It copies numbers.
        unsafe { kvm_helper_trace_ring_push(index as c_int, added, reset, slot, page) };
    }
}

/// Entries of a dirty ring are free again.
#[inline(always)]
pub fn kvm_dirty_ring_reset(ring: impl FnOnce() -> Ring) {
    if is_traced!(__tracepoint_kvm_dirty_ring_reset) {
        let Ring { index, added, reset } = ring();
        // SAFETY: As above.
        unsafe { kvm_helper_trace_ring_reset(index as c_int, added, reset) };
    }
}

/// A vCPU leaves its guest because its dirty ring is nearly full.
#[inline(always)]
pub fn kvm_dirty_ring_exit(vcpu_id: u32) {
    if is_traced!(__tracepoint_kvm_dirty_ring_exit) {
        // SAFETY: As above.
        unsafe { kvm_helper_trace_ring_exit(vcpu_id as c_int) };
    }
}
