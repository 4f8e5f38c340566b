// SPDX-License-Identifier: GPL-2.0
//! START INTERPRETIVE EXECUTION, and the block that it works on.
#![warn(missing_docs)]

pub mod sca;

use core::{
    ops::{Deref, DerefMut},
    ptr,
};
use kernel::prelude::*;
use kvm_sys::{hw_pages::HwPages, irq::IrqOff};
use s390_arch::sie::{SieBlock, SiePage};

/// A block in memory of its own.
///
/// The machine reads and writes it during [`enter`] only, which borrows it
/// mutably; in between it is ordinary memory.
pub struct Block {
    page: HwPages<1>,
    /// What SIE is told, computed once.
    physical: u64,
}

impl Block {
    /// A block of zeroes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let page = HwPages::new()?;
        let physical = page.physical();
        Ok(Self { page, physical })
    }

    /// The page that the block is in.
    #[inline]
    pub fn page(&self) -> &SiePage {
        // SAFETY: The page is as large and as aligned as a `SiePage`, any bytes
        // make one, and it is ours.
        unsafe { self.page.as_ptr().cast::<SiePage>().as_ref() }
    }
}

impl Deref for Block {
    type Target = SieBlock;

    #[inline]
    fn deref(&self) -> &SieBlock {
        &self.page().block
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut SieBlock {
        // SAFETY: As in `page`, and borrowed mutably.
        unsafe { &mut self.page.as_ptr().cast::<SiePage>().as_mut().block }
    }
}

/// How a guest came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The block says why, or the host was interrupted, or an access of the guest
    /// was refused by the host's tables.
    Normal,
    /// A machine check of the host; what it was is behind the block.
    MachineCheck,
}

/// Runs the guest until it comes out. `registers` are its general registers, of
/// which 14 and 15 are the block's. `space` designates its memory.
///
/// The block has to be one of a guest in a space of its own: its execution
/// controls are what the host relies on. Called by [`guest_mode`] alone, as
/// nothing may be traced here.
///
/// [`guest_mode`]: kvm_sys::guest_mode
#[inline(always)]
pub fn enter(_off: &IrqOff, block: &mut Block, registers: &mut [u64; 16], space: u64) -> Exit {
    let page = block.page.as_ptr().as_ptr().cast();
    // SAFETY: The addresses are those of a block and of sixteen registers, all
    // borrowed for the call. Interrupts are off; the function turns them on for
    // the guest and off again.
    let code = unsafe { __sie64a(block.physical, page, ptr::from_mut(registers).cast(), space) };
    if code == 0 {
        Exit::Normal
    } else {
        Exit::MachineCheck
    }
}

extern "C" {
    fn __sie64a(
        physical: u64,
        block: *mut kernel::ffi::c_void,
        registers: *mut u64,
        space: u64,
    ) -> i32;
}
