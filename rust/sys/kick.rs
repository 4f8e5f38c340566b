// SPDX-License-Identifier: GPL-2.0
//! Getting a vCPU's attention: out of the guest, or out of its sleep.
//!
//! A vCPU's thread is outside, inside the guest on some CPU, or asleep in
//! [`Kick::block`]. Others first leave word (a request, an interrupt), and then
//! call [`Kick::kick`]. The thread announces with [`Kick::enter`] that it is about
//! to go inside, and looks for word *after* that; full barriers on both sides make
//! sure that one of the two sees the other.
//!
//! C headers: `include/linux/rcuwait.h`, `include/linux/smp.h`.

use crate::{bindings as own, irq::IrqOff, plain::Plain};
use core::ptr;
use kernel::{
    bindings,
    cpu::CpuId,
    current,
    ffi::{c_int, c_void},
    sync::atomic::{Atomic, Full},
    types::Opaque,
};

/// The thread is not inside a guest.
const OUTSIDE: u32 = 0;
/// It was told to come out.
const TOLD: u32 = 1 << 31;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What it waited for is there.
    Ready,
    /// A signal is pending.
    Signal,
}

/// Where a vCPU's thread is, and the means to reach it.
///
/// # Invariants
///
/// `place` is [`OUTSIDE`] or the number of a CPU plus one, perhaps with [`TOLD`].
/// `sleeper` is initialised.
pub struct Kick {
    place: Atomic<u32>,
    sleeper: Opaque<own::rcuwait>,
}

// SAFETY: All is atomic, or RCU's.
unsafe impl Send for Kick {}
// SAFETY: As above.
unsafe impl Sync for Kick {}

impl Kick {
    /// A thread that is outside.
    #[expect(clippy::new_without_default, reason = "part of a vCPU, never made alone")]
    pub fn new() -> Self {
        // INVARIANT: an empty `rcuwait` is a null pointer.
        Self {
            place: Atomic::new(OUTSIDE),
            sleeper: Opaque::new(own::rcuwait { task: ptr::null_mut() }),
        }
    }

    /// The thread is about to enter the guest on this CPU: from now on it gets an
    /// interrupt when it is kicked. Interrupts are off. What was left before the
    /// kick is visible after this.
    #[inline]
    pub fn enter(&self, off: &IrqOff) {
        let cpu = off.pinned().number();
        // INVARIANT: the number of this CPU plus one.
        self.place.put_release(cpu.wrapping_add(1));
        full_barrier();
    }

    /// The thread is outside again, or didn't enter after all.
    #[inline]
    pub fn leave(&self) {
        self.place.put_release(OUTSIDE);
    }

    /// Wakes the thread if it sleeps, gets it out if it is inside. Doesn't wait.
    /// May be called anywhere, interrupts off or not.
    pub fn kick(&self) {
        // SAFETY: `sleeper` is initialised; full barrier inside.
        if unsafe { own::rcuwait_wake_up(self.sleeper.get()) } != 0 {
            return;
        }
        if let Some(cpu) = self.tell() {
            // SAFETY: `cpu` is the number of a CPU.
            unsafe { kvm_helper_interrupt_cpu(cpu as c_int) };
        }
    }

    /// The CPU on which the thread is inside, if it hasn't been told yet.
    fn tell(&self) -> Option<u32> {
        let place = self.place.get_acquire();
        if place == OUTSIDE || place & TOLD != 0 {
            return None;
        }
        self.place.cmpxchg(place, place | TOLD, Full).ok()?;
        let cpu = place.wrapping_sub(1);
        (cpu != CpuId::current().as_u32()).then_some(cpu)
    }

    /// Sleeps until `ready` or a signal. Every kick makes it look again.
    pub fn block(&self, mut ready: impl FnMut() -> bool) -> Woken {
        // SAFETY: `sleeper` is initialised, and only the vCPU's thread sleeps.
        unsafe { kvm_helper_rcuwait_prepare(self.sleeper.get()) };
        let woken = loop {
            // SAFETY: Any task may get ready to sleep; the barrier inside orders
            // this before `ready`.
            unsafe { kvm_helper_set_interruptible() };
            if ready() {
                break Woken::Ready;
            }
            if current!().signal_pending() {
                break Woken::Signal;
            }
            // SAFETY: Task context, nothing held.
            unsafe { bindings::schedule() };
        };
        // SAFETY: As above.
        unsafe { kvm_helper_rcuwait_finish(self.sleeper.get()) };
        woken
    }
}

/// Has the guest that this CPU enters next come out at once; an event that is
/// injected is delivered before.
pub fn interrupt_this_cpu(off: &IrqOff) {
    // SAFETY: The number of this CPU, which the caller doesn't leave.
    unsafe { kvm_helper_interrupt_cpu(off.pinned().cpu().as_u32() as c_int) };
}

/// Words of a set of CPUs.
const WORDS: usize = (bindings::NR_CPUS as usize).div_ceil(64);

/// A set of CPUs that vCPUs are inside on, collected to be interrupted at once.
pub struct Inside {
    cpus: [u64; WORDS],
    any: bool,
}

impl Inside {
    /// The empty set.
    #[expect(clippy::new_without_default, reason = "not a value to have around")]
    pub const fn new() -> Self {
        Self { cpus: [0; WORDS], any: false }
    }

    /// Adds the CPU that the vCPU is inside on, if it is. What was left before is
    /// seen by the vCPU in any case.
    #[inline]
    pub fn add(&mut self, kick: &Kick) {
        // Orders what the caller left before the look at the place; pairs with
        // the barrier in `enter`.
        full_barrier();
        let place = kick.place.get_acquire() & !TOLD;
        if place == OUTSIDE {
            return;
        }
        let cpu = place.wrapping_sub(1);
        if let Some(word) = self.cpus.get_mut((cpu / 64) as usize) {
            *word |= 1u64.wrapping_shl(cpu);
            self.any = true;
        }
    }

    /// Interrupts all of them and waits until each has taken the interrupt, that
    /// is, until no vCPU that was added is still inside as it was then.
    /// Interrupts must be on.
    pub fn interrupt_and_wait(&self) {
        if self.any {
            // SAFETY: The set has a bit for each possible CPU.
            unsafe { kvm_helper_interrupt_cpus(ptr::from_ref(&self.cpus).cast()) };
        }
    }
}

/// What comes before is seen by all CPUs before what follows is done.
#[inline(always)]
#[cfg(all(CONFIG_X86_64, CONFIG_SMP))]
fn full_barrier() {
    // SAFETY: Adds 0 to a word below the stack, which the kernel has no use for. That is
    // faster than MFENCE, and orders all that this does.
    unsafe { core::arch::asm!("lock add dword ptr [rsp - 4], 0") };
}

/// What comes before is seen by all CPUs before what follows is done.
#[inline(always)]
#[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
fn full_barrier() {
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
}

#[allow(improper_ctypes, reason = "some member is empty in some configurations")]
extern "C" {
    fn kvm_helper_rcuwait_prepare(wait: *mut own::rcuwait);
    fn kvm_helper_rcuwait_finish(wait: *mut own::rcuwait);
    fn kvm_helper_set_interruptible();
    fn kvm_helper_interrupt_cpu(cpu: c_int);
    fn kvm_helper_interrupt_cpus(cpus: *const c_void);
}
