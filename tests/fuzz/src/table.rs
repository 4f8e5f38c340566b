// SPDX-License-Identifier: GPL-2.0
//! Which requests there are, on which file, and what their argument looks like.

use kvm_uapi::ioctl::{self, x86};

/// The file that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    System,
    Vm,
    Vcpu,
    /// vCPU, but as well a VM and a device.
    Attribute,
}

/// What the argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Nothing.
    None,
    /// A number up to this one, mostly.
    Number(u64),
    /// A structure of as many bytes as the request says, made of numbers that matter somewhere.
    Plain,
    /// The same, as read by another request, with some of it changed.
    Changed(u32),
    /// A structure that something is written to.
    Out,
    /// A count in its first word, at most as many entries of so many bytes behind a head of eight.
    List { entries: u32, size: u32 },
    /// As read by another request, with some of it changed.
    ChangedList { from: u32, entries: u32, size: u32 },
    /// A memory slot.
    Slot,
    /// The same, whose pages may be a file's.
    FileSlot,
    /// A file of memory to make.
    File,
    /// A part of the dirty log; the pointer to a bitmap comes after so many bytes.
    Log(usize),
    /// A descriptor with the file of an event first.
    Event(usize),
    /// An attribute with a pointer to its value.
    Attribute,
}

/// A request.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) request: u32,
    pub(crate) on: On,
    pub(crate) argument: Argument,
    /// How often, as against the others.
    pub(crate) weight: u32,
}

macro_rules! table {
    ($($on:ident: $($weight:literal $module:ident::$name:ident $argument:expr;)*)*) => {
        /// All of them.
        pub(crate) const TABLE: &[Entry] = &[$($(Entry {
            name: stringify!($name),
            request: $module::$name,
            on: On::$on,
            argument: $argument,
            weight: $weight,
        },)*)*];
    };
}

use Argument as A;

const MSRS: Argument = A::List { entries: 8, size: 16 };
const CPUID: Argument = A::List { entries: 100, size: 40 };

table! {
    System:
        1 ioctl::KVM_GET_API_VERSION A::None;
        30 ioctl::KVM_CREATE_VM A::Number(0);
        2 ioctl::KVM_CHECK_EXTENSION A::Number(260);
        1 ioctl::KVM_GET_VCPU_MMAP_SIZE A::None;
        1 x86::KVM_GET_MSR_INDEX_LIST A::List { entries: 300, size: 4 };
        1 x86::KVM_GET_MSR_FEATURE_INDEX_LIST A::List { entries: 300, size: 4 };
        1 x86::KVM_GET_SUPPORTED_CPUID CPUID;
        1 x86::KVM_GET_EMULATED_CPUID CPUID;
        1 x86::KVM_X86_GET_MCE_CAP_SUPPORTED A::Out;
    Vm:
        60 ioctl::KVM_CREATE_VCPU A::Number(5);
        2 ioctl::KVM_CHECK_EXTENSION A::Number(260);
        80 ioctl::KVM_SET_USER_MEMORY_REGION A::Slot;
        40 ioctl::KVM_SET_USER_MEMORY_REGION2 A::FileSlot;
        20 ioctl::KVM_CREATE_GUEST_MEMFD A::File;
        20 ioctl::KVM_GET_DIRTY_LOG A::Log(8);
        20 ioctl::KVM_CLEAR_DIRTY_LOG A::Log(16);
        20 ioctl::KVM_CREATE_IRQCHIP A::None;
        20 ioctl::KVM_SET_GSI_ROUTING A::List { entries: 12, size: 48 };
        20 ioctl::KVM_IRQFD A::Event(0);
        20 ioctl::KVM_IOEVENTFD A::Event(20);
        2 ioctl::KVM_RESET_DIRTY_RINGS A::None;
        4 ioctl::KVM_GET_STATS_FD A::None;
        6 ioctl::KVM_CREATE_DEVICE A::Plain;
        10 ioctl::KVM_ENABLE_CAP A::Plain;
        2 x86::KVM_SET_NR_MMU_PAGES A::Number(1 << 20);
        4 x86::KVM_SET_TSS_ADDR A::Number(u32::MAX as u64);
        4 x86::KVM_SET_IDENTITY_MAP_ADDR A::Plain;
        30 x86::KVM_IRQ_LINE A::Plain;
        10 x86::KVM_IRQ_LINE_STATUS A::Plain;
        6 x86::KVM_GET_IRQCHIP A::Plain;
        10 x86::KVM_SET_IRQCHIP A::Changed(x86::KVM_GET_IRQCHIP);
        3 x86::KVM_CREATE_PIT A::None;
        6 x86::KVM_CREATE_PIT2 A::Plain;
        3 x86::KVM_GET_PIT A::Out;
        4 x86::KVM_SET_PIT A::Changed(x86::KVM_GET_PIT);
        3 x86::KVM_GET_PIT2 A::Out;
        6 x86::KVM_SET_PIT2 A::Changed(x86::KVM_GET_PIT2);
        3 x86::KVM_REINJECT_CONTROL A::Number(1);
        6 x86::KVM_REGISTER_COALESCED_MMIO A::Plain;
        6 x86::KVM_UNREGISTER_COALESCED_MMIO A::Plain;
        3 x86::KVM_SET_BOOT_CPU_ID A::Number(3);
        6 x86::KVM_SET_CLOCK A::Changed(x86::KVM_GET_CLOCK);
        3 x86::KVM_GET_CLOCK A::Out;
        20 x86::KVM_SIGNAL_MSI A::Plain;
    Vcpu:
        400 ioctl::KVM_RUN A::None;
        10 ioctl::KVM_TRANSLATE A::Plain;
        4 ioctl::KVM_SET_SIGNAL_MASK A::Plain;
        5 ioctl::KVM_GET_MP_STATE A::Out;
        20 ioctl::KVM_SET_MP_STATE A::Plain;
        6 ioctl::KVM_ENABLE_CAP A::Plain;
        4 ioctl::KVM_GET_STATS_FD A::None;
        2 ioctl::KVM_GET_ONE_REG A::Plain;
        2 ioctl::KVM_SET_ONE_REG A::Plain;
        10 ioctl::KVM_PRE_FAULT_MEMORY A::Plain;
        10 x86::KVM_GET_REGS A::Out;
        60 x86::KVM_SET_REGS A::Changed(x86::KVM_GET_REGS);
        10 x86::KVM_GET_SREGS A::Out;
        60 x86::KVM_SET_SREGS A::Changed(x86::KVM_GET_SREGS);
        5 x86::KVM_GET_SREGS2 A::Out;
        20 x86::KVM_SET_SREGS2 A::Changed(x86::KVM_GET_SREGS2);
        20 x86::KVM_INTERRUPT A::Plain;
        20 x86::KVM_GET_MSRS MSRS;
        40 x86::KVM_SET_MSRS MSRS;
        5 x86::KVM_GET_FPU A::Out;
        10 x86::KVM_SET_FPU A::Changed(x86::KVM_GET_FPU);
        5 x86::KVM_GET_LAPIC A::Out;
        30 x86::KVM_SET_LAPIC A::Changed(x86::KVM_GET_LAPIC);
        4 x86::KVM_TPR_ACCESS_REPORTING A::Plain;
        4 x86::KVM_SET_VAPIC_ADDR A::Plain;
        20 x86::KVM_SET_CPUID2 A::ChangedList {
            from: x86::KVM_GET_SUPPORTED_CPUID, entries: 100, size: 40
        };
        5 x86::KVM_GET_CPUID2 CPUID;
        20 x86::KVM_NMI A::None;
        20 x86::KVM_SET_GUEST_DEBUG A::Plain;
        4 x86::KVM_X86_SETUP_MCE A::Plain;
        8 x86::KVM_X86_SET_MCE A::Plain;
        5 x86::KVM_GET_VCPU_EVENTS A::Out;
        30 x86::KVM_SET_VCPU_EVENTS A::Changed(x86::KVM_GET_VCPU_EVENTS);
        3 x86::KVM_GET_DEBUGREGS A::Out;
        10 x86::KVM_SET_DEBUGREGS A::Changed(x86::KVM_GET_DEBUGREGS);
        5 x86::KVM_SET_TSC_KHZ A::Number(4_000_000);
        2 x86::KVM_GET_TSC_KHZ A::None;
        5 x86::KVM_GET_XSAVE A::Out;
        10 x86::KVM_SET_XSAVE A::Changed(x86::KVM_GET_XSAVE);
        2 x86::KVM_GET_XSAVE2 A::Out;
        5 x86::KVM_GET_XCRS A::Out;
        10 x86::KVM_SET_XCRS A::Changed(x86::KVM_GET_XCRS);
        5 x86::KVM_KVMCLOCK_CTRL A::None;
        8 x86::KVM_SMI A::None;
    Attribute:
        6 ioctl::KVM_SET_DEVICE_ATTR A::Attribute;
        6 ioctl::KVM_GET_DEVICE_ATTR A::Attribute;
        6 ioctl::KVM_HAS_DEVICE_ATTR A::Attribute;
}

/// The bytes that a request copies, by its number.
pub(crate) const fn size_of_request(request: u32) -> usize {
    (request >> 16 & 0x3fff) as usize
}
