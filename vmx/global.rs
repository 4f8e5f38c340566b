// SPDX-License-Identifier: GPL-2.0
//! What is found out once, when the module loads, and what each CPU has.

use crate::{host_state::HostState, setup};
use kernel::{
    cpu::CpuId,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{
    irq::{self, IrqOff},
    module_cell::{Filled, ModuleCell},
    percpu::PerCpu,
    preempt::PreemptOff,
    x86::{host_state::Crash, l1d::Flusher, spec_ctrl},
};
use vmx_arch::{
    caps::VmxCaps,
    config::Config,
    control::{Pin, Primary, Secondary},
    field::Slot,
};
use vmx_hw::{Vmcs, VmcsCpu};

static GLOBAL: ModuleCell<Global> = ModuleCell::new();

/// What all vCPUs share.
pub(crate) struct Global {
    /// What the processor can do.
    pub(crate) caps: VmxCaps,
    /// What control structures begin with.
    pub(crate) config: Config,
    /// The control structures that are active on each CPU.
    pub(crate) cpus: PerCpu<VmcsCpu>,
    /// What exits load, the same everywhere.
    pub(crate) host: HostState,
    /// The host itself runs on a hypervisor.
    pub(crate) nested: bool,
    /// The kernel runs with IBRS, which slows guests that don't want it.
    pub(crate) ibrs: bool,
    /// How L1 data caches are flushed.
    pub(crate) flusher: Flusher,
    /// The processor has all fields.
    checked: Atomic<bool>,
}

/// Makes it available until the result is dropped.
///
/// # Errors
///
/// `ENOMEM`; `EBUSY` if there is one.
pub(crate) fn install(caps: VmxCaps, config: Config, nested: bool) -> Result<Filled<Global>> {
    GLOBAL.fill(Global {
        caps,
        config,
        cpus: PerCpu::new(|_cpu| Ok(VmcsCpu::new()))?,
        host: HostState::read(),
        nested,
        ibrs: spec_ctrl::kernel_has_ibrs(),
        flusher: Flusher::new()?,
        checked: Atomic::new(false),
    })
}

/// What was installed.
///
/// # Errors
///
/// `ENODEV` where nothing is: not while the module is loaded.
#[inline]
pub(crate) fn get() -> Result<&'static Global> {
    GLOBAL.get().ok_or(ENODEV)
}

impl Global {
    /// VMX was turned on on this CPU, which has to be like the one that the module was
    /// loaded on.
    ///
    /// # Errors
    ///
    /// `EIO` if it isn't; those of [`Self::check_fields`].
    pub(crate) fn check_cpu(&'static self) -> Result {
        if setup::this_cpu() != Ok((self.caps, self.config)) {
            let here = CpuId::current().as_u32();
            pr_err!("CPU {}'s VMX differs from that of the others\n", here);
            return Err(EIO);
        }
        self.check_fields()
    }

    /// The first time it is found out whether VMREAD knows
    /// all fields: nobody looks for failures later on.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if a field isn't there; `ENOMEM`.
    fn check_fields(&'static self) -> Result {
        if self.checked.load(Relaxed) {
            return Ok(());
        }
        let vmcs = Vmcs::new(&self.cpus, self.config.revision)?;
        let here = PreemptOff::new();
        let loaded = vmcs.load(here.pinned());
        for slot in Slot::all().filter(|slot| self.uses(*slot)) {
            let field = slot.field();
            if !loaded.has(field) {
                pr_err!("the processor's VMCS has no field {:#x}\n", field.encoding());
                return Err(EOPNOTSUPP);
            }
        }
        self.checked.store(true, Relaxed);
        Ok(())
    }

    /// Whether a slot stands for a field that is used with the controls that there are.
    pub(crate) fn uses(&self, slot: Slot) -> bool {
        const OPTIONAL: [(Slot, Secondary); 8] = [
            (Slot::Vpid, Secondary::VPID),
            (Slot::PleGap, Secondary::PAUSE_LOOP),
            (Slot::PleWindow, Secondary::PAUSE_LOOP),
            (Slot::XssExits, Secondary::XSAVES),
            (Slot::EnclsExits, Secondary::ENCLS),
            (Slot::ApicAccess, Secondary::VIRTUALIZE_APIC),
            (Slot::PmlAddress, Secondary::PML),
            (Slot::PmlIndex, Secondary::PML),
        ];
        let is_tpr = slot == Slot::VirtualApic || slot == Slot::TprThreshold;
        let lacks_tpr = is_tpr && !self.config.has_primary(Primary::TPR_SHADOW);
        let lacks = OPTIONAL
            .iter()
            .any(|(optional, control)| *optional == slot && !self.config.has_secondary(*control));
        let lacks_timer = slot == Slot::TimerValue && !self.config.has_pin(Pin::PREEMPTION_TIMER);
        !lacks && !lacks_tpr && !lacks_timer
    }

    /// VMX is about to be turned off on this CPU.
    pub(crate) fn release_cpu(&self) {
        irq::with_irqs_off(|off| self.cpus.this(off.pinned()).clear_all(off));
    }
}

/// What a crashing kernel has to do before it turns VMX off.
pub(crate) struct OnCrash;

impl Crash for OnCrash {
    fn crash(off: &IrqOff) {
        if let Ok(global) = get() {
            global.cpus.this(off.pinned()).crash(off);
        }
    }
}
