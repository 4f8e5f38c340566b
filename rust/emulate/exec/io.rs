// SPDX-License-Identifier: GPL-2.0
//! IN, OUT and the I/O permission check.
//!
//! Intel SDM volume 1 section 19.5, volume 3 section 8.2.1.

use super::Exec;
use crate::cpu::{Access, Cpu};
use crate::decode::{Op, Operand};
use crate::fault::Stop;
use x86_defs::{tss, Mode, SegReg};

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn port_io(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        // A quadword port access does not exist.
        let size = insn.op_size.min(4);
        let port_operand = if insn.op == Op::In { insn.src } else { insn.dst };
        let port = match port_operand {
            Operand::Imm => (insn.imm & 0xff) as u16,
            _ => self.reg(2, 2) as u16,
        };
        self.check_port(port, size)?;
        if insn.op == Op::In {
            let value = self.cpu.port_in(port, size)?;
            self.set_reg(0, size, u64::from(value));
        } else {
            let value = self.reg(0, size) as u32;
            self.cpu.port_out(port, size, value)?;
        }
        Ok(())
    }

    /// #GP(0) unless IOPL or the TSS permits `size` bytes at `port`.
    pub(super) fn check_port(&mut self, port: u16, size: u8) -> Result<(), Stop> {
        let by_bitmap = match self.mode {
            Mode::Real => false,
            Mode::Vm86 => true,
            _ => self.cpu.cpl() > self.cpu.rflags().iopl(),
        };
        if by_bitmap && !self.port_in_bitmap(port, size)? {
            return Err(Stop::GP0);
        }
        Ok(())
    }

    fn port_in_bitmap(&mut self, port: u16, size: u8) -> Result<bool, Stop> {
        let tr = self.cpu.segment(SegReg::Tr);
        // Only 32- and 64-bit TSSes have a bitmap.
        if tr.unusable
            || !tr.present
            || tr.typ & 0xd != 9
            || tr.limit < u32::from(tss::tss32::SIZE).wrapping_sub(1)
        {
            return Ok(false);
        }
        let at = tr.base.wrapping_add(u64::from(tss::tss32::IO_MAP));
        let map = self.read_linear(at, 2, Access::SYSTEM)?;
        let byte = map.wrapping_add(u64::from(port >> 3));
        // Two bytes are read always: an access may straddle them.
        if byte.wrapping_add(1) > u64::from(tr.limit) {
            return Ok(false);
        }
        let bits = self.read_linear(tr.base.wrapping_add(byte), 2, Access::SYSTEM)?;
        let wanted = 1u64.wrapping_shl(u32::from(size)).wrapping_sub(1);
        Ok(bits.wrapping_shr(u32::from(port & 7)) & wanted == 0)
    }
}
