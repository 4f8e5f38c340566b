// SPDX-License-Identifier: GPL-2.0
//! The current task, without a call.

use kernel::bindings;

/// The current task. It exists as long as the caller runs, and is another one in
/// another thread.
#[inline(always)]
pub(crate) fn current() -> *mut bindings::task_struct {
    use core::arch::asm;
    #[expect(improper_ctypes, reason = "some member is empty in some configurations")]
    extern "C" {
        static current_task: *mut bindings::task_struct;
    }
    let task;
    // SAFETY: GS holds the CPU's base while in the kernel. The answer is the same
    // on whichever CPU the task runs.
    unsafe {
        asm!(
            "mov {0}, qword ptr gs:[rip + {1}]",
            out(reg) task, sym current_task,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    task
}

/// Nanoseconds that the current task waited for a CPU in all while it could have
/// run; 0 where the kernel doesn't count them.
pub fn run_delay() -> u64 {
    // SAFETY: The helper reads the current task.
    unsafe { kvm_helper_run_delay() }
}

extern "C" {
    fn kvm_helper_run_delay() -> u64;
}

/// The flags of the current task; others set and clear them at any moment.
#[inline(always)]
pub(crate) fn flags() -> usize {
    // SAFETY: The task is valid. A volatile read as others write.
    unsafe { (&raw const (*current()).thread_info.flags).read_volatile() as usize }
}

/// Whether a flag (by number) of the current task is set.
#[inline(always)]
pub(crate) fn has_flag(number: u32) -> bool {
    flags() & 1 << number != 0
}
