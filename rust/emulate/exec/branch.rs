// SPDX-License-Identifier: GPL-2.0
//! Near transfers: JMP, Jcc, CALL, RET, LOOP, JCXZ; and BOUND.
//!
//! A target outside the code segment or a non-canonical one faults at the
//! branch, before the stack pointer changes.

use super::flags::{condition, mask, sign_extend, ZF};
use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Rep};
use crate::fault::{Exception, Stop};
use x86_defs::{is_canonical, Cr4, SegReg, Vector};

const RCX: u8 = 1;

impl<C: Cpu> Exec<'_, C> {
    /// Truncates a near target to the operand size and checks it.
    pub(super) fn near_target(&self, target: u64) -> Result<u64, Stop> {
        let target = target & mask(self.insn.op_size);
        if self.mode.is_long() {
            if !is_canonical(target, self.cr4_has(Cr4::LA57)) {
                return Err(Stop::GP0);
            }
        } else if target > u64::from(self.cpu.segment(SegReg::Cs).limit) {
            return Err(Stop::GP0);
        }
        Ok(target)
    }

    fn relative(&self) -> Result<u64, Stop> {
        self.near_target(self.next.wrapping_add(self.insn.imm))
    }

    pub(super) fn branch(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        match insn.op {
            Op::Jcc => {
                if condition(insn.opcode, self.flags()) {
                    self.next = self.relative()?;
                }
            }
            Op::Jmp => {
                self.next = self.near_operand()?;
            }
            Op::Call => {
                let target = match self.near_operand() {
                    // A fault of the stack comes before one of the target.
                    Err(Stop::Fault(e)) if e.vector == Vector::Gp => {
                        self.probe_push(insn.op_size)?;
                        return Err(Stop::Fault(e));
                    }
                    other => other?,
                };
                let back = self.next;
                self.push_one(insn.op_size, back)?;
                self.next = target;
            }
            Op::Ret => {
                let mut sp = self.sp();
                let target = self.pop(&mut sp, insn.op_size)?;
                let target = self.near_target(target)?;
                let sp = self.sp_plus(sp, insn.imm);
                self.set_sp(sp);
                self.next = target;
            }
            Op::Loop => self.loop_family()?,
            _ => self.bound()?,
        }
        Ok(())
    }

    /// Whether a push would succeed, without writing.
    fn probe_push(&mut self, size: u8) -> Result<(), Stop> {
        let sp = self.sp_plus(self.sp(), u64::from(size).wrapping_neg());
        let addr = self.linear(SegReg::Ss, sp, u64::from(size), true)?;
        self.read_linear(addr, size, Access::MODIFY)?;
        Ok(())
    }

    fn near_operand(&mut self) -> Result<u64, Stop> {
        if self.insn.opcode == 0xff {
            let target = self.load(self.insn.src)?;
            return self.near_target(target);
        }
        self.relative()
    }

    /// E0h LOOPNE, E1h LOOPE, E2h LOOP, E3h JrCXZ; the count has address size.
    fn loop_family(&mut self) -> Result<(), Stop> {
        let size = self.insn.addr_size;
        let count = self.reg(RCX, size);
        if self.insn.opcode == 0xe3 {
            if count == 0 {
                self.next = self.relative()?;
            }
            return Ok(());
        }
        let count = count.wrapping_sub(1) & mask(size);
        let zero = self.flags() & ZF != 0;
        let taken = count != 0
            && match self.loop_condition() {
                0xe0 => !zero,
                0xe1 => zero,
                _ => true,
            };
        if taken {
            self.next = self.relative()?;
        }
        self.set_reg(RCX, size, count);
        Ok(())
    }

    /// On AMD a REP prefix replaces the condition of LOOPE and LOOPNE.
    fn loop_condition(&self) -> u8 {
        match (self.insn.opcode, self.insn.prefixes.rep) {
            (0xe0 | 0xe1, Rep::Rep) if self.cpu.features().amd => 0xe1,
            (0xe0 | 0xe1, Rep::Repne) if self.cpu.features().amd => 0xe0,
            (opcode, _) => opcode,
        }
    }

    fn bound(&mut self) -> Result<(), Stop> {
        let (insn, size) = (self.insn, self.insn.op_size);
        let index = sign_extend(self.load(insn.dst)?, size) as i64;
        let offset = self.ea();
        let low = self.read_seg(insn.mem.seg, offset, size)?;
        let upper = offset.wrapping_add(u64::from(size)) & mask(insn.addr_size);
        let high = self.read_seg(insn.mem.seg, upper, size)?;
        let (low, high) = (sign_extend(low, size) as i64, sign_extend(high, size) as i64);
        if index < low || index > high {
            return Err(Stop::Fault(Exception::new(Vector::Br)));
        }
        Ok(())
    }
}
