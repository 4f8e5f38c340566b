// SPDX-License-Identifier: GPL-2.0
//! Debug registers: the guest's own and those of a debugger outside.

use crate::control::Control;
use kernel::prelude::*;
use x86_defs::{Dr6, Dr7};

/// Bits of DR6 that always read as one.
const DR6_FIXED: u64 = 0xffff_0ff0;
/// Bit of DR7 that always reads as one.
const DR7_FIXED: u64 = 0x400;

/// The guest's debug registers.
#[derive(Clone, Copy, Debug)]
pub struct Debug {
    /// DR0 to DR3.
    pub addresses: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
}

impl Debug {
    /// The registers after power-on.
    pub(crate) const fn new() -> Self {
        Self { addresses: [0; 4], dr6: DR6_FIXED, dr7: DR7_FIXED }
    }

    /// Sets the registers as after power-on or INIT.
    pub(crate) fn reset<C: Control>(&mut self, control: &mut C) {
        *self = Self::new();
        self.load(control);
    }

    /// Hands the registers that the control block holds to it.
    pub fn load<C: Control>(&self, control: &mut C) {
        control.set_dr6(self.dr6);
        control.set_dr7(self.dr7);
    }

    /// DR0 to DR3 if any of them is in use: the guest then runs with them loaded.
    #[inline]
    pub(crate) fn active(&self) -> Option<&[u64; 4]> {
        const ENABLED: u64 = 0xff;
        (self.dr7 & ENABLED != 0).then_some(&self.addresses)
    }

    /// A debug exception with these bits of DR6 is delivered: general detect is
    /// off for the handler, and the breakpoints of the last one are forgotten
    /// (SDM vol. 3, 17.2.3 and 17.3.1).
    pub fn raise(&mut self, bits: u64) {
        const BREAKPOINTS: u64 = 0xf;
        self.dr6 = self.dr6 & !BREAKPOINTS | DR6_FIXED;
        self.dr6 |= bits & !Dr6::RTM.bits();
        self.dr6 &= !(bits & Dr6::RTM.bits());
        self.dr7 &= !Dr7::GD.bits();
    }

    /// DR0 to DR3, 6 or 7.
    pub(crate) fn read(&self, n: u8) -> u64 {
        match n {
            4 | 6 => self.dr6,
            5 | 7 => self.dr7,
            _ => self.addresses.get(usize::from(n)).copied().unwrap_or(0),
        }
    }

    /// Writes DR0 to DR3, 6 or 7.
    ///
    /// # Errors
    ///
    /// `EINVAL` for DR6 and DR7 with an upper half.
    pub(crate) fn write<C: Control>(&mut self, control: &mut C, n: u8, value: u64) -> Result {
        const DR6_VOLATILE: u64 = 0xe00f;
        const DR7_RESERVED: u64 = 0xd000;
        match n {
            4..=7 if value >> 32 != 0 => return Err(EINVAL),
            4 | 6 => self.dr6 = value & DR6_VOLATILE | DR6_FIXED,
            5 | 7 => self.dr7 = value & !DR7_RESERVED | DR7_FIXED,
            _ => {
                if let Some(address) = self.addresses.get_mut(usize::from(n)) {
                    *address = value;
                }
            }
        }
        self.load(control);
        Ok(())
    }

    /// Whether a debugger outside steps through the guest.
    pub fn is_stepping(&self) -> bool {
        false
    }
}
