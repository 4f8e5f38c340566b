// SPDX-License-Identifier: GPL-2.0
//! The state of an x86 vCPU, for the one thread that holds it.

use crate::{
    apic,
    control::{Control, Gprs},
    cpuid::Cpuid,
    debug::Debug,
    emulate::{Batch, UnderWay},
    host,
    inject::Events,
    presence::Presence,
    pv::Pv,
    settings::Quirk,
    smm::Smm,
    tsc::Tsc,
    userspace::Completion,
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::{memory::VcpuMemory, vcpu::Held, vm::Vm, wiring::Wiring};
use kvm_emulate::{io::Replay, Table};
use kvm_irqchip::lapic::{ApicBase, LocalApic};
use kvm_policy::{
    feature::Feature as F,
    mce::{Bank, Mce, MAX_BANKS},
    msr_file::{FeatureMsrs, MsrFile, Stored},
    mtrr::Mtrrs,
};
use kvm_sys::x86::{fpu::GuestFpu, xcr::ExtendedControls};
use x86_defs::{Cr0, Cr4, Efer, Rflags, SegReg, Segment, TableReg};

/// A held x86 vCPU: what every handler gets.
pub type Cx<'a, V> = Held<'a, X86<V>>;

/// SMRAM base after power-on (SDM vol. 3, 33.11).
const SMBASE_RESET: u64 = 0x3_0000;

/// Whether a vCPU runs (`KVM_GET_MP_STATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activity {
    /// It runs.
    Runnable = 0,
    /// An application processor before its first INIT.
    Uninitialized = 1,
    /// After INIT, waiting for a start-up message.
    InitReceived = 2,
    /// In HLT.
    Halted = 3,
    /// A start-up message came.
    SipiReceived = 4,
}

impl Activity {
    /// The state with a number, if there is one.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let all = [
            Self::Runnable,
            Self::Uninitialized,
            Self::InitReceived,
            Self::Halted,
            Self::SipiReceived,
        ];
        all.into_iter().find(|activity| *activity as u32 == number)
    }
}

/// The state.
pub struct VcpuState<V: Vendor> {
    /// The control block.
    pub control: V::Control,
    /// The general registers; all sixteen are up to date outside of the guest.
    pub gprs: Gprs,
    /// What waits for delivery.
    pub events: Events,
    /// Whether it runs.
    pub activity: Activity,
    /// The local APIC, if the kernel has it.
    pub apic: Option<LocalApic>,
    /// What is kept beside it.
    pub link: apic::Link,
    /// IA32_APIC_BASE of a vCPU whose local APIC the VMM has.
    pub apic_base: ApicBase,
    /// Debug registers.
    pub debug: Debug,
    /// What userspace was asked for and has still to be taken in.
    pub completion: Completion,
    /// What it needs to touch guest memory.
    pub memory: VcpuMemory<X86<V>>,
    /// The CPUID table.
    pub cpuid: Cpuid,
    /// Floating-point and vector registers.
    pub fpu: GuestFpu,
    /// XCR0, XSS, PKRU.
    pub extended: ExtendedControls,
    /// The time-stamp counter.
    pub tsc: Tsc,
    /// MSRs that are plain storage.
    pub msrs: MsrFile,
    /// Memory-type range registers.
    pub mtrrs: Mtrrs,
    /// Machine-check registers.
    pub mce: Mce<KVec<Bank>>,
    /// What the guest uses of KVM's own features.
    pub pv: Pv,
    /// Where SMRAM is.
    pub smbase: u64,
    /// Whether it is in system-management mode.
    pub smm: Smm,
    /// What a CPU keeps of it.
    pub(crate) presence: Presence,
    /// It was in the guest at least once: its CPUID is fixed.
    pub has_run: bool,
    /// Accesses of an instruction that is being emulated.
    pub replay: Replay,
    /// The instruction, while userspace serves one of its accesses.
    pub under_way: Option<UnderWay>,
    /// Elements of its string I/O.
    pub batch: Option<Batch>,
}

impl<V: Vendor> VcpuState<V> {
    /// The state of a new vCPU, as after power-on.
    pub(crate) fn new<'a>(
        vm: &'a Vm<X86<V>>,
        id: u32,
        index: u32,
    ) -> impl Init<Self, Error> + use<'a, V> {
        let state = try_init!(Self {
            control: V::new_control(vm)?,
            gprs: [0; 16],
            events: Events::default(),
            activity: first_activity(vm, id),
            apic: apic::new(vm, id),
            link: apic::Link::default(),
            apic_base: ApicBase::reset(id == vm.arch().settings.boot_cpu()),
            debug: Debug::new(),
            completion: Completion::None,
            memory: vm.memory().vcpu(index)?,
            cpuid: Cpuid::empty()?,
            fpu: GuestFpu::new()?,
            extended: ExtendedControls::new(),
            tsc: Tsc::new(vm),
            msrs: MsrFile::new(&first_features(vm)?),
            mtrrs: Mtrrs::default(),
            mce: Mce::new(KVec::from_elem(Bank::default(), MAX_BANKS, GFP_KERNEL_ACCOUNT)?),
            pv: Pv::default(),
            smbase: SMBASE_RESET,
            smm: Smm::default(),
            presence: Presence::new(),
            has_run: false,
            replay: Replay::new(),
            under_way: None,
            batch: None,
        }? Error);
        state.chain(|state| {
            state.reset(false);
            state.control.set_tsc_offset(state.tsc.offset);
            Ok(())
        })
    }

    /// Sets the registers as after power-on or INIT (SDM vol. 3, table 10-1).
    pub fn reset(&mut self, by_init: bool) {
        self.set_cr4(Cr4::empty());
        self.set_efer(Efer::empty());
        let control = &mut self.control;
        self.gprs = [0; 16];
        // RDX: what CPUID says of the processor; before that is known, family 6.
        self.gprs[2] = self.cpuid.version().unwrap_or(0x600).into();
        control.set_rflags(Rflags::FIXED);
        let old = control.cr0();
        let kept = if by_init { old & (Cr0::CD | Cr0::NW) } else { Cr0::CD | Cr0::NW };
        control.set_cr0(Cr0::ET | kept);
        control.set_cr2(0);
        control.set_cr3(0);
        for reg in SegReg::USER {
            control.set_segment(reg, &Segment::real(0, 0));
        }
        let mut code = Segment::real(0xf000, 0);
        code.base = 0xffff_0000;
        code.typ = 0xb;
        control.set_segment(SegReg::Cs, &code);
        let mut system = Segment::real(0, 0);
        system.s = false;
        system.typ = 2;
        control.set_segment(SegReg::Ldtr, &system);
        system.typ = 0xb;
        control.set_segment(SegReg::Tr, &system);
        control.set_cpl(0);
        let table = TableReg { base: 0, limit: 0xffff };
        control.set_table(Table::Gdt, table);
        control.set_table(Table::Idt, table);
        control.set_rip(0xfff0);
        if !by_init {
            control.set_pat(self.msrs.get(Stored::Pat));
        } else {
            self.msrs.init();
        }
        control.set_spec_ctrl(0);
        control.set_virtual_spec_ctrl(0);
        control.set_shadow(kvm_emulate::Shadow::None);
        control.set_nmi_blocked(false);
        control.clear_injection();
        control.flush_tlb();
        self.events = Events { check: true, ..Events::default() };
        self.debug.reset(control);
    }

    /// The guest's PKRU.
    pub fn pkru(&self) -> u32 {
        self.extended.pkru()
    }

    /// Bits of the guest's physical addresses.
    pub fn physical_bits(&self) -> u32 {
        u32::from(self.cpuid.features.phys_bits).min(52)
    }

    /// Sets CR4 and what follows it.
    pub(crate) fn set_cr4(&mut self, cr4: Cr4) {
        self.control.set_cr4(cr4);
        self.extended.set_cr4(cr4.contains(Cr4::OSXSAVE), cr4.contains(Cr4::PKE));
    }

    /// Sets EFER and what follows it.
    pub(crate) fn set_efer(&mut self, efer: Efer) {
        self.control.set_efer(efer);
        // Without SYSCALL its MSRs don't matter.
        self.presence.msrs_changed();
    }

    /// The CPUID table is another one: what follows from it.
    pub(crate) fn cpuid_changed(&mut self) {
        // XSAVES can't be kept from a guest that has XSAVE.
        self.extended.set_xsaves(self.cpuid.has(F::XSAVE));
        self.control.set_features(&self.cpuid.features);
        self.tsc_aux_changed();
        apic::cpuid_changed(self);
        self.events.check = true;
    }

    /// TSC_AUX is another one, or whether the guest has it.
    pub(crate) fn tsc_aux_changed(&mut self) {
        let can_read = self.cpuid.has(F::RDTSCP) || self.cpuid.has(F::RDPID);
        self.presence.set_tsc_aux(can_read.then_some(self.msrs.get(Stored::TscAux)));
    }
}

/// What the feature MSRs of a new vCPU say.
///
/// # Errors
///
/// `ENODEV` while no vendor module is loaded.
fn first_features<V: Vendor>(vm: &Vm<X86<V>>) -> Result<FeatureMsrs> {
    if vm.arch().settings.has_quirk(Quirk::StuffFeatureMsrs) {
        // What the first vCPUs of old had, whatever the host's revision is; and that
        // LFENCE serializes the guest sets itself.
        let ucode_rev = if V::AMD { host::AMD_UCODE_REV } else { 1 << 32 };
        Ok(FeatureMsrs { ucode_rev, de_cfg: 0, ..host::get()?.feature_msrs })
    } else {
        Ok(FeatureMsrs::default())
    }
}

/// Without an interrupt controller in the kernel userspace starts each vCPU.
fn first_activity<V: Vendor>(vm: &Vm<X86<V>>, id: u32) -> Activity {
    if X86::<V>::has_irqchip(vm) && id != vm.arch().settings.boot_cpu() {
        Activity::Uninitialized
    } else {
        Activity::Runnable
    }
}
