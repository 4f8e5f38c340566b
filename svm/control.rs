// SPDX-License-Identifier: GPL-2.0
//! A vCPU's control block, and how the processor is told of changes; `event`: what it delivers.
//!
//! Every setter that touches a field which the processor may keep between runs
//! clears the field's clean bit (APM vol. 2, 15.15).

use crate::{
    cpu,
    global::{self, Global},
    params,
    setup::Svm,
};
use kernel::prelude::*;
use kvm_core::vm::Vm;
use kvm_emulate::{Shadow, Table};
use kvm_sys::{guest_mode, hw_pages::HwPages, irq::IrqOff, kick, x86::spec_ctrl};
use kvm_x86::{
    control::{Control, Entry, Gprs},
    inject::Injected,
    settings::{no_exit, Quirk},
    speculation,
    trace::ExitRecord,
    vendor::X86,
};
use svm_arch::{
    caps::SvmFeatures,
    event::Event,
    exit::Exit,
    intercept::{msrpm_position, Intercept, Intercepts},
    vmcb::{self, Clean, TlbControl, VirtualInterrupts, Vmcb},
};
use svm_hw::{GlobalInterrupts, VmcbPage};
use x86_defs::{msr, Cr0, Cr4, Efer, Rflags, SegReg, Segment, TableReg};

mod event;

/// Where NMIs stand (APM vol. 2, 15.20 knows no blocking by itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NmiState {
    /// They can be taken.
    Open,
    /// The guest handles one; its IRET exits.
    Blocked,
    /// IRET exited and is about to be executed at this address.
    Returning(u64),
}

/// The control block and what software keeps beside it.
pub(crate) struct SvmControl {
    global: &'static Global,
    vmcb: VmcbPage,
    /// The MSR permission map; nobody but the processor reads it.
    msrpm: HwPages<2>,
    /// Which address space identifier of which CPU the block has.
    asid: cpu::AsidOwner,
    flush: bool,
    /// CR0 and CR4 as the guest would see them.
    cr0: Cr0,
    cr4: Cr4,
    efer: Efer,
    /// Page-directory pointers that were set; a guest that runs has those in memory.
    pdptrs: Option<[u64; 4]>,
    pub(crate) nmi: NmiState,
    /// Single-stepping to an NMI window, on top of the guest's own RFLAGS.
    pub(crate) stepping: Option<Rflags>,
    /// A debugger steps through the guest: the trap flag isn't the guest's.
    debugged: bool,
    /// A software event on its way: RIP and length of the instruction.
    soft: Option<Soft>,
    /// CR0.CD and CR0.NW are the guest's.
    caches_by_guest: bool,
    /// SPEC_CTRL, if software has to switch it.
    spec_ctrl: Option<u64>,
    /// VIRT_SPEC_CTRL; 0 where nothing has to be done for it.
    virtual_spec_ctrl: u64,
}

/// An instruction whose event was injected.
#[derive(Clone, Copy)]
struct Soft {
    rip: u64,
    length: u8,
}

/// Exit codes that always exit; others are added as they are needed.
const ALWAYS: [u8; 30] = [
    0x60, // INTR
    0x61, // NMI
    0x62, // SMI
    0x63, // INIT
    0x65, // CR0, other than TS and MP
    0x6f, // RDPMC
    0x72, // CPUID
    0x73, // RSM
    0x76, // INVD
    0x78, // HLT
    0x7a, // INVLPGA
    0x7b, // IN, OUT
    0x7c, // RDMSR, WRMSR
    0x7d, // task switch
    0x7e, // FERR
    0x7f, // shutdown
    0x80, // VMRUN
    0x81, // VMMCALL
    0x82, // VMLOAD
    0x83, // VMSAVE
    0x84, // STGI
    0x85, // CLGI
    0x86, // SKINIT
    0x89, // WBINVD
    0x8a, // MONITOR
    0x8b, // MWAIT
    0x8c, // MWAIT, armed
    0x8d, // XSETBV
    0x8e, // RDPRU
    0x77, // PAUSE
];

/// Exceptions that always exit: a guest could keep the processor busy with #DB
/// and #AC for ever, and #MC is the host's.
const EXCEPTIONS: [u8; 4] = [1, 6, 17, 18];

/// MSRs that the guest reads and writes without an exit: VMLOAD and VMSAVE, or
/// VMRUN itself, keep them apart from the host's.
const PASSED: [u32; 13] = [
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS.base
    0xc000_0101, // GS.base
    0xc000_0102, // KernelGSBase
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    // Later, if at all.
    msr::SPEC_CTRL,
    msr::PRED_CMD,
    msr::FLUSH_CMD,
];

impl SvmControl {
    /// The block of a new vCPU of `vm`.
    pub(crate) fn new(vm: &Vm<X86<Svm>>) -> Result<Self> {
        let global = global::get()?;
        let mut control = Self {
            global,
            vmcb: VmcbPage::new()?,
            msrpm: HwPages::new()?,
            asid: cpu::AsidOwner::new(),
            flush: true,
            cr0: Cr0::empty(),
            cr4: Cr4::empty(),
            efer: Efer::empty(),
            pdptrs: None,
            nmi: NmiState::Open,
            stepping: None,
            debugged: false,
            soft: None,
            caches_by_guest: !vm.arch().settings.has_quirk(Quirk::CdNwCleared),
            spec_ctrl: None,
            virtual_spec_ctrl: 0,
        };
        control.msrpm.bytes().fill(0xff);
        control.pass_msrs(&|msr, _| !speculation::is_one(msr));
        let msrpm = control.msrpm.physical();
        let vmcb = &mut *control.vmcb;
        let mut intercepts = Intercepts::default();
        for code in ALWAYS {
            if let Some(intercept) = Intercept::by_code(code) {
                intercepts.set(intercept, true);
            }
        }
        let settings = &vm.arch().settings;
        for (what, code) in [
            (no_exit::HLT, 0x78),
            (no_exit::MWAIT, 0x8a),
            (no_exit::MWAIT, 0x8b),
            (no_exit::MWAIT, 0x8c),
        ] {
            if let Some(intercept) = Intercept::by_code(code) {
                intercepts.set(intercept, !settings.lets_through(what));
            }
        }
        if let Some(pause) = Intercept::by_code(0x77) {
            // Each PAUSE would exit where nothing tells loops from others.
            let wanted = params::PAUSE_FILTER_COUNT.get() != 0
                && params::PAUSE_FILTER_THRESH.get() != 0
                && !settings.lets_through(no_exit::PAUSE);
            intercepts.set(pause, wanted);
        }
        for vector in EXCEPTIONS {
            intercepts.set(Intercept::exception(vector), true);
        }
        for number in 0..8 {
            intercepts.set(Intercept::read_dr(number), true);
            intercepts.set(Intercept::write_dr(number), true);
        }
        intercepts.set(Intercept::write_cr(4), true);
        vmcb.control.intercepts = intercepts.0;
        vmcb.control.iopm_base = global.iopm.physical();
        vmcb.control.msrpm_base = msrpm;
        vmcb.control.virtual_interrupts = VirtualInterrupts::MASKING.bits();
        vmcb.control.nested_control = 1;
        vmcb.control.nested_cr3 = vm.memory().root();
        vmcb.control.pause_filter_count = params::PAUSE_FILTER_COUNT.get() as u16;
        vmcb.control.pause_filter_threshold = params::PAUSE_FILTER_THRESH.get() as u16;
        Ok(control)
    }

    /// Whether accesses to an MSR exit.
    fn intercept_msr(&mut self, msr: u32, read: bool, write: bool) {
        if let Some((byte, bit)) = msrpm_position(msr) {
            if let Some(byte) = self.msrpm.bytes().get_mut(byte) {
                let bits = u8::from(read) | u8::from(write) << 1;
                *byte = *byte & !(0b11u8.wrapping_shl(bit.into())) | bits.wrapping_shl(bit.into());
            }
        }
    }

    /// The block.
    pub(crate) fn vmcb(&self) -> &Vmcb {
        &self.vmcb
    }

    /// Why the guest stopped.
    pub(crate) fn exit(&self) -> Exit {
        Exit::from_code(self.vmcb.control.exit_code)
    }

    /// Turns an intercept on or off.
    pub(crate) fn intercept(&mut self, intercept: Intercept, on: bool) {
        let mut intercepts = Intercepts(self.vmcb.control.intercepts);
        if intercepts.contains(intercept) != on {
            intercepts.set(intercept, on);
            self.vmcb.control.intercepts = intercepts.0;
            self.changed(Clean::INTERCEPTS);
        }
    }

    /// The processor has to load these fields again.
    fn changed(&mut self, fields: Clean) {
        self.vmcb.control.clean &= !fields.bits();
    }

    fn segment_ref(&self, reg: SegReg) -> &vmcb::Segment {
        let save = &self.vmcb.save;
        match reg {
            SegReg::Es => &save.es,
            SegReg::Cs => &save.cs,
            SegReg::Ss => &save.ss,
            SegReg::Ds => &save.ds,
            SegReg::Fs => &save.fs,
            SegReg::Gs => &save.gs,
            SegReg::Ldtr => &save.ldtr,
            SegReg::Tr => &save.tr,
        }
    }

    fn segment_mut(&mut self, reg: SegReg) -> &mut vmcb::Segment {
        let save = &mut self.vmcb.save;
        match reg {
            SegReg::Es => &mut save.es,
            SegReg::Cs => &mut save.cs,
            SegReg::Ss => &mut save.ss,
            SegReg::Ds => &mut save.ds,
            SegReg::Fs => &mut save.fs,
            SegReg::Gs => &mut save.gs,
            SegReg::Ldtr => &mut save.ldtr,
            SegReg::Tr => &mut save.tr,
        }
    }

    fn set_virtual(&mut self, bits: VirtualInterrupts, on: bool) {
        let old = self.vmcb.control.virtual_interrupts;
        let new = if on { old | bits.bits() } else { old & !bits.bits() };
        if new != old {
            self.vmcb.control.virtual_interrupts = new;
            self.changed(Clean::VIRTUAL_INTERRUPTS);
        }
    }

    /// Ends single-stepping to an NMI window.
    pub(crate) fn stop_stepping(&mut self) {
        if let Some(rflags) = self.stepping.take() {
            let now = Rflags::from_bits_retain(self.vmcb.save.rflags);
            let ours = (Rflags::TF | Rflags::RF) & !rflags;
            self.vmcb.save.rflags = (now & !ours).bits();
        }
    }

    /// Address space identifier and flushes of this entry.
    #[inline]
    fn prepare_tlb(&mut self, cpu: &cpu::CpuState, off: &IrqOff) {
        let asid = self.asid.on_this_cpu(self.global, cpu, off.pinned(), self.flush);
        self.flush = false;
        if asid.number != self.vmcb.control.asid {
            self.vmcb.control.asid = asid.number;
            self.changed(Clean::ASID);
        }
        if asid.is_new_cpu {
            // The processor keeps nothing of this block.
            self.vmcb.control.clean = 0;
        }
        self.vmcb.control.tlb_control = asid.flush as u8;
    }
}

impl Control for SvmControl {
    type Shared = ();

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcb.save.rip
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcb.save.rip = rip;
    }

    #[inline]
    fn rflags(&self) -> Rflags {
        let mut now = Rflags::from_bits_retain(self.vmcb.save.rflags);
        now.set(Rflags::TF, now.contains(Rflags::TF) && !self.debugged);
        match self.stepping {
            // What we set to step isn't the guest's.
            Some(own) => now & !((Rflags::TF | Rflags::RF) & !own),
            None => now,
        }
    }

    #[inline]
    fn set_rflags(&mut self, rflags: Rflags) {
        let rflags = if self.debugged { rflags | Rflags::TF } else { rflags };
        if self.stepping.is_some() {
            self.stepping = Some(rflags);
            self.vmcb.save.rflags = (rflags | Rflags::TF | Rflags::RF).bits();
        } else {
            self.vmcb.save.rflags = (rflags | Rflags::FIXED).bits();
        }
    }

    fn segment(&self, reg: SegReg) -> Segment {
        let from = self.segment_ref(reg);
        let mut segment = Segment {
            base: from.base,
            limit: from.limit,
            selector: from.selector,
            ..Segment::default()
        };
        segment.set_svm_attrib(from.attributes);
        match reg {
            // The privilege level counts, wherever SS came from.
            SegReg::Ss => segment.dpl = self.vmcb.save.cpl,
            // A task register is always in use; some processors forget its bit.
            SegReg::Tr => segment.typ |= 2,
            _ => {}
        }
        segment
    }

    fn set_segment(&mut self, reg: SegReg, segment: &Segment) {
        *self.segment_mut(reg) = vmcb::Segment {
            selector: segment.selector,
            attributes: segment.svm_attrib(),
            limit: segment.limit,
            base: segment.base,
        };
        if reg == SegReg::Ss {
            self.vmcb.save.cpl = segment.dpl;
        }
        self.changed(Clean::SEGMENTS);
    }

    fn table(&self, table: Table) -> TableReg {
        let from = match table {
            Table::Gdt => &self.vmcb.save.gdtr,
            Table::Idt => &self.vmcb.save.idtr,
        };
        TableReg { base: from.base, limit: from.limit as u16 }
    }

    fn set_table(&mut self, table: Table, value: TableReg) {
        let to = match table {
            Table::Gdt => &mut self.vmcb.save.gdtr,
            Table::Idt => &mut self.vmcb.save.idtr,
        };
        to.base = value.base;
        to.limit = value.limit.into();
        self.changed(Clean::DESCRIPTOR_TABLES);
    }

    #[inline]
    fn cpl(&self) -> u8 {
        self.vmcb.save.cpl
    }

    fn set_cpl(&mut self, cpl: u8) {
        self.vmcb.save.cpl = cpl;
        self.changed(Clean::SEGMENTS);
    }

    fn cr0(&self) -> Cr0 {
        if self.hides_cr0() {
            self.cr0
        } else {
            Cr0::from_bits_retain(self.vmcb.save.cr0)
        }
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.cr0 = cr0;
        self.vmcb.save.cr0 = (cr0 & !self.cleared_in_cr0()).bits();
        self.changed(Clean::CONTROL_REGISTERS);
        let hides = self.hides_cr0();
        self.intercept(Intercept::read_cr(0), hides);
        self.intercept(Intercept::write_cr(0), hides);
    }

    fn cr2(&self) -> u64 {
        self.vmcb.save.cr2
    }

    fn set_cr2(&mut self, cr2: u64) {
        self.vmcb.save.cr2 = cr2;
        self.changed(Clean::CR2);
    }

    fn cr3(&self) -> u64 {
        self.vmcb.save.cr3
    }

    fn set_cr3(&mut self, cr3: u64) {
        self.vmcb.save.cr3 = cr3;
        self.changed(Clean::CONTROL_REGISTERS);
    }

    fn cr4(&self) -> Cr4 {
        self.cr4
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.cr4 = cr4;
        // Machine checks are the host's, whatever the guest says.
        let real = cr4 | Cr4::MCE;
        self.vmcb.save.cr4 = real.bits();
        self.changed(Clean::CONTROL_REGISTERS);
        self.intercept(Intercept::read_cr(4), real != cr4);
    }

    fn efer(&self) -> Efer {
        self.efer
    }

    fn set_efer(&mut self, efer: Efer) {
        self.efer = efer;
        self.vmcb.save.efer = (efer | Efer::SVME).bits();
        self.changed(Clean::CONTROL_REGISTERS);
    }

    fn dr6(&self) -> u64 {
        self.vmcb.save.dr6
    }

    fn set_dr6(&mut self, dr6: u64) {
        if self.vmcb.save.dr6 != dr6 {
            self.vmcb.save.dr6 = dr6;
            self.changed(Clean::DEBUG_REGISTERS);
        }
    }

    fn dr7(&self) -> u64 {
        self.vmcb.save.dr7
    }

    fn set_dr7(&mut self, dr7: u64) {
        if self.vmcb.save.dr7 != dr7 {
            self.vmcb.save.dr7 = dr7;
            self.changed(Clean::DEBUG_REGISTERS);
        }
    }

    fn set_pat(&mut self, pat: u64) {
        self.vmcb.save.pat = pat;
        self.changed(Clean::NESTED_PAGING);
    }

    fn msr(&self, _shared: &(), index: u32) -> Option<u64> {
        let save = &self.vmcb.save;
        Some(match index {
            0xc000_0081 => save.star,
            0xc000_0082 => save.lstar,
            0xc000_0083 => save.cstar,
            0xc000_0084 => save.sfmask,
            0xc000_0100 => save.fs.base,
            0xc000_0101 => save.gs.base,
            0xc000_0102 => save.kernel_gs_base,
            0x174 => save.sysenter_cs,
            0x175 => save.sysenter_esp,
            0x176 => save.sysenter_eip,
            0x277 => save.pat,
            _ => return None,
        })
    }

    fn set_msr(&mut self, _shared: &(), index: u32, value: u64) -> bool {
        let save = &mut self.vmcb.save;
        let slot = match index {
            0xc000_0081 => &mut save.star,
            0xc000_0082 => &mut save.lstar,
            0xc000_0083 => &mut save.cstar,
            0xc000_0084 => &mut save.sfmask,
            0xc000_0100 => &mut save.fs.base,
            0xc000_0101 => &mut save.gs.base,
            0xc000_0102 => &mut save.kernel_gs_base,
            0x174 => &mut save.sysenter_cs,
            // These processors have 32 bits of them.
            0x175 => {
                save.sysenter_esp = value & 0xffff_ffff;
                return true;
            }
            0x176 => {
                save.sysenter_eip = value & 0xffff_ffff;
                return true;
            }
            0x277 => {
                self.set_pat(value);
                return true;
            }
            _ => return false,
        };
        *slot = value;
        true
    }

    fn pass_msrs(&mut self, may: &dyn Fn(u32, bool) -> bool) {
        for msr in PASSED {
            self.intercept_msr(msr, !may(msr, false), !may(msr, true));
        }
        self.changed(Clean::PERMISSION_MAPS);
    }

    fn set_caches_by_guest(&mut self, by_guest: bool) {
        self.caches_by_guest = by_guest;
        self.set_cr0(self.cr0);
    }

    fn spec_ctrl(&self) -> u64 {
        if self.global.switches_spec_ctrl {
            self.vmcb.save.spec_control
        } else {
            self.spec_ctrl.unwrap_or(0)
        }
    }

    fn set_spec_ctrl(&mut self, value: u64) {
        if self.global.switches_spec_ctrl {
            self.vmcb.save.spec_control = value;
        } else if value != self.spec_ctrl() {
            self.spec_ctrl = Some(value);
        }
    }

    fn switches_spec_ctrl(&self) -> bool {
        self.global.switches_spec_ctrl || self.spec_ctrl.is_some()
    }

    fn set_virtual_spec_ctrl(&mut self, value: u64) {
        if spec_ctrl::needs_virtual_ssbd() {
            self.virtual_spec_ctrl = value;
        }
    }

    fn pdptrs(&self) -> Option<[u64; 4]> {
        self.pdptrs
    }

    fn set_pdptrs(&mut self, pointers: [u64; 4]) {
        self.pdptrs = Some(pointers);
    }

    fn shadow(&self) -> Shadow {
        // One bit for both kinds.
        if self.vmcb.control.interrupt_shadow & 1 != 0 {
            Shadow::Sti
        } else {
            Shadow::None
        }
    }

    fn set_shadow(&mut self, shadow: Shadow) {
        let bit = u64::from(shadow != Shadow::None);
        self.vmcb.control.interrupt_shadow = self.vmcb.control.interrupt_shadow & !1 | bit;
    }

    fn inject(&mut self, event: Injected) {
        self.vmcb.control.event_injection = self.delivery_of(event);
    }

    fn clear_injection(&mut self) {
        self.vmcb.control.event_injection = Event::NONE;
    }

    fn injection_record(&self) -> (u32, u32) {
        let event = self.vmcb.control.event_injection;
        (event.bits() as u32, event.error_code().unwrap_or(0))
    }

    fn exit_record(&self) -> ExitRecord {
        let block = &self.vmcb.control;
        ExitRecord {
            reason: block.exit_code as u32,
            info1: block.exit_info_1,
            info2: block.exit_info_2,
            intr_info: block.exit_int_info.bits() as u32,
            error_code: block.exit_int_info.error_code().unwrap_or(0),
        }
    }

    fn interrupted(&mut self) -> Option<Injected> {
        self.undelivered()
    }

    fn set_interrupt_window(&mut self, wanted: bool) {
        // A virtual interrupt that the guest can take as soon as RFLAGS.IF and
        // its shadow let it: its vector doesn't matter, for it exits.
        if let Some(window) = Intercept::by_code(0x64) {
            self.intercept(window, wanted);
        }
        self.set_virtual(VirtualInterrupts::IRQ | VirtualInterrupts::IGNORE_TPR, wanted);
    }

    fn nmi_blocked(&self) -> bool {
        self.nmi != NmiState::Open
    }

    fn set_nmi_blocked(&mut self, blocked: bool) {
        self.nmi = if blocked { NmiState::Blocked } else { NmiState::Open };
        if let Some(iret) = Intercept::by_code(0x74) {
            self.intercept(iret, blocked);
        }
    }

    fn want_nmi_window(&mut self) {
        // Blocked: IRET exits. Otherwise a shadow, an event on its way or IRET
        // itself is in the way for one instruction: step over it.
        if self.nmi != NmiState::Blocked && self.stepping.is_none() {
            let own = self.rflags();
            self.stepping = Some(own);
            self.vmcb.save.rflags = (own | Rflags::TF | Rflags::RF).bits();
        }
    }

    #[inline]
    fn tpr(&self, known: u8) -> u8 {
        // V_TPR has but the upper half.
        let class = (self.vmcb.control.virtual_interrupts & 0xf) as u8;
        if class == known >> 4 {
            known
        } else {
            class << 4
        }
    }

    fn set_tpr(&mut self, tpr: u8, exit_below: Option<u8>) {
        let old = self.vmcb.control.virtual_interrupts;
        let new = old & !0xff | u64::from(tpr >> 4);
        if old != new {
            self.vmcb.control.virtual_interrupts = new;
            self.changed(Clean::VIRTUAL_INTERRUPTS);
        }
        self.intercept(Intercept::write_cr(8), exit_below.is_some());
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        if self.vmcb.control.tsc_offset != offset {
            self.vmcb.control.tsc_offset = offset;
            self.changed(Clean::INTERCEPTS);
        }
    }

    fn pause_window(&self) -> u32 {
        self.vmcb.control.pause_filter_count.into()
    }

    fn set_pause_window(&mut self, window: u32) {
        let count = u16::try_from(window).unwrap_or(u16::MAX);
        if self.vmcb.control.pause_filter_count != count {
            self.vmcb.control.pause_filter_count = count;
            self.changed(Clean::INTERCEPTS);
        }
    }

    fn set_tables(&mut self, root: u64) {
        self.vmcb.control.nested_cr3 = root;
        self.changed(Clean::NESTED_PAGING);
    }

    fn flush_tlb(&mut self) {
        self.flush = true;
    }

    fn set_debug_intercepts(&mut self, breakpoints: bool, registers: bool) {
        self.intercept(Intercept::exception(3), breakpoints);
        for number in 0..8 {
            self.intercept(Intercept::read_dr(number), registers);
            self.intercept(Intercept::write_dr(number), registers);
        }
    }

    fn set_stepping(&mut self, on: bool) {
        if on {
            self.vmcb.save.rflags |= Rflags::TF.bits();
        } else if self.debugged {
            self.vmcb.save.rflags &= !Rflags::TF.bits();
        }
        self.debugged = on;
    }

    fn next_rip(&self) -> Option<u64> {
        let has_it = self.global.caps.features.contains(SvmFeatures::NRIP_SAVE);
        let next = self.vmcb.control.next_rip;
        (has_it && next != 0).then_some(next)
    }

    fn fetched(&self) -> &[u8] {
        if !self.global.caps.features.contains(SvmFeatures::DECODE_ASSISTS) {
            return &[];
        }
        let control = &self.vmcb.control;
        control.instruction.get(..usize::from(control.fetched & 0xf)).unwrap_or(&[])
    }

    #[inline]
    fn enter(&mut self, _shared: &(), gprs: &mut Gprs, entry: Entry, off: &IrqOff) {
        let cpu = self.global.cpus.this(off.pinned());
        self.pdptrs = None;
        self.vmcb.save.rax = gprs[RAX];
        self.vmcb.save.rsp = gprs[RSP];
        if self.stepping.is_some() && self.vmcb.control.event_injection != Event::NONE {
            // The guest must not find our trap flag on its stack: the event goes
            // first, and the step begins at its handler.
            self.stop_stepping();
            kick::interrupt_this_cpu(off);
        }
        if entry == Entry::First {
            self.prepare_tlb(cpu, off);
            cpu.host.save(off);
        } else {
            // What the last entry flushed, if anything, stays so.
            self.vmcb.control.tlb_control = TlbControl::Nothing as u8;
        }
        {
            let no_interrupts = GlobalInterrupts::off(off);
            let vmcb = &mut self.vmcb;
            if self.virtual_spec_ctrl != 0 {
                spec_ctrl::set_guest_ssbd(off, self.virtual_spec_ctrl);
            }
            let spec_ctrl = &mut self.spec_ctrl;
            guest_mode::in_guest(off, || match spec_ctrl {
                None => svm_hw::enter(&no_interrupts, vmcb, gprs, &cpu.host),
                Some(value) => {
                    svm_hw::enter_switching(&no_interrupts, vmcb, gprs, &cpu.host, value);
                }
            });
            if self.virtual_spec_ctrl != 0 {
                spec_ctrl::restore_host_ssbd(off, self.virtual_spec_ctrl);
            }
        }
        gprs[RAX] = self.vmcb.save.rax;
        gprs[RSP] = self.vmcb.save.rsp;
        self.vmcb.control.event_injection = Event::NONE;
        self.vmcb.control.clean = Clean::all().bits();
    }
}

/// Indices of the registers that the block holds.
const RAX: usize = 0;
const RSP: usize = 4;

/// With nested paging a guest that turns its caches off only slows itself down: memory is
/// coherent anyway ([`Quirk::CdNwCleared`]).
const CACHE_OFF: Cr0 = Cr0::CD.union(Cr0::NW);

impl SvmControl {
    /// Whether the guest runs with another CR0 than it sees.
    fn hides_cr0(&self) -> bool {
        self.cr0.intersects(self.cleared_in_cr0())
    }

    /// What the processor isn't to know of the guest's CR0.
    fn cleared_in_cr0(&self) -> Cr0 {
        if self.caches_by_guest {
            Cr0::empty()
        } else {
            CACHE_OFF
        }
    }
}
