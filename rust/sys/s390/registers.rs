// SPDX-License-Identifier: GPL-2.0
//! Floating-point and access registers, which SIE leaves as they are: what is in
//! the processor is the guest's while it runs.
//!
//! The kernel itself saves and restores them as its own when the thread sleeps.
//!
//! C header: `arch/s390/include/asm/fpu.h`.

use kernel::ffi::c_void;

/// The registers of a guest. Of 16 vector registers the first halves are the
/// floating-point registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// Floating-point registers.
    pub fprs: [u64; 16],
    /// Access registers.
    pub acrs: [u32; 16],
    /// Floating-point control.
    pub fpc: u32,
}

struct Call<F, R> {
    body: Option<F>,
    result: Option<R>,
}

/// Runs `body` with the guest's registers in the processor. They come back as the
/// guest left them. `body` gets no access to them.
///
/// A reserved bit in `fpc` makes it zero.
#[inline]
pub fn with_loaded<R>(registers: &mut Registers, body: impl FnOnce() -> R) -> Option<R> {
    /// # Safety
    ///
    /// `data` is a `Call` of these types that nobody else uses.
    unsafe extern "C" fn call<F: FnOnce() -> R, R>(data: *mut c_void) {
        // SAFETY: By the contract.
        let call = unsafe { &mut *data.cast::<Call<F, R>>() };
        call.result = call.body.take().map(|body| body());
    }

    fn function<F: FnOnce() -> R, R>(_: &Call<F, R>) -> unsafe extern "C" fn(*mut c_void) {
        call::<F, R>
    }

    let mut data = Call { body: Some(body), result: None };
    let function = function(&data);
    // SAFETY: The registers are borrowed for the call; `data` goes to the function
    // that knows its type.
    unsafe { kvm_helper_with_guest_registers(registers, function, (&raw mut data).cast()) };
    data.result
}

/// The access register in the processor, which is the guest's within
/// [`with_loaded`]. Only the lower four bits of the number count.
pub fn access(number: u8) -> u32 {
    loaded().acrs.get(usize::from(number & 15)).copied().unwrap_or(0)
}

/// Those in the processor, which are the guest's within [`with_loaded`].
pub fn loaded() -> Registers {
    let mut registers = Registers::default();
    // SAFETY: The argument is writable.
    unsafe { kvm_helper_read_guest_registers(&mut registers) };
    registers
}

extern "C" {
    fn kvm_helper_read_guest_registers(registers: *mut Registers);
    fn kvm_helper_with_guest_registers(
        registers: *mut Registers,
        body: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
    );
}
