// SPDX-License-Identifier: GPL-2.0
//! The ioctls by number, and how they are made.
//!
//! Numbers and structures come from the crate `kvm-bindings`, which was made from the kernel's headers:
//! what the modules' own ABI crate says is not believed here but tested.

#![allow(missing_docs, reason = "requests are named as in the ABI, without KVM_")]

use std::fs::File;

use kvm_bindings as abi;
use nix::errno::Errno;

pub use crate::device::{exchange, ioctl as call, ioctl_with as give, make};

/// An ioctl that takes a number or nothing.
const fn number(nr: u32) -> u32 {
    0xae00 | nr
}

const fn write<T>(nr: u32) -> u32 {
    number(nr) | 1 << 30 | (size_of::<T>() as u32) << 16
}

const fn read<T>(nr: u32) -> u32 {
    number(nr) | 2 << 30 | (size_of::<T>() as u32) << 16
}

const fn both<T>(nr: u32) -> u32 {
    number(nr) | 3 << 30 | (size_of::<T>() as u32) << 16
}

/// The head of a list: two words. The entries behind it are not part of the number.
type Head = [u32; 2];

macro_rules! requests {
    ($($name:ident = $value:expr;)*) => { $(pub const $name: u32 = $value;)* };
}

requests! {
    CREATE_VM = number(0x01);
    GET_MSR_INDEX_LIST = both::<u32>(0x02);
    CHECK_EXTENSION = number(0x03);
    GET_VCPU_MMAP_SIZE = number(0x04);
    GET_SUPPORTED_CPUID = both::<Head>(0x05);

    CREATE_VCPU = number(0x41);
    GET_DIRTY_LOG = write::<abi::kvm_dirty_log>(0x42);
    SET_USER_MEMORY_REGION = write::<abi::kvm_userspace_memory_region>(0x46);
    SET_TSS_ADDR = number(0x47);
    CREATE_IRQCHIP = number(0x60);
    IRQ_LINE = write::<abi::kvm_irq_level>(0x61);
    GET_IRQCHIP = both::<abi::kvm_irqchip>(0x62);
    SET_IRQCHIP = read::<abi::kvm_irqchip>(0x63);
    IRQ_LINE_STATUS = both::<abi::kvm_irq_level>(0x67);
    REGISTER_COALESCED_MMIO = write::<abi::kvm_coalesced_mmio_zone>(0x67);
    UNREGISTER_COALESCED_MMIO = write::<abi::kvm_coalesced_mmio_zone>(0x68);
    SET_GSI_ROUTING = write::<Head>(0x6a);
    REINJECT_CONTROL = number(0x71);
    SET_USER_MEMORY_REGION2 = write::<abi::kvm_userspace_memory_region2>(0x49);
    CREATE_GUEST_MEMFD = both::<abi::kvm_create_guest_memfd>(0xd4);
    IRQFD = write::<abi::kvm_irqfd>(0x76);
    CREATE_PIT2 = write::<abi::kvm_pit_config>(0x77);
    IOEVENTFD = write::<abi::kvm_ioeventfd>(0x79);
    SET_CLOCK = write::<abi::kvm_clock_data>(0x7b);
    GET_CLOCK = read::<abi::kvm_clock_data>(0x7c);
    GET_PIT2 = read::<abi::kvm_pit_state2>(0x9f);
    SET_PIT2 = write::<abi::kvm_pit_state2>(0xa0);
    SET_TSC_KHZ = number(0xa2);
    GET_TSC_KHZ = number(0xa3);
    ENABLE_CAP = write::<abi::kvm_enable_cap>(0xa3);
    SIGNAL_MSI = write::<abi::kvm_msi>(0xa5);
    RESET_DIRTY_RINGS = number(0xc7);
    CLEAR_DIRTY_LOG = both::<abi::kvm_clear_dirty_log>(0xc0);

    // With holes: a word, and 16 times three.
    X86_SET_MSR_FILTER = write::<[u64; 49]>(0xc6);

    RUN = number(0x80);
    GET_REGS = read::<abi::kvm_regs>(0x81);
    SET_REGS = write::<abi::kvm_regs>(0x82);
    GET_SREGS = read::<abi::kvm_sregs>(0x83);
    SET_SREGS = write::<abi::kvm_sregs>(0x84);
    TRANSLATE = both::<abi::kvm_translation>(0x85);
    INTERRUPT = write::<abi::kvm_interrupt>(0x86);
    GET_MSRS = both::<Head>(0x88);
    SET_MSRS = write::<Head>(0x89);
    SET_SIGNAL_MASK = write::<u32>(0x8b);
    GET_FPU = read::<abi::kvm_fpu>(0x8c);
    SET_FPU = write::<abi::kvm_fpu>(0x8d);
    GET_LAPIC = read::<abi::kvm_lapic_state>(0x8e);
    SET_LAPIC = write::<abi::kvm_lapic_state>(0x8f);
    SET_CPUID2 = write::<Head>(0x90);
    GET_CPUID2 = both::<Head>(0x91);
    GET_MP_STATE = read::<abi::kvm_mp_state>(0x98);
    SET_MP_STATE = write::<abi::kvm_mp_state>(0x99);
    NMI = number(0x9a);
    SET_GUEST_DEBUG = write::<abi::kvm_guest_debug>(0x9b);
    X86_SETUP_MCE = write::<u64>(0x9c);
    X86_SET_MCE = write::<abi::kvm_x86_mce>(0x9e);
    GET_VCPU_EVENTS = read::<abi::kvm_vcpu_events>(0x9f);
    SET_VCPU_EVENTS = write::<abi::kvm_vcpu_events>(0xa0);
    GET_DEBUGREGS = read::<abi::kvm_debugregs>(0xa1);
    SET_DEBUGREGS = write::<abi::kvm_debugregs>(0xa2);
    GET_XSAVE = read::<[u32; 1024]>(0xa4);
    SET_XSAVE = write::<[u32; 1024]>(0xa5);
    GET_XCRS = read::<abi::kvm_xcrs>(0xa6);
    SET_XCRS = write::<abi::kvm_xcrs>(0xa7);
    KVMCLOCK_CTRL = number(0xad);
    SMI = number(0xb7);
    GET_SREGS2 = read::<abi::kvm_sregs2>(0xcc);
    SET_SREGS2 = write::<abi::kvm_sregs2>(0xcd);
    GET_XSAVE2 = read::<[u32; 1024]>(0xcf);
    PRE_FAULT_MEMORY = both::<abi::kvm_pre_fault_memory>(0xd5);

    SET_DEVICE_ATTR = write::<abi::kvm_device_attr>(0xe1);
    GET_DEVICE_ATTR = write::<abi::kvm_device_attr>(0xe2);
    HAS_DEVICE_ATTR = write::<abi::kvm_device_attr>(0xe3);
}

/// An ioctl that fills a structure.
pub fn take<T: Default>(file: &File, request: u32) -> Result<T, Errno> {
    let mut value = T::default();
    exchange(file, request, &mut value)?;
    Ok(value)
}
