// SPDX-License-Identifier: GPL-2.0
//! The guest's floating-point and vector state.
//!
//! The kernel keeps it in the format of XSAVE, and switches between it and the
//! task's own state like between two tasks: [`with_loaded`]. While it is loaded,
//! the registers of the CPU hold it, unless the task was scheduled out, or
//! something in the kernel used the registers; [`GuestFpu::before_entry`] loads
//! it again.
//!
//! PKRU isn't in it, nor are XCR0 and XSS: see [`xcr`](super::xcr).
//!
//! Facts: `arch/x86/kernel/fpu/core.c`.

use super::{fpregs, has_feature, msr::write_msr, xcr};
use crate::{bindings as own, irq::IrqOff, task};
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{
        code::{EINVAL, ENOMEM},
        to_result, Result,
    },
    ffi::{c_uint, c_void},
};

/// Size of the area of FXSAVE and of the beginning of that of XSAVE.
pub const LEGACY_SIZE: usize = 512;

/// Size of the areas that `KVM_GET_XSAVE` and `KVM_SET_XSAVE` were made for.
pub const XSAVE_BASE_SIZE: usize = 4096;

const HEADER_SIZE: usize = 64;
const FP: u64 = 1 << 0;
const SSE: u64 = 1 << 1;
const BNDREGS: u64 = 1 << 3;
const BNDCSR: u64 = 1 << 4;
const CET_USER: u64 = 1 << 11;
const CET_KERNEL: u64 = 1 << 12;

const FCW: usize = 0;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
const FCW_INIT: [u8; 2] = 0x37f_u16.to_le_bytes();
const MXCSR_INIT: [u8; 4] = 0x1f80_u32.to_le_bytes();

const MSR_XFD_ERR: u32 = 0x1c5;

/// The state of one guest. Each method works whether it is loaded or not.
///
/// # Invariants
///
/// `raw` has a state of its own. `loaded_by` is the task on which it is loaded,
/// null if on none; it changes only by that task.
pub struct GuestFpu {
    raw: own::fpu_guest,
    loaded_by: *mut bindings::task_struct,
    /// The guest writes the MSR XFD without an exit.
    xfd_passed_through: bool,
}

// SAFETY: The state belongs to no task unless loaded, and what works on it looks
// at `loaded_by` first.
unsafe impl Send for GuestFpu {}

/// Runs `body` with the guest's state in the place of the task's own. `fpu` says
/// where in `state` it is, the same place each time.
///
/// A task can have one guest's state loaded, so not within another
/// [`with_loaded`]. May not be called with preemption off.
#[inline]
pub fn with_loaded<S: ?Sized, R>(
    state: &mut S,
    fpu: impl Fn(&mut S) -> &mut GuestFpu,
    body: impl FnOnce(&mut S) -> R,
) -> R {
    fpu(state).swap_in();
    let result = body(state);
    fpu(state).swap_out();
    result
}

impl GuestFpu {
    /// The state of a processor after reset, with room for everything that needs
    /// no permission. From now on the process can't ask for permissions any more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let mut raw =
            own::fpu_guest { xfeatures: 0, xfd_err: 0, uabi_size: 0, fpstate: ptr::null_mut() };
        // SAFETY: `raw` is writable; the function fills it.
        if !unsafe { own::fpu_alloc_guest_fpstate(&mut raw) } {
            return Err(ENOMEM);
        }
        // INVARIANT: just made; not loaded.
        Ok(Self { raw, loaded_by: ptr::null_mut(), xfd_passed_through: false })
    }

    /// Makes the registers the guest's, if something took them since it was
    /// loaded. Nothing may use them from here to the guest.
    #[inline]
    pub fn before_entry(&self, _off: &IrqOff) {
        if task::has_flag(own::TIF_NEED_FPU_LOAD) {
            // SAFETY: The flag says that the registers aren't the task's.
            unsafe { own::switch_fpu_return() };
        }
        if self.raw.xfd_err != 0 {
            // SAFETY: The host's value is 0 but between a fault and its handler.
            unsafe { write_msr(MSR_XFD_ERR, self.raw.xfd_err) };
        }
    }

    /// What has to be right before interrupts come.
    #[inline]
    pub fn after_exit(&self, _off: &IrqOff) {
        if self.xfd_passed_through {
            // SAFETY: Interrupts are off, and the guest's state is the task's.
            unsafe { own::fpu_sync_guest_vmexit_xfd_state() };
        }
        if self.raw.xfd_err != 0 {
            // SAFETY: The host's value is 0.
            unsafe { write_msr(MSR_XFD_ERR, 0) };
        }
    }

    /// Size of the area of `KVM_GET_XSAVE2` and `KVM_SET_XSAVE`: at least
    /// [`XSAVE_BASE_SIZE`].
    pub fn user_size(&self) -> usize {
        self.raw.uabi_size as usize
    }

    /// Writes an XSAVE area, in the standard format, with the components in
    /// `components` and this value of PKRU. What doesn't fit isn't written.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there isn't room even for the header.
    pub fn read_xsave(&mut self, area: &mut [u8], components: u64, pkru: u32) -> Result {
        if area.len() < LEGACY_SIZE.saturating_add(HEADER_SIZE) {
            return Err(EINVAL);
        }
        let size = c_uint::try_from(area.len()).map_err(|_| EINVAL)?;
        self.in_memory(|raw| {
            // SAFETY: `raw` is valid and not loaded; `area` has `size` bytes.
            unsafe {
                own::fpu_copy_guest_fpstate_to_uabi(
                    raw,
                    area.as_mut_ptr().cast::<c_void>(),
                    size,
                    components,
                    pkru,
                );
            }
        });
        Ok(())
    }

    /// Takes the state from an XSAVE area in the standard format, of at least
    /// [`Self::user_size`] bytes. Components that aren't in it are reset, without
    /// PKRU: its new value is the result, if there is one. The header is changed.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the area is too small, or if the header has components that
    /// the host or this guest doesn't have, or a reserved bit of the header or of
    /// MXCSR is set.
    pub fn write_xsave(&mut self, area: &mut [u8]) -> Result<Option<u32>> {
        if area.len() < self.user_size().max(XSAVE_BASE_SIZE) {
            return Err(EINVAL);
        }
        let header = area.get_mut(LEGACY_SIZE..).and_then(|rest| rest.first_chunk_mut::<8>());
        let header = header.ok_or(EINVAL)?;
        // What XFD takes away must be in its initial state in memory.
        let components = u64::from_le_bytes(*header) & !self.xfd();
        *header = components.to_le_bytes();
        let mut pkru = 0;
        self.in_memory(|raw| {
            // SAFETY: `raw` is valid and not loaded. No component of this guest
            // ends behind `user_size`.
            to_result(unsafe {
                own::fpu_copy_uabi_to_guest_fpstate(
                    raw,
                    area.as_ptr().cast::<c_void>(),
                    xcr::supported_xcr0(),
                    &mut pkru,
                )
            })
        })?;
        Ok((components & xcr::PKRU != 0).then_some(pkru))
    }

    /// The x87 and SSE state as FXSAVE writes it in 64-bit mode.
    pub fn legacy(&mut self) -> [u8; LEGACY_SIZE] {
        self.in_memory(|raw| {
            let (area, header) = image(raw);
            // SAFETY: The area is valid, and nobody changes it meanwhile.
            let mut legacy = unsafe { area.read() };
            // SAFETY: As above.
            let present = header.map_or(FP | SSE, |header| unsafe { header.read() });
            // XSAVE writes no component that is in its initial state.
            if present & FP == 0 {
                reset_x87(&mut legacy);
            }
            if present & SSE == 0 {
                reset_sse(&mut legacy);
            }
            legacy
        })
    }

    /// Changes the x87 and SSE state. MXCSR and what the processor doesn't define
    /// stay as they are.
    pub fn set_legacy(&mut self, new: &[u8; LEGACY_SIZE]) {
        let mut legacy = self.legacy();
        for part in [0..MXCSR, ST..XMM.saturating_add(256)] {
            if let (Some(to), Some(from)) = (legacy.get_mut(part.clone()), new.get(part)) {
                to.copy_from_slice(from);
            }
        }
        self.in_memory(|raw| {
            let (area, header) = image(raw);
            // SAFETY: The area and the header are valid and nobody else's; no bit
            // that FXRSTOR refuses came from `new`.
            unsafe {
                area.write(legacy);
                if let Some(header) = header {
                    header.write(header.read() | FP | SSE);
                }
            }
        });
    }

    /// What INIT does: most components stay; MPX and CET are reset.
    pub fn init(&mut self) {
        let components = (BNDREGS | BNDCSR | CET_USER | CET_KERNEL)
            & (xcr::supported_xcr0() | xcr::supported_xss());
        if components == 0 {
            return;
        }
        self.in_memory(|raw| {
            for component in (0..u64::BITS).filter(|bit| components & 1 << bit != 0) {
                // SAFETY: The host has the component; the state isn't loaded.
                unsafe { own::fpstate_clear_xstate_component(raw.fpstate, component) };
            }
        });
    }

    /// Makes room for components that need permission, as the guest's CPUID
    /// shows them. May sleep.
    ///
    /// # Errors
    ///
    /// `EPERM` if the process has no permission; `ENOMEM`.
    pub fn enable_dynamic(&mut self, components: u64) -> Result {
        // SAFETY: `raw` is valid; whether it is loaded is the kernel's business.
        to_result(unsafe { own::fpu_enable_guest_xfd_features(&mut self.raw, components) })
    }

    /// The MSR XFD.
    pub fn xfd(&self) -> u64 {
        // SAFETY: `raw` is valid.
        unsafe { kvm_helper_fpu_xfd(&self.raw) }
    }

    /// Writes the MSR XFD; `value` has only bits of components that the guest has.
    pub fn set_xfd(&mut self, value: u64) {
        // SAFETY: `raw` is valid. A bit of a component that XCR0 lacks is masked.
        unsafe { own::fpu_update_guest_xfd(&mut self.raw, value & xcr::supported_xcr0()) };
    }

    /// From now on the guest writes XFD without an exit.
    pub fn pass_xfd_through(&mut self) {
        self.xfd_passed_through = true;
    }

    /// The MSR XFD_ERR.
    pub fn xfd_err(&self) -> u64 {
        self.raw.xfd_err
    }

    /// Writes the MSR XFD_ERR.
    pub fn set_xfd_err(&mut self, value: u64) {
        self.raw.xfd_err = value & xcr::supported_xcr0();
    }

    /// Runs `body` with the guest's state in the registers, where it can use and
    /// change it. It may neither sleep nor do anything else.
    #[inline]
    pub(super) fn in_registers<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let loaded = self.is_loaded();
        if !loaded {
            self.swap_in();
        }
        let result = fpregs::with_owned(body);
        if !loaded {
            self.swap_out();
        }
        result
    }

    /// Runs `body` with the guest's state in memory.
    fn in_memory<R>(&mut self, body: impl FnOnce(&mut own::fpu_guest) -> R) -> R {
        let loaded = self.is_loaded();
        if loaded {
            self.swap_out();
        }
        let result = body(&mut self.raw);
        if loaded {
            self.swap_in();
        }
        result
    }

    fn is_loaded(&self) -> bool {
        self.loaded_by == task::current()
    }

    fn swap_in(&mut self) {
        if self.loaded_by.is_null() {
            // SAFETY: `raw` is valid and loaded on no task.
            // INVARIANT: it is loaded on the current one now.
            unsafe { own::fpu_swap_kvm_fpstate(&mut self.raw, true) };
            self.loaded_by = task::current();
        }
    }

    fn swap_out(&mut self) {
        if self.is_loaded() {
            // SAFETY: It is loaded on the current task.
            // INVARIANT: and isn't any more.
            unsafe { own::fpu_swap_kvm_fpstate(&mut self.raw, false) };
            self.loaded_by = ptr::null_mut();
        }
    }
}

impl Drop for GuestFpu {
    fn drop(&mut self) {
        self.swap_out();
        if self.loaded_by.is_null() {
            // SAFETY: `raw` is valid, loaded nowhere, and not used again. Were it
            // loaded on another task, that one would go on using it.
            unsafe { own::fpu_free_guest_fpstate(&mut self.raw) };
        }
    }
}

/// Where the legacy area is in memory, and the components that are in memory at
/// all. The second is nowhere on a processor without XSAVE.
fn image(raw: &mut own::fpu_guest) -> (*mut [u8; LEGACY_SIZE], Option<*mut u64>) {
    // SAFETY: `raw` is valid.
    let area = unsafe { kvm_helper_fpu_area(raw) };
    let header = has_feature(own::X86_FEATURE_XSAVE).then(|| {
        // SAFETY: The header follows.
        unsafe { area.as_ptr().byte_add(LEGACY_SIZE).cast::<u64>() }
    });
    (area.as_ptr().cast(), header)
}

fn reset_x87(area: &mut [u8; LEGACY_SIZE]) {
    for part in [FCW..MXCSR, ST..XMM] {
        if let Some(part) = area.get_mut(part) {
            part.fill(0);
        }
    }
    if let Some(fcw) = area.first_chunk_mut() {
        *fcw = FCW_INIT;
    }
}

fn reset_sse(area: &mut [u8; LEGACY_SIZE]) {
    if let Some(xmm) = area.get_mut(XMM..XMM.saturating_add(256)) {
        xmm.fill(0);
    }
    if let Some(mxcsr) = area.get_mut(MXCSR..).and_then(|rest| rest.first_chunk_mut()) {
        *mxcsr = MXCSR_INIT;
    }
}

extern "C" {
    fn kvm_helper_fpu_area(fpu: *mut own::fpu_guest) -> NonNull<c_void>;
    fn kvm_helper_fpu_xfd(fpu: *const own::fpu_guest) -> u64;
}
