// SPDX-License-Identifier: GPL-2.0
//! A vCPU's VMCS as common code sees a control block; `set_up`: what it begins with; `event`: what it
//! delivers; `entry`: what comes right before an entry and right after the exit; `rare`: what few of
//! them have to do.

use crate::{
    fields::Fields,
    global::{self, Global},
    host_state::Written,
    l1d,
    msr_bitmap::MsrBitmap,
    nmi::SoftNmi,
    segments,
    setup::Vmx,
    shared::VmxShared,
    vpid::Vpid,
};
use kernel::{prelude::*, sync::Arc};
use kvm_core::vm::Vm;
use kvm_emulate::{Shadow, Table};
use kvm_paging::addr::{Gfn, Gpa};
use kvm_policy::guest_features::GuestFeatures;
use kvm_sys::{
    guest_mode,
    hw_pages::HwPages,
    irq::IrqOff,
    preempt::Pinned,
    x86::{guest_exit, host_state, user_return::UserMsr},
};
use kvm_x86::{
    apic::page,
    control::{self, Control, Gprs},
    inject::Injected,
    trace::ExitRecord,
    vendor::X86,
};
use vmx_arch::{
    config::ept_pointer,
    control::{Entry, Pin, Primary, Secondary},
    event::{Event, Interruptibility, Kind},
    exit::{Exit, Reason},
    field::Slot,
};
use vmx_hw::{Entering, ModificationLog, Vmcs, LOG_ENTRIES};
use x86_defs::{msr, Cr0, Cr4, Efer, Rflags, SegReg, Segment, TableReg, Vector};

mod entry;
mod event;
mod rare;
mod set_up;

/// Bits of CR0 that the guest changes without an exit.
const CR0_OWNED: Cr0 = Cr0::TS.union(Cr0::WP);

/// Bits of CR4 that the guest changes without an exit, as far as its processor has them.
const CR4_OWNED: Cr4 = Cr4::PVI
    .union(Cr4::DE)
    .union(Cr4::PCE)
    .union(Cr4::OSFXSR)
    .union(Cr4::OSXMMEXCPT)
    .union(Cr4::PGE)
    .union(Cr4::TSD)
    .union(Cr4::FSGSBASE);

/// With second-level paging a guest that turns its caches off would only slow itself
/// down: memory is coherent anyway.
const CACHE_OFF: Cr0 = Cr0::CD.union(Cr0::NW);

/// Exceptions that always exit: a guest could keep the processor busy with #DB and #AC
/// for ever, and #MC is the host's.
const EXCEPTIONS: u64 =
    1 << Vector::Db as u8 | 1 << Vector::Ud as u8 | 1 << Vector::Ac as u8 | 1 << Vector::Mc as u8;

/// Index of RSP among the general registers.
const RSP: usize = 4;
/// The host's TSC never gets there.
const NO_DEADLINE: u64 = u64::MAX;
/// Where the virtual-APIC page has the task priority.
const TPR: usize = 0x80;

/// The VMCS and what software keeps beside it.
pub(crate) struct VmxControl {
    pub(crate) global: &'static Global,
    pub(crate) fields: Fields,
    /// Physical address of the page where its local APIC is, if the processor is to know.
    apic_page: Option<u64>,
    written: Written,
    entering: Entering,
    msr_bitmap: MsrBitmap,
    /// The page with the task priority; no other register of it is used.
    virtual_apic: HwPages<1>,
    /// Pages that the processor found written to, if it notes that.
    log: Option<Arc<ModificationLog>>,
    vpid: Option<Vpid>,
    ept_pointer: u64,
    flush: bool,
    flush_guest: bool,
    /// Why the guest stopped; `None` if the processor refused to try.
    pub(crate) reason: Option<Reason>,
    /// The event whose delivery that interrupted.
    vectoring: Event,
    cr2: u64,
    cr4_owned: Cr4,
    /// The task priority.
    tpr: u8,
    dr6: u64,
    /// The guest accesses the debug registers without an exit.
    owns_debug: bool,
    /// STAR, LSTAR and SYSCALL_MASK; an entry loads none of them.
    syscall: [(UserMsr, u64); 3],
    cstar: u64,
    /// The guest may be made to exit when the host's TSC gets somewhere.
    has_timer: bool,
    /// Where; [`NO_DEADLINE`].
    deadline: u64,
    /// The timer's field has what is left to a deadline.
    counts_down: bool,
    /// A debugger steps through the guest: the trap flag isn't the guest's.
    debugged: bool,
    /// An entry and an exit have something to do that is seldom needed.
    rare: bool,
    /// Which NMIs are blocked, if the processor doesn't know.
    soft_nmi: SoftNmi,
    /// Entries that flushed the L1 data cache and that nobody counted yet.
    flushed: u64,
}

impl VmxControl {
    /// The VMCS of a new vCPU of `vm`.
    pub(crate) fn new(vm: &Vm<X86<Vmx>>) -> Result<Self> {
        let global = global::get()?;
        let has_vpid = global.config.has_secondary(Secondary::VPID);
        let apic_page = if global.config.has_secondary(Secondary::VIRTUALIZE_APIC) {
            page::address(vm)?
        } else {
            None
        };
        let mut control = Self {
            global,
            apic_page,
            fields: Fields::new(Vmcs::new(&global.cpus, global.config.revision)?),
            written: Written::new(),
            entering: Entering::new(),
            msr_bitmap: MsrBitmap::new()?,
            virtual_apic: HwPages::new()?,
            log: if global.config.has_secondary(Secondary::PML) {
                Some(Arc::new(ModificationLog::new()?, GFP_KERNEL_ACCOUNT)?)
            } else {
                None
            },
            vpid: if has_vpid { Vpid::take() } else { None },
            ept_pointer: pointer_to(global, vm.memory().root()),
            flush: true,
            flush_guest: false,
            reason: None,
            vectoring: Event::NONE,
            cr2: 0,
            cr4_owned: Cr4::empty(),
            tpr: 0,
            dr6: 0,
            owns_debug: false,
            syscall: [(UserMsr::Star, 0), (UserMsr::Lstar, 0), (UserMsr::SyscallMask, 0)],
            cstar: 0,
            has_timer: false,
            deadline: NO_DEADLINE,
            counts_down: false,
            debugged: false,
            rare: false,
            soft_nmi: SoftNmi::default(),
            flushed: 0,
        };
        control.set_up(&vm.arch().settings);
        control.set_up_guest();
        Ok(control)
    }

    /// What the exit qualification says.
    pub(crate) fn qualification(&self) -> u64 {
        self.fields.get(Slot::Qualification)
    }

    /// The event that exited.
    pub(crate) fn exit_event(&self) -> Event {
        Event::from_bits(self.fields.get(Slot::ExitInfo))
    }

    /// The guest physical address of the exit.
    pub(crate) fn guest_physical(&self) -> u64 {
        self.fields.get(Slot::GuestPhysical)
    }

    /// How many entries flushed the L1 data cache since this was asked last.
    pub(crate) fn take_flushed(&mut self) -> u64 {
        core::mem::take(&mut self.flushed)
    }

    /// Whether the last exit interrupted an event on its way.
    #[inline]
    pub(crate) fn has_interrupted(&self) -> bool {
        self.vectoring.get().is_some()
    }

    /// Turns a primary control on or off.
    pub(crate) fn set_primary(&mut self, control: Primary, on: bool) {
        self.fields.set_bits(Slot::Primary, control.bits().into(), on);
    }

    fn interruptibility(&self) -> Interruptibility {
        Interruptibility::from_bits_retain(self.fields.get(Slot::Interruptibility))
    }

    /// The processor knows whether the guest handles an NMI.
    fn has_virtual_nmis(&self) -> bool {
        self.global.config.has_pin(Pin::VIRTUAL_NMIS)
    }

    fn set_blocked(&mut self, what: Interruptibility, on: bool) {
        self.fields.set_bits(Slot::Interruptibility, what.bits(), on);
    }

    /// The log of modified pages is empty: the processor may fill it again.
    pub(crate) fn rewind_log(&mut self) {
        self.fields.set(Slot::PmlIndex, (LOG_ENTRIES - 1).into());
    }
}

impl Control for VmxControl {
    type Shared = VmxShared;

    const EXITS_AT_DEADLINE: bool = true;

    #[inline]
    fn rip(&self) -> u64 {
        self.fields.get(Slot::Rip)
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.fields.set(Slot::Rip, rip);
    }

    #[inline]
    fn rflags(&self) -> Rflags {
        let now = Rflags::from_bits_retain(self.fields.get(Slot::Rflags));
        if self.debugged {
            now & !Rflags::TF
        } else {
            now
        }
    }

    #[inline]
    fn set_rflags(&mut self, rflags: Rflags) {
        let rflags = if self.debugged { rflags | Rflags::TF } else { rflags };
        self.fields.set(Slot::Rflags, (rflags | Rflags::FIXED).bits());
    }

    fn segment(&self, reg: SegReg) -> Segment {
        segments::read(&self.fields, reg)
    }

    #[inline]
    fn is_64_bit_code(&self) -> bool {
        self.efer().contains(Efer::LMA) && segments::is_64_bit_code(&self.fields)
    }

    #[inline]
    fn expect_fetch(&self) {
        self.fields.read_ahead([Slot::Cr0, Slot::Cr3, Slot::Cr4, Slot::Rights1, Slot::Rights2]);
    }

    fn set_segment(&mut self, reg: SegReg, segment: &Segment) {
        segments::write(&mut self.fields, reg, segment);
    }

    fn table(&self, table: Table) -> TableReg {
        let (base, limit) = segments::table(table);
        TableReg { base: self.fields.get(base), limit: self.fields.get(limit) as u16 }
    }

    fn set_table(&mut self, table: Table, value: TableReg) {
        let (base, limit) = segments::table(table);
        self.fields.set(base, value.base);
        self.fields.set(limit, value.limit.into());
    }

    #[inline]
    fn cpl(&self) -> u8 {
        segments::cpl(&self.fields)
    }

    // It is that of SS.
    fn set_cpl(&mut self, cpl: u8) {
        segments::set_cpl(&mut self.fields, cpl);
    }

    fn cr0(&self) -> Cr0 {
        let real = Cr0::from_bits_retain(self.fields.get(Slot::Cr0));
        let shadow = Cr0::from_bits_retain(self.fields.get(Slot::Cr0Shadow));
        real & CR0_OWNED | shadow & !CR0_OWNED
    }

    fn set_cr0(&mut self, cr0: Cr0) {
        self.fields.set(Slot::Cr0Shadow, cr0.bits());
        // VMX knows no other way of x87 errors.
        self.fields.set(Slot::Cr0, (cr0 & !CACHE_OFF | Cr0::NE).bits());
    }

    fn cr2(&self) -> u64 {
        self.cr2
    }

    fn set_cr2(&mut self, cr2: u64) {
        self.cr2 = cr2;
    }

    fn cr3(&self) -> u64 {
        self.fields.get(Slot::Cr3)
    }

    fn set_cr3(&mut self, cr3: u64) {
        self.fields.set(Slot::Cr3, cr3);
    }

    fn cr4(&self) -> Cr4 {
        let real = Cr4::from_bits_retain(self.fields.get(Slot::Cr4));
        let shadow = Cr4::from_bits_retain(self.fields.get(Slot::Cr4Shadow));
        real & self.cr4_owned | shadow & !self.cr4_owned
    }

    fn set_cr4(&mut self, cr4: Cr4) {
        self.fields.set(Slot::Cr4Shadow, cr4.bits());
        // Machine checks are the host's, whatever the guest says.
        self.fields.set(Slot::Cr4, (cr4 | Cr4::VMXE | Cr4::MCE).bits());
    }

    fn efer(&self) -> Efer {
        Efer::from_bits_retain(self.fields.get(Slot::Efer))
    }

    fn set_efer(&mut self, efer: Efer) {
        self.fields.set(Slot::Efer, efer.bits());
        let is_long = efer.contains(Efer::LMA);
        self.fields.set_bits(Slot::EntryControls, Entry::LONG_MODE.bits().into(), is_long);
    }

    // As long as accesses to debug registers exit the guest never meets what is in DR6,
    // and #DB tells its causes by itself.
    fn dr6(&self) -> u64 {
        self.dr6
    }

    fn set_dr6(&mut self, dr6: u64) {
        self.dr6 = dr6;
    }

    fn dr7(&self) -> u64 {
        self.fields.get(Slot::Dr7)
    }

    fn set_dr7(&mut self, dr7: u64) {
        self.fields.set(Slot::Dr7, dr7);
    }

    fn set_pat(&mut self, pat: u64) {
        self.fields.set(Slot::Pat, pat);
    }

    fn msr(&self, shared: &VmxShared, index: u32) -> Option<u64> {
        let [(_, star), (_, lstar), (_, mask)] = self.syscall;
        Some(match index {
            msr::STAR => star,
            msr::LSTAR => lstar,
            msr::SYSCALL_MASK => mask,
            msr::CSTAR => self.cstar,
            msr::FS_BASE => self.fields.get(Slot::Base4),
            msr::GS_BASE => self.fields.get(Slot::Base5),
            msr::KERNEL_GS_BASE => shared.segments.kernel_gs_base(),
            msr::SYSENTER_CS => self.fields.get(Slot::SysenterCs),
            msr::SYSENTER_ESP => self.fields.get(Slot::SysenterEsp),
            msr::SYSENTER_EIP => self.fields.get(Slot::SysenterEip),
            msr::PAT => self.fields.get(Slot::Pat),
            msr::DEBUGCTL => 0,
            _ => return None,
        })
    }

    fn set_msr(&mut self, shared: &VmxShared, index: u32, value: u64) -> bool {
        /// Last-branch records and branch traps: guests do without.
        const IGNORED: u64 = 3;
        let [(_, star), (_, lstar), (_, mask)] = &mut self.syscall;
        match index {
            msr::STAR => *star = value,
            msr::LSTAR => *lstar = value,
            msr::SYSCALL_MASK => *mask = value,
            msr::CSTAR => self.cstar = value,
            msr::FS_BASE => self.fields.set(Slot::Base4, value),
            msr::GS_BASE => self.fields.set(Slot::Base5, value),
            msr::KERNEL_GS_BASE => shared.segments.set_kernel_gs_base(value),
            msr::SYSENTER_CS => self.fields.set(Slot::SysenterCs, value & 0xffff_ffff),
            msr::SYSENTER_ESP => self.fields.set(Slot::SysenterEsp, value),
            msr::SYSENTER_EIP => self.fields.set(Slot::SysenterEip, value),
            msr::PAT => self.set_pat(value),
            msr::DEBUGCTL => return value & !IGNORED == 0,
            _ => return false,
        }
        true
    }

    #[inline]
    fn user_msrs(&self) -> &[(UserMsr, u64)] {
        // Elsewhere SYSCALL is undefined, and what isn't loaded costs nothing.
        if self.efer().contains(Efer::SCE | Efer::LMA) {
            &self.syscall
        } else {
            &[]
        }
    }

    fn pass_msrs(&mut self, may: &dyn Fn(u32, bool) -> bool) {
        self.msr_bitmap.pass(may);
    }

    fn spec_ctrl(&self) -> u64 {
        self.entering.spec_ctrl().unwrap_or(0)
    }

    fn set_spec_ctrl(&mut self, value: u64) {
        if value != self.spec_ctrl() || self.global.ibrs {
            if !self.switches_spec_ctrl() {
                // An exit goes elsewhere.
                self.written.redirect();
            }
            self.entering.switch_spec_ctrl(value);
        }
    }

    fn switches_spec_ctrl(&self) -> bool {
        self.entering.spec_ctrl().is_some()
    }

    fn pdptrs(&self) -> Option<[u64; 4]> {
        let fields = &self.fields;
        Some([Slot::Pdpte0, Slot::Pdpte1, Slot::Pdpte2, Slot::Pdpte3].map(|slot| fields.get(slot)))
    }

    fn set_pdptrs(&mut self, pointers: [u64; 4]) {
        let [a, b, c, d] = pointers;
        self.fields.set(Slot::Pdpte0, a);
        self.fields.set(Slot::Pdpte1, b);
        self.fields.set(Slot::Pdpte2, c);
        self.fields.set(Slot::Pdpte3, d);
    }

    fn set_features(&mut self, features: &GuestFeatures) {
        let cr4 = self.cr4();
        self.cr4_owned = CR4_OWNED & !Cr4::from_bits_retain(features.cr4_reserved);
        self.fields.set(Slot::Cr4Mask, !self.cr4_owned.bits());
        self.set_cr4(cr4);
    }

    fn shadow(&self) -> Shadow {
        let blocked = self.interruptibility();
        if blocked.contains(Interruptibility::MOV_SS) {
            Shadow::MovSs
        } else if blocked.contains(Interruptibility::STI) {
            Shadow::Sti
        } else {
            Shadow::None
        }
    }

    fn set_shadow(&mut self, shadow: Shadow) {
        let kept = self.interruptibility() & !(Interruptibility::STI | Interruptibility::MOV_SS);
        let new = match shadow {
            Shadow::None => kept,
            Shadow::Sti => kept | Interruptibility::STI,
            Shadow::MovSs => kept | Interruptibility::MOV_SS,
        };
        self.fields.set(Slot::Interruptibility, new.bits());
    }

    fn inject(&mut self, event: Injected) {
        let event = self.delivery_of(event);
        self.fields.set(Slot::EntryInfo, event.bits());
    }

    fn clear_injection(&mut self) {
        self.fields.set(Slot::EntryInfo, 0);
    }

    fn injection_record(&self) -> (u32, u32) {
        let event = Event::from_bits(self.fields.get(Slot::EntryInfo));
        let code = if event.has_error_code() { self.fields.get(Slot::EntryErrorCode) } else { 0 };
        (event.bits() as u32, code as u32)
    }

    fn exit_record(&self) -> ExitRecord {
        let mut record = ExitRecord {
            reason: self.reason.map_or(u32::MAX, |reason| reason.0),
            info1: self.fields.get(Slot::Qualification),
            ..ExitRecord::default()
        };
        if self.reason.is_some_and(|reason| !reason.is_failed_entry()) {
            let event = Event::from_bits(self.fields.get(Slot::ExitInfo));
            record.info2 = self.vectoring.bits();
            record.intr_info = event.bits() as u32;
            if event.get().is_some() && event.has_error_code() {
                record.error_code = self.fields.get(Slot::ExitErrorCode) as u32;
            }
        }
        record
    }

    fn interrupted(&mut self) -> Option<Injected> {
        self.undelivered()
    }

    fn set_interrupt_window(&mut self, wanted: bool) {
        self.set_primary(Primary::INTERRUPT_WINDOW, wanted);
    }

    fn nmi_blocked(&self) -> bool {
        if self.has_virtual_nmis() {
            self.interruptibility().contains(Interruptibility::NMI)
        } else {
            self.soft_nmi.is_blocked()
        }
    }

    fn set_nmi_blocked(&mut self, blocked: bool) {
        if self.has_virtual_nmis() {
            self.set_blocked(Interruptibility::NMI, blocked);
        } else {
            self.soft_nmi.set_blocked(blocked);
            self.note_rare();
        }
    }

    fn want_nmi_window(&mut self) {
        // A processor may take the window for open after STI, where an NMI can't be
        // injected yet. Interrupts come on after the next instruction.
        if !self.has_virtual_nmis() || self.shadow() == Shadow::Sti {
            self.set_primary(Primary::INTERRUPT_WINDOW, true);
        } else {
            self.set_primary(Primary::NMI_WINDOW, true);
        }
    }

    #[inline]
    fn tpr(&self, _known: u8) -> u8 {
        self.tpr
    }

    fn set_tpr(&mut self, tpr: u8, exit_below: Option<u8>) {
        self.tpr = tpr;
        // Writes are to exit that raise it: that is a control of its own, for the threshold
        // can't be higher.
        let all = exit_below.is_some_and(|below| below > tpr >> 4);
        if self.global.config.has_primary(Primary::TPR_SHADOW) {
            if let Some(shadow) = self.virtual_apic.bytes().get_mut(TPR) {
                *shadow = tpr;
            }
            let threshold = exit_below.filter(|_| !all).unwrap_or(0);
            self.fields.set(Slot::TprThreshold, threshold.into());
            self.set_primary(Primary::CR8_LOAD, all);
        }
    }

    fn set_apic_page(&mut self, is_there: bool) {
        if self.apic_page.is_some() {
            let control = Secondary::VIRTUALIZE_APIC.bits().into();
            self.fields.set_bits(Slot::Secondary, control, is_there);
            // Translations may be known without what they mean (31.4.1).
            self.flush = true;
        }
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.fields.set(Slot::TscOffset, offset);
    }

    #[inline]
    fn set_deadline(&mut self, at: Option<u64>) -> bool {
        if self.has_timer {
            self.deadline = at.unwrap_or(NO_DEADLINE);
        }
        self.has_timer
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.deadline != NO_DEADLINE
    }

    fn flush_tlb(&mut self) {
        self.flush = true;
    }

    fn flush_guest_tlb(&mut self) {
        self.flush_guest = true;
    }

    fn pause_window(&self) -> u32 {
        self.fields.get(Slot::PleWindow) as u32
    }

    fn set_pause_window(&mut self, window: u32) {
        self.fields.set(Slot::PleWindow, window.into());
    }

    fn set_tables(&mut self, root: u64) {
        self.ept_pointer = pointer_to(self.global, root);
        self.fields.set(Slot::EptPointer, self.ept_pointer);
    }

    fn set_debug_intercepts(&mut self, breakpoints: bool, registers: bool) {
        self.fields.set_bits(Slot::ExceptionBitmap, 1 << Vector::Bp as u8, breakpoints);
        self.set_primary(Primary::MOV_DR, registers);
        self.owns_debug = !registers;
        self.note_rare();
    }

    fn set_stepping(&mut self, on: bool) {
        if on || self.debugged {
            self.fields.set_bits(Slot::Rflags, Rflags::TF.bits(), on);
        }
        self.debugged = on;
        self.note_rare();
    }

    #[inline]
    fn next_rip(&self) -> Option<u64> {
        // With a misconfiguration it isn't defined; processors have it all the same,
        // hypervisors may not.
        if self.global.nested && self.reason.map(Reason::exit) == Some(Exit::EptMisconfiguration) {
            return None;
        }
        let length = self.fields.get(Slot::InstructionLength);
        (length != 0).then(|| self.rip().wrapping_add(length))
    }

    fn fetched(&self) -> &[u8] {
        &[]
    }

    #[inline]
    fn prepare(&mut self, shared: &VmxShared, cpu: Pinned<'_>) {
        let loaded = self.fields.vmcs().load(cpu);
        let exit_address = || self.entering.exit_address();
        if self.written.prepare(&self.global.host, &loaded, exit_address, cpu) {
            // The CPU may have translations from when the vCPU was here last.
            self.flush = true;
            if l1d::is_flushing() {
                l1d::moved(cpu);
            }
            if let Some(log) = &self.log {
                // The first time it isn't known yet.
                shared.log.populate(log.clone());
            }
        }
    }

    #[inline]
    fn enter(&mut self, shared: &VmxShared, gprs: &mut Gprs, entry: control::Entry, off: &IrqOff) {
        self.flush(off);
        if self.deadline != NO_DEADLINE || self.counts_down {
            self.start_timer();
        }
        self.fields.set(Slot::Rsp, gprs[RSP]);
        if self.rare {
            self.before_rare_entry(off);
        }
        let loaded = self.fields.vmcs().load(off.pinned());
        if entry == control::Entry::First {
            self.written.refresh(&loaded, shared.segments.before_entry(off), off);
        }
        self.fields.write_back(&loaded);
        if l1d::is_flushing() {
            self.flushed = self.flushed.wrapping_add(l1d::before_entry(off).into());
        }
        let (cr2, entering) = (&mut self.cr2, &mut self.entering);
        self.reason = guest_mode::in_guest(off, || {
            if host_state::cr2(off) != *cr2 {
                host_state::set_cr2(off, *cr2);
            }
            let reason = loaded.enter(off, gprs, entering);
            *cr2 = host_state::cr2(off);
            if reason == Some(Reason(0))
                && Event::from_bits(loaded.read(Slot::ExitInfo.field())).is_nmi()
            {
                guest_exit::take_nmi(off);
            }
            reason
        });
        shared.segments.after_exit(off);
        let vectoring = entry::take_exit(&self.fields, &loaded, self.reason);
        self.exited(gprs, vectoring, off);
    }

    #[inline]
    fn take_host_event(&mut self, off: &IrqOff) {
        let Some(reason) = self.reason else { return };
        match reason.exit() {
            Exit::Interrupt => {
                if let Some((Kind::Interrupt, vector)) = self.exit_event().get() {
                    guest_exit::take_interrupt(off, vector);
                }
            }
            Exit::ExceptionOrNmi => {
                if self.exit_event().get() == Some((Kind::Exception, Vector::Mc as u8)) {
                    guest_exit::take_machine_check(off);
                }
            }
            Exit::MachineCheckOnEntry => guest_exit::take_machine_check(off),
            _ => {}
        }
    }

    fn take_notes(shared: &VmxShared, written: &mut dyn FnMut(Gfn)) {
        if let Some(log) = shared.log.as_ref() {
            log.take(&mut |address| written(Gpa::new(address).gfn()));
        }
    }

    #[inline]
    fn left(shared: &VmxShared, cpu: Pinned<'_>) {
        shared.segments.restore(cpu);
        if l1d::is_flushing() {
            l1d::moved(cpu);
        }
    }
}

/// The EPT pointer of tables with this root.
fn pointer_to(global: &Global, root: u64) -> u64 {
    let paging = &global.caps.paging;
    ept_pointer(root, paging.root.number(), paging.accessed_dirty)
}
