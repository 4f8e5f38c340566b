// SPDX-License-Identifier: GPL-2.0
//! Far RET and IRET.
//!
//! Intel SDM volume 2 under RET and IRET, volume 3 section 6.14.3 for 64-bit mode.

use super::stack::merge;
use super::{Exec, LoadKind};
use crate::cpu::{Cpu, Effect};
use crate::fault::Stop;
use crate::task_switch::{switch, TaskSwitchSource};
use x86_defs::{Cr4, Descriptor, Mode, Rflags, SegReg, Segment, Selector, Vector};

const RSP: u8 = 4;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn ret_far(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let mut sp = self.sp();
        let offset = self.pop(&mut sp, size)?;
        let sel = Selector(self.pop(&mut sp, size)? as u16);
        sp = self.sp_plus(sp, self.insn.imm);
        if !self.mode.is_protected() {
            let cs = self.data_segment(SegReg::Cs, sel, 0, LoadKind::Plain)?;
            if offset > u64::from(cs.limit) {
                return Err(Stop::GP0);
            }
            self.cpu.set_segment(SegReg::Cs, &cs);
            self.set_sp(sp);
            self.next = offset;
            return Ok(());
        }
        let cs = self.return_code(sel)?;
        let rip = self.check_target(&cs, offset)?;
        if sel.rpl() == self.cpu.cpl() {
            self.set_sp(sp);
            self.cpu.set_segment(SegReg::Cs, &cs);
            self.next = rip;
            return Ok(());
        }
        let outer_sp = self.pop(&mut sp, size)?;
        let ss = Selector(self.pop(&mut sp, size)? as u16);
        let release = self.insn.imm;
        self.leave_inner(cs, rip, ss, outer_sp, release)
    }

    /// The code segment that a return names.
    fn return_code(&mut self, sel: Selector) -> Result<Segment, Stop> {
        if sel.is_null() {
            return Err(Stop::GP0);
        }
        if sel.rpl() < self.cpu.cpl() {
            return Err(Stop::gp(sel.error_code()));
        }
        let mut found = self.descriptor(sel, Vector::Gp)?;
        let seg = found.desc.to_segment(sel, 0);
        let privilege =
            if seg.is_conforming() { seg.dpl <= sel.rpl() } else { seg.dpl == sel.rpl() };
        self.check_code(&seg, seg.is_code() && privilege, Vector::Gp)?;
        self.set_descriptor_bits(&mut found, Descriptor::ACCESSED)?;
        Ok(found.desc.to_segment(sel, 0))
    }

    /// Leaves for an outer level (or the same one, for IRET in 64-bit mode).
    fn leave_inner(
        &mut self,
        cs: Segment,
        rip: u64,
        ss: Selector,
        sp: u64,
        release: u64,
    ) -> Result<(), Stop> {
        let cpl = Selector(cs.selector).rpl();
        let ss = self.outer_stack(&cs, ss, cpl)?;
        let old_cpl = self.cpu.cpl();
        self.cpu.set_segment(SegReg::Cs, &cs);
        self.cpu.set_segment(SegReg::Ss, &ss);
        self.cpu.set_cpl(cpl);
        let (width, sp) = if self.long_active() && cs.l {
            (8, sp.wrapping_add(release))
        } else if ss.db {
            (4, sp.wrapping_add(release))
        } else {
            (2, sp.wrapping_add(release))
        };
        self.set_reg(RSP, width, sp);
        self.next = rip;
        if cpl > old_cpl {
            self.drop_inner_segments(cpl);
        }
        Ok(())
    }

    fn outer_stack(&mut self, cs: &Segment, sel: Selector, cpl: u8) -> Result<Segment, Stop> {
        if sel.is_null() && self.long_active() && cs.l && cpl != 3 && sel.rpl() == cpl {
            let mut seg = Segment::null(sel.0);
            seg.dpl = cpl;
            return Ok(seg);
        }
        if sel.is_null() {
            return Err(Stop::GP0);
        }
        self.data_segment(SegReg::Ss, sel, cpl, LoadKind::Plain)
    }

    /// Data segments that the outer level may not use become null.
    fn drop_inner_segments(&mut self, cpl: u8) {
        for reg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            let seg = self.cpu.segment(reg);
            if !seg.unusable && !seg.is_conforming() && seg.dpl < cpl {
                let mut null = Segment::null(0);
                null.base = if self.long_active() { seg.base } else { 0 };
                self.cpu.set_segment(reg, &null);
            }
        }
    }

    pub(super) fn iret(&mut self) -> Result<(), Stop> {
        self.done.single_step = self.cpu.rflags().contains(Rflags::TF);
        match self.mode {
            Mode::Real => self.iret_real()?,
            Mode::Vm86 => self.iret_vm86()?,
            _ => self.iret_protected()?,
        }
        self.cpu.effect(Effect::UnblockNmi)
    }

    /// Pops offset, selector and flags.
    fn pop_frame(&mut self, sp: &mut u64) -> Result<(u64, Selector, Rflags), Stop> {
        let size = self.insn.op_size;
        let offset = self.pop(sp, size)?;
        let sel = Selector(self.pop(sp, size)? as u16);
        let flags = Rflags::from_bits_retain(self.pop(sp, size)?);
        Ok((offset, sel, flags))
    }

    fn iret_real(&mut self) -> Result<(), Stop> {
        let mut sp = self.sp();
        let (offset, sel, flags) = self.pop_frame(&mut sp)?;
        let cs = self.data_segment(SegReg::Cs, sel, 0, LoadKind::Plain)?;
        if offset > u64::from(cs.limit) {
            return Err(Stop::GP0);
        }
        let mut change =
            Rflags::ARITH | Rflags::TF | Rflags::IF | Rflags::DF | Rflags::IOPL | Rflags::NT;
        if self.insn.op_size > 2 {
            change |= Rflags::RF | Rflags::AC | Rflags::ID;
        }
        let old = self.cpu.rflags().difference(Rflags::RF);
        self.finish_iret(&cs, offset, sp, merge(old, flags, change));
        Ok(())
    }

    fn finish_iret(&mut self, cs: &Segment, offset: u64, sp: u64, flags: Rflags) {
        self.cpu.set_segment(SegReg::Cs, cs);
        self.set_sp(sp);
        self.cpu.set_rflags(flags);
        self.next = offset;
    }

    fn iret_vm86(&mut self) -> Result<(), Stop> {
        let old = self.cpu.rflags();
        let size = self.insn.op_size;
        if old.iopl() < 3 && (!self.cr4_has(Cr4::VME) || size != 2) {
            return Err(Stop::GP0);
        }
        let mut sp = self.sp();
        let (offset, sel, flags) = self.pop_frame(&mut sp)?;
        if offset > 0xffff {
            return Err(Stop::GP0);
        }
        let mut new = self.popf_flags(old, flags, size)?;
        if size > 2 {
            new.set(Rflags::RF, flags.contains(Rflags::RF));
        }
        self.finish_iret(&Segment::real(sel.0, 3), offset, sp, new);
        Ok(())
    }

    fn iret_protected(&mut self) -> Result<(), Stop> {
        let size = self.insn.op_size;
        let old = self.cpu.rflags();
        if old.contains(Rflags::NT) {
            if self.long_active() {
                return Err(Stop::GP0);
            }
            let link = Selector(self.read_tss(0, 2)? as u16);
            return switch(self, link, TaskSwitchSource::Iret, None);
        }
        let mut sp = self.sp();
        let (offset, sel, flags) = self.pop_frame(&mut sp)?;
        if flags.contains(Rflags::VM) && size == 4 && self.cpu.cpl() == 0 && !self.long_active() {
            return self.iret_to_vm86(offset, sel, flags, sp);
        }
        let cs = self.return_code(sel)?;
        let rip = self.check_target(&cs, offset)?;
        let new = self.iret_flags(old, flags, size);
        if self.mode.is_long() || sel.rpl() > self.cpu.cpl() {
            let outer_sp = self.pop(&mut sp, size)?;
            let ss = Selector(self.pop(&mut sp, size)? as u16);
            self.leave_inner(cs, rip, ss, outer_sp, 0)?;
            self.cpu.set_rflags(new);
        } else {
            self.finish_iret(&cs, rip, sp, new);
        }
        Ok(())
    }

    /// What RFLAGS becomes, by the CPL before the return.
    fn iret_flags(&self, old: Rflags, value: Rflags, size: u8) -> Rflags {
        let mut change = Rflags::ARITH | Rflags::TF | Rflags::DF | Rflags::NT;
        let mut base = old.difference(Rflags::RF);
        if size > 2 {
            change |= Rflags::RF | Rflags::AC | Rflags::ID;
        }
        if self.cpu.cpl() == 0 {
            change |= Rflags::IOPL | Rflags::IF;
            if size > 2 {
                change |= Rflags::VIF | Rflags::VIP;
            }
        } else if self.cpu.cpl() <= old.iopl() {
            change |= Rflags::IF;
        }
        base = merge(base, value, change);
        base.difference(Rflags::VM)
    }

    fn iret_to_vm86(
        &mut self,
        offset: u64,
        cs: Selector,
        flags: Rflags,
        mut sp: u64,
    ) -> Result<(), Stop> {
        if offset > 0xffff {
            return Err(Stop::GP0);
        }
        let outer_sp = self.pop(&mut sp, 4)?;
        let mut segs = [Segment::default(); 5];
        for seg in &mut segs {
            *seg = Segment::real(self.pop(&mut sp, 4)? as u16, 3);
        }
        let regs = [SegReg::Ss, SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs];
        for (reg, seg) in regs.into_iter().zip(&segs) {
            self.cpu.set_segment(reg, seg);
        }
        self.cpu.set_segment(SegReg::Cs, &Segment::real(cs.0, 3));
        let known = 0x003f_7fd5;
        self.cpu.set_rflags(Rflags::from_bits_retain(flags.bits() & known) | Rflags::FIXED);
        self.cpu.set_cpl(3);
        self.set_reg(RSP, 4, outer_sp);
        self.next = offset;
        Ok(())
    }
}
