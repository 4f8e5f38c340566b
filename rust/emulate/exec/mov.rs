// SPDX-License-Identifier: GPL-2.0
//! Data moves and conversions that change no flag.
//!
//! MOV, MOVZX, MOVSX, LEA, XCHG, MOVNTI, MOVBE, BSWAP, XLAT, CMOVcc, SETcc,
//! CBW and CWD with their wider forms.

use super::flags::{condition, mask, sign, sign_extend};
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::Stop;

impl<C: Cpu> Exec<'_, C> {
    /// MOV between registers, memory and immediates.
    #[inline]
    pub(super) fn mov(&mut self) -> Result<(), Stop> {
        let value = self.load(self.insn.src)?;
        self.store(self.insn.dst, value)
    }

    pub(super) fn mov_family(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        match insn.op {
            Op::Movzx => self.mov(),
            Op::Movsx => {
                let value = self.load(insn.src)?;
                let value = sign_extend(value, self.size_of(insn.src));
                self.store(insn.dst, value)
            }
            Op::Lea => {
                let ea = self.ea();
                self.store(insn.dst, ea)
            }
            Op::Xchg => {
                // Locked with memory even without the prefix.
                let new = self.load(insn.src)?;
                let (old, ()) = self.update(insn.dst, true, |_| (new, ()))?;
                self.store_reg(insn.src, old)
            }
            Op::Movnti => self.mov(),
            Op::Movbe => {
                let value = self.load(insn.src)?;
                self.store(insn.dst, swap(value, insn.op_size))
            }
            Op::Bswap => self.bswap(),
            Op::Xlat => {
                let table = self.reg(3, insn.addr_size);
                let offset = table.wrapping_add(self.reg(0, 1)) & mask(insn.addr_size);
                let value = self.read_seg(insn.mem.seg, offset, 1)?;
                self.set_reg(0, 1, value);
                Ok(())
            }
            Op::Cmovcc => self.cmov(),
            Op::Setcc => {
                let value = u64::from(condition(insn.opcode, self.flags()));
                self.store(insn.dst, value)
            }
            Op::Cbw => {
                let half = insn.op_size >> 1;
                let value = sign_extend(self.reg(0, half), half);
                self.set_reg(0, insn.op_size, value);
                Ok(())
            }
            _ => {
                let negative = self.reg(0, insn.op_size) & sign(insn.op_size) != 0;
                self.set_reg(2, insn.op_size, if negative { u64::MAX } else { 0 });
                Ok(())
            }
        }
    }

    /// The source is read whatever the condition; a 32-bit destination is
    /// zero-extended either way.
    fn cmov(&mut self) -> Result<(), Stop> {
        let new = self.load(self.insn.src)?;
        let old = self.load(self.insn.dst)?;
        let taken = condition(self.insn.opcode, self.flags());
        self.store(self.insn.dst, if taken { new } else { old })
    }

    /// The 16-bit form is undefined; current processors clear the register.
    fn bswap(&mut self) -> Result<(), Stop> {
        let value = self.load(self.insn.dst)?;
        let value = match self.insn.op_size {
            2 => 0,
            size => swap(value, size),
        };
        self.store(self.insn.dst, value)
    }
}

/// Reverses the bytes of an operand.
fn swap(value: u64, size: u8) -> u64 {
    match size {
        2 => u64::from((value as u16).swap_bytes()),
        4 => u64::from((value as u32).swap_bytes()),
        _ => value.swap_bytes(),
    }
}
