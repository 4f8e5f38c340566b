// SPDX-License-Identifier: GPL-2.0
//! Registers of the host that a VMX exit loads: what they have to be, on this CPU or
//! now.
//!
//! Intel SDM volume 3 section 25.5.

use crate::{bindings as own, irq::IrqOff, preempt::Pinned};
use core::{arch::asm, marker::PhantomData};
use kernel::ffi::c_uint;

/// Selector of the kernel's code.
pub const KERNEL_CS: u16 = own::KVM_KERNEL_CS as u16;
/// Selector of the kernel's data.
pub const KERNEL_DS: u16 = own::KVM_KERNEL_DS as u16;
/// Selector of the task-state segment.
pub const KERNEL_TR: u16 = own::KVM_KERNEL_TR as u16;

/// Linear addresses that each CPU has its own of.
#[derive(Clone, Copy, Debug)]
pub struct CpuBases {
    /// Base of the task-state segment.
    pub tss: u64,
    /// Base of the global descriptor table.
    pub gdt: u64,
    /// Base of GS while in the kernel.
    pub gs: u64,
}

impl CpuBases {
    /// Those of this CPU.
    pub fn of_this_cpu(cpu: Pinned<'_>) -> Self {
        let cpu = cpu.cpu().as_u32();
        // SAFETY: The helpers compute addresses for a CPU that is online.
        unsafe {
            Self {
                tss: kvm_helper_tss_base(cpu),
                gdt: kvm_helper_gdt_base(cpu),
                gs: kvm_helper_gs_base(cpu),
            }
        }
    }
}

/// Base of the interrupt descriptor table, the same on all CPUs.
pub fn idt_base() -> u64 {
    #[repr(C, packed)]
    struct Table {
        limit: u16,
        base: u64,
    }
    let mut table = Table { limit: 0, base: 0 };
    // SAFETY: `table` has ten bytes.
    unsafe {
        asm!("sidt [{}]", in(reg) &raw mut table, options(nostack, preserves_flags));
    }
    table.base
}

/// CR0.
pub fn cr0() -> u64 {
    let value;
    // SAFETY: Reading it has no effect.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// CR3. It stays so until interrupts come on.
#[inline]
pub fn cr3(_off: &IrqOff) -> u64 {
    // SAFETY: Preemption is off.
    unsafe { own::__get_current_cr3_fast() as u64 }
}

/// CR4. It stays so until interrupts come on.
#[inline]
pub fn cr4(_off: &IrqOff) -> u64 {
    // SAFETY: Preemption is off.
    unsafe { own::cr4_read_shadow() as u64 }
}

/// CR2.
#[inline(always)]
pub fn cr2(_off: &IrqOff) -> u64 {
    let value;
    // SAFETY: Reading it has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets CR2.
#[inline(always)]
pub fn set_cr2(_off: &IrqOff, value: u64) {
    // SAFETY: The kernel reads CR2 after a page fault only, which sets it.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// What has to happen on a CPU before a crashing kernel turns virtualization off.
pub trait Crash: 'static {
    /// Called on each CPU, perhaps in the middle of anything with interrupts off, and
    /// perhaps in an NMI.
    fn crash(off: &IrqOff);
}

/// [`Crash::crash`] in the kernel's hands, until dropped.
///
/// # Invariants
///
/// It is registered.
pub struct CrashCallback<T: Crash>(PhantomData<T>);

impl<T: Crash> CrashCallback<T> {
    /// Registers it. There is one for the whole kernel: the caller is the only vendor
    /// module.
    #[expect(clippy::new_without_default, reason = "has an effect")]
    pub fn new() -> Self {
        // SAFETY: The function lives as long as the module, which outlives `Self`.
        unsafe { own::x86_virt_register_emergency_callback(Some(Self::called)) };
        // INVARIANT: just registered.
        Self(PhantomData)
    }

    /// The kernel calls it on a CPU that is to stop.
    ///
    /// # Safety
    ///
    /// None: the kernel's type of callbacks wants it unsafe.
    unsafe extern "C" fn called() {
        crate::irq::with_irqs_off(|off| T::crash(off));
    }
}

impl<T: Crash> Drop for CrashCallback<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { own::x86_virt_unregister_emergency_callback(Some(Self::called)) };
    }
}

extern "C" {
    fn kvm_helper_tss_base(cpu: c_uint) -> u64;
    fn kvm_helper_gdt_base(cpu: c_uint) -> u64;
    fn kvm_helper_gs_base(cpu: c_uint) -> u64;
}
