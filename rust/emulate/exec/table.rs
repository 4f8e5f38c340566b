// SPDX-License-Identifier: GPL-2.0
//! Descriptor-table registers and descriptor reads.
//!
//! LGDT, LIDT, SGDT, SIDT; lookup of descriptors in the GDT and LDT; the
//! accessed and busy bits. Intel SDM volume 3 section 3.5.

use super::mem::selector_fault;
use super::Exec;
use crate::cpu::{Access, Cpu, Table};
use crate::decode::Op;
use crate::fault::Stop;
use x86_defs::{is_canonical, Cr4, Descriptor, Efer, SegReg, Selector, TableReg, Vector};

/// A descriptor and where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) desc: Descriptor,
    /// Linear address of the descriptor.
    pub(crate) addr: u64,
}

impl<C: Cpu> Exec<'_, C> {
    pub(super) fn table_family(&mut self) -> Result<(), Stop> {
        let insn = self.insn;
        let table = if matches!(insn.op, Op::Sgdt | Op::Lgdt) { Table::Gdt } else { Table::Idt };
        let base_size = if self.mode.is_long() { 8u8 } else { 4 };
        let len = usize::from(base_size).wrapping_add(2);
        let offset = self.ea();
        let mut raw = [0u8; 16];
        let part = raw.get_mut(..len).ok_or(Stop::Unsupported)?;
        if matches!(insn.op, Op::Sgdt | Op::Sidt) {
            self.check_umip()?;
            let reg = self.cpu.table(table);
            let image = u128::from(reg.base) << 16 | u128::from(reg.limit);
            let bytes = image.to_le_bytes();
            return self.write_bytes(
                insn.mem.seg,
                offset,
                bytes.get(..len).ok_or(Stop::Unsupported)?,
            );
        }
        self.require_cpl0()?;
        self.read_bytes(insn.mem.seg, offset, part)?;
        let image = u128::from_le_bytes(raw);
        let mut reg = TableReg { limit: image as u16, base: (image >> 16) as u64 };
        if insn.op_size == 2 {
            reg.base &= 0xff_ffff;
        }
        if self.mode.is_long() && !is_canonical(reg.base, self.cr4_has(Cr4::LA57)) {
            return Err(Stop::GP0);
        }
        self.cpu.set_table(table, reg);
        Ok(())
    }

    /// Whether EFER.LMA is set: 64-bit or compatibility mode.
    pub(crate) fn long_active(&self) -> bool {
        self.cpu.efer().contains(Efer::LMA)
    }

    /// Reads the descriptor of a selector that isn't null; `vector`(selector) if
    /// it lies beyond its table.
    pub(crate) fn descriptor(&mut self, sel: Selector, vector: Vector) -> Result<Found, Stop> {
        let fault = selector_fault(vector, sel.error_code());
        let (base, limit) = if sel.is_local() {
            let ldt = self.cpu.segment(SegReg::Ldtr);
            if ldt.unusable {
                return Err(fault);
            }
            (ldt.base, ldt.limit)
        } else {
            let gdt = self.cpu.table(Table::Gdt);
            (gdt.base, u32::from(gdt.limit))
        };
        let offset = u32::from(sel.offset());
        if offset.wrapping_add(7) > limit {
            return Err(fault);
        }
        let addr = self.wrap(base.wrapping_add(u64::from(offset)));
        let raw = self.read_linear(addr, 8, Access::SYSTEM)?;
        Ok(Found { desc: Descriptor(raw), addr })
    }

    /// The second half of a system descriptor in long mode, else 0.
    pub(crate) fn upper_half(&mut self, sel: Selector, found: &Found) -> Result<u64, Stop> {
        if !self.long_active() {
            return Ok(0);
        }
        let limit = if sel.is_local() {
            self.cpu.segment(SegReg::Ldtr).limit
        } else {
            u32::from(self.cpu.table(Table::Gdt).limit)
        };
        if u32::from(sel.offset()).wrapping_add(15) > limit {
            return Err(Stop::gp(sel.error_code()));
        }
        self.read_linear(self.wrap(found.addr.wrapping_add(8)), 8, Access::SYSTEM)
    }

    /// Linear addresses of tables are 32 bits wide outside long mode.
    pub(crate) fn wrap(&self, addr: u64) -> u64 {
        if self.long_active() {
            addr
        } else {
            addr & 0xffff_ffff
        }
    }

    /// Sets bits of a descriptor in memory atomically, unless they are set.
    pub(crate) fn set_descriptor_bits(&mut self, found: &mut Found, bits: u64) -> Result<(), Stop> {
        let old = found.desc.0;
        if old & bits == bits {
            return Ok(());
        }
        if !self.exchange_linear(found.addr, 8, old, old | bits, Access::SYSTEM)? {
            return Err(Stop::Retry);
        }
        found.desc = Descriptor(old | bits);
        Ok(())
    }
}
