// SPDX-License-Identifier: GPL-2.0
//! The SVM instructions, and the memory that they work on.
//!
//! - [`VmcbPage`]: a control block that one vCPU owns.
//! - [`HostState`]: one CPU's page of host state.
//! - [`GlobalInterrupts`]: the global interrupt flag, off.
//! - [`enter`]: into the guest and out again (`enter.S`).
#![warn(missing_docs)]

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};
use kernel::prelude::*;
use kvm_sys::{hw_pages::HwPages, irq::IrqOff, preempt::Pinned, x86::msr::wrmsr};
use svm_arch::vmcb::Vmcb;

/// Where VMRUN keeps the host's state.
const MSR_VM_HSAVE_PA: u32 = 0xc001_0117;

/// A control block in memory of its own.
///
/// The processor reads and writes it during [`enter`] only, which borrows it
/// mutably; in between it is ordinary memory.
pub struct VmcbPage {
    page: HwPages<1>,
}

impl VmcbPage {
    /// A block of zeroes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self { page: HwPages::new()? })
    }

    /// Its physical address.
    #[inline]
    pub fn physical(&self) -> u64 {
        self.page.physical()
    }
}

impl Deref for VmcbPage {
    type Target = Vmcb;

    #[inline]
    fn deref(&self) -> &Vmcb {
        // SAFETY: The page is as large and as aligned as a `Vmcb`, any bytes make
        // one, and it is ours.
        unsafe { self.page.as_ptr().cast::<Vmcb>().as_ref() }
    }
}

impl DerefMut for VmcbPage {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vmcb {
        // SAFETY: As above, and borrowed mutably.
        unsafe { self.page.as_ptr().cast::<Vmcb>().as_mut() }
    }
}

/// A CPU's page for the host's FS, GS, TR, LDTR and system-call MSRs, and another
/// one for what VMRUN itself saves there.
pub struct HostState {
    loaded: HwPages<1>,
    run: HwPages<1>,
}

impl HostState {
    /// Empty pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Ok(Self { loaded: HwPages::new()?, run: HwPages::new()? })
    }

    /// Tells this CPU where VMRUN keeps the host's state; SVM is on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the processor refuses.
    pub fn install(&self, _cpu: Pinned<'_>) -> Result {
        // SAFETY: The MSR belongs to whoever turned SVM on; the page is ours until
        // `remove`.
        unsafe { wrmsr(MSR_VM_HSAVE_PA, self.run.physical()) }
    }

    /// Takes the page away from this CPU.
    pub fn remove(_cpu: Pinned<'_>) {
        // SAFETY: As above. Where SVM went off before, there is nothing to take.
        let _ = unsafe { wrmsr(MSR_VM_HSAVE_PA, 0) };
    }

    /// Saves the host's state of this CPU, to come back after the guest.
    #[inline]
    pub fn save(&self, _off: &IrqOff) {
        // SAFETY: The page is memory of this CPU's own that VMSAVE may fill.
        unsafe { kvm_svm_save_host(self.loaded.physical()) };
    }
}

/// The global interrupt flag is clear: nothing interrupts this CPU, not even an
/// NMI, until this is dropped.
pub struct GlobalInterrupts<'a>(PhantomData<&'a IrqOff>);

impl<'a> GlobalInterrupts<'a> {
    /// Clears the flag.
    #[inline]
    pub fn off(_off: &'a IrqOff) -> Self {
        // SAFETY: SVM is on on this CPU while a vCPU exists.
        unsafe { kvm_svm_clgi() };
        Self(PhantomData)
    }
}

impl Drop for GlobalInterrupts<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: As above. What is pending comes now, as far as IF lets it.
        unsafe { kvm_svm_stgi() };
    }
}

/// Runs the guest until it exits. `registers` are its general registers in the
/// order of their encoding; RAX and RSP are the block's. `host` holds this CPU's
/// saved state.
///
/// The block has to be one that keeps the guest to memory that it may have: its
/// nested root, permission maps and intercepts are what the host relies on.
#[inline(always)]
pub fn enter(
    _off: &GlobalInterrupts<'_>,
    vmcb: &mut VmcbPage,
    registers: &mut [u64; 16],
    host: &HostState,
) {
    // SAFETY: The addresses are those of a control block, sixteen registers and
    // a page with the host's state, all borrowed for the call; GIF is clear.
    unsafe { kvm_svm_enter(vmcb.physical(), registers.as_mut_ptr(), host.loaded.physical()) };
}

/// As [`enter`], with this SPEC_CTRL, which the processor takes and doesn't switch by itself;
/// the guest may leave another one.
#[inline(always)]
pub fn enter_switching(
    _off: &GlobalInterrupts<'_>,
    vmcb: &mut VmcbPage,
    registers: &mut [u64; 16],
    host: &HostState,
    spec_ctrl: &mut u64,
) {
    let (vmcb, host) = (vmcb.physical(), host.loaded.physical());
    // SAFETY: As above; a word is borrowed for the call, too.
    unsafe { kvm_svm_enter_switching(vmcb, registers.as_mut_ptr(), host, spec_ctrl) };
}

extern "C" {
    fn kvm_svm_enter_switching(vmcb: u64, registers: *mut u64, host: u64, spec_ctrl: *mut u64);
    fn kvm_svm_enter(vmcb: u64, registers: *mut u64, host: u64);
    fn kvm_svm_save_host(host: u64);
    fn kvm_svm_clgi();
    fn kvm_svm_stgi();
}
