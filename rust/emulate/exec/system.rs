// SPDX-License-Identifier: GPL-2.0
//! System instructions: control and debug registers, MSRs, counters, caches,
//! hypercalls, HLT.
//!
//! Values are judged by the owner of the register; privilege is judged here.

use super::Exec;
use crate::cpu::{Access, Cpu, Effect, Hypercall};
use crate::decode::{Op, Operand};
use crate::fault::{Exception, Stop};
use x86_defs::{is_canonical, msr, Cr0, Cr4, Dr6, Dr7, Mode, SegReg, Vector};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const RBX: u8 = 3;

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn system(&mut self) -> Result<(), Stop> {
        match self.insn.op {
            Op::Sgdt | Op::Sidt | Op::Lgdt | Op::Lidt => self.table_family(),
            Op::Smsw | Op::Lmsw | Op::Clts | Op::ReadCr | Op::WriteCr => self.control(),
            Op::ReadDr | Op::WriteDr => self.debug(),
            Op::Rdmsr | Op::Wrmsr => self.msr(),
            Op::Rdtsc | Op::Rdtscp | Op::Rdpmc | Op::Rdpid => self.counters(),
            Op::Cpuid => self.cpuid(),
            Op::Xgetbv | Op::Xsetbv => self.xcr(),
            Op::ReadFsGsBase | Op::WriteFsGsBase => self.fs_gs_base(),
            Op::Fninit | Op::Fnstcw | Op::Fnstsw | Op::Fldcw => self.fpu(),
            Op::Vmcall => self.cpu.hypercall(Hypercall::Vmcall),
            Op::Vmmcall => self.cpu.hypercall(Hypercall::Vmmcall),
            _ => self.side_effect(),
        }
    }

    fn side_effect(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let effect = match insn.op {
            Op::Fence => return Ok(()),
            // WAIT honours TS only together with MP.
            Op::Fwait if self.cpu.cr0().contains(Cr0::MP | Cr0::TS) => return Err(Stop::NM),
            Op::Fwait => return Ok(()),
            Op::Monitor | Op::Mwait if self.cpu.cpl() > 0 => return Err(Stop::UD),
            Op::Pause => Effect::Pause,
            Op::Clflush => {
                let offset = self.ea();
                let addr = self.linear(insn.mem.seg, offset, 1, false)?;
                // Faults like a read of a byte.
                self.read_linear(addr, 1, Access::DATA)?;
                Effect::FlushLine(addr)
            }
            Op::Hlt => {
                self.require_cpl0()?;
                Effect::Halt
            }
            Op::Wbinvd => {
                self.require_cpl0()?;
                Effect::WriteBackCaches
            }
            Op::Invlpg => {
                self.require_cpl0()?;
                return self.invlpg();
            }
            Op::Invpcid => {
                self.require_cpl0()?;
                let mut raw = [0u8; 16];
                let offset = self.ea();
                self.read_bytes(insn.mem.seg, offset, &mut raw)?;
                let wide = u128::from_le_bytes(raw);
                Effect::InvalidatePcid {
                    kind: self.load(insn.dst)?,
                    pcid: wide as u64,
                    addr: (wide >> 64) as u64,
                }
            }
            Op::Monitor => {
                let offset = self.reg(RAX, insn.addr_size);
                Effect::Monitor(self.linear(insn.mem.seg, offset, 1, false)?)
            }
            Op::Mwait => Effect::Mwait(self.reg(RAX, 4), self.reg(RCX, 4)),
            _ => return Err(Stop::Unsupported),
        };
        self.cpu.effect(effect)
    }

    /// A non-canonical address invalidates nothing; limits aren't checked.
    fn invlpg(&mut self) -> Result<(), Stop> {
        let (seg, offset) = (self.insn.mem.seg, self.ea());
        let base = match (self.mode, seg) {
            (Mode::Long64, SegReg::Fs | SegReg::Gs) => self.cpu.segment_base(seg),
            (Mode::Long64, _) => 0,
            _ => self.cpu.segment_base(seg),
        };
        let addr = base.wrapping_add(offset);
        let addr = if self.mode.is_long() { addr } else { addr & 0xffff_ffff };
        if !is_canonical(addr, self.cr4_has(Cr4::LA57)) {
            return Ok(());
        }
        self.cpu.effect(Effect::InvalidatePage(addr))
    }

    fn control(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        if insn.op == Op::Smsw {
            self.check_umip()?;
            let value = self.cpu.cr(0);
            return self.store(insn.dst, value);
        }
        self.require_cpl0()?;
        match (insn.op, insn.dst, insn.src) {
            (Op::Lmsw, ..) => {
                let value = self.load(insn.src)?;
                let old = self.cpu.cr(0);
                // PE can be set but not cleared.
                let kept = old & !0xe;
                self.cpu.set_cr(0, kept | value & 0xf)
            }
            (Op::Clts, ..) => {
                let value = self.cpu.cr(0) & !Cr0::TS.bits();
                self.cpu.set_cr(0, value)
            }
            (_, dst, Operand::Cr(n)) => {
                let value = self.cpu.cr(n);
                self.store_reg(dst, value)
            }
            (_, Operand::Cr(n), src) => {
                let value = self.load(src)?;
                self.cpu.set_cr(n, value)
            }
            _ => Err(Stop::Unsupported),
        }
    }

    /// Instructions that reveal system state fault in user mode with CR4.UMIP.
    pub(super) fn check_umip(&self) -> Result<(), Stop> {
        if self.cr4_has(Cr4::UMIP) && self.cpu.cpl() > 0 {
            return Err(Stop::GP0);
        }
        Ok(())
    }

    fn debug(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let n = match (insn.dst, insn.src) {
            (Operand::Dr(n), _) | (_, Operand::Dr(n)) => n,
            _ => return Err(Stop::Unsupported),
        };
        let n = match n {
            4 | 5 if self.cr4_has(Cr4::DE) => return Err(Stop::UD),
            4 | 5 => n.wrapping_add(2),
            _ => n,
        };
        self.require_cpl0()?;
        if Dr7::from_bits_retain(self.cpu.dr(7)).contains(Dr7::GD) {
            let detect =
                Exception { vector: Vector::Db, error_code: None, payload: Some(Dr6::BD.bits()) };
            return Err(Stop::Fault(detect));
        }
        if insn.op == Op::ReadDr {
            let value = self.cpu.dr(n);
            return self.store_reg(insn.dst, value);
        }
        let value = self.load(insn.src)?;
        self.cpu.set_dr(n, value)
    }

    fn msr(&mut self) -> Result<(), Stop> {
        self.require_cpl0()?;
        let index = self.reg(RCX, 4) as u32;
        if self.insn.op == Op::Wrmsr {
            let value = self.reg(RDX, 4) << 32 | self.reg(RAX, 4);
            return self.cpu.write_msr(index, value);
        }
        let value = self.cpu.read_msr(index)?;
        self.set_edx_eax(value);
        Ok(())
    }

    fn set_edx_eax(&mut self, value: u64) {
        self.set_reg(RAX, 4, value);
        self.set_reg(RDX, 4, value >> 32);
    }

    fn counters(&mut self) -> Result<(), Stop> {
        let user = self.cpu.cpl() > 0 && self.mode != Mode::Real;
        match self.insn.op {
            Op::Rdpmc => {
                if user && !self.cr4_has(Cr4::PCE) {
                    return Err(Stop::GP0);
                }
                let index = self.reg(RCX, 4) as u32;
                let value = self.cpu.read_pmc(index)?;
                self.set_edx_eax(value);
            }
            Op::Rdpid => {
                let value = self.cpu.read_msr(msr::TSC_AUX)?;
                self.store_reg(self.insn.dst, value)?;
            }
            op => {
                if op == Op::Rdtscp && !self.cpu.features().rdtscp {
                    return Err(Stop::UD);
                }
                if user && self.cr4_has(Cr4::TSD) {
                    return Err(Stop::GP0);
                }
                let aux =
                    if op == Op::Rdtscp { Some(self.cpu.read_msr(msr::TSC_AUX)?) } else { None };
                let value = self.cpu.tsc();
                self.set_edx_eax(value);
                if let Some(aux) = aux {
                    self.set_reg(RCX, 4, aux);
                }
            }
        }
        Ok(())
    }

    fn cpuid(&mut self) -> Result<(), Stop> {
        let (leaf, sub) = (self.reg(RAX, 4) as u32, self.reg(RCX, 4) as u32);
        let [a, b, c, d] = self.cpu.cpuid(leaf, sub)?;
        for (n, value) in [(RAX, a), (RBX, b), (RCX, c), (RDX, d)] {
            self.set_reg(n, 4, u64::from(value));
        }
        Ok(())
    }

    fn xcr(&mut self) -> Result<(), Stop> {
        if !self.cr4_has(Cr4::OSXSAVE) {
            return Err(Stop::UD);
        }
        let index = self.reg(RCX, 4) as u32;
        if self.insn.op == Op::Xgetbv {
            let value = self.cpu.xcr(index)?;
            self.set_edx_eax(value);
            return Ok(());
        }
        self.require_cpl0()?;
        let value = self.reg(RDX, 4) << 32 | self.reg(RAX, 4);
        self.cpu.set_xcr(index, value)
    }

    fn fs_gs_base(&mut self) -> Result<(), Stop> {
        if !self.cr4_has(Cr4::FSGSBASE) {
            return Err(Stop::UD);
        }
        let insn = self.insn;
        let reg = if insn.reg_field() & 1 == 0 { SegReg::Fs } else { SegReg::Gs };
        let mut seg = self.cpu.segment(reg);
        if insn.op == Op::ReadFsGsBase {
            return self.store_reg(insn.dst, seg.base);
        }
        seg.base = self.load(insn.src)?;
        if !is_canonical(seg.base, self.cr4_has(Cr4::LA57)) {
            return Err(Stop::GP0);
        }
        self.cpu.set_segment(reg, &seg);
        Ok(())
    }

    fn fpu(&mut self) -> Result<(), Stop> {
        if self.cpu.cr0().intersects(Cr0::EM | Cr0::TS) {
            return Err(Stop::NM);
        }
        let insn = self.insn;
        match insn.op {
            Op::Fninit => self.cpu.effect(Effect::FpuInit),
            Op::Fldcw => {
                self.check_x87()?;
                let value = self.load(insn.src)? as u16;
                self.cpu.effect(Effect::FpuControl(value))
            }
            op => {
                let words = self.cpu.fpu_words();
                let value = u64::from(if op == Op::Fnstcw { words.control } else { words.status });
                if insn.dst.is_mem() {
                    let offset = self.ea();
                    return self.write_seg(insn.mem.seg, offset, 2, value);
                }
                self.set_reg(RAX, 2, value);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::cpu::Table;
    use crate::fake::FakeCpu;

    #[test]
    fn privileged_in_user_mode() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        cpu.cpl = 3;
        for bytes in
            [&[0xf4u8][..], &[0x0f, 0x20, 0xc0], &[0x0f, 0x30], &[0x0f, 0x06], &[0x0f, 0x01, 0xf8]]
        {
            assert_eq!(cpu.run(bytes), Err(Stop::GP0), "{bytes:x?}");
        }
    }

    #[test]
    fn tables_msrs_and_control_registers() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        cpu.map(0x1000, 0x1000, true);
        cpu.poke(0x1000, &[0xff, 0x0f, 0, 0, 0x34, 0x12, 0x80, 0xff, 0xff, 0xff]);
        cpu.gprs[0] = 0x1000;
        cpu.run(&[0x0f, 0x01, 0x10]).unwrap();
        assert_eq!(
            (cpu.table(Table::Gdt).base, cpu.table(Table::Gdt).limit),
            (0xffff_ff80_1234_0000, 0xfff)
        );
        cpu.run(&[0x0f, 0x01, 0x40, 0x20]).unwrap();
        assert_eq!(cpu.peek(0x1020, 8), 0xff80_1234_0000_0fff);
        cpu.msrs.insert(0x10, 0);
        (cpu.gprs[0], cpu.gprs[1], cpu.gprs[2]) = (1, 0x10, 2);
        cpu.run(&[0x0f, 0x30]).unwrap();
        assert_eq!(cpu.msrs[&0x10], 0x2_0000_0001);
        cpu.gprs[1] = 0x11;
        assert_eq!(cpu.run(&[0x0f, 0x32]), Err(Stop::GP0));
        cpu.cr0 |= Cr0::TS;
        cpu.run(&[0x0f, 0x06]).unwrap();
        assert!(!cpu.cr0.contains(Cr0::TS));
        cpu.run(&[0xf4]).unwrap();
        assert_eq!(cpu.effects, [Effect::Halt]);
    }

    #[test]
    fn general_detect() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        cpu.drs[7] = Dr7::GD.bits();
        let db = Exception { vector: Vector::Db, error_code: None, payload: Some(1 << 13) };
        assert_eq!(cpu.run(&[0x0f, 0x21, 0xc0]), Err(Stop::Fault(db)));
    }

    #[test]
    fn lmsw_cannot_leave_protected_mode() {
        let mut cpu = FakeCpu::new(Mode::Prot32);
        cpu.run(&[0x0f, 0x01, 0xf0]).unwrap();
        assert!(cpu.cr0.contains(Cr0::PE));
    }
}
