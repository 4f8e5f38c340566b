// SPDX-License-Identifier: GPL-2.0
//! CMPXCHG, CMPXCHG8B, CMPXCHG16B, XADD.
//!
//! The processor writes the destination whether or not the comparison
//! succeeds, so a read-only page faults either way.

use super::flags::*;
use super::mem::LOCK_ATTEMPTS;
use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Operand};
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn cmpxchg_family(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::Cmpxchg => self.cmpxchg(),
            Op::Xadd => self.xadd(),
            _ => self.cmpxchg_double(),
        }
    }

    fn cmpxchg(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let size = insn.op_size;
        let new = self.load(insn.src)?;
        let expected = self.reg(0, size);
        let replace = |old: u64| {
            let (_, flags) = sub(expected, old, 0, size);
            (if flags & ZF != 0 { new } else { old }, flags)
        };
        let (old, flags) = if insn.dst.is_mem() {
            self.update(insn.dst, false, replace)?
        } else {
            let old = self.load(insn.dst)?;
            let (value, flags) = replace(old);
            // A 32-bit register is zero-extended only when it is written.
            if flags & ZF != 0 {
                self.store_reg(insn.dst, value)?;
            }
            (old, flags)
        };
        if flags & ZF == 0 {
            self.set_reg(0, size, old);
        }
        self.set_arith_flags(flags);
        Ok(())
    }

    fn xadd(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let size = insn.op_size;
        let b = self.load(insn.src)?;
        if insn.dst.is_mem() {
            let (old, flags) = self.update(insn.dst, false, |a| add(a, b, 0, size))?;
            self.store_reg(insn.src, old)?;
            self.set_arith_flags(flags);
            return Ok(());
        }
        // With the same register twice, the sum stays.
        let a = self.load(insn.dst)?;
        let (sum, flags) = add(a, b, 0, size);
        self.store_reg(insn.src, a)?;
        self.store_reg(insn.dst, sum)?;
        self.set_arith_flags(flags);
        Ok(())
    }

    /// CMPXCHG8B, or 16B with REX.W: EDX:EAX against memory, ECX:EBX to it.
    fn cmpxchg_double(&mut self) -> Result<(), Stop> {
        let half: u8 = if self.insn.op_size == 8 { 8 } else { 4 };
        let size = usize::from(half).wrapping_mul(2);
        let Operand::Mem { .. } = self.insn.dst else { return Err(Stop::UD) };
        let offset = self.ea();
        if half == 8 {
            self.check_alignment(offset, 16)?;
        }
        let addr = self.linear(self.insn.mem.seg, offset, size as u64, true)?;
        let expected = pair(self.reg(2, half), self.reg(0, half), half);
        let wanted = pair(self.reg(1, half), self.reg(3, half), half);
        for _ in 0..LOCK_ATTEMPTS {
            let mut buf = [0u8; 16];
            self.cpu.read(addr, buf.get_mut(..size).ok_or(Stop::Unsupported)?, Access::MODIFY)?;
            let old = u128::from_le_bytes(buf);
            let equal = old == expected;
            let new = if equal { wanted } else { old }.to_le_bytes();
            let new = new.get(..size).ok_or(Stop::Unsupported)?;
            if self.insn.prefixes.lock {
                let old = buf.get(..size).ok_or(Stop::Unsupported)?;
                if !self.cpu.compare_exchange(addr, old, new, Access::DATA)? {
                    continue;
                }
            } else {
                self.cpu.write(addr, new, Access::DATA)?;
            }
            if !equal {
                let (high, low) = if half == 8 {
                    ((old >> 64) as u64, old as u64)
                } else {
                    ((old >> 32) as u64, old as u64)
                };
                self.set_reg(0, half, low);
                self.set_reg(2, half, high);
            }
            let flags = self.flags();
            self.set_flags(flags & !ZF | when(equal, ZF));
            return Ok(());
        }
        Err(Stop::Retry)
    }
}

/// Two halves as one number.
fn pair(high: u64, low: u64, half: u8) -> u128 {
    if half == 8 {
        u128::from(high) << 64 | u128::from(low)
    } else {
        u128::from(high << 32 | low)
    }
}
