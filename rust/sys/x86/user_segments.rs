// SPDX-License-Identifier: GPL-2.0
//! Segment registers of user mode, which a VMX guest leaves changed: the kernel itself
//! doesn't use them, so they stay so until the task goes to userspace or leaves the CPU.
//!
//! An exit loads FS and GS with the bases that the VMCS has, and DS, ES and LDTR with
//! null selectors. KernelGSBase is no part of the VMCS: while the guest's is loaded it
//! is in the register.

use super::msr::{read_msr, write_msr};
use crate::{
    irq::{self, IrqOff},
    plain::Plain,
    preempt::Pinned,
};
use core::cell::UnsafeCell;
use kernel::sync::atomic::{Atomic, Relaxed};

const MSR_DEBUGCTL: u32 = 0x1d9;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// What `rust/sys/x86/helpers.c` has as `struct user_segments`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Saved {
    ds: u16,
    es: u16,
    fs: u16,
    gs: u16,
    ldt: u16,
    fs_base: u64,
    kernel_gs_base: u64,
}

/// What an exit has to load for the task.
#[derive(Clone, Copy, Debug)]
pub struct HostSegments {
    /// FS, as far as an exit can load it.
    pub fs: u16,
    /// GS, as far as an exit can load it.
    pub gs: u16,
    /// Base of FS.
    pub fs_base: u64,
}

/// The registers of a task that runs a vCPU. That task alone uses it, in whatever
/// context.
///
/// # Invariants
///
/// `saved` changes with interrupts off only, by the task.
pub struct UserSegments {
    /// The registers are the guest's on the CPU that the task is on.
    loaded: Atomic<bool>,
    saved: UnsafeCell<Saved>,
    /// The guest's KernelGSBase while it isn't loaded.
    kernel_gs_base: Atomic<u64>,
    /// The host's IA32_DEBUGCTL, which an exit clears.
    debugctl: Atomic<u64>,
}

// SAFETY: One task uses it.
unsafe impl Send for UserSegments {}
// SAFETY: As above; others only read `loaded`, if anything.
unsafe impl Sync for UserSegments {}

impl UserSegments {
    /// Not loaded; the guest's KernelGSBase is 0.
    #[expect(clippy::new_without_default, reason = "part of a vCPU, never made alone")]
    pub const fn new() -> Self {
        let saved = Saved { ds: 0, es: 0, fs: 0, gs: 0, ldt: 0, fs_base: 0, kernel_gs_base: 0 };
        // INVARIANT: nobody knows it.
        Self {
            loaded: Atomic::new(false),
            saved: UnsafeCell::new(saved),
            kernel_gs_base: Atomic::new(0),
            debugctl: Atomic::new(0),
        }
    }

    /// The task is about to enter its guest. If that changes what exits have to load,
    /// what they have to load from now on.
    #[inline]
    pub fn before_entry(&self, off: &IrqOff) -> Option<HostSegments> {
        if self.loaded.get() {
            return None;
        }
        Some(self.load(off))
    }

    fn load(&self, _off: &IrqOff) -> HostSegments {
        // SAFETY: Interrupts are off, and the task is this one.
        let saved = unsafe {
            kvm_helper_save_user_segments(self.saved.get());
            *self.saved.get()
        };
        self.debugctl.store(read_msr(MSR_DEBUGCTL), Relaxed);
        // SAFETY: The kernel's own use of the register is to keep the task's value,
        // which is saved.
        unsafe { write_msr(MSR_KERNEL_GS_BASE, self.kernel_gs_base.load(Relaxed)) };
        self.loaded.store(true, Relaxed);
        let loadable = |selector: u16| if selector & 7 == 0 { selector } else { 0 };
        HostSegments { fs: loadable(saved.fs), gs: loadable(saved.gs), fs_base: saved.fs_base }
    }

    /// The guest has exited.
    #[inline]
    pub fn after_exit(&self, _off: &IrqOff) {
        let debugctl = self.debugctl.get();
        if debugctl != 0 {
            // SAFETY: It is the host's value.
            unsafe { write_msr(MSR_DEBUGCTL, debugctl) };
        }
    }

    /// The task leaves the CPU or goes to userspace: the registers are to be its own.
    pub fn restore(&self, _cpu: Pinned<'_>) {
        if !self.loaded.load(Relaxed) {
            return;
        }
        irq::with_irqs_off(|_off| {
            self.kernel_gs_base.store(read_msr(MSR_KERNEL_GS_BASE), Relaxed);
            // SAFETY: `load` saved them on this CPU, and the task is this one.
            unsafe { kvm_helper_restore_user_segments(self.saved.get()) };
            self.loaded.store(false, Relaxed);
        });
    }

    /// The guest's KernelGSBase.
    pub fn kernel_gs_base(&self) -> u64 {
        irq::with_irqs_off(|_off| {
            if self.loaded.load(Relaxed) {
                read_msr(MSR_KERNEL_GS_BASE)
            } else {
                self.kernel_gs_base.load(Relaxed)
            }
        })
    }

    /// Sets it to a canonical address.
    pub fn set_kernel_gs_base(&self, value: u64) {
        irq::with_irqs_off(|_off| {
            self.kernel_gs_base.store(value, Relaxed);
            if self.loaded.load(Relaxed) {
                // SAFETY: As in `load`.
                unsafe { write_msr(MSR_KERNEL_GS_BASE, value) };
            }
        });
    }
}

extern "C" {
    fn kvm_helper_save_user_segments(segments: *mut Saved);
    fn kvm_helper_restore_user_segments(segments: *const Saved);
}
