// SPDX-License-Identifier: GPL-2.0
//! The stack: PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE.
//!
//! The stack pointer is a local until nothing can fail. Its width follows the
//! stack segment, not the operand size. Intel SDM volume 1 section 6.2.

use super::flags::mask;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::{Shadow, Stop};
use x86_defs::{Cr4, Mode, Rflags, SegReg};

const RSP: u8 = 4;
const RBP: u8 = 5;

impl<C: Cpu> Exec<'_, C> {
    /// Bytes of the stack pointer that count: 2, 4 or 8.
    #[inline]
    pub(super) fn stack_size(&self) -> u8 {
        if self.mode.is_long() {
            8
        } else if self.cpu.segment(SegReg::Ss).db {
            4
        } else {
            2
        }
    }

    /// The stack pointer.
    #[inline]
    pub(super) fn sp(&self) -> u64 {
        self.reg(RSP, self.stack_size())
    }

    /// Commits a stack pointer.
    #[inline]
    pub(super) fn set_sp(&mut self, sp: u64) {
        self.set_reg(RSP, self.stack_size(), sp);
    }

    /// Writes below `sp` and moves it.
    #[inline]
    pub(super) fn push(&mut self, sp: &mut u64, size: u8, value: u64) -> Result<(), Stop> {
        let new = sp.wrapping_sub(u64::from(size)) & mask(self.stack_size());
        self.write_seg(SegReg::Ss, new, size, value)?;
        *sp = new;
        Ok(())
    }

    /// Reads at `sp` and moves it.
    #[inline]
    pub(super) fn pop(&mut self, sp: &mut u64, size: u8) -> Result<u64, Stop> {
        let value = self.read_seg(SegReg::Ss, *sp, size)?;
        *sp = self.sp_plus(*sp, u64::from(size));
        Ok(value)
    }

    /// `sp` moved up by `by` bytes, within the stack's width.
    pub(super) fn sp_plus(&self, sp: u64, by: u64) -> u64 {
        sp.wrapping_add(by) & mask(self.stack_size())
    }

    /// Pushes one value and commits.
    #[inline]
    pub(super) fn push_one(&mut self, size: u8, value: u64) -> Result<(), Stop> {
        let mut sp = self.sp();
        self.push(&mut sp, size, value)?;
        self.set_sp(sp);
        Ok(())
    }

    pub(super) fn stack_family(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let size = insn.op_size;
        match insn.op {
            Op::Push => {
                let value = self.load(insn.src)?;
                self.push_one(size, value)
            }
            Op::Pop => self.pop_operand(),
            Op::PushSeg => {
                let value = u64::from(self.cpu.segment(self.seg_of_opcode()).selector);
                self.push_one(size, value)
            }
            Op::PopSeg => self.pop_seg(),
            Op::Pusha => self.pusha(),
            Op::Popa => self.popa(),
            Op::Pushf => self.pushf(),
            Op::Popf => self.popf(),
            Op::Enter => self.enter(),
            _ => self.leave(),
        }
    }

    /// The segment register that PUSH and POP name by their opcode.
    fn seg_of_opcode(&self) -> SegReg {
        match self.insn.opcode & 0xf8 {
            0x00 => SegReg::Es,
            0x08 => SegReg::Cs,
            0x10 => SegReg::Ss,
            0x18 => SegReg::Ds,
            0xa0 => SegReg::Fs,
            _ => SegReg::Gs,
        }
    }

    /// A memory destination based on rSP uses the incremented value.
    fn pop_operand(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let mut sp = self.sp();
        let value = self.pop(&mut sp, insn.op_size)?;
        if !insn.dst.is_mem() {
            self.set_sp(sp);
            return self.store_reg(insn.dst, value);
        }
        let bias = if insn.mem.base == RSP { u64::from(insn.op_size) } else { 0 };
        let offset = self.ea_plus(bias);
        self.write_seg(insn.mem.seg, offset, insn.op_size, value)?;
        self.set_sp(sp);
        Ok(())
    }

    fn pop_seg(&mut self) -> Result<(), Stop> {
        let reg = self.seg_of_opcode();
        let mut sp = self.sp();
        // Intel reads only the selector's two bytes.
        let read = if self.cpu.features().amd { self.insn.op_size } else { 2 };
        let selector = self.read_seg(SegReg::Ss, sp, read)? as u16;
        sp = self.sp_plus(sp, u64::from(self.insn.op_size));
        // The old stack's width applies even if SS changes.
        let width = self.stack_size();
        self.load_data_segment(reg, selector)?;
        self.set_reg(RSP, width, sp);
        if reg == SegReg::Ss {
            self.done.shadow = Shadow::MovSs;
        }
        Ok(())
    }

    fn pusha(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let mut sp = self.sp();
        for n in 0..8 {
            let value = self.reg(n, size);
            self.push(&mut sp, size, value)?;
        }
        self.set_sp(sp);
        Ok(())
    }

    fn popa(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let mut sp = self.sp();
        let mut values = [0u64; 8];
        for value in &mut values {
            *value = self.pop(&mut sp, size)?;
        }
        for (n, value) in (0..8u8).rev().zip(values) {
            if n != RSP {
                self.set_reg(n, size, value);
            }
        }
        self.set_sp(sp);
        Ok(())
    }

    fn pushf(&mut self) -> Result<(), Stop> {
        let mut flags = self.cpu.rflags();
        if self.mode == Mode::Vm86 && flags.iopl() < 3 {
            if !self.cr4_has(Cr4::VME) || self.insn.op_size != 2 {
                return Err(Stop::GP0);
            }
            flags.set(Rflags::IF, flags.contains(Rflags::VIF));
            flags |= Rflags::IOPL;
        }
        let image = flags.difference(Rflags::VM | Rflags::RF) | Rflags::FIXED;
        self.push_one(self.insn.op_size, image.bits())
    }

    fn popf(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let old = self.cpu.rflags();
        if self.mode == Mode::Vm86 && old.iopl() < 3 && (!self.cr4_has(Cr4::VME) || size != 2) {
            return Err(Stop::GP0);
        }
        let mut sp = self.sp();
        let value = Rflags::from_bits_retain(self.pop(&mut sp, size)?);
        let new = self.popf_flags(old, value, size)?;
        self.set_sp(sp);
        self.cpu.set_rflags(new);
        self.done.single_step = old.contains(Rflags::TF);
        Ok(())
    }

    /// What RFLAGS becomes: privileged bits stay, RF and VM are special.
    pub(super) fn popf_flags(&self, old: Rflags, value: Rflags, size: u8) -> Result<Rflags, Stop> {
        let mut change = Rflags::ARITH | Rflags::TF | Rflags::DF | Rflags::NT;
        if size > 2 {
            change |= Rflags::AC | Rflags::ID;
        }
        let cpl = self.cpu.cpl();
        if self.mode == Mode::Vm86 && old.iopl() < 3 {
            // VME: IF goes to VIF, and a pending interrupt or TF faults.
            let enable = value.contains(Rflags::IF);
            if value.contains(Rflags::TF) || enable && old.contains(Rflags::VIP) {
                return Err(Stop::GP0);
            }
            let mut new = merge(old, value, change);
            new.set(Rflags::VIF, enable);
            return Ok(new.difference(Rflags::RF));
        }
        if self.mode == Mode::Real || self.mode.is_protected() && cpl == 0 {
            change |= Rflags::IOPL | Rflags::IF;
        } else if cpl <= old.iopl() {
            change |= Rflags::IF;
        }
        let new = merge(old, value, change);
        Ok(new.difference(Rflags::RF))
    }

    fn enter(&mut self) -> Result<(), Stop> {
        let (size, level) = (self.insn.op_size, self.insn.imm2 & 31);
        let width = self.stack_size();
        let mut sp = self.sp();
        let rbp = self.reg(RBP, size);
        self.push(&mut sp, size, rbp)?;
        // The frame pointer takes all of rSP, also where the stack is narrower.
        let frame = self.cpu.gpr(RSP) & !mask(width) | sp;
        if level > 0 {
            let mut bp = self.reg(RBP, width);
            for _ in 1..level {
                bp = bp.wrapping_sub(u64::from(size)) & mask(width);
                let link = self.read_seg(SegReg::Ss, bp, size)?;
                self.push(&mut sp, size, link)?;
            }
            self.push(&mut sp, size, frame)?;
        }
        sp = sp.wrapping_sub(self.insn.imm) & mask(width);
        // The new top of stack must be writable.
        let addr = self.linear(SegReg::Ss, sp, u64::from(size), true)?;
        self.read_linear(addr, size, crate::cpu::Access::MODIFY)?;
        self.set_reg(RBP, size, frame);
        self.set_sp(sp);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let mut sp = self.reg(RBP, self.stack_size());
        let rbp = self.pop(&mut sp, size)?;
        self.set_sp(sp);
        self.set_reg(RBP, size, rbp);
        Ok(())
    }

    /// Pushes the error code of an exception that switched tasks.
    pub(crate) fn push_error_code(&mut self, size: u8, code: u32) -> Result<(), Stop> {
        self.push_one(size, u64::from(code))
    }
}

/// The bits of `change` from `new`, the others from `old`.
pub(super) fn merge(old: Rflags, new: Rflags, change: Rflags) -> Rflags {
    Rflags::from_bits_retain(old.bits() & !change.bits() | new.bits() & change.bits())
        | Rflags::FIXED
}
