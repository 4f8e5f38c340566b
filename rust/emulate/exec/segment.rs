// SPDX-License-Identifier: GPL-2.0
//! Segment registers: loads with all checks, and the selector instructions.
//!
//! MOV and POP of segment registers, LDS to LGS, LLDT, LTR, SLDT, STR, ARPL,
//! VERR, VERW, LAR, LSL. Intel SDM volume 3 sections 5.5 to 5.9 and volume 2
//! under each instruction.

use super::flags::{when, ZF};
use super::mem::selector_fault;
use super::Exec;
use crate::cpu::Cpu;
use crate::decode::Op;
use crate::fault::{Shadow, Stop};
use x86_defs::{Descriptor, Mode, SegReg, Segment, Selector, SystemType, Vector};

/// What a segment is loaded for: decides the vector of failed checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadKind {
    /// MOV, POP, Lxx, or the stack of a return: #GP.
    Plain,
    /// A task switch or the stack of an inner privilege level: #TS.
    Task,
}

impl LoadKind {
    const fn vector(self) -> Vector {
        match self {
            Self::Plain => Vector::Gp,
            Self::Task => Vector::Ts,
        }
    }
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn segment_family(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        match insn.op {
            Op::MovFromSeg => {
                let selector = self.load(insn.src)?;
                self.store(insn.dst, selector)
            }
            Op::MovToSeg => {
                let selector = self.load(insn.src)? as u16;
                let crate::decode::Operand::Seg(reg) = insn.dst else { return Err(Stop::UD) };
                self.load_data_segment(reg, selector)?;
                if reg == SegReg::Ss {
                    self.done.shadow = Shadow::MovSs;
                }
                Ok(())
            }
            Op::LoadFar => self.load_far(),
            Op::Sldt | Op::Str => {
                self.check_umip()?;
                let reg = if insn.op == Op::Sldt { SegReg::Ldtr } else { SegReg::Tr };
                let selector = u64::from(self.cpu.segment(reg).selector);
                self.store(insn.dst, selector)
            }
            Op::Lldt => {
                self.require_cpl0()?;
                let selector = Selector(self.load(insn.src)? as u16);
                let seg = self.ldt_segment(selector, LoadKind::Plain)?;
                self.cpu.set_segment(SegReg::Ldtr, &seg);
                Ok(())
            }
            _ => self.ltr(),
        }
    }

    fn load_far(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let reg = match insn.opcode {
            0xc4 => SegReg::Es,
            0xc5 => SegReg::Ds,
            0xb2 => SegReg::Ss,
            0xb4 => SegReg::Fs,
            _ => SegReg::Gs,
        };
        let (offset, selector) = self.far_pointer()?;
        self.load_data_segment(reg, selector)?;
        self.store_reg(insn.dst, offset)
    }

    /// Loads ES, SS, DS, FS or GS with the checks of the current mode.
    pub(super) fn load_data_segment(&mut self, reg: SegReg, selector: u16) -> Result<(), Stop> {
        let seg = self.data_segment(reg, Selector(selector), self.cpu.cpl(), LoadKind::Plain)?;
        self.cpu.set_segment(reg, &seg);
        Ok(())
    }

    /// What `reg` would hold after a load of `sel` at privilege `cpl`.
    pub(crate) fn data_segment(
        &mut self,
        reg: SegReg,
        sel: Selector,
        cpl: u8,
        kind: LoadKind,
    ) -> Result<Segment, Stop> {
        match self.mode {
            // Real mode replaces only selector and base: a larger limit stays.
            Mode::Real => {
                let old = self.cpu.segment(reg);
                return Ok(Segment {
                    selector: sel.0,
                    base: u64::from(sel.0) << 4,
                    unusable: false,
                    ..old
                });
            }
            Mode::Vm86 => return Ok(Segment::real(sel.0, 3)),
            _ => {}
        }
        if sel.is_null() {
            return self.null_segment(reg, sel, cpl, kind);
        }
        let code = sel.error_code();
        let mut found = self.descriptor(sel, kind.vector())?;
        let seg = found.desc.to_segment(sel, 0);
        let allowed = if reg == SegReg::Ss {
            sel.rpl() == cpl && seg.dpl == cpl && seg.is_writable()
        } else {
            seg.s && seg.is_readable() && (seg.is_conforming() || seg.dpl >= sel.rpl().max(cpl))
        };
        if !allowed {
            return Err(selector_fault(kind.vector(), code));
        }
        if !seg.present {
            let vector = if reg == SegReg::Ss { Vector::Ss } else { Vector::Np };
            return Err(selector_fault(vector, code));
        }
        self.set_descriptor_bits(&mut found, Descriptor::ACCESSED)?;
        Ok(found.desc.to_segment(sel, 0))
    }

    /// SS may be null only in 64-bit mode below CPL 3.
    fn null_segment(
        &self,
        reg: SegReg,
        sel: Selector,
        cpl: u8,
        kind: LoadKind,
    ) -> Result<Segment, Stop> {
        let mut seg = Segment::null(sel.0);
        if reg == SegReg::Ss {
            if !self.mode.is_long() || cpl == 3 || sel.rpl() != cpl {
                return Err(selector_fault(kind.vector(), sel.error_code()));
            }
            seg.dpl = cpl;
        }
        Ok(seg)
    }

    /// What LDTR would hold after a load of `sel`.
    pub(crate) fn ldt_segment(&mut self, sel: Selector, kind: LoadKind) -> Result<Segment, Stop> {
        if sel.is_null() {
            return Ok(Segment::null(sel.0));
        }
        let fault = selector_fault(kind.vector(), sel.error_code());
        if sel.is_local() {
            return Err(fault);
        }
        let found = self.descriptor(sel, kind.vector())?;
        if found.desc.s() || found.desc.system_type() != SystemType::Ldt {
            return Err(fault);
        }
        if !found.desc.present() {
            let vector = if kind == LoadKind::Task { Vector::Ts } else { Vector::Np };
            return Err(selector_fault(vector, sel.error_code()));
        }
        let high = self.upper_half(sel, &found)?;
        Ok(found.desc.to_segment(sel, high))
    }

    fn ltr(&mut self) -> Result<(), Stop> {
        self.require_cpl0()?;
        let sel = Selector(self.load(self.insn.src)? as u16);
        if sel.is_null() {
            return Err(Stop::GP0);
        }
        let fault = Stop::gp(sel.error_code());
        if sel.is_local() {
            return Err(fault);
        }
        let mut found = self.descriptor(sel, Vector::Gp)?;
        let available = match found.desc.system_type() {
            SystemType::Tss32 => true,
            SystemType::Tss16 => !self.long_active(),
            _ => false,
        };
        if found.desc.s() || !available {
            return Err(fault);
        }
        if !found.desc.present() {
            return Err(selector_fault(Vector::Np, sel.error_code()));
        }
        let high = self.upper_half(sel, &found)?;
        self.set_descriptor_bits(&mut found, Descriptor::BUSY)?;
        let seg = found.desc.to_segment(sel, high);
        self.cpu.set_segment(SegReg::Tr, &seg);
        Ok(())
    }

    pub(super) fn selector_family(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        if insn.op == Op::Arpl {
            // Memory is written, and checked for it, only if it changes.
            let (old, rpl) = (self.load(insn.dst)?, self.load(insn.src)? & 3);
            let raised = old & 3 < rpl;
            if raised {
                self.store(insn.dst, old & !3 | rpl)?;
            }
            self.set_zero(raised);
            return Ok(());
        }
        let sel = Selector(self.load(insn.src)? as u16);
        let result = self.inspect(sel)?;
        if let (Some(value), Op::Lar | Op::Lsl) = (result, insn.op) {
            self.store_reg(insn.dst, value)?;
        }
        self.set_zero(result.is_some());
        Ok(())
    }

    fn set_zero(&mut self, zero: bool) {
        let flags = self.flags();
        self.set_flags(flags & !ZF | when(zero, ZF));
    }

    /// What VERR, VERW, LAR and LSL see of a selector, `None` if it isn't accessible.
    fn inspect(&mut self, sel: Selector) -> Result<Option<u64>, Stop> {
        if sel.is_null() {
            return Ok(None);
        }
        let found = match self.descriptor(sel, Vector::Gp) {
            Ok(found) => found,
            Err(Stop::Fault(e)) if e.vector == Vector::Gp => return Ok(None),
            Err(stop) => return Err(stop),
        };
        let seg = found.desc.to_segment(sel, 0);
        let visible = seg.is_conforming() || seg.dpl >= sel.rpl().max(self.cpu.cpl());
        let op = self.insn.op;
        let valid = match op {
            Op::Verr => seg.s && seg.is_readable(),
            Op::Verw => seg.is_writable(),
            _ => seg.s || valid_system(found.desc.system_type(), op == Op::Lar, self.long_active()),
        };
        if !visible || !valid {
            return Ok(None);
        }
        Ok(Some(if op == Op::Lsl {
            u64::from(seg.limit)
        } else {
            found.desc.0 >> 32 & 0x00ff_ff00
        }))
    }
}

/// System types that LAR (with gates) and LSL (without) accept.
fn valid_system(typ: SystemType, gates: bool, long: bool) -> bool {
    match typ {
        SystemType::Ldt | SystemType::Tss32 | SystemType::Tss32Busy => true,
        SystemType::Tss16 | SystemType::Tss16Busy => !long,
        SystemType::CallGate32 => gates,
        SystemType::CallGate16 | SystemType::TaskGate => gates && !long,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::fake::FakeCpu;

    fn cpu() -> FakeCpu {
        let mut cpu = FakeCpu::new(Mode::Prot32);
        cpu.map(0x1000, 0x1000, true);
        cpu.gdt = x86_defs::TableReg { base: 0x1000, limit: 0x3f };
        let descs = [
            0u64,
            0x00cf_9a00_0000_ffff, // code
            0x00cf_9200_0000_ffff, // data, not accessed
            0x00cf_1200_0000_ffff, // data, not present
            0x0000_8200_0000_00ff, // LDT
            0x0000_8900_0000_0067, // TSS
            0x00cf_9000_0000_ffff, // read-only data
            0x00cf_9800_0000_ffff, // execute-only code
        ];
        for (n, desc) in descs.into_iter().enumerate() {
            cpu.poke(0x1000 + 8 * n as u64, &desc.to_le_bytes());
        }
        cpu
    }

    /// MOV `reg`, AX.
    fn load(cpu: &mut FakeCpu, reg: SegReg, sel: u16) -> Result<crate::Completed, Stop> {
        cpu.gprs[0] = u64::from(sel);
        cpu.run(&[0x8e, 0xc0 | (reg as u8) << 3])
    }

    #[test]
    fn loads_set_the_accessed_bit_and_the_shadow() {
        let mut cpu = cpu();
        assert_eq!(load(&mut cpu, SegReg::Ss, 0x10).unwrap().shadow, Shadow::MovSs);
        assert_eq!(cpu.peek(0x1015, 1), 0x93);
        assert!(cpu.seg(SegReg::Ss).is_writable());
    }

    #[test]
    fn checks_and_vectors() {
        let mut cpu = cpu();
        assert_eq!(load(&mut cpu, SegReg::Ss, 0), Err(Stop::GP0));
        assert_eq!(load(&mut cpu, SegReg::Ss, 0x11), Err(Stop::gp(0x10)));
        assert_eq!(load(&mut cpu, SegReg::Ss, 0x18), Err(Stop::sel(Vector::Ss, 0x18)));
        assert_eq!(load(&mut cpu, SegReg::Ss, 0x30), Err(Stop::gp(0x30)));
        assert_eq!(load(&mut cpu, SegReg::Ds, 0x18), Err(Stop::sel(Vector::Np, 0x18)));
        assert_eq!(load(&mut cpu, SegReg::Ds, 0x38), Err(Stop::gp(0x38)));
        assert_eq!(load(&mut cpu, SegReg::Ds, 0x40), Err(Stop::gp(0x40)));
        assert_eq!(load(&mut cpu, SegReg::Ds, 0x24), Err(Stop::gp(0x24)));
        load(&mut cpu, SegReg::Ds, 3).unwrap();
        assert!(cpu.seg(SegReg::Ds).unusable);
        assert_eq!(cpu.run(&[0xa1, 0, 0x10, 0, 0]), Err(Stop::GP0));
    }

    #[test]
    fn real_mode_keeps_the_limit() {
        let mut cpu = FakeCpu::new(Mode::Real);
        let big = Segment { limit: u32::MAX, ..cpu.seg(SegReg::Ds) };
        cpu.set_seg(SegReg::Ds, big);
        load(&mut cpu, SegReg::Ds, 0x1234).unwrap();
        assert_eq!((cpu.seg(SegReg::Ds).base, cpu.seg(SegReg::Ds).limit), (0x12340, u32::MAX));
    }

    #[test]
    fn system_registers() {
        let mut cpu = cpu();
        cpu.gprs[0] = 0x28;
        cpu.run(&[0x0f, 0x00, 0xd8]).unwrap();
        assert_eq!((cpu.seg(SegReg::Tr).selector, cpu.peek(0x102d, 1)), (0x28, 0x8b));
        assert_eq!(cpu.run(&[0x0f, 0x00, 0xd8]), Err(Stop::gp(0x28)));
        cpu.gprs[0] = 0x20;
        cpu.run(&[0x0f, 0x00, 0xd0]).unwrap();
        assert_eq!((cpu.seg(SegReg::Ldtr).selector, cpu.seg(SegReg::Ldtr).limit), (0x20, 0xff));
        cpu.cpl = 3;
        assert_eq!(cpu.run(&[0x0f, 0x00, 0xd0]), Err(Stop::GP0));
    }

    #[test]
    fn verification_instructions() {
        let mut cpu = cpu();
        for (bytes, sel, zero) in [
            ([0x0f, 0x00, 0xe0], 0x10, true),
            ([0x0f, 0x00, 0xe8], 0x30, false),
            ([0x0f, 0x00, 0xe0], 0x38, false),
            ([0x0f, 0x03, 0xd8], 0x28, true),
            ([0x0f, 0x02, 0xd8], 0x08, true),
        ] {
            cpu.gprs[0] = sel;
            cpu.run(&bytes).unwrap();
            assert_eq!(cpu.rflags.bits() & ZF != 0, zero, "{bytes:x?} of {sel:x}");
        }
        assert_eq!(cpu.gprs[3], 0x00cf_9a00);
    }
}
