// SPDX-License-Identifier: GPL-2.0
//! Two- and one-operand integer arithmetic, and the single flags.
//!
//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NOT, NEG; CMC, CLC,
//! STC, CLD, STD, CLI, STI, CLAC, STAC, LAHF, SAHF, SALC.

use super::flags::*;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::{Shadow, Stop};
use x86_defs::{Cr4, Mode, Rflags};

/// Result and flags of a two-operand operation; `flags` are those before.
#[inline]
fn binary(op: Op, a: u64, b: u64, size: u8, flags: u64) -> (u64, u64) {
    let logic = |r: u64| (r, szp(r, size));
    match op {
        Op::Add => add(a, b, 0, size),
        Op::Adc => add(a, b, flags & CF, size),
        Op::Sub | Op::Cmp => sub(a, b, 0, size),
        Op::Sbb => sub(a, b, flags & CF, size),
        Op::Or => logic(a | b),
        Op::Xor => logic(a ^ b),
        _ => logic(a & b),
    }
}

/// Result and flags of a one-operand operation.
#[inline]
fn unary(op: Op, a: u64, size: u8, flags: u64) -> (u64, u64) {
    match op {
        Op::Inc => {
            let (r, f) = add(a, 1, 0, size);
            (r, f & !CF | flags & CF)
        }
        Op::Dec => {
            let (r, f) = sub(a, 1, 0, size);
            (r, f & !CF | flags & CF)
        }
        Op::Neg => sub(0, a, 0, size),
        _ => (!a & mask(size), flags & ARITH),
    }
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn arith(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let (op, size, flags) = (insn.op, insn.op_size, self.flags());
        let arith = match op {
            Op::Cmp | Op::Test => {
                let a = self.load(insn.dst)?;
                let b = self.load(insn.src)?;
                binary(op, a, b, size, flags).1
            }
            Op::Inc | Op::Dec | Op::Not | Op::Neg => {
                self.update(insn.dst, false, |a| unary(op, a, size, flags))?.1
            }
            _ => {
                let b = self.load(insn.src)?;
                self.update(insn.dst, false, |a| binary(op, a, b, size, flags))?.1
            }
        };
        self.set_arith_flags(arith);
        Ok(())
    }

    pub(super) fn flag_family(&mut self) -> Result<(), Stop> {
        let flags = self.flags();
        let new = match self.insn.op {
            Op::Cmc => flags ^ CF,
            Op::Clc => flags & !CF,
            Op::Stc => flags | CF,
            Op::Cld => flags & !Rflags::DF.bits(),
            Op::Std => flags | Rflags::DF.bits(),
            Op::Lahf => {
                let ah = flags & 0xd5 | 2;
                let merged = self.cpu.gpr(0) & !0xff00 | ah << 8;
                self.cpu.set_gpr(0, merged);
                return Ok(());
            }
            Op::Sahf => flags & !0xd5 | self.cpu.gpr(0) >> 8 & 0xd5,
            Op::Salc => {
                self.set_reg(0, 1, if flags & CF != 0 { 0xff } else { 0 });
                return Ok(());
            }
            Op::Clac | Op::Stac => self.user_access(flags)?,
            _ => self.interrupt_flag(flags)?,
        };
        self.set_flags(new);
        Ok(())
    }

    fn user_access(&self, flags: u64) -> Result<u64, Stop> {
        if self.cpu.cpl() != 0 || self.insn.prefixes.mandatory() != 0 {
            return Err(Stop::UD);
        }
        let ac = Rflags::AC.bits();
        Ok(if self.insn.op == Op::Stac { flags | ac } else { flags & !ac })
    }

    /// CLI and STI, with the virtual interrupt flag of VME and PVI.
    fn interrupt_flag(&mut self, flags: u64) -> Result<u64, Stop> {
        let set = self.insn.op == Op::Sti;
        let rflags = Rflags::from_bits_retain(flags);
        let virtual_if = match self.mode {
            Mode::Real => false,
            Mode::Vm86 if rflags.iopl() == 3 => false,
            Mode::Vm86 if self.cr4_has(Cr4::VME) => true,
            Mode::Vm86 => return Err(Stop::GP0),
            _ if self.cpu.cpl() <= rflags.iopl() => false,
            _ if self.cpu.cpl() == 3 && self.cr4_has(Cr4::PVI) => true,
            _ => return Err(Stop::GP0),
        };
        if virtual_if && set && rflags.contains(Rflags::VIP) {
            return Err(Stop::GP0);
        }
        let bit = if virtual_if { Rflags::VIF } else { Rflags::IF }.bits();
        if set && !virtual_if && flags & bit == 0 {
            self.done.shadow = Shadow::Sti;
        }
        Ok(if set { flags | bit } else { flags & !bit })
    }
}
