// SPDX-License-Identifier: GPL-2.0
//! Effective address to linear address, and memory accesses by segment.
//!
//! Intel SDM volume 3 sections 5.3 to 5.6 (limit, type), volume 1 section
//! 3.3.7.1 (canonical addresses).

use super::flags::mask;
use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::Mem;
use crate::fault::Stop;
use x86_defs::{is_canonical, Cr4, SegReg, Segment, Vector};

/// Attempts at a locked update before the guest is entered again.
pub(super) const LOCK_ATTEMPTS: u32 = 8;

impl<C: Cpu> Exec<'_, C> {
    /// The offset that the ModRM operand refers to.
    #[inline]
    pub(crate) fn ea(&self) -> u64 {
        self.ea_plus(0)
    }

    /// The same plus `bias`, truncated to the address size.
    #[inline]
    pub(crate) fn ea_plus(&self, bias: u64) -> u64 {
        let m = &self.insn.mem;
        let base = match m.base {
            Mem::NONE => 0,
            Mem::RIP => self.next,
            n => self.cpu.gpr(n),
        };
        let index = match m.index {
            Mem::NONE => 0,
            n => self.cpu.gpr(n).wrapping_shl(u32::from(m.shift)),
        };
        base.wrapping_add(index).wrapping_add(m.disp as u64).wrapping_add(bias)
            & mask(self.insn.addr_size)
    }

    /// Checks an access of `size` bytes at `seg:offset` and makes it linear.
    #[inline]
    pub(crate) fn linear(
        &self,
        seg: SegReg,
        offset: u64,
        size: u64,
        write: bool,
    ) -> Result<u64, Stop> {
        if !self.mode.is_long() {
            return self.linear_legacy(seg, offset, size, write);
        }
        let mut addr = self.cpu.untag(offset);
        if matches!(seg, SegReg::Fs | SegReg::Gs) {
            addr = self.cpu.segment_base(seg).wrapping_add(addr);
        }
        let la57 = self.cr4_has(Cr4::LA57);
        let last = addr.wrapping_add(size.saturating_sub(1));
        if is_canonical(addr, la57) && is_canonical(last, la57) {
            return Ok(addr);
        }
        Err(if seg == SegReg::Ss { Stop::SS0 } else { Stop::GP0 })
    }

    fn linear_legacy(&self, reg: SegReg, offset: u64, size: u64, write: bool) -> Result<u64, Stop> {
        let seg = self.cpu.segment(reg);
        let fault = if reg == SegReg::Ss { Stop::SS0 } else { Stop::GP0 };
        if seg.unusable {
            return Err(fault);
        }
        let allowed = if write { seg.is_writable() } else { seg.is_readable() };
        if self.mode.is_protected() && !allowed {
            return Err(Stop::GP0);
        }
        if !within_limit(&seg, offset, size) {
            return Err(fault);
        }
        Ok(seg.base.wrapping_add(offset) & 0xffff_ffff)
    }

    /// #GP(0) unless the ModRM operand is aligned to its size, even if its address isn't canonical either.
    pub(super) fn check_alignment(&self, offset: u64, size: u8) -> Result<(), Stop> {
        let seg = self.insn.mem.seg;
        let flat = self.mode.is_long() && !matches!(seg, SegReg::Fs | SegReg::Gs);
        let base = if flat { 0 } else { self.cpu.segment_base(seg) };
        if base.wrapping_add(offset) & u64::from(size).wrapping_sub(1) != 0 {
            return Err(Stop::GP0);
        }
        Ok(())
    }

    /// Reads `buf` from `seg:offset`.
    pub(crate) fn read_bytes(
        &mut self,
        seg: SegReg,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Stop> {
        let addr = self.linear(seg, offset, buf.len() as u64, false)?;
        self.cpu.read(addr, buf, Access::DATA)
    }

    /// Writes `data` to `seg:offset`.
    pub(crate) fn write_bytes(
        &mut self,
        seg: SegReg,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Stop> {
        let addr = self.linear(seg, offset, data.len() as u64, true)?;
        self.cpu.write(addr, data, Access::DATA)
    }

    /// Reads a number of `size` (1 to 8) bytes from `seg:offset`.
    #[inline]
    pub(crate) fn read_seg(&mut self, seg: SegReg, offset: u64, size: u8) -> Result<u64, Stop> {
        let addr = self.linear(seg, offset, u64::from(size), false)?;
        self.read_linear(addr, size, Access::DATA)
    }

    /// Writes a number of `size` (1 to 8) bytes to `seg:offset`.
    #[inline]
    pub(crate) fn write_seg(
        &mut self,
        seg: SegReg,
        offset: u64,
        size: u8,
        value: u64,
    ) -> Result<(), Stop> {
        let addr = self.linear(seg, offset, u64::from(size), true)?;
        self.write_linear(addr, size, value, Access::DATA)
    }

    /// Reads a number at a linear address.
    #[inline]
    pub(crate) fn read_linear(&mut self, addr: u64, size: u8, access: Access) -> Result<u64, Stop> {
        let mut buf = [0u8; 8];
        let part = buf.get_mut(..usize::from(size)).ok_or(Stop::Unsupported)?;
        self.cpu.read(addr, part, access)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Writes a number at a linear address.
    #[inline]
    pub(crate) fn write_linear(
        &mut self,
        addr: u64,
        size: u8,
        value: u64,
        access: Access,
    ) -> Result<(), Stop> {
        let bytes = value.to_le_bytes();
        let part = bytes.get(..usize::from(size)).ok_or(Stop::Unsupported)?;
        self.cpu.write(addr, part, access)
    }

    /// Compare-exchange of a number at a linear address.
    pub(crate) fn exchange_linear(
        &mut self,
        addr: u64,
        size: u8,
        old: u64,
        new: u64,
        access: Access,
    ) -> Result<bool, Stop> {
        let (old, new) = (old.to_le_bytes(), new.to_le_bytes());
        let old = old.get(..usize::from(size)).ok_or(Stop::Unsupported)?;
        let new = new.get(..usize::from(size)).ok_or(Stop::Unsupported)?;
        self.cpu.compare_exchange(addr, old, new, access)
    }

    /// Reads `f`'s argument at a linear address and writes its result back,
    /// atomically if `lock`. Returns what was read and what `f` returned beside.
    pub(crate) fn update_linear<R>(
        &mut self,
        addr: u64,
        size: u8,
        lock: bool,
        f: impl Fn(u64) -> (u64, R),
    ) -> Result<(u64, R), Stop> {
        for _ in 0..LOCK_ATTEMPTS {
            let old = self.read_linear(addr, size, Access::MODIFY)?;
            let (new, rest) = f(old);
            if !lock {
                self.write_linear(addr, size, new, Access::DATA)?;
                return Ok((old, rest));
            }
            if self.exchange_linear(addr, size, old, new, Access::DATA)? {
                return Ok((old, rest));
            }
        }
        Err(Stop::Retry)
    }
}

/// Whether `size` bytes at `offset` lie within the segment.
pub(super) fn within_limit(seg: &Segment, offset: u64, size: u64) -> bool {
    let last = offset.wrapping_add(size.saturating_sub(1));
    if last < offset {
        return false;
    }
    if seg.is_expand_down() {
        let top = if seg.db { 0xffff_ffff } else { 0xffff };
        return offset > u64::from(seg.limit) && last <= top;
    }
    last <= u64::from(seg.limit)
}

/// A selector fault.
pub(super) fn selector_fault(vector: Vector, code: u32) -> Stop {
    Stop::sel(vector, code)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use crate::fake::FakeCpu;
    use crate::{Exception, Stop};
    use x86_defs::{Mode, SegReg, Vector};

    #[test]
    fn limits_in_real_mode_push_no_error_code() {
        let mut cpu = FakeCpu::new(Mode::Real);
        cpu.map(0, 0x20000, true);
        cpu.gprs[3] = 0xffff;
        let gp = Stop::Fault(Exception::new(Vector::Gp));
        assert_eq!(cpu.run(&[0x8b, 0x07]), Err(gp));
        assert!(cpu.run(&[0x8a, 0x07]).is_ok());
    }

    #[test]
    fn expand_down_segments() {
        let mut cpu = FakeCpu::new(Mode::Prot32);
        cpu.map(0, 0x10000, true);
        let mut ds = cpu.seg(SegReg::Ds);
        (ds.typ, ds.limit) = (7, 0xfff);
        cpu.set_seg(SegReg::Ds, ds);
        assert_eq!(cpu.run(&[0xa1, 0xfc, 0x0f, 0, 0]), Err(Stop::GP0));
        assert!(cpu.run(&[0xa1, 0x00, 0x10, 0, 0]).is_ok());
    }

    #[test]
    fn locked_updates_give_up_after_contention() {
        let mut cpu = FakeCpu::new(Mode::Long64);
        cpu.map(0x1000, 0x1000, true);
        cpu.gprs[0] = 0x1000;
        cpu.contention = 3;
        cpu.run(&[0xf0, 0xff, 0x00]).unwrap();
        assert_eq!(cpu.peek(0x1000, 4), 1);
        cpu.contention = 100;
        assert_eq!(cpu.run(&[0xf0, 0xff, 0x00]), Err(Stop::Retry));
        assert_eq!(cpu.run(&[0xf0, 0x01, 0xc0]), Err(Stop::UD));
    }
}
