// SPDX-License-Identifier: GPL-2.0
//! Numbers of model-specific registers.
//!
//! Intel SDM volume 4, AMD APM volume 2 appendix A.

macro_rules! msrs {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*
    };
}

msrs! {
    /// Time-stamp counter.
    TSC = 0x10;
    /// Platform ID.
    PLATFORM_ID = 0x17;
    /// Local APIC base.
    APIC_BASE = 0x1b;
    /// Feature control (VMX and SMX lock).
    FEAT_CTL = 0x3a;
    /// TSC offset of software.
    TSC_ADJUST = 0x3b;
    /// Speculation control.
    SPEC_CTRL = 0x48;
    /// Prediction command.
    PRED_CMD = 0x49;
    /// Microcode update trigger.
    UCODE_WRITE = 0x79;
    /// Microcode revision.
    UCODE_REV = 0x8b;
    /// SMM monitor control.
    SMM_MONITOR_CTL = 0x9b;
    /// SMRAM base.
    SMBASE = 0x9e;
    /// Actual frequency clock count.
    MPERF = 0xe7;
    /// Actual performance clock count.
    APERF = 0xe8;
    /// MTRR capabilities.
    MTRR_CAP = 0xfe;
    /// Enumerated architectural capabilities.
    ARCH_CAPABILITIES = 0x10a;
    /// Flush command.
    FLUSH_CMD = 0x10b;
    /// TSX control.
    TSX_CTRL = 0x122;
    /// SYSENTER code selector.
    SYSENTER_CS = 0x174;
    /// SYSENTER stack pointer.
    SYSENTER_ESP = 0x175;
    /// SYSENTER entry point.
    SYSENTER_EIP = 0x176;
    /// Machine-check capabilities.
    MCG_CAP = 0x179;
    /// Machine-check status.
    MCG_STATUS = 0x17a;
    /// Machine-check control.
    MCG_CTL = 0x17b;
    /// First performance event selector.
    PERFEVTSEL0 = 0x186;
    /// First performance counter.
    PMC0 = 0xc1;
    /// Miscellaneous enables.
    MISC_ENABLE = 0x1a0;
    /// Debug control.
    DEBUGCTL = 0x1d9;
    /// Last branch source.
    LASTBRANCH_FROM = 0x1db;
    /// Last branch target.
    LASTBRANCH_TO = 0x1dc;
    /// Last exception source.
    LASTINT_FROM = 0x1dd;
    /// Last exception target.
    LASTINT_TO = 0x1de;
    /// First variable-range MTRR base.
    MTRR_PHYSBASE0 = 0x200;
    /// First fixed-range MTRR (64 KiB ranges).
    MTRR_FIX64K_00000 = 0x250;
    /// First fixed-range MTRR (16 KiB ranges).
    MTRR_FIX16K_80000 = 0x258;
    /// First fixed-range MTRR (4 KiB ranges).
    MTRR_FIX4K_C0000 = 0x268;
    /// Page-attribute table.
    PAT = 0x277;
    /// First corrected-machine-check control.
    MC0_CTL2 = 0x280;
    /// Default memory type.
    MTRR_DEF_TYPE = 0x2ff;
    /// Fixed performance counter 0.
    FIXED_CTR0 = 0x309;
    /// Performance capabilities.
    PERF_CAPABILITIES = 0x345;
    /// Fixed counter control.
    FIXED_CTR_CTRL = 0x38d;
    /// Global counter status.
    PERF_GLOBAL_STATUS = 0x38e;
    /// Global counter control.
    PERF_GLOBAL_CTRL = 0x38f;
    /// Global counter status reset.
    PERF_GLOBAL_OVF_CTRL = 0x390;
    /// PEBS enable.
    PEBS_ENABLE = 0x3f1;
    /// First machine-check bank.
    MC0_CTL = 0x400;
    /// First VMX capability register.
    VMX_BASIC = 0x480;
    /// Debug-store area.
    DS_AREA = 0x600;
    /// User control-flow enforcement.
    U_CET = 0x6a0;
    /// Supervisor control-flow enforcement.
    S_CET = 0x6a2;
    /// Shadow-stack pointer of privilege 0.
    PL0_SSP = 0x6a4;
    /// Shadow-stack pointer of privilege 3.
    PL3_SSP = 0x6a7;
    /// TSC deadline of the local APIC timer.
    TSC_DEADLINE = 0x6e0;
    /// First x2APIC register.
    X2APIC_BASE = 0x800;
    /// Task priority, in x2APIC mode.
    X2APIC_TPR = 0x808;
    /// End of interrupt, in x2APIC mode.
    X2APIC_EOI = 0x80b;
    /// Interrupt command, in x2APIC mode.
    X2APIC_ICR = 0x830;
    /// Initial count of the timer, in x2APIC mode.
    X2APIC_TMICT = 0x838;
    /// Interrupt to oneself, in x2APIC mode.
    X2APIC_SELF_IPI = 0x83f;
    /// Supervisor XSAVE states.
    XSS = 0xda0;
    /// Extended feature enables.
    EFER = 0xc000_0080;
    /// SYSCALL selectors.
    STAR = 0xc000_0081;
    /// SYSCALL entry point of 64-bit code.
    LSTAR = 0xc000_0082;
    /// SYSCALL entry point of compatibility code.
    CSTAR = 0xc000_0083;
    /// SYSCALL flag mask.
    SYSCALL_MASK = 0xc000_0084;
    /// FS base.
    FS_BASE = 0xc000_0100;
    /// GS base.
    GS_BASE = 0xc000_0101;
    /// The GS base that SWAPGS brings in.
    KERNEL_GS_BASE = 0xc000_0102;
    /// What RDTSCP and RDPID return.
    TSC_AUX = 0xc000_0103;
    /// TSC scaling of guests (AMD).
    AMD64_TSC_RATIO = 0xc000_0104;
    /// System configuration (AMD).
    SYSCFG = 0xc001_0010;
    /// Hardware configuration (AMD).
    HWCR = 0xc001_0015;
    /// Top of memory below 4 GiB (AMD).
    TOP_MEM = 0xc001_001a;
    /// Top of memory above 4 GiB (AMD).
    TOP_MEM2 = 0xc001_001d;
    /// SVM and DEBUGCTL disable (AMD).
    VM_CR = 0xc001_0114;
    /// Physical address of the host save area (AMD).
    VM_HSAVE_PA = 0xc001_0117;
    /// Virtual SPEC_CTRL (AMD).
    VIRT_SPEC_CTRL = 0xc001_011f;
    /// GHCB (AMD SEV-ES).
    SEV_ES_GHCB = 0xc001_0130;
    /// SEV status (AMD).
    SEV_STATUS = 0xc001_0131;
    /// OS-visible workaround count (AMD).
    OSVW_ID_LENGTH = 0xc001_0140;
    /// OS-visible workaround bits (AMD).
    OSVW_STATUS = 0xc001_0141;
    /// Load-store configuration (AMD).
    LS_CFG = 0xc001_1020;
    /// Decode configuration (AMD).
    DE_CFG = 0xc001_1029;
}
