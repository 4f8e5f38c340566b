// SPDX-License-Identifier: GPL-2.0
//! Debug registers: the guest's own and those of a debugger outside.

use crate::control::Control;
use kernel::prelude::*;
use x86_defs::{Dr6, Dr7};

/// Bits of DR6 that always read as one.
const DR6_FIXED: u64 = 0xffff_0ff0;
/// Bit of DR7 that always reads as one.
pub(crate) const DR7_FIXED: u64 = 0x400;

/// The guest's debug registers.
#[derive(Clone, Copy, Debug)]
pub struct Debug {
    /// DR0 to DR3.
    pub addresses: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// What a debugger outside wants ([`want`]); 0 if there is none.
    wants: u32,
    /// Its DR0 to DR3.
    breakpoints: [u64; 4],
    /// Its DR7.
    breakpoint_control: u64,
    /// An instruction was executed outside of the guest while it steps.
    stepped: bool,
    /// Until its next exit the guest accesses the registers by itself.
    open: bool,
}

/// What a debugger outside can want (`KVM_GUESTDBG_*`).
pub mod want {
    /// Anything at all.
    pub const ENABLE: u32 = 1 << 0;
    /// To see each instruction.
    pub const STEPS: u32 = 1 << 1;
    /// To see INT3.
    pub const SOFTWARE_BREAKPOINTS: u32 = 1 << 16;
    /// Debug registers of its own.
    pub const HARDWARE_BREAKPOINTS: u32 = 1 << 17;
    /// The guest to get #DB now.
    pub const INJECT_DB: u32 = 1 << 18;
    /// The guest to get #BP now.
    pub const INJECT_BP: u32 = 1 << 19;
    /// The guest to get no interrupts.
    pub const NO_INTERRUPTS: u32 = 1 << 20;
    /// All of them.
    pub const ALL: u32 = ENABLE
        | STEPS
        | SOFTWARE_BREAKPOINTS
        | HARDWARE_BREAKPOINTS
        | INJECT_DB
        | INJECT_BP
        | NO_INTERRUPTS;
}

impl Debug {
    /// The registers after power-on.
    pub(crate) const fn new() -> Self {
        Self {
            addresses: [0; 4],
            dr6: DR6_FIXED,
            dr7: DR7_FIXED,
            wants: 0,
            breakpoints: [0; 4],
            breakpoint_control: DR7_FIXED,
            stepped: false,
            open: false,
        }
    }

    /// Sets the registers as after power-on or INIT.
    pub(crate) fn reset<C: Control>(&mut self, control: &mut C) {
        (self.addresses, self.dr6, self.dr7) = ([0; 4], DR6_FIXED, DR7_FIXED);
        self.load(control);
    }

    /// Hands the registers that the control block holds to it.
    pub fn load<C: Control>(&self, control: &mut C) {
        control.set_dr6(self.dr6);
        control.set_dr7(self.effective().1);
    }

    /// DR0 to DR3 and DR7 that the guest runs with.
    #[inline]
    fn effective(&self) -> (&[u64; 4], u64) {
        if self.wants & want::HARDWARE_BREAKPOINTS != 0 {
            (&self.breakpoints, self.breakpoint_control)
        } else {
            (&self.addresses, self.dr7)
        }
    }

    /// DR0 to DR3 if any of them is in use: the guest then runs with them loaded.
    #[inline]
    pub(crate) fn active(&self) -> Option<&[u64; 4]> {
        const ENABLED: u64 = 0xff;
        let (addresses, dr7) = self.effective();
        (dr7 & ENABLED != 0 || self.open).then_some(addresses)
    }

    /// Lets the guest, which has begun to, access the registers without further exits
    /// until the next one for another reason; whether no debugger outside has them.
    pub(crate) fn open<C: Control>(&mut self, control: &mut C) -> bool {
        if self.wants == 0 {
            self.open = true;
            self.load(control);
            control.set_debug_intercepts(false, false);
        }
        self.open
    }

    /// Whether the guest can have changed them in its last run.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// After an exit: what the guest left in them, of which these are DR0 to DR3.
    #[cold]
    pub(crate) fn close<C: Control>(&mut self, control: &mut C, addresses: [u64; 4]) {
        self.open = false;
        self.addresses = addresses;
        (self.dr6, self.dr7) = (control.dr6(), control.dr7());
        control.set_debug_intercepts(false, true);
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
    #[inline]
    pub fn is_stepping(&self) -> bool {
        self.wants & want::STEPS != 0
    }

    /// Whether it wants something ([`want`]).
    #[inline]
    pub(crate) fn wants(&self, what: u32) -> bool {
        self.wants & what != 0
    }

    /// Notes what it wants from now on, and its DR0 to DR3 and DR7.
    pub(crate) fn set_wants<C: Control>(
        &mut self,
        control: &mut C,
        wants: u32,
        breakpoints: [u64; 4],
        dr7: u64,
    ) {
        self.wants = if wants & want::ENABLE != 0 { wants } else { 0 };
        self.breakpoints = breakpoints;
        self.breakpoint_control = dr7 & 0xffff_2bff | DR7_FIXED;
        self.stepped = false;
        self.load(control);
        control.set_stepping(self.is_stepping());
        control.set_debug_intercepts(self.wants(want::SOFTWARE_BREAKPOINTS), true);
    }

    /// DR7 that the guest runs with.
    pub(crate) fn dr7_now(&self) -> u64 {
        self.effective().1
    }

    /// An instruction was executed outside of the guest.
    #[inline]
    pub(crate) fn executed(&mut self) {
        self.stepped = self.is_stepping();
    }

    /// Whether the debugger is to see a step now.
    #[inline]
    pub(crate) fn take_step(&mut self) -> bool {
        core::mem::replace(&mut self.stepped, false)
    }
}
