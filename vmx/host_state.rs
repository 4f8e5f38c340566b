// SPDX-License-Identifier: GPL-2.0
//! The host's state, as exits load it (SDM vol. 3, 25.5).

use kvm_sys::{
    irq::IrqOff,
    preempt::Pinned,
    x86::{
        host_state::{self, CpuBases, KERNEL_CS, KERNEL_DS, KERNEL_TR},
        rdmsr,
        user_segments::HostSegments,
    },
};
use vmx_arch::field::Field;
use vmx_hw::Loaded;
use x86_defs::msr;

/// What is the same on all CPUs and never changes.
pub(crate) struct HostState {
    cr0: u64,
    idt: u64,
    pat: u64,
    efer: u64,
    sysenter_cs: u64,
    sysenter_eip: u64,
}

/// No CPU.
const NOWHERE: u32 = u32::MAX;
/// A CPU that there isn't.
const ELSEWHERE: u32 = u32::MAX - 1;

/// What a VMCS has of the host's state.
pub(crate) struct Written {
    /// The CPU whose bases it has.
    cpu: u32,
    cr3: u64,
    cr4: u64,
}

impl HostState {
    /// What this CPU has.
    pub(crate) fn read() -> Self {
        let value = |msr| rdmsr(msr).unwrap_or(0);
        Self {
            cr0: host_state::cr0(),
            idt: host_state::idt_base(),
            pat: value(msr::PAT),
            efer: value(msr::EFER),
            sysenter_cs: value(msr::SYSENTER_CS),
            sysenter_eip: value(msr::SYSENTER_EIP),
        }
    }

    fn write(&self, loaded: &Loaded<'_>) {
        for (field, value) in [
            (Field::HOST_CR0, self.cr0),
            (Field::HOST_CS, KERNEL_CS.into()),
            (Field::HOST_SS, KERNEL_DS.into()),
            (Field::HOST_TR, KERNEL_TR.into()),
            // The kernel does without; user mode mostly, too.
            (Field::HOST_DS, 0),
            (Field::HOST_ES, 0),
            (Field::HOST_FS, 0),
            (Field::HOST_GS, 0),
            (Field::HOST_FS_BASE, 0),
            (Field::HOST_IDTR_BASE, self.idt),
            (Field::HOST_PAT, self.pat),
            (Field::HOST_EFER, self.efer),
            (Field::HOST_SYSENTER_CS, self.sysenter_cs),
            (Field::HOST_SYSENTER_EIP, self.sysenter_eip),
        ] {
            loaded.write(field, value);
        }
    }
}

impl Written {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { cpu: NOWHERE, cr3: 0, cr4: 0 }
    }

    /// Exits are to go to another address, as if the vCPU came to another CPU.
    pub(crate) fn redirect(&mut self) {
        if self.cpu != NOWHERE {
            self.cpu = ELSEWHERE;
        }
    }

    /// The guest is to be entered on this CPU, and to exit to `exit_address`; whether it was
    /// another CPU before.
    #[inline]
    pub(crate) fn prepare(
        &mut self,
        host: &HostState,
        loaded: &Loaded<'_>,
        exit_address: impl FnOnce() -> u64,
        cpu: Pinned<'_>,
    ) -> bool {
        let here = cpu.cpu().as_u32();
        if self.cpu == here {
            return false;
        }
        if self.cpu == NOWHERE {
            host.write(loaded);
        }
        self.cpu = here;
        loaded.write(Field::HOST_RIP, exit_address());
        let bases = CpuBases::of_this_cpu(cpu);
        loaded.write(Field::HOST_TR_BASE, bases.tss);
        loaded.write(Field::HOST_GDTR_BASE, bases.gdt);
        loaded.write(Field::HOST_GS_BASE, bases.gs);
        loaded.write(Field::HOST_SYSENTER_ESP, rdmsr(msr::SYSENTER_ESP).unwrap_or(0));
        true
    }

    /// Control registers, which are the task's, and the task's segments if they are
    /// known to be others than before.
    #[inline]
    pub(crate) fn refresh(
        &mut self,
        loaded: &Loaded<'_>,
        segments: Option<HostSegments>,
        off: &IrqOff,
    ) {
        let (cr3, cr4) = (host_state::cr3(off), host_state::cr4(off));
        if cr3 != self.cr3 {
            loaded.write(Field::HOST_CR3, cr3);
            self.cr3 = cr3;
        }
        if cr4 != self.cr4 {
            loaded.write(Field::HOST_CR4, cr4);
            self.cr4 = cr4;
        }
        if let Some(segments) = segments {
            loaded.write(Field::HOST_FS, segments.fs.into());
            loaded.write(Field::HOST_GS, segments.gs.into());
            loaded.write(Field::HOST_FS_BASE, segments.fs_base);
        }
    }
}
