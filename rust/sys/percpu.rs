// SPDX-License-Identifier: GPL-2.0
//! A value for each CPU.
//!
//! C header: `include/linux/percpu.h`.

use crate::{
    irq::{self, IrqOff},
    preempt::Pinned,
};
use core::{marker::PhantomData, mem::align_of, ptr::NonNull};
use kernel::{
    bindings,
    cpu::{nr_cpu_ids, CpuId},
    ffi::{c_int, c_void},
    prelude::*,
};

/// One `T` for each CPU that can ever be online.
///
/// All of them are shared: a CPU's own value can be reached from others by
/// [`Self::of`], and from interrupts. So `T` has atomics or locks inside; relaxed
/// atomics cost nothing where only the own CPU writes.
///
/// # Invariants
///
/// `base` is from the per-CPU allocator, and the value of each possible CPU is
/// initialised.
pub struct PerCpu<T: Sync> {
    base: NonNull<c_void>,
    _owns: PhantomData<T>,
}

// SAFETY: It owns values that may be sent, and shares them only as `&T`.
unsafe impl<T: Send + Sync> Send for PerCpu<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for PerCpu<T> {}

impl<T: Sync> PerCpu<T> {
    /// A value for each possible CPU. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `make` answers.
    pub fn new(mut make: impl FnMut(CpuId) -> Result<T>) -> Result<Self> {
        // SAFETY: The sizes are those of a type.
        let base = unsafe { kvm_helper_percpu_alloc(size_of::<T>(), align_of::<T>()) };
        let base = NonNull::new(base).ok_or(ENOMEM)?;
        for cpu in possible_cpus() {
            match make(cpu) {
                // SAFETY: Each CPU has room for a `T` of its own.
                Ok(value) => unsafe {
                    kvm_helper_percpu_of(base.as_ptr(), cpu.as_u32()).cast::<T>().write(value)
                },
                Err(err) => {
                    Self::drop_values(base, cpu.as_u32());
                    return Err(err);
                }
            }
        }
        // INVARIANT: all were written.
        Ok(Self { base, _owns: PhantomData })
    }

    /// That of the CPU which the caller can't leave.
    #[inline]
    pub fn this<'a>(&'a self, _cpu: Pinned<'a>) -> &'a T {
        // SAFETY: By the invariant it is initialised. `_cpu` says that the CPU
        // stays the same; were it not, another CPU's `T` would do as well.
        unsafe { &*this_cpu(self.base.as_ptr()).cast::<T>() }
    }

    /// That of any CPU; `None` if there can't be such a CPU.
    pub fn of(&self, cpu: CpuId) -> Option<&T> {
        // SAFETY: No preconditions.
        if !unsafe { kvm_helper_cpu_possible(cpu.as_u32()) } {
            return None;
        }
        // SAFETY: By the invariant, as it is possible.
        Some(unsafe { &*kvm_helper_percpu_of(self.base.as_ptr(), cpu.as_u32()).cast::<T>() })
    }

    /// Those of all CPUs that can ever be online.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &T)> {
        possible_cpus().filter_map(|cpu| self.of(cpu).map(|value| (cpu, value)))
    }

    /// Runs `each` on every online CPU with that CPU's value, and waits. May sleep
    /// no more than a spinning lock; not with interrupts off.
    pub fn on_each_online<F: Fn(&T, &IrqOff) + Sync>(&self, each: F) {
        let call = (self, each);
        let function: unsafe extern "C" fn(*mut c_void) = Self::called::<F>;
        // SAFETY: The function fits `call`, which outlives the waiting call.
        unsafe { kvm_helper_on_each_cpu_with(function, (&raw const call).cast_mut().cast()) };
    }

    /// Runs `body` on `cpu` with that CPU's value, and waits; not with interrupts off.
    /// Nothing happens if the CPU isn't online.
    pub fn on_cpu<F: Fn(&T, &IrqOff) + Sync>(&self, cpu: CpuId, body: F) {
        let call = (self, body);
        let function: unsafe extern "C" fn(*mut c_void) = Self::called::<F>;
        // SAFETY: The function fits `call`, which outlives the waiting call.
        let _ = unsafe {
            bindings::smp_call_function_single(
                cpu.as_u32() as c_int,
                Some(function),
                (&raw const call).cast_mut().cast(),
                true,
            )
        };
    }

    /// # Safety
    ///
    /// `call` is that of [`Self::on_each_online`] or [`Self::on_cpu`]; interrupts are off.
    unsafe extern "C" fn called<F: Fn(&T, &IrqOff) + Sync>(call: *mut c_void) {
        // SAFETY: By the contract.
        let (values, each) = unsafe { &*call.cast::<(&Self, F)>() };
        irq::with_irqs_off(|off| each(values.this(off.pinned()), off));
    }

    /// Drops those of the CPUs below `end`, and the memory.
    fn drop_values(base: NonNull<c_void>, end: u32) {
        for cpu in possible_cpus().take_while(|cpu| cpu.as_u32() < end) {
            // SAFETY: Initialised, and never used again.
            unsafe {
                kvm_helper_percpu_of(base.as_ptr(), cpu.as_u32()).cast::<T>().drop_in_place()
            };
        }
        // SAFETY: From `kvm_helper_percpu_alloc`, and nobody refers to it.
        unsafe { kvm_helper_percpu_free(base.as_ptr()) };
    }
}

impl<T: Sync> Drop for PerCpu<T> {
    fn drop(&mut self) {
        Self::drop_values(self.base, u32::MAX);
    }
}

/// The CPUs that can ever be online.
fn possible_cpus() -> impl Iterator<Item = CpuId> {
    (0..nr_cpu_ids())
        // SAFETY: No preconditions.
        .filter(|&cpu| unsafe { kvm_helper_cpu_possible(cpu) })
        .filter_map(CpuId::from_u32)
}

/// Number of the current CPU.
#[cfg(all(CONFIG_X86_64, CONFIG_SMP))]
#[inline(always)]
pub(crate) fn this_number() -> u32 {
    use core::arch::asm;
    extern "C" {
        static cpu_number: u32;
    }
    let number: u32;
    // SAFETY: GS holds the CPU's base while in the kernel.
    unsafe {
        asm!(
            "mov {0:e}, dword ptr gs:[rip + {1}]",
            out(reg) number, sym cpu_number,
            options(nostack, readonly, preserves_flags),
        );
    }
    number
}

/// Number of the current CPU.
#[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
#[inline]
pub(crate) fn this_number() -> u32 {
    CpuId::current().as_u32()
}

/// Address of a per-CPU value on the current CPU.
///
/// # Safety
///
/// `base` is from the per-CPU allocator.
#[cfg(all(CONFIG_X86_64, CONFIG_SMP))]
#[inline(always)]
unsafe fn this_cpu(base: *mut c_void) -> *mut c_void {
    use core::arch::asm;
    extern "C" {
        static this_cpu_off: usize;
    }
    let mut address = base;
    // SAFETY: GS holds the CPU's base while in the kernel; `this_cpu_off` is the
    // distance of this CPU's copies.
    unsafe {
        asm!(
            "add {0}, qword ptr gs:[rip + {1}]",
            inout(reg) address, sym this_cpu_off,
            options(nostack, readonly),
        );
    };
    address
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
#[inline]
unsafe fn this_cpu(base: *mut c_void) -> *mut c_void {
    // SAFETY: By the caller's contract.
    unsafe { kvm_helper_percpu_this(base) }
}

extern "C" {
    fn kvm_helper_percpu_alloc(size: usize, align: usize) -> *mut c_void;
    fn kvm_helper_percpu_free(base: *mut c_void);
    fn kvm_helper_percpu_of(base: *mut c_void, cpu: u32) -> *mut c_void;
    fn kvm_helper_on_each_cpu_with(function: unsafe extern "C" fn(*mut c_void), info: *mut c_void);
    fn kvm_helper_cpu_possible(cpu: u32) -> bool;
    #[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
    fn kvm_helper_percpu_this(base: *mut c_void) -> *mut c_void;
}
