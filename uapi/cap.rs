// SPDX-License-Identifier: GPL-2.0
//! Capability numbers, the arguments of `KVM_CHECK_EXTENSION` and
//! `KVM_ENABLE_CAP`.

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Calls `$callback!` with the names of all capabilities of this module.
        #[macro_export]
        macro_rules! for_each_capability {
            ($callback:ident) => { $callback! { $($name)* } };
        }
    };
}

capabilities! {
    /// `KVM_CREATE_IRQCHIP`.
    KVM_CAP_IRQCHIP = 0;
    /// A vCPU in HLT sleeps in the kernel.
    KVM_CAP_HLT = 1;
    /// `KVM_SET_NR_MMU_PAGES`.
    KVM_CAP_MMU_SHADOW_CACHE_CONTROL = 2;
    /// Guest memory comes from the VMM's address space.
    KVM_CAP_USER_MEMORY = 3;
    /// `KVM_SET_TSS_ADDR`.
    KVM_CAP_SET_TSS_ADDR = 4;
    /// `KVM_TPR_ACCESS_REPORTING` and `KVM_SET_VAPIC_ADDR`.
    KVM_CAP_VAPIC = 6;
    /// `KVM_GET_SUPPORTED_CPUID` and `KVM_SET_CPUID2`.
    KVM_CAP_EXT_CPUID = 7;
    /// kvmclock.
    KVM_CAP_CLOCKSOURCE = 8;
    /// Recommended number of vCPUs.
    KVM_CAP_NR_VCPUS = 9;
    /// Memory slots of each address space.
    KVM_CAP_NR_MEMSLOTS = 10;
    /// `KVM_CREATE_PIT`.
    KVM_CAP_PIT = 11;
    /// Guests need no delay between port accesses.
    KVM_CAP_NOP_IO_DELAY = 12;
    /// `KVM_GET_MP_STATE`, `KVM_SET_MP_STATE`.
    KVM_CAP_MP_STATE = 14;
    /// Page offset of the ring of coalesced writes in a vCPU's mapping.
    KVM_CAP_COALESCED_MMIO = 15;
    /// Guest mappings follow changes of the VMM's (MMU notifiers).
    KVM_CAP_SYNC_MMU = 16;
    /// Slots can be deleted.
    KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21;
    /// `KVM_NMI`.
    KVM_CAP_USER_NMI = 22;
    /// `KVM_SET_GUEST_DEBUG`.
    KVM_CAP_SET_GUEST_DEBUG = 23;
    /// `KVM_REINJECT_CONTROL`.
    KVM_CAP_REINJECT_CONTROL = 24;
    /// Number of GSI routes that a VM can have.
    KVM_CAP_IRQ_ROUTING = 25;
    /// `KVM_IRQ_LINE_STATUS`.
    KVM_CAP_IRQ_INJECT_STATUS = 26;
    /// Slots may touch each other.
    KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30;
    /// Machine-check banks that a vCPU can have.
    KVM_CAP_MCE = 31;
    /// Eventfds can raise interrupts.
    KVM_CAP_IRQFD = 32;
    /// `KVM_CREATE_PIT2`.
    KVM_CAP_PIT2 = 33;
    /// `KVM_SET_BOOT_CPU_ID`.
    KVM_CAP_SET_BOOT_CPU_ID = 34;
    /// `KVM_GET_PIT2` and `KVM_SET_PIT2`.
    KVM_CAP_PIT_STATE2 = 35;
    /// Guests' writes can signal eventfds.
    KVM_CAP_IOEVENTFD = 36;
    /// `KVM_SET_IDENTITY_MAP_ADDR`.
    KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
    /// `KVM_GET_CLOCK`, `KVM_SET_CLOCK`; the flags that they know.
    KVM_CAP_ADJUST_CLOCK = 39;
    /// Internal errors carry data.
    KVM_CAP_INTERNAL_ERROR_DATA = 40;
    /// `KVM_GET_VCPU_EVENTS`, `KVM_SET_VCPU_EVENTS`.
    KVM_CAP_VCPU_EVENTS = 41;
    /// The PSW is in `kvm_run`.
    KVM_CAP_S390_PSW = 42;
    /// `KVM_GET_DEBUGREGS`, `KVM_SET_DEBUGREGS`.
    KVM_CAP_DEBUGREGS = 50;
    /// Single-stepping by a debugger works with any instruction.
    KVM_CAP_X86_ROBUST_SINGLESTEP = 51;
    /// `KVM_ENABLE_CAP` of a vCPU.
    KVM_CAP_ENABLE_CAP = 54;
    /// `KVM_GET_XSAVE`, `KVM_SET_XSAVE`.
    KVM_CAP_XSAVE = 55;
    /// `KVM_GET_XCRS`, `KVM_SET_XCRS`.
    KVM_CAP_XCRS = 56;
    /// Page faults that take I/O needn't stop guests.
    /// Guests can do something else while the host gets a page.
    KVM_CAP_ASYNC_PF = 59;
    /// `KVM_GET_TSC_KHZ`.
    KVM_CAP_GET_TSC_KHZ = 61;
    /// Largest number of vCPUs of one VM.
    KVM_CAP_MAX_VCPUS = 66;
    /// `KVM_GET_ONE_REG`, `KVM_SET_ONE_REG`.
    KVM_CAP_ONE_REG = 70;
    /// Local APICs can have a TSC-deadline timer.
    KVM_CAP_TSC_DEADLINE_TIMER = 72;
    /// Classes of registers that `kvm_run` can carry.
    KVM_CAP_SYNC_REGS = 74;
    /// `KVM_KVMCLOCK_CTRL`.
    KVM_CAP_KVMCLOCK_CTRL = 76;
    /// `KVM_SIGNAL_MSI`.
    KVM_CAP_SIGNAL_MSI = 77;
    /// Guest memory can be write-protected.
    KVM_CAP_S390_COW = 79;
    /// Slots may be read-only for the guest.
    KVM_CAP_READONLY_MEM = 81;
    /// Such interrupts can be levels, with word of when they are served.
    KVM_CAP_IRQFD_RESAMPLE = 82;
    /// Channel instructions go to userspace; I/O interruptions can be taken off.
    KVM_CAP_S390_CSS_SUPPORT = 85;
    /// Devices with attributes can be made.
    KVM_CAP_DEVICE_CTRL = 89;
    /// `KVM_GET_EMULATED_CPUID`.
    KVM_CAP_EXT_EMUL_CPUID = 95;
    /// The IOAPIC takes no notice of a pin's polarity.
    KVM_CAP_IOAPIC_POLARITY_IGNORED = 97;
    /// `KVM_ENABLE_CAP` of a VM.
    KVM_CAP_ENABLE_CAP_VM = 98;
    /// There are interrupt routes, for adapters.
    KVM_CAP_S390_IRQCHIP = 99;
    /// The length 0 of an ioeventfd is known.
    KVM_CAP_IOEVENTFD_NO_LENGTH = 100;
    /// VMs have attributes.
    KVM_CAP_VM_ATTRIBUTES = 101;
    /// `KVM_CHECK_EXTENSION` works on a VM fd.
    KVM_CAP_CHECK_EXTENSION_VM = 105;
    /// Userspace can have most SIGP orders.
    KVM_CAP_S390_USER_SIGP = 106;
    /// `KVM_S390_MEM_OP`; most bytes of one.
    KVM_CAP_S390_MEM_OP = 108;
    /// Userspace can add to what STSI says.
    KVM_CAP_S390_USER_STSI = 109;
    /// `KVM_S390_GET_SKEYS`, `KVM_S390_SET_SKEYS`.
    KVM_CAP_S390_SKEYS = 110;
    /// `KVM_S390_IRQ`.
    KVM_CAP_S390_INJECT_IRQ = 113;
    /// Interruptions that wait can be read and set.
    KVM_CAP_S390_IRQ_STATE = 114;
    /// Old quirks can be turned off.
    KVM_CAP_DISABLE_QUIRKS = 116;
    /// System-management mode.
    KVM_CAP_X86_SMM = 117;
    /// Address spaces that slots can be in.
    KVM_CAP_MULTI_ADDRESS_SPACE = 118;
    /// Local APICs without the other controllers.
    KVM_CAP_SPLIT_IRQCHIP = 121;
    /// An ioeventfd can take writes of any length.
    KVM_CAP_IOEVENTFD_ANY_LENGTH = 122;
    /// Attributes of vCPUs.
    KVM_CAP_VCPU_ATTRIBUTES = 127;
    /// Largest vCPU id plus one.
    KVM_CAP_MAX_VCPU_ID = 128;
    /// 32-bit APIC IDs: the flags that there are.
    KVM_CAP_X2APIC_API = 129;
    /// Userspace can have operation exceptions of instruction 0.
    KVM_CAP_S390_USER_INSTR0 = 130;
    /// `kvm_run.immediate_exit` is looked at.
    KVM_CAP_IMMEDIATE_EXIT = 136;
    /// Adapter interruptions can be suppressed.
    KVM_CAP_S390_AIS = 141;
    /// Instructions that can be kept from exiting.
    KVM_CAP_X86_DISABLE_EXITS = 143;
    /// The FLIC shows and sets how they are suppressed, all at once.
    KVM_CAP_S390_AIS_MIGRATION = 150;
    /// `KVM_GET_MSR_FEATURE_INDEX_LIST`, `KVM_GET_MSRS` of /dev/kvm.
    KVM_CAP_GET_MSR_FEATURES = 153;
    /// PLATFORM_INFO can be hidden from guests.
    KVM_CAP_MSR_PLATFORM_INFO = 159;
    /// Writes to ports can be coalesced as well.
    KVM_CAP_COALESCED_PIO = 162;
    /// Pending exceptions can be shown with their payload.
    KVM_CAP_EXCEPTION_PAYLOAD = 164;
    /// The dirty log is cleared by an ioctl of its own; a mask of what can be
    /// enabled.
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
    /// Normal and clear reset.
    KVM_CAP_S390_VCPU_RESETS = 179;
    /// Longest busy wait of a halted vCPU.
    KVM_CAP_HALT_POLL = 182;
    /// Page faults that don't stop guests end with an interrupt.
    KVM_CAP_ASYNC_PF_INT = 183;
    /// Guests can know of stolen time.
    KVM_CAP_STEAL_TIME = 187;
    /// Userspace can be asked about accesses to MSRs that are refused.
    KVM_CAP_X86_USER_SPACE_MSR = 188;
    /// `KVM_X86_SET_MSR_FILTER`.
    KVM_CAP_X86_MSR_FILTER = 189;
    /// Guests can be held to the paravirtual features of their CPUID.
    KVM_CAP_ENFORCE_PV_FEATURE_CPUID = 190;
    /// Each vCPU can have a ring of the pages that it wrote to; most bytes of one.
    KVM_CAP_DIRTY_LOG_RING = 192;
    /// What a debugger can want.
    KVM_CAP_SET_GUEST_DEBUG2 = 195;
    /// `KVM_GET_SREGS2`, `KVM_SET_SREGS2`.
    KVM_CAP_SREGS2 = 200;
    /// Statistics can be read from files.
    KVM_CAP_BINARY_STATS_FD = 203;
    /// Userspace can be told of every instruction that can't be emulated.
    KVM_CAP_EXIT_ON_EMULATION_FAILURE = 204;
    /// `KVM_GET_XSAVE2`; the size of its area.
    KVM_CAP_XSAVE2 = 208;
    /// Attributes of /dev/kvm.
    KVM_CAP_SYS_ATTRIBUTES = 209;
    /// What `KVM_S390_MEM_OP` can besides.
    KVM_CAP_S390_MEM_OP_EXTENSION = 211;
    /// Quirks that can be turned off.
    KVM_CAP_DISABLE_QUIRKS2 = 213;
    /// Triple faults can be shown as events.
    KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218;
    /// Dirty rings; userspace has to order its accesses to an entry as acquire and release.
    KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223;
    /// `KVM_SET_USER_MEMORY_REGION2`.
    KVM_CAP_USER_MEMORY2 = 231;
    /// Exits say which memory is missing.
    KVM_CAP_MEMORY_FAULT_INFO = 232;
    /// `KVM_CREATE_GUEST_MEMFD`.
    KVM_CAP_GUEST_MEMFD = 234;
    /// Types of VMs that can be made, a bit for each.
    KVM_CAP_VM_TYPES = 235;
    /// Guest memory can be mapped in advance.
    KVM_CAP_PRE_FAULT_MEMORY = 236;
    /// Length of a cycle of the bus that local APICs' timers count, in ns.
    KVM_CAP_X86_APIC_BUS_CYCLES_NS = 237;
    /// `flags` of `KVM_CREATE_GUEST_MEMFD` that there are.
    KVM_CAP_GUEST_MEMFD_FLAGS = 244;
    /// Userspace can have all operation exceptions.
    KVM_CAP_S390_USER_OPEREXEC = 246;
    /// `KVM_S390_KEYOP`.
    KVM_CAP_S390_KEYOP = 247;
}
