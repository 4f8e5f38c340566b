// SPDX-License-Identifier: GPL-2.0
//! INT n, INT3, INTO, INT1, and interrupts of real mode.
//!
//! In real mode through the vector table, else through a gate of the IDT with
//! its privilege change. Intel SDM volume 2 under INT, volume 3 sections 6.11
//! to 6.14 and 21.1.4.

use super::Exec;
use crate::cpu::{Access, Cpu, Table};
use crate::decode::{Insn, Op};
use crate::fault::{Completed, Exception, Stop};
use crate::task_switch::{switch, TaskSwitchSource};
use x86_defs::{
    tss, Descriptor, Dr6, GateDescriptor, Mode, Rflags, SegReg, Segment, Selector, SystemType,
    Vector,
};

/// A gate of the IDT after its checks.
struct Gate {
    inner: GateDescriptor,
    /// Bytes of each pushed value.
    size: u8,
    /// Interrupt gates clear IF, trap gates don't.
    clears_if: bool,
}

/// Delivers an interrupt or exception in real mode: pushes FLAGS, CS and IP
/// (the current ones) and enters the handler.
///
/// # Errors
///
/// A fault means that the vector table or stack isn't accessible.
pub fn deliver_real<C: Cpu>(cpu: &mut C, vector: u8) -> Result<(), Stop> {
    let insn = Insn::empty();
    let next = cpu.rip();
    let mut exec = Exec { cpu, insn: &insn, mode: Mode::Real, next, done: Completed::default() };
    exec.interrupt_real(vector)?;
    let rip = exec.next;
    exec.cpu.set_rip(rip);
    Ok(())
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn software_interrupt(&mut self) -> Result<(), Stop> {
        let flags = self.cpu.rflags();
        let vector = match self.insn.op {
            Op::Int3 => Vector::Bp as u8,
            Op::Into if !flags.contains(Rflags::OF) => return Ok(()),
            Op::Into => Vector::Of as u8,
            Op::Int1 => {
                // INT1 is a trap that hardware reports: the owner injects it.
                let rip = self.next;
                self.cpu.set_rip(rip);
                let trap = Exception {
                    vector: Vector::Db,
                    error_code: None,
                    payload: Some(Dr6::empty().bits()),
                };
                return Err(Stop::Fault(trap));
            }
            _ => self.insn.imm as u8,
        };
        match self.mode {
            Mode::Real => self.interrupt_real(vector),
            // VME's redirection bitmap isn't modelled.
            Mode::Vm86 if self.insn.op == Op::Int && flags.iopl() < 3 => Err(Stop::GP0),
            _ => self.interrupt_gate(vector),
        }
    }

    fn interrupt_real(&mut self, vector: u8) -> Result<(), Stop> {
        let idt = self.cpu.table(Table::Idt);
        let at = u16::from(vector).wrapping_mul(4);
        if at.wrapping_add(3) > idt.limit {
            return Err(Stop::GP0);
        }
        let entry = self.read_linear(idt.base.wrapping_add(u64::from(at)), 4, Access::SYSTEM)?;
        let flags = self.cpu.rflags();
        let cs = self.cpu.segment(SegReg::Cs);
        let back = self.next;
        let mut sp = self.sp();
        self.push(&mut sp, 2, flags.bits())?;
        self.push(&mut sp, 2, u64::from(cs.selector))?;
        self.push(&mut sp, 2, back)?;
        self.set_sp(sp);
        let new = (entry >> 16) as u16;
        self.cpu
            .set_segment(SegReg::Cs, &Segment { selector: new, base: u64::from(new) << 4, ..cs });
        self.cpu.set_rflags(flags.difference(Rflags::IF | Rflags::TF | Rflags::AC | Rflags::RF));
        self.next = entry & 0xffff;
        Ok(())
    }

    /// Reads and checks the gate of a software interrupt.
    fn read_gate(&mut self, vector: u8) -> Result<Option<Gate>, Stop> {
        let long = self.long_active();
        let code = u32::from(vector) << 3 | 2;
        let (width, shift) = if long { (15u32, 4) } else { (7, 3) };
        let idt = self.cpu.table(Table::Idt);
        let at = u32::from(vector) << shift;
        if at.wrapping_add(width) > u32::from(idt.limit) {
            return Err(Stop::gp(code));
        }
        let addr = self.wrap(idt.base.wrapping_add(u64::from(at)));
        let desc = Descriptor(self.read_linear(addr, 8, Access::SYSTEM)?);
        let high =
            if long { self.read_linear(addr.wrapping_add(8), 8, Access::SYSTEM)? } else { 0 };
        let typ = desc.system_type();
        let known = match typ {
            SystemType::IntGate32 | SystemType::TrapGate32 => true,
            SystemType::IntGate16 | SystemType::TrapGate16 | SystemType::TaskGate => !long,
            _ => false,
        };
        if desc.s() || !known || desc.dpl() < self.cpu.cpl() {
            return Err(Stop::gp(code));
        }
        if !desc.present() {
            return Err(Stop::sel(Vector::Np, code));
        }
        let inner = GateDescriptor::new(desc, high);
        let size = match typ {
            SystemType::TaskGate => {
                switch(self, inner.selector, TaskSwitchSource::Gate, None)?;
                return Ok(None);
            }
            SystemType::IntGate16 | SystemType::TrapGate16 => 2,
            _ if long => 8,
            _ => 4,
        };
        let clears_if = matches!(typ, SystemType::IntGate16 | SystemType::IntGate32);
        Ok(Some(Gate { inner, size, clears_if }))
    }

    fn interrupt_gate(&mut self, vector: u8) -> Result<(), Stop> {
        let Some(gate) = self.read_gate(vector)? else { return Ok(()) };
        let cpl = self.cpu.cpl();
        let flags = self.cpu.rflags();
        let from_vm86 = self.mode == Mode::Vm86;
        let cs = self.gate_code(gate.inner.selector, 0)?;
        let inner = !cs.is_conforming() && cs.dpl < cpl;
        if from_vm86 && (!inner || cs.dpl != 0) || !inner && !cs.is_conforming() && cs.dpl != cpl {
            return Err(Stop::gp(gate.inner.selector.error_code()));
        }
        let offset = if gate.size == 2 { gate.inner.offset & 0xffff } else { gate.inner.offset };
        let rip = self.check_target(&cs, offset)?;
        if inner || gate.size == 8 {
            self.frame_on_new_stack(&gate, cs, rip, inner)?;
        } else {
            self.frame_on_same_stack(&gate, cs, rip)?;
        }
        let mut clear = Rflags::TF | Rflags::NT | Rflags::RF | Rflags::VM;
        if gate.clears_if {
            clear |= Rflags::IF;
        }
        self.cpu.set_rflags(flags.difference(clear));
        Ok(())
    }

    fn frame_on_same_stack(&mut self, gate: &Gate, mut cs: Segment, rip: u64) -> Result<(), Stop> {
        let flags = self.cpu.rflags().bits();
        let (old, back) = (self.cpu.segment(SegReg::Cs).selector, self.next);
        let mut sp = self.sp();
        self.push(&mut sp, gate.size, flags)?;
        self.push(&mut sp, gate.size, u64::from(old))?;
        self.push(&mut sp, gate.size, back)?;
        self.set_sp(sp);
        cs.selector = Selector(cs.selector).with_rpl(self.cpu.cpl()).0;
        self.cpu.set_segment(SegReg::Cs, &cs);
        self.next = rip;
        Ok(())
    }

    /// Long mode always pushes SS:RSP, on a 16-byte boundary.
    fn frame_on_new_stack(
        &mut self,
        gate: &Gate,
        cs: Segment,
        rip: u64,
        inner: bool,
    ) -> Result<(), Stop> {
        let flags = self.cpu.rflags().bits();
        let (old_cs, back) = (self.cpu.segment(SegReg::Cs).selector, self.next);
        let dpl = if inner { cs.dpl } else { self.cpu.cpl() };
        let mut stack = if gate.size == 8 {
            let access = if dpl == 3 { Access::DATA } else { Access::SYSTEM };
            let sp = match gate.inner.ist {
                0 if inner => {
                    self.read_tss(tss::tss64::RSP0.wrapping_add(u16::from(dpl).wrapping_mul(8)), 8)?
                }
                0 => self.cpu.gpr(4),
                n => {
                    let slot = u16::from(n).wrapping_sub(1).wrapping_mul(8);
                    self.read_tss(tss::tss64::IST1.wrapping_add(slot), 8)?
                }
            };
            let mut stack = self.long_stack(sp & !15, dpl, access)?;
            if !inner {
                stack.seg = self.cpu.segment(SegReg::Ss);
                stack.seg.dpl = dpl;
            }
            stack
        } else {
            self.inner_stack(dpl)?
        };
        if self.mode == Mode::Vm86 {
            for reg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
                let selector = self.cpu.segment(reg).selector;
                self.push_new(&mut stack, gate.size, u64::from(selector))?;
            }
        }
        self.push_old_stack(&mut stack, gate.size)?;
        for value in [flags, u64::from(old_cs), back] {
            self.push_new(&mut stack, gate.size, value)?;
        }
        if self.mode == Mode::Vm86 {
            for reg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
                self.cpu.set_segment(reg, &Segment::null(0));
            }
        }
        self.enter_inner(cs, rip, stack);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::fake::FakeCpu;

    #[test]
    fn real_mode_interrupt_and_return() {
        let mut cpu = FakeCpu::new(Mode::Real);
        cpu.map(0, 0x10000, true);
        cpu.idt.limit = 0x3ff;
        cpu.poke(0x21 * 4, &[0x34, 0x12, 0x00, 0x20]);
        cpu.gprs[4] = 0x8000;
        cpu.rip = 0x100;
        cpu.rflags |= Rflags::IF;
        cpu.run(&[0xcd, 0x21]).unwrap();
        assert_eq!((cpu.seg(SegReg::Cs).base, cpu.rip, cpu.gprs[4]), (0x20000, 0x1234, 0x7ffa));
        assert!(!cpu.rflags.contains(Rflags::IF));
        assert_eq!(cpu.peek(0x7ffa, 6), 0x0202_0000_0102);
        cpu.run(&[0xcf]).unwrap();
        assert_eq!((cpu.seg(SegReg::Cs).base, cpu.rip, cpu.gprs[4]), (0, 0x102, 0x8000));
        assert!(cpu.rflags.contains(Rflags::IF));
    }

    /// A GDT with kernel and user segments, a TSS and one interrupt gate.
    fn protected(mode: Mode) -> FakeCpu {
        let mut cpu = FakeCpu::new(mode);
        cpu.map(0, 0x10000, true);
        let code: u64 = if mode.is_long() { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
        let dpl3 = 3u64 << 45;
        let data = 0x00cf_9300_0000_ffffu64;
        for (n, desc) in [0, code, data, code | dpl3, data | dpl3].into_iter().enumerate() {
            cpu.poke(0x1000 + 8 * n as u64, &desc.to_le_bytes());
        }
        cpu.gdt = x86_defs::TableReg { base: 0x1000, limit: 0x7f };
        cpu.idt = x86_defs::TableReg { base: 0x2000, limit: 0xfff };
        let size = if mode.is_long() { 16 } else { 8 };
        cpu.poke(0x2000 + 0x80 * size, &0x0000_ee00_0008_5000u64.to_le_bytes());
        let tr =
            Segment { base: 0x3000, limit: 0x67, typ: 11, present: true, ..Segment::default() };
        cpu.set_seg(SegReg::Tr, tr);
        if mode.is_long() {
            cpu.poke(0x3004, &0x7000u64.to_le_bytes());
        } else {
            cpu.poke(0x3004, &0x7000u32.to_le_bytes());
            cpu.poke(0x3008, &0x10u32.to_le_bytes());
        }
        let user = |raw: u64, sel| Descriptor(raw | dpl3).to_segment(Selector(sel), 0);
        cpu.set_seg(SegReg::Cs, user(code, 0x1b));
        cpu.set_seg(SegReg::Ss, user(data, 0x23));
        cpu.set_seg(SegReg::Ds, user(data, 0x23));
        cpu.cpl = 3;
        cpu.gprs[4] = 0x9000;
        cpu.rip = 0x400;
        cpu
    }

    #[test]
    fn gate_to_the_kernel_and_back() {
        for mode in [Mode::Prot32, Mode::Long64] {
            let mut cpu = protected(mode);
            cpu.run(&[0xcd, 0x80]).unwrap();
            assert_eq!((cpu.cpl, cpu.rip, cpu.seg(SegReg::Cs).selector), (0, 0x5000, 8));
            let (size, iret): (u64, &[u8]) =
                if mode.is_long() { (8, &[0x48, 0xcf]) } else { (4, &[0xcf]) };
            assert_eq!(cpu.gprs[4], 0x7000 - 5 * size);
            let sp = cpu.gprs[4];
            let frame: [u64; 5] =
                core::array::from_fn(|n| cpu.peek(sp + size * n as u64, size as usize));
            assert_eq!(frame, [0x402, 0x1b, 2, 0x9000, 0x23]);
            cpu.run(iret).unwrap();
            assert_eq!((cpu.cpl, cpu.rip, cpu.gprs[4]), (3, 0x402, 0x9000));
            assert_eq!(cpu.seg(SegReg::Ss).selector, 0x23);
        }
    }

    #[test]
    fn gate_privilege_and_limit() {
        let mut cpu = protected(Mode::Prot32);
        cpu.poke(0x2000 + 0x80 * 8 + 5, &[0x8e]);
        assert_eq!(cpu.run(&[0xcd, 0x80]), Err(Stop::gp(0x402)));
        cpu.idt.limit = 0x80 * 8 + 6;
        assert_eq!(cpu.run(&[0xcd, 0x80]), Err(Stop::gp(0x402)));
    }

    #[test]
    fn call_gate_copies_parameters() {
        let mut cpu = protected(Mode::Prot32);
        cpu.poke(0x1028, &0x0000_ec02_0008_6000u64.to_le_bytes());
        cpu.poke(0x9000, &[1, 0, 0, 0, 2, 0, 0, 0]);
        cpu.run(&[0x9a, 0, 0, 0, 0, 0x2b, 0]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.gprs[4]), (0, 0x6000, 0x7000 - 24));
        let frame: [u64; 6] = core::array::from_fn(|n| cpu.peek(0x7000 - 24 + 4 * n as u64, 4));
        assert_eq!(frame, [0x407, 0x1b, 1, 2, 0x9000, 0x23]);
        // RETF 8 releases the parameters on both stacks.
        cpu.run(&[0xca, 8, 0]).unwrap();
        assert_eq!((cpu.cpl, cpu.rip, cpu.gprs[4]), (3, 0x407, 0x9008));
    }

    #[test]
    fn virtual_8086_needs_iopl() {
        let mut cpu = FakeCpu::new(Mode::Vm86);
        cpu.map(0, 0x1000, true);
        assert_eq!(cpu.run(&[0xcd, 0x21]), Err(Stop::GP0));
        assert_eq!(cpu.run(&[0x9c]), Err(Stop::GP0));
        assert_eq!(cpu.run(&[0xfa]), Err(Stop::GP0));
    }
}
