// SPDX-License-Identifier: GPL-2.0
//! SYSCALL, SYSRET, SYSENTER, SYSEXIT and SWAPGS.
//!
//! These load fixed flat segments without reading descriptors. AMD APM volume
//! 2 section 6.1, Intel SDM volume 3 sections 5.8.7 and 5.8.8.

use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::Stop;
use x86_defs::{is_canonical, msr, Cr4, Efer, Mode, Rflags, SegReg, Segment};

const RCX: u8 = 1;
const RDX: u8 = 2;
const RSP: u8 = 4;
const R11: u8 = 11;

/// Flat code of the given privilege, 64-bit if `long`.
fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    let mut seg = flat_stack(selector, dpl);
    seg.typ = 0xb;
    seg.l = long;
    seg.db = !long;
    seg
}

fn flat_stack(selector: u16, dpl: u8) -> Segment {
    let mut seg = Segment::real(selector, dpl);
    seg.base = 0;
    seg.limit = u32::MAX;
    seg.g = true;
    seg.db = true;
    seg
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn fast_call(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::Syscall => self.syscall(),
            Op::Sysret => self.sysret(),
            Op::Sysenter => self.sysenter(),
            Op::Sysexit => self.sysexit(),
            _ => self.swapgs(),
        }
    }

    fn enter_segments(&mut self, cs: &Segment, ss: &Segment, cpl: u8) {
        self.cpu.set_segment(SegReg::Cs, cs);
        self.cpu.set_segment(SegReg::Ss, ss);
        self.cpu.set_cpl(cpl);
    }

    /// SYSCALL exists in protected mode, and outside 64-bit mode only on AMD.
    fn check_syscall(&self) -> Result<(), Stop> {
        let amd = self.cpu.features().amd;
        if !self.mode.is_protected()
            || !self.cpu.efer().contains(Efer::SCE)
            || !amd && !self.mode.is_long()
        {
            return Err(Stop::UD);
        }
        Ok(())
    }

    fn syscall(&mut self) -> Result<(), Stop> {
        self.check_syscall()?;
        let star = self.cpu.read_msr(msr::STAR)?;
        let long = self.long_active();
        let selector = (star >> 32) as u16 & !3;
        let flags = self.cpu.rflags();
        let (rip, mask) = if long {
            let entry = if self.mode.is_long() { msr::LSTAR } else { msr::CSTAR };
            (
                self.cpu.read_msr(entry)?,
                Rflags::from_bits_retain(self.cpu.read_msr(msr::SYSCALL_MASK)?),
            )
        } else {
            (star & 0xffff_ffff, Rflags::VM | Rflags::IF)
        };
        self.enter_segments(
            &flat_code(selector, 0, long),
            &flat_stack(selector.wrapping_add(8), 0),
            0,
        );
        let back = self.next;
        if long {
            self.cpu.set_gpr(RCX, back);
            self.cpu.set_gpr(R11, flags.difference(Rflags::RF).bits());
        } else {
            self.set_reg(RCX, 4, back);
        }
        let new = flags.difference(mask | Rflags::RF) | Rflags::FIXED;
        self.cpu.set_rflags(new);
        self.next = rip;
        self.done.single_step = new.contains(Rflags::TF);
        Ok(())
    }

    fn sysret(&mut self) -> Result<(), Stop> {
        self.check_syscall()?;
        self.require_cpl0()?;
        let base = (self.cpu.read_msr(msr::STAR)? >> 48) as u16;
        let to_long = self.insn.op_size == 8;
        let rcx = self.cpu.gpr(RCX);
        if to_long && !is_canonical(rcx, self.cr4_has(Cr4::LA57)) {
            return Err(Stop::GP0);
        }
        let cs = if to_long { base.wrapping_add(16) } else { base } | 3;
        let ss = base.wrapping_add(8) | 3;
        let flags = if self.mode.is_long() {
            Rflags::from_bits_retain(self.cpu.gpr(R11) & 0x3c_7fd7)
        } else {
            self.cpu.rflags() | Rflags::IF
        };
        self.enter_segments(&flat_code(cs, 3, to_long), &flat_stack(ss, 3), 3);
        self.cpu.set_rflags(flags | Rflags::FIXED);
        self.next = if to_long { rcx } else { rcx & 0xffff_ffff };
        Ok(())
    }

    fn sysenter(&mut self) -> Result<(), Stop> {
        if self.mode == Mode::Real {
            return Err(Stop::GP0);
        }
        let long = self.long_active();
        if long && self.cpu.features().amd {
            return Err(Stop::UD);
        }
        let selector = self.cpu.read_msr(msr::SYSENTER_CS)? as u16 & !3;
        if selector == 0 {
            return Err(Stop::GP0);
        }
        let mask = if long { u64::MAX } else { 0xffff_ffff };
        let rip = self.cpu.read_msr(msr::SYSENTER_EIP)? & mask;
        let rsp = self.cpu.read_msr(msr::SYSENTER_ESP)? & mask;
        let flags = self.cpu.rflags().difference(Rflags::VM | Rflags::IF | Rflags::RF);
        self.cpu.set_rflags(flags);
        self.enter_segments(
            &flat_code(selector, 0, long),
            &flat_stack(selector.wrapping_add(8), 0),
            0,
        );
        self.cpu.set_gpr(RSP, rsp);
        self.next = rip;
        Ok(())
    }

    fn sysexit(&mut self) -> Result<(), Stop> {
        if !self.mode.is_protected() {
            return Err(Stop::GP0);
        }
        if self.long_active() && self.cpu.features().amd {
            return Err(Stop::UD);
        }
        self.require_cpl0()?;
        let base = self.cpu.read_msr(msr::SYSENTER_CS)? as u16 & !3;
        if base == 0 {
            return Err(Stop::GP0);
        }
        let to_long = self.insn.op_size == 8;
        let (cs, ss) = if to_long { (32u16, 40u16) } else { (16, 24) };
        let (mut rip, mut rsp) = (self.cpu.gpr(RDX), self.cpu.gpr(RCX));
        if !to_long {
            rip &= 0xffff_ffff;
            rsp &= 0xffff_ffff;
        }
        let la57 = self.cr4_has(Cr4::LA57);
        if !is_canonical(rip, la57) || !is_canonical(rsp, la57) {
            return Err(Stop::GP0);
        }
        let (cs, ss) = (base.wrapping_add(cs) | 3, base.wrapping_add(ss) | 3);
        self.enter_segments(&flat_code(cs, 3, to_long), &flat_stack(ss, 3), 3);
        self.cpu.set_gpr(RSP, rsp);
        self.next = rip;
        Ok(())
    }

    fn swapgs(&mut self) -> Result<(), Stop> {
        self.require_cpl0()?;
        let kernel = self.cpu.read_msr(msr::KERNEL_GS_BASE)?;
        let mut gs = self.cpu.segment(SegReg::Gs);
        self.cpu.write_msr(msr::KERNEL_GS_BASE, gs.base)?;
        gs.base = kernel;
        self.cpu.set_segment(SegReg::Gs, &gs);
        Ok(())
    }
}
