// SPDX-License-Identifier: GPL-2.0
//! Staying on a CPU, and hearing of being scheduled away from it.
//!
//! - [`PreemptOff`]: preemption is off while it lives.
//! - [`Pinned`]: evidence that the current code can't migrate; what works on the
//!   state of the current CPU asks for it.
//! - [`with_hooks`]: callbacks when the current task is scheduled out and in.
//!
//! C headers: `include/linux/preempt.h`.

use crate::{bindings as own, percpu};
use core::{
    marker::PhantomData,
    ptr::{self, null_mut},
};
use kernel::{
    bindings,
    cpu::CpuId,
    ffi::c_int,
    types::{NotThreadSafe, Opaque},
};

/// Evidence that the current code can't migrate to another CPU for `'a`.
///
/// # Invariants
///
/// Until the end of `'a` preemption is off, or interrupts are, or the task may
/// only run on this CPU.
#[derive(Clone, Copy)]
pub struct Pinned<'a>(PhantomData<&'a ()>, NotThreadSafe);

impl Pinned<'_> {
    /// # Safety
    ///
    /// The invariant of the type.
    #[inline]
    pub(crate) unsafe fn new() -> Self {
        // INVARIANT: the caller promises it.
        Self(PhantomData, NotThreadSafe)
    }

    /// The CPU that the code can't leave.
    #[inline]
    pub fn cpu(self) -> CpuId {
        CpuId::current()
    }

    /// Its number.
    #[inline]
    pub fn number(self) -> u32 {
        percpu::this_number()
    }
}

/// Preemption is off while it lives; nothing may sleep. Nests.
#[must_use = "preemption is on again when it is dropped"]
pub struct PreemptOff(NotThreadSafe);

impl PreemptOff {
    /// Turns preemption off.
    #[inline]
    #[expect(clippy::new_without_default, reason = "has an effect")]
    pub fn new() -> Self {
        // SAFETY: No preconditions; `drop` undoes it.
        unsafe { raw::disable() };
        Self(NotThreadSafe)
    }

    /// The evidence that goes with it.
    #[inline]
    pub fn pinned(&self) -> Pinned<'_> {
        // SAFETY: Preemption is off as long as `self` lives.
        unsafe { Pinned::new() }
    }
}

impl Drop for PreemptOff {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Pairs with `new`.
        unsafe { raw::enable() };
    }
}

/// What to do when the task that runs a vCPU leaves and enters a CPU.
///
/// Both run in the middle of whatever the task does with preemption on, as an
/// interrupt does. They may not sleep and may take only locks that are never
/// held with preemption on.
pub trait SchedHooks: Sync {
    /// The task goes on, on the CPU of `cpu`. Interrupts are on, preemption is
    /// off.
    fn sched_in(&self, cpu: Pinned<'_>);

    /// The task leaves the CPU of `cpu`: because something else runs first
    /// (`preempted`), or because it waits. Interrupts are off, the run queue is
    /// locked: nothing may be woken.
    fn sched_out(&self, cpu: Pinned<'_>, preempted: bool);
}

/// Turns scheduling hooks on in the kernel. Every context switch of the host
/// gets a little slower while one of these exists, so it belongs to a VM.
pub struct HooksInUse(());

impl HooksInUse {
    /// Turns them on. May sleep.
    #[expect(clippy::new_without_default, reason = "has an effect")]
    pub fn new() -> Self {
        // SAFETY: No preconditions; `drop` undoes it.
        unsafe { own::preempt_notifier_inc() };
        Self(())
    }
}

impl Drop for HooksInUse {
    fn drop(&mut self) {
        // SAFETY: Pairs with `new`.
        unsafe { own::preempt_notifier_dec() };
    }
}

/// What the kernel's list refers to: the link comes first, so that a pointer to it
/// is one to the whole.
#[repr(C)]
struct Notifier<'a, T> {
    link: own::preempt_notifier,
    hooks: &'a T,
}

impl<T: SchedHooks> Notifier<'_, T> {
    const OPS: own::preempt_ops =
        own::preempt_ops { sched_in: Some(Self::sched_in), sched_out: Some(Self::sched_out) };

    /// # Safety
    ///
    /// `link` belongs to a `Notifier<T>`; preemption or interrupts are off.
    unsafe extern "C" fn sched_in(link: *mut own::preempt_notifier, _cpu: c_int) {
        // SAFETY: By the contract; the current function can't migrate.
        let (hooks, cpu) = unsafe { ((*link.cast::<Self>()).hooks, Pinned::new()) };
        hooks.sched_in(cpu);
    }

    /// # Safety
    ///
    /// As for `sched_in`.
    unsafe extern "C" fn sched_out(
        link: *mut own::preempt_notifier,
        _next: *mut bindings::task_struct,
    ) {
        // SAFETY: By the contract; the current function can't migrate.
        let (hooks, cpu) = unsafe { ((*link.cast::<Self>()).hooks, Pinned::new()) };
        // SAFETY: No preconditions.
        hooks.sched_out(cpu, unsafe { kvm_helper_current_is_runnable() });
    }
}

/// Runs `body` with `hooks` called whenever the current task is scheduled out or
/// in. They are not called for the beginning and the end of `body`.
#[inline]
pub fn with_hooks<T: SchedHooks, R>(
    _in_use: &HooksInUse,
    hooks: &T,
    body: impl FnOnce() -> R,
) -> R {
    let notifier = Opaque::new(Notifier {
        link: own::preempt_notifier {
            link: bindings::hlist_node { next: null_mut(), pprev: null_mut() },
            ops: ptr::from_ref(&Notifier::<'_, T>::OPS).cast_mut(),
        },
        hooks,
    });
    let link = notifier.get().cast::<own::preempt_notifier>();
    {
        let _off = PreemptOff::new();
        // SAFETY: `notifier` stays in place and valid until it is unregistered
        // below: the kernel doesn't unwind, so `body` returns or never ends. The
        // callbacks fit it, and `HooksInUse` is the kernel's count of users.
        unsafe { own::preempt_notifier_register(link) };
    }
    let result = body();
    let _off = PreemptOff::new();
    // SAFETY: Registered above by this task, whose list no callback walks while
    // preemption is off.
    unsafe { own::preempt_notifier_unregister(link) };
    result
}

extern "C" {
    fn kvm_helper_current_is_runnable() -> bool;
}

/// What the kernel's own inline functions come to where nobody counts or traces
/// preemption.
#[cfg(all(
    CONFIG_X86_64,
    CONFIG_PREEMPT_DYNAMIC,
    CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS,
    not(CONFIG_DEBUG_PREEMPT),
    not(CONFIG_TRACE_PREEMPT_TOGGLE)
))]
mod raw {
    use core::arch::asm;

    extern "C" {
        static __preempt_count: u64;
        fn __SCT__preempt_schedule();
    }

    /// # Safety
    ///
    /// [`enable`] follows.
    #[inline(always)]
    pub(super) unsafe fn disable() {
        // SAFETY: GS holds the CPU's base while in the kernel.
        unsafe { asm!("inc qword ptr gs:[rip + {}]", sym __preempt_count, options(nostack)) };
    }

    /// The count reaches 0 only if the scheduler has to be called.
    ///
    /// # Safety
    ///
    /// Pairs with [`disable`].
    #[inline(always)]
    pub(super) unsafe fn enable() {
        // SAFETY: As above. The callee saves all registers, and aligns the stack
        // as it needs it.
        unsafe {
            asm!(
                "dec qword ptr gs:[rip + {count}]",
                "jnz 2f",
                "call {schedule}",
                "2:",
                count = sym __preempt_count,
                schedule = sym __SCT__preempt_schedule,
            );
        }
    }
}

#[cfg(not(all(
    CONFIG_X86_64,
    CONFIG_PREEMPT_DYNAMIC,
    CONFIG_HAS_SEPARATE_PREEMPT_RESCHED_BITS,
    not(CONFIG_DEBUG_PREEMPT),
    not(CONFIG_TRACE_PREEMPT_TOGGLE)
)))]
mod raw {
    extern "C" {
        #[link_name = "kvm_helper_preempt_disable"]
        pub(super) fn disable();
        #[link_name = "kvm_helper_preempt_enable"]
        pub(super) fn enable();
    }
}
