// SPDX-License-Identifier: GPL-2.0
//! Machine-check registers and the injection of errors: [`Mce`].
//!
//! SDM volume 3 sections 17.3, 17.5; Documentation/virt/kvm/api.rst 4.104 to 4.106.

use crate::msr::{By, Refusal};
use core::ops::DerefMut;
use x86_defs::msr;

/// Banks that a vCPU can have.
pub const MAX_BANKS: usize = 32;

/// MCG_CAP: IA32_MCG_CTL exists.
pub const CAP_CTL: u64 = 1 << 8;
/// MCG_CAP: corrected errors can interrupt.
pub const CAP_CMCI: u64 = 1 << 10;
/// MCG_CAP: software error recovery.
pub const CAP_SER: u64 = 1 << 24;
/// MCG_CAP: local machine checks.
pub const CAP_LMCE: u64 = 1 << 27;

/// What `KVM_X86_GET_MCE_CAP_SUPPORTED` answers on AMD: Intel adds CMCI and LMCE.
pub const CAP_COMMON: u64 = CAP_CTL | CAP_SER;

/// MCi_STATUS: valid.
pub const STATUS_VAL: u64 = 1 << 63;
/// MCi_STATUS: another error was lost.
pub const STATUS_OVER: u64 = 1 << 62;
/// MCi_STATUS: uncorrected.
pub const STATUS_UC: u64 = 1 << 61;
const STATUS_PCC: u64 = 1 << 57;
const STATUS_S: u64 = 1 << 56;
const STATUS_AR: u64 = 1 << 55;

/// MCG_STATUS: a machine check is in progress.
pub const MCG_MCIP: u64 = 1 << 2;

const CTL2_CMCI_EN: u32 = 1 << 30;
const CTL2_VALID: u32 = CTL2_CMCI_EN | 0x7fff;

/// One bank's registers from MC0_CTL on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    ctl: u64,
    status: u64,
    addr: u64,
    misc: u64,
}

/// The machine-check registers of one vCPU. Its banks, [`MAX_BANKS`], lie elsewhere: they are
/// a quarter of what a vCPU has, and hardly ever looked at.
#[derive(Clone, Debug)]
pub struct Mce<B> {
    cap: u64,
    status: u64,
    ctl: u64,
    /// MCi_CTL2, whose defined bits are the low ones.
    ctl2: [u32; MAX_BANKS],
    banks: B,
}

/// An error, as `KVM_X86_SET_MCE` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineError {
    /// MCi_STATUS.
    pub status: u64,
    /// MCi_ADDR.
    pub addr: u64,
    /// MCi_MISC.
    pub misc: u64,
    /// MCG_STATUS.
    pub mcg_status: u64,
    /// Which bank.
    pub bank: u8,
}

/// What an injected error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// Nothing to do: logged only, or reporting is off.
    Nothing,
    /// #MC.
    Exception,
    /// The interrupt of the APIC's CMCI entry.
    Cmci,
    /// A machine check within a machine check, or none allowed: shutdown.
    TripleFault,
}

/// A value that userspace can't set: `-EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidMce;

impl<B: DerefMut<Target = [Bank]>> Mce<B> {
    /// Before `KVM_X86_SETUP_MCE`: ten banks, as reported long ago. `banks` are fresh.
    pub fn new(banks: B) -> Self {
        Self { cap: 10, status: 0, ctl: 0, ctl2: [0; MAX_BANKS], banks }
    }

    /// MCG_CAP.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// `KVM_X86_SETUP_MCE`. `supported` is what
    /// `KVM_X86_GET_MCE_CAP_SUPPORTED` answers.
    ///
    /// # Errors
    ///
    /// [`InvalidMce`] for no or too many banks and for bits that aren't supported.
    pub fn setup(&mut self, cap: u64, supported: u64) -> Result<(), InvalidMce> {
        // Counts of banks and of extended registers are the caller's.
        const COUNTS: u64 = 0xff_00ff;
        let banks = (cap & 0xff) as usize;
        if banks == 0 || banks > MAX_BANKS || cap & !(supported | COUNTS) != 0 {
            return Err(InvalidMce);
        }
        self.cap = cap;
        if cap & CAP_CTL != 0 {
            self.ctl = u64::MAX;
        }
        for bank in self.banks.iter_mut().take(banks) {
            bank.ctl = u64::MAX;
        }
        if cap & CAP_CMCI != 0 {
            self.ctl2.iter_mut().take(banks).for_each(|ctl2| *ctl2 = 0);
        }
        Ok(())
    }

    fn bank(&self, number: u32) -> Result<&Bank, Refusal> {
        let number = self.number(number)?;
        self.banks.get(number).ok_or(Refusal::Invalid)
    }

    fn bank_mut(&mut self, number: u32) -> Result<&mut Bank, Refusal> {
        let number = self.number(number)?;
        self.banks.get_mut(number).ok_or(Refusal::Invalid)
    }

    fn ctl2(&self, number: u32) -> Result<u32, Refusal> {
        let number = self.number(number)?;
        self.ctl2.get(number).copied().ok_or(Refusal::Invalid)
    }

    fn ctl2_mut(&mut self, number: u32) -> Result<&mut u32, Refusal> {
        let number = self.number(number)?;
        self.ctl2.get_mut(number).ok_or(Refusal::Invalid)
    }

    fn number(&self, number: u32) -> Result<usize, Refusal> {
        if u64::from(number) < self.cap & 0xff {
            Ok(number as usize)
        } else {
            Err(Refusal::Invalid)
        }
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for banks and registers that MCG_CAP doesn't have.
    pub fn read(&self, index: u32, by: By) -> Result<u64, Refusal> {
        let guest = by == By::Guest;
        match index {
            msr::MCG_CAP => Ok(self.cap),
            msr::MCG_STATUS => Ok(self.status),
            msr::MCG_CTL if guest && self.cap & CAP_CTL == 0 => Err(Refusal::Invalid),
            msr::MCG_CTL => Ok(self.ctl),
            0x280..=0x29f if guest && self.cap & CAP_CMCI == 0 => Err(Refusal::Invalid),
            0x280..=0x29f => self.ctl2(index & 0x1f).map(u64::from),
            0x400..=0x47f => {
                let bank = self.bank(index >> 2 & 0x1f)?;
                Ok(match index & 3 {
                    0 => bank.ctl,
                    1 => bank.status,
                    2 => bank.addr,
                    _ => bank.misc,
                })
            }
            _ => Err(Refusal::Invalid),
        }
    }

    /// Writes a register. `status_writable`: HWCR lets an AMD guest write
    /// MCi_STATUS.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for banks and registers that MCG_CAP doesn't have, and
    /// for values that the registers don't take.
    pub fn write(
        &mut self,
        index: u32,
        value: u64,
        by: By,
        status_writable: bool,
    ) -> Result<(), Refusal> {
        let guest = by == By::Guest;
        // Userspace restores zeros without asking what there is.
        let missing = |there: bool| !there && (guest || value != 0);
        match index {
            msr::MCG_STATUS => self.status = value,
            msr::MCG_CTL => {
                if missing(self.cap & CAP_CTL != 0) || !matches!(value, 0 | u64::MAX) {
                    return Err(Refusal::Invalid);
                }
                self.ctl = value;
            }
            0x280..=0x29f => {
                let absent = missing(self.cap & CAP_CMCI != 0);
                let ctl2 = self.ctl2_mut(index & 0x1f)?;
                if absent || value & !u64::from(CTL2_VALID) != 0 {
                    return Err(Refusal::Invalid);
                }
                *ctl2 = value as u32;
            }
            0x400..=0x47f => {
                let bank = self.bank_mut(index >> 2 & 0x1f)?;
                match index & 3 {
                    0 if !is_control(value) => return Err(Refusal::Invalid),
                    0 => bank.ctl = value,
                    1 if guest && value != 0 && !status_writable => {
                        return Err(Refusal::Invalid);
                    }
                    1 => bank.status = value,
                    2 => bank.addr = value,
                    _ => bank.misc = value,
                }
            }
            _ => return Err(Refusal::Invalid),
        }
        Ok(())
    }

    /// `KVM_X86_SET_MCE`. `enabled` is the guest's CR4.MCE.
    ///
    /// # Errors
    ///
    /// [`InvalidMce`] for a bank that isn't there and a status that isn't valid.
    pub fn inject(&mut self, error: &MachineError, enabled: bool) -> Result<Injected, InvalidMce> {
        let (cap, ctl, in_progress) = (self.cap, self.ctl, self.status & MCG_MCIP != 0);
        let ctl2 = self.ctl2(error.bank.into()).map_err(|_| InvalidMce)?;
        let bank = self.bank_mut(error.bank.into()).map_err(|_| InvalidMce)?;
        if error.status & STATUS_VAL == 0 {
            return Err(InvalidMce);
        }
        let uncorrected = error.status & STATUS_UC != 0;
        let severe = error.status & (STATUS_PCC | STATUS_S | STATUS_AR) != 0;
        if uncorrected && error.mcg_status == 0 && !severe {
            // Uncorrected, no action required: logged like a corrected one.
            bank.log(error, error.status);
            let cmci = cap & CAP_CMCI != 0 && ctl2 & CTL2_CMCI_EN != 0;
            self.status = error.mcg_status;
            return Ok(if cmci { Injected::Cmci } else { Injected::Nothing });
        }
        let overflow = bank.status & STATUS_VAL;
        let status = if overflow != 0 { error.status | STATUS_OVER } else { error.status };
        if !uncorrected {
            if overflow != 0 && bank.status & STATUS_UC != 0 {
                bank.status |= STATUS_OVER;
            } else {
                bank.log(error, status);
            }
            return Ok(Injected::Nothing);
        }
        let reported = (cap & CAP_CTL == 0 || ctl == u64::MAX) && bank.ctl == u64::MAX;
        if !reported {
            return Ok(Injected::Nothing);
        }
        if in_progress || !enabled {
            return Ok(Injected::TripleFault);
        }
        bank.log(error, status);
        self.status = error.mcg_status;
        Ok(Injected::Exception)
    }
}

impl Bank {
    fn log(&mut self, error: &MachineError, status: u64) {
        self.status = status;
        self.addr = error.addr;
        self.misc = error.misc;
    }
}

/// MCi_CTL takes all zeros or all ones; two workarounds of old guests clear bit
/// 10 (GART errors) or bit 0 (corrected ECC errors) of it.
const fn is_control(value: u64) -> bool {
    value == 0 || value | 1 << 10 | 1 == u64::MAX
}
