// SPDX-License-Identifier: GPL-2.0
//! Ioctls that only x86 has, or has with structures of its own.

use super::{io, ior, iow, iowr};
use crate::{irq, memory, vcpu, x86};

ioctls! {
    list for_each_x86_ioctl;

    /// /dev/kvm: the MSRs to save and restore.
    KVM_GET_MSR_INDEX_LIST = iowr::<x86::MsrList>(0x02);
    /// /dev/kvm: the MSRs that tell features.
    KVM_GET_MSR_FEATURE_INDEX_LIST = iowr::<x86::MsrList>(0x0a);
    /// /dev/kvm: CPUID that guests can have.
    KVM_GET_SUPPORTED_CPUID = iowr::<x86::Cpuid2>(0x05);
    /// /dev/kvm: CPUID bits that only emulation gives.
    KVM_GET_EMULATED_CPUID = iowr::<x86::Cpuid2>(0x09);
    /// /dev/kvm: machine-check features that guests can have.
    KVM_X86_GET_MCE_CAP_SUPPORTED = ior::<u64>(0x9d);

    /// VM: limit of shadow pages.
    KVM_SET_NR_MMU_PAGES = io(0x44);
    /// VM: where three pages for real mode may lie.
    KVM_SET_TSS_ADDR = io(0x47);
    /// VM: where an identity-mapping page table may lie.
    KVM_SET_IDENTITY_MAP_ADDR = iow::<u64>(0x48);
    /// VM: sets a line.
    KVM_IRQ_LINE = iow::<irq::IrqLevel>(0x61);
    /// VM: reads an interrupt controller.
    KVM_GET_IRQCHIP = iowr::<x86::Irqchip>(0x62);
    /// VM: sets an interrupt controller.
    KVM_SET_IRQCHIP = ior::<x86::Irqchip>(0x63);
    /// VM: an 8254. No argument.
    KVM_CREATE_PIT = io(0x64);
    /// VM: reads the channels of the 8254.
    KVM_GET_PIT = iowr::<x86::PitState>(0x65);
    /// VM: sets the channels of the 8254.
    KVM_SET_PIT = ior::<x86::PitState>(0x66);
    /// VM: whether missed ticks of the 8254 come later.
    KVM_REINJECT_CONTROL = io(0x71);
    /// VM: sets a line and tells what became of it.
    KVM_IRQ_LINE_STATUS = iowr::<irq::IrqLevel>(0x67);
    /// VM: collects writes of a range.
    KVM_REGISTER_COALESCED_MMIO = iow::<memory::CoalescedMmioZone>(0x67);
    /// VM: ends that.
    KVM_UNREGISTER_COALESCED_MMIO = iow::<memory::CoalescedMmioZone>(0x68);
    /// VM: an 8254 with flags.
    KVM_CREATE_PIT2 = iow::<x86::PitConfig>(0x77);
    /// VM: which vCPU boots.
    KVM_SET_BOOT_CPU_ID = io(0x78);
    /// VM: sets the guest's clock.
    KVM_SET_CLOCK = iow::<vcpu::ClockData>(0x7b);
    /// VM: reads the guest's clock.
    KVM_GET_CLOCK = ior::<vcpu::ClockData>(0x7c);
    /// VM: reads the 8254.
    KVM_GET_PIT2 = ior::<x86::PitState2>(0x9f);
    /// VM: sets the 8254.
    KVM_SET_PIT2 = iow::<x86::PitState2>(0xa0);
    /// VM: sends a message-signalled interrupt.
    KVM_SIGNAL_MSI = iow::<irq::Msi>(0xa5);

    /// vCPU: reads the general registers.
    KVM_GET_REGS = ior::<x86::Regs>(0x81);
    /// vCPU: sets the general registers.
    KVM_SET_REGS = iow::<x86::Regs>(0x82);
    /// vCPU: reads segments and control registers.
    KVM_GET_SREGS = ior::<x86::Sregs>(0x83);
    /// vCPU: sets segments and control registers.
    KVM_SET_SREGS = iow::<x86::Sregs>(0x84);
    /// vCPU: queues an external interrupt.
    KVM_INTERRUPT = iow::<vcpu::Interrupt>(0x86);
    /// vCPU and /dev/kvm: reads MSRs.
    KVM_GET_MSRS = iowr::<x86::Msrs>(0x88);
    /// vCPU: sets MSRs.
    KVM_SET_MSRS = iow::<x86::Msrs>(0x89);
    /// vCPU: reads x87 and SSE registers.
    KVM_GET_FPU = ior::<x86::Fpu>(0x8c);
    /// vCPU: sets x87 and SSE registers.
    KVM_SET_FPU = iow::<x86::Fpu>(0x8d);
    /// vCPU: reads the local APIC.
    KVM_GET_LAPIC = ior::<x86::LapicState>(0x8e);
    /// vCPU: sets the local APIC.
    KVM_SET_LAPIC = iow::<x86::LapicState>(0x8f);
    /// Has accesses to the TPR reported.
    KVM_TPR_ACCESS_REPORTING = iowr::<x86::TprAccessCtl>(0x92);
    /// Names the word of task priorities.
    KVM_SET_VAPIC_ADDR = iow::<x86::VapicAddr>(0x93);
    /// vCPU: sets CPUID.
    KVM_SET_CPUID2 = iow::<x86::Cpuid2>(0x90);
    /// vCPU: reads CPUID.
    KVM_GET_CPUID2 = iowr::<x86::Cpuid2>(0x91);
    /// vCPU: queues an NMI. No argument.
    KVM_NMI = io(0x9a);
    /// vCPU: debugs the guest.
    KVM_SET_GUEST_DEBUG = iow::<x86::GuestDebug>(0x9b);
    /// vCPU: machine-check banks and features.
    KVM_X86_SETUP_MCE = iow::<u64>(0x9c);
    /// vCPU: injects a machine check.
    KVM_X86_SET_MCE = iow::<x86::X86Mce>(0x9e);
    /// vCPU: reads what waits for delivery.
    KVM_GET_VCPU_EVENTS = ior::<x86::VcpuEvents>(0x9f);
    /// vCPU: sets what waits for delivery.
    KVM_SET_VCPU_EVENTS = iow::<x86::VcpuEvents>(0xa0);
    /// vCPU: reads debug registers.
    KVM_GET_DEBUGREGS = ior::<x86::Debugregs>(0xa1);
    /// vCPU: sets debug registers.
    KVM_SET_DEBUGREGS = iow::<x86::Debugregs>(0xa2);
    /// vCPU and VM: sets the TSC's frequency, in kHz.
    KVM_SET_TSC_KHZ = io(0xa2);
    /// vCPU and VM: reads the TSC's frequency, in kHz. No argument.
    KVM_GET_TSC_KHZ = io(0xa3);
    /// vCPU: reads the XSAVE area's first 4 KiB.
    KVM_GET_XSAVE = ior::<x86::Xsave>(0xa4);
    /// vCPU: sets the XSAVE area.
    KVM_SET_XSAVE = iow::<x86::Xsave>(0xa5);
    /// vCPU: reads extended control registers.
    KVM_GET_XCRS = ior::<x86::Xcrs>(0xa6);
    /// vCPU: sets extended control registers.
    KVM_SET_XCRS = iow::<x86::Xcrs>(0xa7);
    /// vCPU: tells the guest that its clock stood still. No argument.
    KVM_KVMCLOCK_CTRL = io(0xad);
    /// vCPU: queues an SMI. No argument.
    KVM_SMI = io(0xb7);
    /// VM: which MSRs the guest may access. The structure has holes: a word with flags,
    /// then 16 times three words: flags and number of MSRs, the first one, and the
    /// address of a bitmap.
    KVM_X86_SET_MSR_FILTER = iow::<[u64; 49]>(0xc6);
    /// vCPU: reads segments and control registers with PDPTRs.
    KVM_GET_SREGS2 = ior::<x86::Sregs2>(0xcc);
    /// vCPU: sets them.
    KVM_SET_SREGS2 = iow::<x86::Sregs2>(0xcd);
    /// vCPU: reads the whole XSAVE area.
    KVM_GET_XSAVE2 = ior::<x86::Xsave>(0xcf);
}

/// [`KVM_X86_SET_MSR_FILTER`] of a 32-bit program, whose structure has no holes: a word of
/// 32 bits with flags, then 16 times four: flags, number of MSRs, the first one, and the
/// address of a bitmap.
pub const KVM_X86_SET_MSR_FILTER_COMPAT: u32 = iow::<[u32; 65]>(0xc6);
