// SPDX-License-Identifier: GPL-2.0
//! Loads, stores and updates of operands.

use super::flags::mask;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Operand;
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    /// The low `size` bytes of a general register.
    #[inline]
    pub(crate) fn reg(&self, n: u8, size: u8) -> u64 {
        self.cpu.gpr(n) & mask(size)
    }

    /// Sets a general register: four bytes clear the upper half, fewer leave the rest.
    #[inline]
    pub(crate) fn set_reg(&mut self, n: u8, size: u8, value: u64) {
        let value = match size {
            8 => value,
            4 => value & 0xffff_ffff,
            _ => self.cpu.gpr(n) & !mask(size) | value & mask(size),
        };
        self.cpu.set_gpr(n, value);
    }

    /// The value of an operand, zero-extended (an immediate is truncated to
    /// the operand size).
    #[inline]
    pub(crate) fn load(&mut self, op: Operand) -> Result<u64, Stop> {
        match op {
            Operand::Gpr { n, size } => Ok(self.reg(n, size)),
            Operand::High { n } => Ok(self.cpu.gpr(n) >> 8 & 0xff),
            Operand::Mem { size } => self.read_seg(self.insn.mem.seg, self.ea(), size),
            Operand::Imm => Ok(self.insn.imm & mask(self.insn.op_size)),
            Operand::Seg(seg) => Ok(u64::from(self.cpu.segment(seg).selector)),
            _ => Err(Stop::Unsupported),
        }
    }

    /// Stores to an operand.
    #[inline]
    pub(crate) fn store(&mut self, op: Operand, value: u64) -> Result<(), Stop> {
        match op {
            Operand::Mem { size } => self.write_seg(self.insn.mem.seg, self.ea(), size, value),
            _ => self.store_reg(op, value),
        }
    }

    /// Stores to a register operand, which cannot fail for the operands that decode.
    #[inline]
    pub(crate) fn store_reg(&mut self, op: Operand, value: u64) -> Result<(), Stop> {
        match op {
            Operand::Gpr { n, size } => self.set_reg(n, size, value),
            Operand::High { n } => {
                let merged = self.cpu.gpr(n) & !0xff00 | (value & 0xff) << 8;
                self.cpu.set_gpr(n, merged);
            }
            _ => return Err(Stop::Unsupported),
        }
        Ok(())
    }

    /// Replaces an operand by `f` of it, atomically with LOCK or `lock`.
    ///
    /// Returns the old value and what `f` returned beside the new one.
    #[inline]
    pub(crate) fn update<R>(
        &mut self,
        op: Operand,
        lock: bool,
        f: impl Fn(u64) -> (u64, R),
    ) -> Result<(u64, R), Stop> {
        if let Operand::Mem { size } = op {
            let addr = self.linear(self.insn.mem.seg, self.ea(), u64::from(size), true)?;
            return self.update_linear(addr, size, lock || self.insn.prefixes.lock, f);
        }
        let old = self.load(op)?;
        let (new, rest) = f(old);
        self.store_reg(op, new)?;
        Ok((old, rest))
    }
}
