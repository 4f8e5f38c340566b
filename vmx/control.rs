// SPDX-License-Identifier: GPL-2.0
//! A vCPU's registers, until there is a VMCS to hold them: KVM_RUN isn't offered.

use kvm_emulate::{Shadow, Table};
use kvm_sys::irq::IrqOff;
use kvm_x86::{
    control::{Control, Gprs},
    inject::Injected,
};
use x86_defs::{Cr0, Cr4, Efer, Rflags, SegReg, Segment, TableReg};

/// The registers that the VMCS will hold.
#[derive(Default)]
pub(crate) struct VmxControl {
    rip: u64,
    rflags: u64,
    segments: [Segment; 8],
    tables: [TableReg; 2],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u8,
    efer: u64,
    nmi_blocked: bool,
}

impl VmxControl {
    fn slot(&self, reg: SegReg) -> &Segment {
        let [es, cs, ss, ds, fs, gs, ldtr, tr] = &self.segments;
        match reg {
            SegReg::Es => es,
            SegReg::Cs => cs,
            SegReg::Ss => ss,
            SegReg::Ds => ds,
            SegReg::Fs => fs,
            SegReg::Gs => gs,
            SegReg::Ldtr => ldtr,
            SegReg::Tr => tr,
        }
    }
}

impl Control for VmxControl {
    fn rip(&self) -> u64 {
        self.rip
    }

    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }

    fn rflags(&self) -> Rflags {
        Rflags::from_bits_retain(self.rflags)
    }

    fn set_rflags(&mut self, rflags: Rflags) {
        self.rflags = rflags.bits();
    }

    fn segment(&self, reg: SegReg) -> Segment {
        *self.slot(reg)
    }

    fn set_segment(&mut self, reg: SegReg, segment: &Segment) {
        if let Some(slot) = self.segments.get_mut(reg as usize) {
            *slot = *segment;
        }
    }

    fn table(&self, table: Table) -> TableReg {
        let [gdt, idt] = &self.tables;
        match table {
            Table::Gdt => *gdt,
            Table::Idt => *idt,
        }
    }

    fn set_table(&mut self, table: Table, value: TableReg) {
        let [gdt, idt] = &mut self.tables;
        match table {
            Table::Gdt => *gdt = value,
            Table::Idt => *idt = value,
        }
    }

    fn cpl(&self) -> u8 {
        self.slot(SegReg::Ss).dpl
    }

    fn set_cpl(&mut self, _cpl: u8) {}

    fn cr0(&self) -> Cr0 {
        Cr0::from_bits_retain(self.cr0)
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.cr0 = cr0.bits();
    }

    fn cr2(&self) -> u64 {
        self.cr2
    }

    fn set_cr2(&mut self, cr2: u64) {
        self.cr2 = cr2;
    }

    fn cr3(&self) -> u64 {
        self.cr3
    }

    fn set_cr3(&mut self, cr3: u64) {
        self.cr3 = cr3;
    }

    fn cr4(&self) -> Cr4 {
        Cr4::from_bits_retain(self.cr4)
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.cr4 = cr4.bits();
    }

    fn efer(&self) -> Efer {
        Efer::from_bits_retain(self.efer)
    }

    fn set_efer(&mut self, efer: Efer) {
        self.efer = efer.bits();
    }

    fn dr6(&self) -> u64 {
        0
    }

    fn set_dr6(&mut self, _dr6: u64) {}

    fn dr7(&self) -> u64 {
        0x400
    }

    fn set_dr7(&mut self, _dr7: u64) {}

    fn set_pat(&mut self, _pat: u64) {}

    fn pass_msrs(&mut self, _may: &dyn Fn(u32, bool) -> bool) {}

    fn set_tables(&mut self, _root: u64) {}

    fn msr(&self, _index: u32) -> Option<u64> {
        None
    }

    fn set_msr(&mut self, _index: u32, _value: u64) -> bool {
        false
    }

    fn shadow(&self) -> Shadow {
        Shadow::None
    }

    fn set_shadow(&mut self, _shadow: Shadow) {}

    fn inject(&mut self, _event: Injected) {}

    fn clear_injection(&mut self) {}

    fn interrupted(&mut self) -> Option<Injected> {
        None
    }

    fn set_interrupt_window(&mut self, _wanted: bool) {}

    fn nmi_blocked(&self) -> bool {
        self.nmi_blocked
    }

    fn set_nmi_blocked(&mut self, blocked: bool) {
        self.nmi_blocked = blocked;
    }

    fn want_nmi_window(&mut self) {}

    fn cr8(&self) -> u8 {
        self.cr8
    }

    fn set_cr8(&mut self, cr8: u8, _exit_below: Option<u8>) {
        self.cr8 = cr8;
    }

    fn set_tsc_offset(&mut self, _offset: u64) {}

    fn flush_tlb(&mut self) {}

    fn set_debug_intercepts(&mut self, _breakpoints: bool, _registers: bool) {}

    fn set_stepping(&mut self, _on: bool) {}

    fn next_rip(&self) -> Option<u64> {
        None
    }

    fn fetched(&self) -> &[u8] {
        &[]
    }

    fn enter(&mut self, _gprs: &mut Gprs, _off: &IrqOff) {}
}
