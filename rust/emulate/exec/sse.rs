// SPDX-License-Identifier: GPL-2.0
//! Moves of SSE, AVX and MMX registers.
//!
//! Legacy encodings leave the upper half of the YMM register, VEX encodings
//! clear it. Intel SDM volume 1 section 14.1, volume 3 section 2.5 for the
//! enabling bits.

use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Operand};
use crate::fault::Stop;
use x86_defs::{Cr0, Cr4, Xcr0};

type Vector = [u64; 4];

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn sse(&mut self) -> Result<(), Stop> {
        self.check_enabled()?;
        let insn = self.insn;
        match insn.op {
            Op::MmxMov | Op::MmxFromGpr | Op::MmxToGpr => self.mmx(),
            Op::VecMov | Op::VecMovAligned => {
                let aligned = insn.op == Op::VecMovAligned;
                let value = self.load_vector(insn.src, aligned)?;
                self.store_vector(insn.dst, value, aligned)
            }
            Op::VecScalar => self.scalar(),
            Op::VecLow | Op::VecHigh => self.half(),
            Op::VecFromGpr => {
                let value = self.load(insn.src)?;
                self.store_vector(insn.dst, [value, 0, 0, 0], false)
            }
            Op::VecToGpr => {
                let value = self.load_vector(insn.src, false)?;
                self.store(insn.dst, first(value))
            }
            _ => self.duplicate(),
        }
    }

    /// #UD or #NM unless the operating system enabled the registers; #MF from MMX
    /// instructions if an x87 exception is pending.
    fn check_enabled(&mut self) -> Result<(), Stop> {
        let mmx = matches!(self.insn.op, Op::MmxMov | Op::MmxFromGpr | Op::MmxToGpr);
        if self.insn.prefixes.vex.present {
            let avx = Xcr0::SSE.bits() | Xcr0::YMM.bits();
            if !self.cr4_has(Cr4::OSXSAVE) || self.cpu.xcr(0)? & avx != avx {
                return Err(Stop::UD);
            }
        } else if self.cr0_has(Cr0::EM) || !mmx && !self.cr4_has(Cr4::OSFXSR) {
            return Err(Stop::UD);
        }
        if self.cr0_has(Cr0::TS) {
            return Err(Stop::NM);
        }
        if mmx {
            self.check_x87()?;
        }
        Ok(())
    }

    /// #MF if an x87 exception is pending (SDM volume 1 section 8.7).
    pub(super) fn check_x87(&mut self) -> Result<(), Stop> {
        const SUMMARY: u16 = 1 << 7;
        match self.cpu.fpu_words().status & SUMMARY {
            0 => Ok(()),
            _ => Err(Stop::MF),
        }
    }

    /// The bytes of an operand, zero-extended.
    fn load_vector(&mut self, op: Operand, aligned: bool) -> Result<Vector, Stop> {
        match op {
            Operand::Xmm { n, size } => Ok(truncate(self.cpu.ymm(n), size)),
            Operand::Mem { size } => {
                let offset = self.ea();
                if aligned {
                    self.check_alignment(offset, size)?;
                }
                let addr = self.linear(self.insn.mem.seg, offset, u64::from(size), false)?;
                let mut buf = [0u8; 32];
                self.cpu.read(
                    addr,
                    buf.get_mut(..usize::from(size)).ok_or(Stop::Unsupported)?,
                    Access::DATA,
                )?;
                Ok(from_bytes(&buf))
            }
            _ => Err(Stop::Unsupported),
        }
    }

    /// Stores to memory, or to a register with what lies above cleared up to
    /// 128 bits (or to the end with VEX).
    fn store_vector(&mut self, op: Operand, value: Vector, aligned: bool) -> Result<(), Stop> {
        match op {
            Operand::Xmm { n, size } => {
                let value = truncate(value, size);
                self.set_vector(n, value);
                Ok(())
            }
            Operand::Mem { size } => {
                let offset = self.ea();
                if aligned {
                    self.check_alignment(offset, size)?;
                }
                let addr = self.linear(self.insn.mem.seg, offset, u64::from(size), true)?;
                let bytes = to_bytes(value);
                self.cpu.write(
                    addr,
                    bytes.get(..usize::from(size)).ok_or(Stop::Unsupported)?,
                    Access::DATA,
                )
            }
            _ => Err(Stop::Unsupported),
        }
    }

    fn set_vector(&mut self, n: u8, value: Vector) {
        let [a, b, ..] = value;
        if self.insn.prefixes.vex.present {
            self.cpu.set_ymm(n, value);
        } else {
            self.cpu.set_xmm(n, [a, b]);
        }
    }

    /// The register that three-operand forms merge into.
    fn merge_source(&mut self, dst: u8) -> Vector {
        match self.insn.src2 {
            Operand::Xmm { n, .. } if self.insn.prefixes.vex.present => self.cpu.ymm(n),
            _ => self.cpu.ymm(dst),
        }
    }

    /// MOVSS, MOVSD: between registers the rest of the destination stays.
    fn scalar(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        if insn.has_mem() && insn.prefixes.vex.present && !insn.prefixes.vex.no_vvvv {
            return Err(Stop::UD);
        }
        let value = self.load_vector(insn.src, false)?;
        match (insn.dst, insn.src) {
            (Operand::Xmm { n, size }, Operand::Xmm { .. }) => {
                let [low, high, ..] = self.merge_source(n);
                let new = first(value);
                let low = if size == 4 { low & !0xffff_ffff | new & 0xffff_ffff } else { new };
                self.set_vector(n, [low, high, 0, 0]);
                Ok(())
            }
            _ => self.store_vector(insn.dst, value, false),
        }
    }

    /// MOVLPS, MOVHPS, MOVHLPS, MOVLHPS.
    fn half(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let low_half = insn.op == Op::VecLow;
        if let (Operand::Mem { .. }, Operand::Xmm { n, .. }) = (insn.dst, insn.src) {
            let [low, high, ..] = self.cpu.ymm(n);
            return self.store_vector(
                insn.dst,
                [if low_half { low } else { high }, 0, 0, 0],
                false,
            );
        }
        let Operand::Xmm { n: dst, .. } = insn.dst else { return Err(Stop::Unsupported) };
        // Between registers, the other half of the source is taken.
        let new = match insn.src {
            Operand::Xmm { n, .. } if low_half => {
                let [_, high, ..] = self.cpu.ymm(n);
                high
            }
            src => first(self.load_vector(src, false)?),
        };
        let [low, high, ..] = self.merge_source(dst);
        self.set_vector(dst, if low_half { [new, high, 0, 0] } else { [low, new, 0, 0] });
        Ok(())
    }

    /// MOVSLDUP, MOVSHDUP, MOVDDUP.
    fn duplicate(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        // The 128-bit operand of the legacy forms must be aligned.
        let aligned = insn.op != Op::VecDup64 && !insn.prefixes.vex.present;
        let v = self.load_vector(insn.src, aligned)?;
        let [a, _, c, _] = v;
        let v = match insn.op {
            Op::VecDupEven => v.map(|q| q & 0xffff_ffff | q << 32),
            Op::VecDupOdd => v.map(|q| q >> 32 | q & !0xffff_ffff),
            _ => [a, a, c, c],
        };
        self.store_vector(insn.dst, v, false)
    }

    fn mmx(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let value = match insn.src {
            Operand::Mm(n) => self.cpu.mm(n),
            src => self.load(src)?,
        };
        match insn.dst {
            Operand::Mm(n) => self.cpu.set_mm(n, value),
            dst => self.store(dst, value)?,
        }
        Ok(())
    }
}

fn first(v: Vector) -> u64 {
    let [low, ..] = v;
    low
}

/// Keeps the low `size` bytes.
fn truncate(v: Vector, size: u8) -> Vector {
    let [a, b, c, d] = v;
    match size {
        4 => [a & 0xffff_ffff, 0, 0, 0],
        8 => [a, 0, 0, 0],
        16 => [a, b, 0, 0],
        _ => [a, b, c, d],
    }
}

fn from_bytes(bytes: &[u8; 32]) -> Vector {
    let mut v = [0u64; 4];
    for (q, chunk) in v.iter_mut().zip(bytes.chunks_exact(8)) {
        *q = chunk.iter().rev().fold(0, |acc, b| acc << 8 | u64::from(*b));
    }
    v
}

fn to_bytes(v: Vector) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for (q, chunk) in v.iter().zip(bytes.chunks_exact_mut(8)) {
        for (out, byte) in chunk.iter_mut().zip(q.to_le_bytes()) {
            *out = byte;
        }
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::fake::FakeCpu;
    use x86_defs::Mode;

    const FLDCW: &[u8] = &[0xd9, 0x2c, 0x25, 0, 0x10, 0, 0];
    const FNSTSW: &[u8] = &[0xdf, 0xe0];
    const MOVQ_TO_MM: &[u8] = &[0x48, 0x0f, 0x6e, 0xd8];

    #[test]
    fn pending_x87_exceptions_come_first() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        cpu.map(0x1000, 0x1000, true);
        cpu.fpu.status = 0x3881;
        for insn in [FLDCW, MOVQ_TO_MM] {
            assert_eq!(cpu.run(insn), Err(Stop::MF));
        }
        cpu.run(FNSTSW).unwrap();
        assert_eq!(cpu.gpr(0) & 0xffff, 0x3881);
        cpu.fpu.status = 0x3801;
        cpu.run(MOVQ_TO_MM).unwrap();
        assert_eq!(cpu.mm[3] & 0xffff, 0x3881);
    }

    #[test]
    fn legacy_encodings_leave_what_lies_above() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        for n in 0..4 {
            cpu.ymm[n] = [1, 2, 3, 4].map(|word| word + 4 * (n as u64 & 1));
        }
        // MOVAPS XMM0, XMM1; VMOVAPS XMM2, XMM3.
        cpu.run(&[0x0f, 0x28, 0xc1]).unwrap();
        assert_eq!(cpu.ymm[0], [5, 6, 3, 4]);
        cpu.run(&[0xc5, 0xf8, 0x28, 0xd3]).unwrap();
        assert_eq!(cpu.ymm[2], [5, 6, 0, 0]);
    }
}
