// SPDX-License-Identifier: GPL-2.0
//! MSRs that matter in user mode only: they keep the guest's value until the CPU
//! goes to userspace.
//!
//! The kernel itself doesn't use them, so it doesn't mind; a vCPU that exits and
//! enters again writes none of them, and neither does one that follows another of
//! the same kind on the CPU.
//!
//! C header: `include/linux/user-return-notifier.h`.

use super::msr::{rdmsr, wrmsr};
use crate::{
    bindings as own,
    irq::{self, IrqOff},
    percpu::PerCpu,
    plain::Plain,
    preempt::{Pinned, PreemptOff},
};
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// An MSR that the kernel doesn't use itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum UserMsr {
    /// Segments of SYSCALL and SYSRET.
    Star,
    /// Entry point of SYSCALL.
    Lstar,
    /// Entry point of SYSCALL in compatibility mode.
    Cstar,
    /// Flags that SYSCALL clears.
    SyscallMask,
    /// What RDTSCP and RDPID return.
    TscAux,
    /// TSX_CTRL; only its bits may be changed.
    TsxCtrl,
}

use UserMsr::{Cstar, Lstar, Star, SyscallMask, TscAux, TsxCtrl};

const ALL: [UserMsr; 6] = [Star, Lstar, Cstar, SyscallMask, TscAux, TsxCtrl];

impl UserMsr {
    const fn number(self) -> u32 {
        match self {
            Star => 0xc000_0081,
            Lstar => 0xc000_0082,
            Cstar => 0xc000_0083,
            SyscallMask => 0xc000_0084,
            TscAux => 0xc000_0103,
            TsxCtrl => 0x122,
        }
    }
}

/// The user MSRs of all CPUs. One of these is enough for a vendor module.
///
/// [`Self::read_host`] comes first on each CPU, when virtualization is turned on
/// there; [`Self::restore_host`] when it is turned off.
pub struct UserReturnMsrs {
    cpus: PerCpu<Cpu>,
    available: [bool; ALL.len()],
}

/// One CPU's. Only that CPU uses it, with interrupts off where it changes.
///
/// # Invariants
///
/// `notifier` is on the CPU's list if `registered`.
#[repr(C)]
struct Cpu {
    /// First, so that a pointer to it is one to the whole.
    notifier: Opaque<own::user_return_notifier>,
    registered: Atomic<bool>,
    /// Whether `host` was read.
    known: Atomic<bool>,
    /// Whose values are loaded, by a number that its owner knows; 0 if nobody's.
    holder: Atomic<u64>,
    host: [Atomic<u64>; ALL.len()],
    current: [Atomic<u64>; ALL.len()],
}

// SAFETY: The list is used by its own CPU only.
unsafe impl Send for Cpu {}
// SAFETY: As above; the rest is atomic.
unsafe impl Sync for Cpu {}

impl UserReturnMsrs {
    /// Finds out which of them the processor has.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let off = PreemptOff::new();
        let available = ALL.map(|msr| is_usable(msr, off.pinned()));
        drop(off);
        Ok(Self { cpus: PerCpu::new(|_| Ok(Cpu::new()))?, available })
    }

    /// Whether the processor has it.
    #[inline]
    pub fn has(&self, msr: UserMsr) -> bool {
        self.available.get(msr as usize).is_some_and(|available| *available)
    }

    /// Takes what the registers of this CPU have as the host's.
    pub fn read_host(&self, cpu: Pinned<'_>) {
        let this = self.cpus.this(cpu);
        for msr in ALL.into_iter().filter(|msr| self.has(*msr)) {
            let value = rdmsr(msr.number()).unwrap_or(0);
            if let (Some(host), Some(current)) = (this.host(msr), this.current(msr)) {
                host.store(value, Relaxed);
                current.store(value, Relaxed);
            }
        }
        this.known.store(true, Relaxed);
        this.holder.store(0, Relaxed);
    }

    /// Whose values this CPU has, as [`Self::set_holder`] said it; 0 if nothing is known,
    /// as after a return to userspace.
    #[inline]
    pub fn holder(&self, cpu: Pinned<'_>) -> u64 {
        self.cpus.this(cpu).holder.get()
    }

    /// All that `holder`, which isn't 0, wants was set.
    #[inline]
    pub fn set_holder(&self, cpu: Pinned<'_>, holder: u64) {
        self.cpus.this(cpu).holder.store(holder, Relaxed);
    }

    /// Makes the bits of `mask` those of `value` until the CPU goes to userspace;
    /// the others are the host's.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the processor doesn't have the register or doesn't take the
    /// value, or if the host's values of this CPU aren't known.
    #[inline]
    pub fn set(&self, cpu: Pinned<'_>, msr: UserMsr, value: u64, mask: u64) -> Result {
        let this = self.cpus.this(cpu);
        let (Some(host), Some(current)) = (this.host(msr), this.current(msr)) else {
            return Err(EINVAL);
        };
        let value = value & mask | host.load(Relaxed) & !mask;
        if value == current.load(Relaxed) {
            return Ok(());
        }
        self.write(this, msr, value)
    }

    #[cold]
    fn write(&self, this: &Cpu, msr: UserMsr, value: u64) -> Result {
        if !self.has(msr) || !this.known.load(Relaxed) {
            return Err(EINVAL);
        }
        irq::with_irqs_off(|off| this.write(off, msr, value))
    }

    /// Puts the host's values back on this CPU. Any context.
    pub fn restore_host(&self, cpu: Pinned<'_>) {
        let this = self.cpus.this(cpu);
        irq::with_irqs_off(|off| this.restore(off));
    }
}

impl Drop for UserReturnMsrs {
    fn drop(&mut self) {
        self.cpus.on_each_online(|this, off| this.restore(off));
    }
}

impl Cpu {
    fn new() -> Self {
        let link = bindings::hlist_node { next: ptr::null_mut(), pprev: ptr::null_mut() };
        // INVARIANT: not registered.
        Self {
            notifier: Opaque::new(own::user_return_notifier {
                on_user_return: Some(Self::returning),
                link,
            }),
            registered: Atomic::new(false),
            known: Atomic::new(false),
            holder: Atomic::new(0),
            host: [const { Atomic::new(0) }; ALL.len()],
            current: [const { Atomic::new(0) }; ALL.len()],
        }
    }

    #[inline]
    fn host(&self, msr: UserMsr) -> Option<&Atomic<u64>> {
        self.host.get(msr as usize)
    }

    #[inline]
    fn current(&self, msr: UserMsr) -> Option<&Atomic<u64>> {
        self.current.get(msr as usize)
    }

    /// `self` is that of this CPU.
    fn write(&self, _off: &IrqOff, msr: UserMsr, value: u64) -> Result {
        // SAFETY: The kernel doesn't use the register; before userspace does, it
        // is restored.
        unsafe { wrmsr(msr.number(), value) }?;
        if let Some(current) = self.current(msr) {
            current.store(value, Relaxed);
        }
        if !self.registered.load(Relaxed) {
            // INVARIANT: the call puts it on the list.
            self.registered.store(true, Relaxed);
            // SAFETY: It is on no list. `PerCpu` keeps it where it is, and `drop`
            // takes it off before it goes.
            unsafe { own::user_return_notifier_register(self.notifier.get()) };
        }
        Ok(())
    }

    /// `self` is that of this CPU.
    fn restore(&self, _off: &IrqOff) {
        if !self.registered.load(Relaxed) {
            return;
        }
        self.holder.store(0, Relaxed);
        // INVARIANT: the call takes it off the list.
        self.registered.store(false, Relaxed);
        // SAFETY: It is on the list of this CPU.
        unsafe { own::user_return_notifier_unregister(self.notifier.get()) };
        for msr in ALL {
            if let (Some(host), Some(current)) = (self.host(msr), self.current(msr)) {
                let value = host.load(Relaxed);
                if current.load(Relaxed) != value {
                    // SAFETY: It is the host's value. That the processor takes it
                    // is known, as it had it.
                    let _ = unsafe { wrmsr(msr.number(), value) };
                    current.store(value, Relaxed);
                }
            }
        }
    }

    /// The CPU goes to userspace.
    ///
    /// # Safety
    ///
    /// `notifier` is that of this CPU's [`Cpu`].
    unsafe extern "C" fn returning(notifier: *mut own::user_return_notifier) {
        // SAFETY: By the contract, and the notifier comes first.
        let this = unsafe { &*notifier.cast::<Self>() };
        irq::with_irqs_off(|off| this.restore(off));
    }
}

/// Whether the register can be read, and written with the value it has.
fn is_usable(msr: UserMsr, _cpu: Pinned<'_>) -> bool {
    let Some(value) = rdmsr(msr.number()) else { return false };
    // SAFETY: It has this value already, and the CPU stays the same.
    unsafe { wrmsr(msr.number(), value) }.is_ok()
}
