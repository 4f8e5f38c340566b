// SPDX-License-Identifier: GPL-2.0
//! The process that a VM belongs to, as its address space.

use crate::bindings as own;
use kernel::{bindings, current, error::Result, mm::Mm, prelude::*, sync::aref::ARef};

/// A reference to the address space of a process. It doesn't keep the memory in
/// it, only the identity: after the process exits or calls exec, nobody has it
/// as theirs any more.
#[derive(Clone)]
pub struct AddressSpace(ARef<Mm>);

impl AddressSpace {
    /// That of the current process.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a kernel thread, which has none.
    pub fn current() -> Result<Self> {
        let task = current!();
        let mm: &Mm = task.mm().ok_or(EINVAL)?;
        Ok(Self(ARef::from(mm)))
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::mm_struct {
        self.0.as_raw()
    }

    /// Whether it is that of the current process.
    pub fn is_current(&self) -> bool {
        current!().mm().is_some_and(|mm| mm.as_raw() == self.0.as_raw())
    }
}

/// Whether a range of addresses lies in the part of the address space that
/// processes have. Says nothing of what is there.
pub fn may_access(address: u64, size: u64) -> bool {
    // SAFETY: The helper compares numbers.
    unsafe { kvm_helper_access_ok(address, size) }
}

/// Runs `body` with these signals blocked, bit n standing for signal n + 1, and no
/// others; SIGKILL and SIGSTOP never are. Not nested.
pub fn with_signals_blocked<R>(signals: u64, body: impl FnOnce() -> R) -> R {
    // SAFETY: Changes the current task, which does nothing else meanwhile; undone
    // below.
    unsafe { kvm_helper_block_signals(signals) };
    let result = body();
    // SAFETY: Pairs with the call above.
    unsafe { kvm_helper_unblock_signals() };
    result
}

/// Whether nobody else wants this CPU. It may be another one at once.
pub fn is_alone() -> bool {
    // SAFETY: No preconditions.
    unsafe { own::single_task_running() }
}

/// Lets others run if it is their turn. Sleeps.
pub fn cond_resched() {
    // SAFETY: No preconditions besides that.
    unsafe { kvm_helper_cond_resched() };
}

extern "C" {
    fn kvm_helper_block_signals(signals: u64);
    fn kvm_helper_unblock_signals();
    fn kvm_helper_cond_resched();
    fn kvm_helper_access_ok(address: u64, size: u64) -> bool;
}
