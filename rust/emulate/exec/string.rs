// SPDX-License-Identifier: GPL-2.0
//! String instructions with their repetition.
//!
//! MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS. Every iteration commits RSI, RDI
//! and RCX before the next begins, so a fault or exit in between restarts
//! exactly there. Intel SDM volume 1 section 7.3.9.3.

use super::flags::{mask, sub};
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::{Op, Rep};
use crate::fault::Stop;
use x86_defs::{Rflags, SegReg};

const RCX: u8 = 1;
const RDX: u8 = 2;
const RSI: u8 = 6;
const RDI: u8 = 7;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn string(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        if matches!(insn.op, Op::Ins | Op::Outs) {
            // Permission is checked even if nothing is to be moved.
            self.check_port(self.reg(RDX, 2) as u16, insn.op_size.min(4))?;
        }
        if insn.prefixes.rep == Rep::None {
            return self.iteration(1).map(|_| ());
        }
        let compares = matches!(insn.op, Op::Cmps | Op::Scas);
        let again_while_zero = insn.prefixes.rep == Rep::Rep;
        loop {
            let count = self.reg(RCX, insn.addr_size);
            if count == 0 {
                return Ok(());
            }
            // The trap flag wants to see each.
            let most = if self.cpu.rflags().contains(Rflags::TF) { 1 } else { count };
            let left = count.wrapping_sub(self.iteration(most)?);
            self.set_reg(RCX, insn.addr_size, left);
            self.cpu.iteration_done();
            let flags = self.cpu.rflags();
            if left == 0 || compares && flags.contains(Rflags::ZF) != again_while_zero {
                return Ok(());
            }
            if flags.contains(Rflags::TF) || self.cpu.should_break() {
                self.done.repeat = true;
                self.next = self.cpu.rip();
                return Ok(());
            }
        }
    }

    /// One element or, for I/O, up to `most`; how many.
    fn iteration(&mut self, most: u64) -> Result<u64, Stop> {
        let insn = self.insn;
        let size = insn.op_size.min(if matches!(insn.op, Op::Ins | Op::Outs) { 4 } else { 8 });
        let (si, di) = (self.reg(RSI, insn.addr_size), self.reg(RDI, insn.addr_size));
        match insn.op {
            Op::Movs => {
                let value = self.read_seg(insn.mem.seg, si, size)?;
                self.write_seg(SegReg::Es, di, size, value)?;
                self.step(RSI, size);
                self.step(RDI, size);
            }
            Op::Stos => {
                let value = self.reg(0, size);
                self.write_seg(SegReg::Es, di, size, value)?;
                self.step(RDI, size);
            }
            Op::Lods => {
                let value = self.read_seg(insn.mem.seg, si, size)?;
                self.set_reg(0, size, value);
                self.step(RSI, size);
            }
            Op::Cmps => {
                let b = self.read_seg(SegReg::Es, di, size)?;
                let a = self.read_seg(insn.mem.seg, si, size)?;
                self.set_arith_flags(sub(a, b, 0, size).1);
                self.step(RSI, size);
                self.step(RDI, size);
            }
            Op::Scas => {
                let b = self.read_seg(SegReg::Es, di, size)?;
                let (_, flags) = sub(self.reg(0, size), b, 0, size);
                self.set_arith_flags(flags);
                self.step(RDI, size);
            }
            Op::Ins => self.ins(di, size, most)?,
            _ => return self.outs(si, size, most),
        }
        Ok(1)
    }

    /// How many of `most` elements are in the page of the first one, at least one:
    /// no page fault comes in between.
    fn within_page(&self, address: u64, size: u8, most: u64) -> u64 {
        const PAGE: u64 = 0x1000;
        let offset = address & PAGE.wrapping_sub(1);
        let bytes = if self.cpu.rflags().contains(Rflags::DF) {
            offset.saturating_add(size.into())
        } else {
            PAGE.wrapping_sub(offset)
        };
        bytes.checked_div(size.into()).unwrap_or(1).clamp(1, most.max(1))
    }

    /// The destination is checked before the port is read: a read can't be undone.
    fn ins(&mut self, di: u64, size: u8, most: u64) -> Result<(), Stop> {
        let port = self.reg(RDX, 2) as u16;
        let addr = self.linear(SegReg::Es, di, u64::from(size), true)?;
        let most = self.within_page(addr, size, most);
        let value = self.cpu.port_in_string(port, size, most)?;
        self.write_linear(addr, size, u64::from(value), crate::cpu::Access::DATA)?;
        self.step(RDI, size);
        Ok(())
    }

    fn outs(&mut self, si: u64, size: u8, most: u64) -> Result<u64, Stop> {
        let port = self.reg(RDX, 2) as u16;
        let seg = self.insn.mem.seg;
        let first = self.linear(seg, si, u64::from(size), false)?;
        let most = self.within_page(first, size, most);
        let bytes = most.wrapping_mul(size.into());
        let is_batch = most > 1
            && !self.cpu.rflags().contains(Rflags::DF)
            && si
                .checked_add(bytes)
                .is_some_and(|end| end.wrapping_sub(1) <= mask(self.insn.addr_size))
            && self.linear(seg, si, bytes, false).is_ok();
        if is_batch {
            let written = self.cpu.port_out_string(port, size, first, most)?;
            if written != 0 {
                self.step_by(RSI, written.wrapping_mul(size.into()));
                return Ok(written);
            }
        }
        let value = self.read_seg(seg, si, size)?;
        self.cpu.port_out(port, size, value as u32)?;
        self.step(RSI, size);
        Ok(1)
    }

    /// Moves an index register by one element in the direction of DF.
    fn step(&mut self, n: u8, size: u8) {
        self.step_by(n, size.into());
    }

    fn step_by(&mut self, n: u8, by: u64) {
        let addr_size = self.insn.addr_size;
        let old = self.reg(n, addr_size);
        let new = if self.cpu.rflags().contains(Rflags::DF) {
            old.wrapping_sub(by)
        } else {
            old.wrapping_add(by)
        };
        self.set_reg(n, addr_size, new & mask(addr_size));
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use crate::fake::FakeCpu;
    use crate::io::FragmentKind;
    use crate::Stop;
    use x86_defs::{Mode, Rflags};

    fn cpu() -> FakeCpu {
        let mut cpu = FakeCpu::new(Mode::Prot32);
        cpu.map(0x1000, 0x1000, true);
        cpu
    }

    #[test]
    fn rep_movs_from_a_device_restarts_each_iteration() {
        let mut cpu = cpu();
        cpu.devices.push(0x9000..0xa000);
        (cpu.gprs[1], cpu.gprs[6], cpu.gprs[7]) = (2, 0x9000, 0x1000);
        for n in 0..2u64 {
            assert_eq!(cpu.run(&[0xf3, 0xa5]), Err(Stop::NeedsExit));
            let pending = *cpu.replay.pending().unwrap();
            assert_eq!(
                (pending.kind, pending.addr, pending.len),
                (FragmentKind::MmioRead, 0x9000 + 4 * n, 4)
            );
            assert_eq!(cpu.gprs[1], 2 - n);
            cpu.replay.complete(0x1111_1111 * (n + 1));
        }
        assert!(!cpu.run(&[0xf3, 0xa5]).unwrap().repeat);
        assert_eq!(cpu.peek(0x1000, 8), 0x2222_2222_1111_1111);
        assert_eq!((cpu.gprs[1], cpu.gprs[6], cpu.gprs[7], cpu.rip), (0, 0x9008, 0x1008, 2));
    }

    #[test]
    fn a_fault_keeps_finished_iterations() {
        let mut cpu = cpu();
        (cpu.gprs[0], cpu.gprs[1], cpu.gprs[7]) = (0x5a, 10, 0x1ffd);
        assert!(matches!(cpu.run(&[0xf3, 0xaa]), Err(Stop::Fault(_))));
        assert_eq!((cpu.gprs[1], cpu.gprs[7], cpu.rip), (7, 0x2000, 0));
    }

    #[test]
    fn breaks_between_iterations_when_asked() {
        let mut cpu = cpu();
        cpu.break_after = 3;
        (cpu.gprs[1], cpu.gprs[7]) = (8, 0x1000);
        assert!(cpu.run(&[0xf3, 0xaa]).unwrap().repeat);
        assert_eq!((cpu.gprs[1], cpu.rip), (5, 0));
        assert!(cpu.run(&[0xf3, 0xaa]).unwrap().repeat);
        assert!(!cpu.run(&[0xf3, 0xaa]).unwrap().repeat);
        assert_eq!((cpu.gprs[1], cpu.rip), (0, 2));
    }

    #[test]
    fn single_step_stops_after_each_iteration() {
        let mut cpu = cpu();
        cpu.rflags |= Rflags::TF;
        (cpu.gprs[1], cpu.gprs[7]) = (2, 0x1000);
        let done = cpu.run(&[0xf3, 0xaa]).unwrap();
        assert!(done.repeat && done.single_step);
    }

    #[test]
    fn sixteen_bit_addresses_wrap() {
        let mut cpu = FakeCpu::new(Mode::Real);
        cpu.map(0, 0x10000, true);
        (cpu.gprs[0], cpu.gprs[7]) = (0x77, 0xabcd_ffff);
        cpu.run(&[0xaa]).unwrap();
        assert_eq!(cpu.peek(0xffff, 1), 0x77);
        assert_eq!(cpu.gprs[7], 0xabcd_0000);
    }

    #[test]
    fn ins_reads_the_port_only_if_memory_is_checked() {
        let mut cpu = cpu();
        cpu.gprs[7] = 0x1000;
        assert_eq!(cpu.run(&[0x6c]), Err(Stop::NeedsExit));
        cpu.replay.complete(0x42);
        cpu.run(&[0x6c]).unwrap();
        assert_eq!(cpu.peek(0x1000, 1), 0x42);
    }
}
