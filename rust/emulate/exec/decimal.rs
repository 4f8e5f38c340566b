// SPDX-License-Identifier: GPL-2.0
//! Decimal adjustments of legacy modes: DAA, DAS, AAA, AAS, AAM, AAD.
//!
//! Flags that the manuals leave undefined are set from the result.

use super::flags::*;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn decimal(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::Daa | Op::Das => self.packed(),
            Op::Aaa | Op::Aas => self.unpacked(),
            Op::Aam => return self.aam(),
            _ => {
                let ax = self.reg(0, 2);
                let sum =
                    (ax & 0xff).wrapping_add((ax >> 8).wrapping_mul(self.insn.imm & 0xff)) & 0xff;
                self.set_reg(0, 2, sum);
                self.set_arith_flags(szp(sum, 1));
            }
        }
        Ok(())
    }

    fn packed(&mut self) {
        let (al, flags) = (self.reg(0, 1), self.flags());
        let low = al & 0xf > 9 || flags & AF != 0;
        let high = al > 0x99 || flags & CF != 0;
        let by = when(low, 6).wrapping_add(when(high, 0x60));
        let add = self.insn.op == Op::Daa;
        let r = if add { al.wrapping_add(by) } else { al.wrapping_sub(by) } & 0xff;
        // DAS also borrows when the low digit's correction goes below zero.
        let carry = high || !add && low && al < 6;
        self.set_reg(0, 1, r);
        self.set_arith_flags(szp(r, 1) | when(low, AF) | when(carry, CF));
    }

    fn unpacked(&mut self) {
        let (ax, flags) = (self.reg(0, 2), self.flags());
        let adjust = ax & 0xf > 9 || flags & AF != 0;
        let by = when(adjust, 0x106);
        let r = if self.insn.op == Op::Aaa { ax.wrapping_add(by) } else { ax.wrapping_sub(by) }
            & 0xff0f;
        self.set_reg(0, 2, r);
        self.set_arith_flags(szp(r & 0xff, 1) | when(adjust, AF | CF));
    }

    fn aam(&mut self) -> Result<(), Stop> {
        let (al, base) = (self.reg(0, 1), self.insn.imm & 0xff);
        let quotient = al.checked_div(base).ok_or(Stop::DE)?;
        let rest = al.checked_rem(base).ok_or(Stop::DE)?;
        self.set_reg(0, 2, quotient << 8 | rest);
        self.set_arith_flags(szp(rest, 1));
        Ok(())
    }
}
