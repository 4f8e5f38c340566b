// SPDX-License-Identifier: GPL-2.0
//! Far JMP and CALL: real mode, code segments, call gates, tasks.
//!
//! Intel SDM volume 2 under CALL and JMP, volume 3 sections 5.8 and 8.3.

use super::flags::mask;
use super::mem::{selector_fault, within_limit};
use super::table::Found;
use super::{Exec, LoadKind};
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Operand};
use crate::fault::Stop;
use crate::task_switch::{switch, TaskSwitchSource};
use x86_defs::{
    is_canonical, tss, Cr4, Descriptor, GateDescriptor, SegReg, Segment, Selector, SystemType,
    Vector,
};

/// A stack that isn't the current one yet.
pub(super) struct NewStack {
    pub(super) seg: Segment,
    pub(super) sp: u64,
    /// Bytes of the stack pointer that count.
    width: u8,
    access: Access,
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn far_family(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::CallFar | Op::JmpFar => {
                let (offset, selector) = self.far_pointer()?;
                self.far_transfer(Selector(selector), offset)
            }
            Op::RetFar => self.ret_far(),
            Op::Iret => self.iret(),
            _ => self.software_interrupt(),
        }
    }

    /// Offset and selector of the operand. AMD has no 64-bit far pointers.
    pub(super) fn far_pointer(&mut self) -> Result<(u64, u16), Stop> {
        let insn = self.insn;
        if insn.src == Operand::Imm {
            return Ok((insn.imm, insn.imm2));
        }
        let size = self.far_size();
        let at = self.ea();
        let offset = self.read_seg(insn.mem.seg, at, size)?;
        let after = at.wrapping_add(u64::from(size)) & mask(insn.addr_size);
        let selector = self.read_seg(insn.mem.seg, after, 2)?;
        Ok((offset, selector as u16))
    }

    fn far_size(&self) -> u8 {
        if self.cpu.features().amd {
            self.insn.op_size.min(4)
        } else {
            self.insn.op_size
        }
    }

    fn far_transfer(&mut self, sel: Selector, offset: u64) -> Result<(), Stop> {
        if !self.mode.is_protected() {
            let cs = self.data_segment(SegReg::Cs, sel, 0, LoadKind::Plain)?;
            if offset > u64::from(cs.limit) {
                return Err(Stop::GP0);
            }
            return self.commit_far(&cs, offset, self.insn.op_size);
        }
        if sel.is_null() {
            return Err(Stop::GP0);
        }
        let found = self.descriptor(sel, Vector::Gp)?;
        if found.desc.s() {
            let cs = self.direct_code(sel, found)?;
            let rip = self.check_target(&cs, offset)?;
            return self.commit_far(&cs, rip, self.insn.op_size);
        }
        self.through_system(sel, found)
    }

    /// A code segment as the direct target of a far JMP or CALL.
    fn direct_code(&mut self, sel: Selector, mut found: Found) -> Result<Segment, Stop> {
        let cpl = self.cpu.cpl();
        let seg = found.desc.to_segment(sel, 0);
        let allowed = seg.is_code()
            && if seg.is_conforming() {
                seg.dpl <= cpl
            } else {
                sel.rpl() <= cpl && seg.dpl == cpl
            };
        self.check_code(&seg, allowed, Vector::Gp)?;
        self.set_descriptor_bits(&mut found, Descriptor::ACCESSED)?;
        Ok(found.desc.to_segment(sel.with_rpl(cpl), 0))
    }

    /// The checks that every load of CS ends with.
    pub(super) fn check_code(
        &self,
        seg: &Segment,
        allowed: bool,
        vector: Vector,
    ) -> Result<(), Stop> {
        let code = Selector(seg.selector).error_code();
        if !allowed || self.long_active() && seg.l && seg.db {
            return Err(selector_fault(vector, code));
        }
        if !seg.present {
            return Err(selector_fault(Vector::Np, code));
        }
        Ok(())
    }

    /// The target within a new code segment, or #GP(0).
    pub(super) fn check_target(&self, cs: &Segment, offset: u64) -> Result<u64, Stop> {
        if self.long_active() && cs.l {
            if !is_canonical(offset, self.cr4_has(Cr4::LA57)) {
                return Err(Stop::GP0);
            }
            return Ok(offset);
        }
        if offset > u64::from(cs.limit) {
            return Err(Stop::GP0);
        }
        Ok(offset)
    }

    /// Pushes the return address for CALL and loads CS:RIP.
    fn commit_far(&mut self, cs: &Segment, rip: u64, size: u8) -> Result<(), Stop> {
        if self.insn.op == Op::CallFar {
            let (old, back) = (self.cpu.segment(SegReg::Cs).selector, self.next);
            let mut sp = self.sp();
            self.push(&mut sp, size, u64::from(old))?;
            self.push(&mut sp, size, back)?;
            self.set_sp(sp);
        }
        self.cpu.set_segment(SegReg::Cs, cs);
        self.next = rip;
        Ok(())
    }

    /// Call gates, task gates and TSSes.
    fn through_system(&mut self, sel: Selector, found: Found) -> Result<(), Stop> {
        let fault = Stop::gp(sel.error_code());
        let typ = found.desc.system_type();
        let long = self.long_active();
        if found.desc.dpl() < self.cpu.cpl().max(sel.rpl()) {
            return Err(fault);
        }
        let is_call = self.insn.op == Op::CallFar;
        match typ {
            SystemType::CallGate32 => {}
            SystemType::CallGate16
            | SystemType::TaskGate
            | SystemType::Tss16
            | SystemType::Tss32
                if !long => {}
            _ => return Err(fault),
        }
        if !found.desc.present() {
            return Err(selector_fault(Vector::Np, sel.error_code()));
        }
        let high =
            if matches!(typ, SystemType::CallGate32) { self.upper_half(sel, &found)? } else { 0 };
        let gate = GateDescriptor::new(found.desc, high);
        let size = match typ {
            SystemType::CallGate16 => 2,
            SystemType::CallGate32 if long => 8,
            SystemType::CallGate32 => 4,
            _ => {
                let target = if typ == SystemType::TaskGate { gate.selector } else { sel };
                let source = if is_call { TaskSwitchSource::Call } else { TaskSwitchSource::Jump };
                return switch(self, target, source, None);
            }
        };
        self.call_gate(&gate, size, is_call)
    }

    fn call_gate(&mut self, gate: &GateDescriptor, size: u8, is_call: bool) -> Result<(), Stop> {
        let cpl = self.cpu.cpl();
        let mut cs = self.gate_code(gate.selector, 0)?;
        let inner = is_call && !cs.is_conforming() && cs.dpl < cpl;
        if !inner && !cs.is_conforming() && cs.dpl != cpl {
            return Err(Stop::gp(gate.selector.error_code()));
        }
        let offset = gate.offset & mask(size);
        let rip = self.check_target(&cs, offset)?;
        if !inner {
            cs.selector = Selector(cs.selector).with_rpl(cpl).0;
            return self.commit_far(&cs, rip, size);
        }
        let params = if size == 8 { 0 } else { gate.params };
        let (old_cs, back) = (self.cpu.segment(SegReg::Cs).selector, self.next);
        let mut stack = self.inner_stack(cs.dpl)?;
        self.push_old_stack(&mut stack, size)?;
        let old_sp = self.sp();
        for n in (0..params).rev() {
            let at = self.sp_plus(old_sp, u64::from(n).wrapping_mul(u64::from(size)));
            let value = self.read_seg(SegReg::Ss, at, size)?;
            self.push_new(&mut stack, size, value)?;
        }
        self.push_new(&mut stack, size, u64::from(old_cs))?;
        self.push_new(&mut stack, size, back)?;
        self.enter_inner(cs, rip, stack);
        Ok(())
    }

    /// The code segment that a gate names; `ext` is or-ed into error codes.
    pub(super) fn gate_code(&mut self, sel: Selector, ext: u32) -> Result<Segment, Stop> {
        if sel.is_null() {
            return Err(Stop::gp(ext));
        }
        let mut found = self.descriptor(sel, Vector::Gp)?;
        let seg = found.desc.to_segment(sel, 0);
        // Gates of long mode lead to 64-bit code only.
        let wide = !self.long_active() || seg.l && !seg.db;
        self.check_code(&seg, seg.is_code() && seg.dpl <= self.cpu.cpl() && wide, Vector::Gp)?;
        self.set_descriptor_bits(&mut found, Descriptor::ACCESSED)?;
        Ok(found.desc.to_segment(sel, 0))
    }

    /// The stack that the TSS gives for privilege `dpl`.
    pub(super) fn inner_stack(&mut self, dpl: u8) -> Result<NewStack, Stop> {
        let access = if dpl == 3 { Access::DATA } else { Access::SYSTEM };
        if self.long_active() {
            let at = tss::tss64::RSP0.wrapping_add(u16::from(dpl).wrapping_mul(8));
            let sp = self.read_tss(at, 8)?;
            return self.long_stack(sp, dpl, access);
        }
        let wide = self.cpu.segment(SegReg::Tr).typ & 8 != 0;
        let (at, size) = if wide {
            (tss::tss32::ESP0.wrapping_add(u16::from(dpl).wrapping_mul(8)), 4u8)
        } else {
            (tss::tss16::SP0.wrapping_add(u16::from(dpl).wrapping_mul(4)), 2)
        };
        let sp = self.read_tss(at, size)?;
        let sel = Selector(self.read_tss(at.wrapping_add(u16::from(size)), 2)? as u16);
        let seg = self.stack_of_level(sel, dpl)?;
        let width = if seg.db { 4 } else { 2 };
        Ok(NewStack { seg, sp: sp & mask(width), width, access })
    }

    /// Long mode loads a null SS with the new privilege.
    pub(super) fn long_stack(&self, sp: u64, dpl: u8, access: Access) -> Result<NewStack, Stop> {
        if !is_canonical(sp, self.cr4_has(Cr4::LA57)) {
            return Err(Stop::SS0);
        }
        let mut seg = Segment::null(u16::from(dpl));
        seg.dpl = dpl;
        Ok(NewStack { seg, sp, width: 8, access })
    }

    /// SS of an inner level, checked with #TS even in virtual-8086 mode.
    fn stack_of_level(&mut self, sel: Selector, dpl: u8) -> Result<Segment, Stop> {
        let mode = self.mode;
        self.mode = if mode.is_protected() { mode } else { x86_defs::Mode::Prot32 };
        let seg = self.data_segment(SegReg::Ss, sel, dpl, LoadKind::Task);
        self.mode = mode;
        seg
    }

    /// A field of the current TSS, #TS if it lies beyond the limit.
    pub(super) fn read_tss(&mut self, at: u16, size: u8) -> Result<u64, Stop> {
        let tr = self.cpu.segment(SegReg::Tr);
        let last = u32::from(at).wrapping_add(u32::from(size)).wrapping_sub(1);
        if tr.unusable || last > tr.limit {
            return Err(selector_fault(Vector::Ts, Selector(tr.selector).error_code()));
        }
        let addr = self.wrap(tr.base.wrapping_add(u64::from(at)));
        self.read_linear(addr, size, Access::SYSTEM)
    }

    /// Pushes onto a stack that isn't current.
    pub(super) fn push_new(
        &mut self,
        stack: &mut NewStack,
        size: u8,
        value: u64,
    ) -> Result<(), Stop> {
        let sp = stack.sp.wrapping_sub(u64::from(size)) & mask(stack.width);
        let addr = if stack.width == 8 {
            if !is_canonical(sp, self.cr4_has(Cr4::LA57)) {
                return Err(Stop::SS0);
            }
            sp
        } else {
            if !within_limit(&stack.seg, sp, u64::from(size)) {
                return Err(selector_fault(Vector::Ss, Selector(stack.seg.selector).error_code()));
            }
            stack.seg.base.wrapping_add(sp) & 0xffff_ffff
        };
        self.write_linear(addr, size, value, stack.access)?;
        stack.sp = sp;
        Ok(())
    }

    /// Pushes the current SS and stack pointer.
    pub(super) fn push_old_stack(&mut self, stack: &mut NewStack, size: u8) -> Result<(), Stop> {
        let ss = self.cpu.segment(SegReg::Ss).selector;
        let sp = self.reg(4, size);
        self.push_new(stack, size, u64::from(ss))?;
        self.push_new(stack, size, sp)
    }

    /// Makes an inner level current.
    pub(super) fn enter_inner(&mut self, mut cs: Segment, rip: u64, stack: NewStack) {
        let cpl = stack.seg.dpl;
        cs.selector = Selector(cs.selector).with_rpl(cpl).0;
        self.cpu.set_segment(SegReg::Cs, &cs);
        self.cpu.set_segment(SegReg::Ss, &stack.seg);
        self.cpu.set_cpl(cpl);
        self.set_reg(4, stack.width, stack.sp);
        self.next = rip;
    }
}
