// SPDX-License-Identifier: GPL-2.0
//! Bit tests, scans and counts.
//!
//! BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT.

use super::flags::*;
use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Operand};
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn bit_family(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::Bt | Op::Bts | Op::Btr | Op::Btc => self.bit_test(),
            _ => self.bit_scan(),
        }
    }

    /// CF is the bit; the other flags are undefined and left.
    fn bit_test(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let (op, size) = (insn.op, insn.op_size);
        let index = self.load(insn.src)?;
        let bit = (index & u64::from(bits(size).wrapping_sub(1))) as u32;
        let one = 1u64.wrapping_shl(bit);
        let change = move |v: u64| match op {
            Op::Bts => (v | one, ()),
            Op::Btr => (v & !one, ()),
            Op::Btc => (v ^ one, ()),
            _ => (v, ()),
        };
        let old = if insn.dst.is_mem() {
            self.bit_test_memory(index, size, change)?
        } else if op == Op::Bt {
            self.load(insn.dst)?
        } else {
            self.update(insn.dst, false, change)?.0
        };
        let flags = self.flags() & ARITH & !CF;
        self.set_arith_flags(flags | when(old & one != 0, CF));
        Ok(())
    }

    /// A register index selects any operand-sized unit around the address.
    fn bit_test_memory(
        &mut self,
        index: u64,
        size: u8,
        change: impl Fn(u64) -> (u64, ()),
    ) -> Result<u64, Stop> {
        let bias = match self.insn.src {
            Operand::Imm => 0,
            _ => {
                let unit_shift = bits(size).trailing_zeros();
                let unit = (sign_extend(index, size) as i64).wrapping_shr(unit_shift);
                unit.wrapping_mul(i64::from(size)) as u64
            }
        };
        let (seg, offset) = (self.insn.mem.seg, self.ea_plus(bias));
        if self.insn.op == Op::Bt {
            let addr = self.linear(seg, offset, u64::from(size), false)?;
            return self.read_linear(addr, size, Access::DATA);
        }
        let addr = self.linear(seg, offset, u64::from(size), true)?;
        Ok(self.update_linear(addr, size, self.insn.prefixes.lock, change)?.0)
    }

    fn bit_scan(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let (size, value) = (insn.op_size, self.load(insn.src)?);
        let width = u64::from(bits(size));
        let leading = u64::from(value.leading_zeros()).wrapping_sub(64u64.wrapping_sub(width));
        let trailing = u64::from(value.trailing_zeros()).min(width);
        let zf = |set| when(set, ZF);
        match insn.op {
            Op::Popcnt => {
                self.store_reg(insn.dst, u64::from(value.count_ones()))?;
                self.set_arith_flags(zf(value == 0));
            }
            Op::Tzcnt | Op::Lzcnt => {
                let count = if insn.op == Op::Tzcnt { trailing } else { leading };
                self.store_reg(insn.dst, count)?;
                let kept = self.flags() & ARITH & !(CF | ZF);
                self.set_arith_flags(kept | when(value == 0, CF) | zf(count == 0));
            }
            _ => {
                // The destination stays as it was if there is no bit.
                let kept = self.flags() & ARITH & !ZF;
                if value != 0 {
                    let at = if insn.op == Op::Bsf {
                        trailing
                    } else {
                        width.wrapping_sub(1).wrapping_sub(leading)
                    };
                    self.store_reg(insn.dst, at)?;
                }
                self.set_arith_flags(kept | zf(value == 0));
            }
        }
        Ok(())
    }
}
