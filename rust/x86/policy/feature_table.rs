// SPDX-License-Identifier: GPL-2.0
//! The features this crate knows, each with its class.
//!
//! Intel SDM volume 2 CPUID, AMD APM volume 3 appendix E. What isn't listed here
//! is never reported.

use crate::cpuid::Reg;
use crate::feature::{pick, Class, Feature, Place};

/// How many feature words there are.
pub const WORDS: usize = ALL_WORDS.len();

/// Declares words as `Name(leaf, subleaf, register, kernel's word)`, with their
/// features as `NAME = bit Class "meaning"`.
macro_rules! words {
    ($(
        $(#[$doc:meta])*
        $word:ident($leaf:literal, $sub:literal, $reg:ident, $kernel:expr) {
            $($name:ident = $bit:literal $class:ident $meaning:literal;)*
        }
    )*) => {
        /// A register of a CPUID leaf that holds feature bits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Word { $($(#[$doc])* $word,)* }

        pub(crate) const ALL_WORDS: [Word; [$(Word::$word),*].len()] = [$(Word::$word),*];

        impl Feature {
            $($(
                #[doc = $meaning]
                pub const $name: Self = Self::new(Word::$word, $bit);
            )*)*
        }

        pub(crate) static PLACES: [Place; WORDS] = [$(Place {
            leaf: $leaf,
            subleaf: $sub,
            reg: Reg::$reg,
            kernel_word: $kernel,
            plain: 0 $(| pick(Class::Plain, Class::$class, $bit))*,
            needs: 0 $(| pick(Class::Needs, Class::$class, $bit))*,
            emulated: 0 $(| pick(Class::Emulated, Class::$class, $bit))*,
            synthesized: 0 $(| pick(Class::Synthesized, Class::$class, $bit))*,
        }),*];
    };
}

words! {
    /// Leaf 1, ECX.
    L1Ecx(1, 0, Ecx, Some(4)) {
        SSE3 = 0 Plain "SSE3.";
        PCLMULQDQ = 1 Plain "Carry-less multiplication.";
        MWAIT = 3 Runtime "MONITOR and MWAIT.";
        VMX = 5 Needs "VMX.";
        SSSE3 = 9 Plain "SSSE3.";
        FMA = 12 Plain "Fused multiply-add.";
        CX16 = 13 Plain "CMPXCHG16B.";
        PDCM = 15 Needs "IA32_PERF_CAPABILITIES.";
        PCID = 17 Plain "Process-context identifiers.";
        SSE4_1 = 19 Plain "SSE4.1.";
        SSE4_2 = 20 Plain "SSE4.2.";
        X2APIC = 21 Emulated "x2APIC mode.";
        MOVBE = 22 Plain "MOVBE.";
        POPCNT = 23 Plain "POPCNT.";
        TSC_DEADLINE = 24 Emulated "TSC-deadline mode of the APIC timer.";
        AES = 25 Plain "AES instructions.";
        XSAVE = 26 Needs "XSAVE, XCR0.";
        OSXSAVE = 27 Runtime "CR4.OSXSAVE is set.";
        AVX = 28 Plain "AVX.";
        F16C = 29 Plain "Half-precision conversion.";
        RDRAND = 30 Plain "RDRAND.";
        HYPERVISOR = 31 Emulated "Runs under a hypervisor.";
    }
    /// Leaf 1, EDX.
    L1Edx(1, 0, Edx, Some(0)) {
        FPU = 0 Plain "x87.";
        VME = 1 Plain "Virtual-8086 extensions.";
        DE = 2 Plain "Debugging extensions.";
        PSE = 3 Plain "4 MiB pages.";
        TSC = 4 Plain "RDTSC.";
        MSR = 5 Plain "RDMSR and WRMSR.";
        PAE = 6 Plain "Physical-address extension.";
        MCE = 7 Plain "Machine-check exception.";
        CX8 = 8 Plain "CMPXCHG8B.";
        APIC = 9 Plain "Local APIC.";
        SEP = 11 Plain "SYSENTER.";
        MTRR = 12 Plain "Memory-type range registers.";
        PGE = 13 Plain "Global pages.";
        MCA = 14 Plain "Machine-check banks.";
        CMOV = 15 Plain "CMOVcc.";
        PAT = 16 Plain "Page-attribute table.";
        PSE36 = 17 Plain "36-bit 4 MiB pages.";
        CLFLUSH = 19 Plain "CLFLUSH.";
        DS = 21 Needs "Debug store.";
        MMX = 23 Plain "MMX.";
        FXSR = 24 Plain "FXSAVE.";
        SSE = 25 Plain "SSE.";
        SSE2 = 26 Plain "SSE2.";
        SELFSNOOP = 27 Plain "Self-snooping caches.";
    }
    /// Leaf 7, EBX.
    L7Ebx(7, 0, Ebx, Some(9)) {
        FSGSBASE = 0 Plain "RDFSBASE and friends.";
        TSC_ADJUST = 1 Emulated "IA32_TSC_ADJUST.";
        SGX = 2 Needs "Enclaves.";
        BMI1 = 3 Plain "Bit manipulation 1.";
        HLE = 4 Needs "Lock elision.";
        AVX2 = 5 Plain "AVX2.";
        FDP_EXCPTN_ONLY = 6 Plain "x87 data pointer kept by exceptions only.";
        SMEP = 7 Plain "Supervisor-mode execution prevention.";
        BMI2 = 8 Plain "Bit manipulation 2.";
        ERMS = 9 Plain "Enhanced REP MOVSB.";
        INVPCID = 10 Needs "INVPCID.";
        RTM = 11 Needs "Transactions.";
        ZERO_FCS_FDS = 13 Plain "x87 selectors read as zero.";
        MPX = 14 Needs "Bound registers.";
        AVX512F = 16 Plain "AVX-512 foundation.";
        AVX512DQ = 17 Plain "AVX-512 doubleword and quadword.";
        RDSEED = 18 Plain "RDSEED.";
        ADX = 19 Plain "ADCX and ADOX.";
        SMAP = 20 Plain "Supervisor-mode access prevention.";
        AVX512IFMA = 21 Plain "AVX-512 integer fused multiply-add.";
        CLFLUSHOPT = 23 Plain "CLFLUSHOPT.";
        CLWB = 24 Plain "CLWB.";
        INTEL_PT = 25 Needs "Processor trace.";
        AVX512PF = 26 Plain "AVX-512 prefetch.";
        AVX512ER = 27 Plain "AVX-512 exponential and reciprocal.";
        AVX512CD = 28 Plain "AVX-512 conflict detection.";
        SHA = 29 Plain "SHA-1 and SHA-256.";
        AVX512BW = 30 Plain "AVX-512 byte and word.";
        AVX512VL = 31 Plain "AVX-512 on 128 and 256 bits.";
    }
    /// Leaf 7, ECX.
    L7Ecx(7, 0, Ecx, Some(16)) {
        AVX512VBMI = 1 Plain "AVX-512 byte permutation.";
        UMIP = 2 Needs "User-mode instruction prevention.";
        PKU = 3 Needs "Protection keys of user pages.";
        OSPKE = 4 Runtime "CR4.PKE is set.";
        WAITPKG = 5 Needs "UMWAIT and TPAUSE.";
        AVX512_VBMI2 = 6 Plain "AVX-512 byte compress and shift.";
        SHSTK = 7 Needs "Shadow stacks.";
        GFNI = 8 Plain "Galois-field instructions.";
        VAES = 9 Plain "AES on vectors.";
        VPCLMULQDQ = 10 Plain "Carry-less multiplication on vectors.";
        AVX512_VNNI = 11 Plain "AVX-512 neural networks.";
        AVX512_BITALG = 12 Plain "AVX-512 bit algorithms.";
        AVX512_VPOPCNTDQ = 14 Plain "AVX-512 population count.";
        LA57 = 16 Needs "57-bit linear addresses.";
        RDPID = 22 Needs "RDPID.";
        BUS_LOCK_DETECT = 24 Needs "#DB on bus locks.";
        CLDEMOTE = 25 Plain "CLDEMOTE.";
        MOVDIRI = 27 Plain "MOVDIRI.";
        MOVDIR64B = 28 Plain "MOVDIR64B.";
        SGX_LC = 30 Needs "Launch control of enclaves.";
    }
    /// Leaf 7, EDX.
    L7Edx(7, 0, Edx, Some(18)) {
        AVX512_4VNNIW = 2 Plain "AVX-512 neural networks, 4 iterations.";
        AVX512_4FMAPS = 3 Plain "AVX-512 multiply-add, 4 iterations.";
        FSRM = 4 Plain "Fast short REP MOVSB.";
        AVX512_VP2INTERSECT = 8 Plain "AVX-512 intersection.";
        MD_CLEAR = 10 Plain "VERW clears buffers.";
        SERIALIZE = 14 Plain "SERIALIZE.";
        TSXLDTRK = 16 Plain "Suspending load tracking in transactions.";
        IBT = 20 Needs "Indirect-branch tracking.";
        AMX_BF16 = 22 Plain "AMX on bfloat16.";
        AVX512_FP16 = 23 Plain "AVX-512 on half precision.";
        AMX_TILE = 24 Plain "AMX tiles.";
        AMX_INT8 = 25 Plain "AMX on bytes.";
        SPEC_CTRL = 26 Needs "IBRS and IBPB.";
        INTEL_STIBP = 27 Needs "STIBP.";
        FLUSH_L1D = 28 Needs "IA32_FLUSH_CMD.";
        ARCH_CAPABILITIES = 29 Emulated "IA32_ARCH_CAPABILITIES.";
        SPEC_CTRL_SSBD = 31 Needs "SSBD.";
    }
    /// Leaf 7, subleaf 1, EAX.
    L7s1Eax(7, 1, Eax, Some(12)) {
        SHA512 = 0 Plain "SHA-512.";
        SM3 = 1 Plain "SM3.";
        SM4 = 2 Plain "SM4.";
        AVX_VNNI = 4 Plain "AVX neural networks.";
        AVX512_BF16 = 5 Plain "AVX-512 on bfloat16.";
        CMPCCXADD = 7 Plain "CMPccXADD.";
        FZRM = 10 Plain "Fast zero-length REP MOVSB.";
        FSRS = 11 Plain "Fast short REP STOSB.";
        FSRC = 12 Plain "Fast short REP CMPSB.";
        LKGS = 18 Plain "LKGS.";
        WRMSRNS = 19 Needs "WRMSRNS.";
        AMX_FP16 = 21 Plain "AMX on half precision.";
        AVX_IFMA = 23 Plain "AVX integer fused multiply-add.";
        LAM = 26 Needs "Linear-address masking.";
        MOVRS = 31 Plain "MOVRS.";
    }
    /// Leaf 7, subleaf 1, ECX.
    L7s1Ecx(7, 1, Ecx, None) {
        MSR_IMM = 5 Needs "RDMSR and WRMSRNS with an immediate.";
    }
    /// Leaf 7, subleaf 1, EDX.
    L7s1Edx(7, 1, Edx, None) {
        AVX_VNNI_INT8 = 4 Plain "AVX neural networks on bytes.";
        AVX_NE_CONVERT = 5 Plain "AVX conversion without exceptions.";
        AMX_COMPLEX = 8 Plain "AMX on complex numbers.";
        AVX_VNNI_INT16 = 10 Plain "AVX neural networks on words.";
        PREFETCHITI = 14 Plain "PREFETCHIT0 and 1.";
        AVX10 = 19 Plain "AVX10.";
    }
    /// Leaf 7, subleaf 2, EDX.
    L7s2Edx(7, 2, Edx, None) {
        INTEL_PSFD = 0 Needs "SPEC_CTRL.PSFD.";
        IPRED_CTRL = 1 Needs "SPEC_CTRL.IPRED_DIS.";
        RRSBA_CTRL = 2 Needs "SPEC_CTRL.RRSBA_DIS.";
        DDPD_U = 3 Needs "SPEC_CTRL.DDPD_U.";
        BHI_CTRL = 4 Needs "SPEC_CTRL.BHI_DIS_S.";
        MCDT_NO = 5 Plain "No data-dependent timing of MXCSR.";
    }
    /// Leaf Dh, subleaf 1, EAX.
    Ld1Eax(0xd, 1, Eax, Some(10)) {
        XSAVEOPT = 0 Plain "XSAVEOPT.";
        XSAVEC = 1 Plain "XSAVEC.";
        XGETBV1 = 2 Plain "XGETBV of XINUSE.";
        XSAVES = 3 Needs "XSAVES, IA32_XSS.";
        XFD = 4 Needs "IA32_XFD.";
    }
    /// Leaf 1Eh, subleaf 1, EAX.
    L1e1Eax(0x1e, 1, Eax, None) {
        AMX_INT8_ALIAS = 0 Plain "AMX on bytes.";
        AMX_BF16_ALIAS = 1 Plain "AMX on bfloat16.";
        AMX_COMPLEX_ALIAS = 2 Plain "AMX on complex numbers.";
        AMX_FP16_ALIAS = 3 Plain "AMX on half precision.";
        AMX_FP8 = 4 Plain "AMX on 8-bit floats.";
        AMX_TF32 = 6 Plain "AMX on TensorFloat.";
        AMX_AVX512 = 7 Plain "Tile rows to vectors.";
        AMX_MOVRS = 8 Plain "MOVRS of tiles.";
    }
    /// Leaf 24h, EBX.
    L24Ebx(0x24, 0, Ebx, None) {
        AVX10_128 = 16 Plain "AVX10 on 128 bits.";
        AVX10_256 = 17 Plain "AVX10 on 256 bits.";
        AVX10_512 = 18 Plain "AVX10 on 512 bits.";
    }
    /// Leaf 24h, subleaf 1, ECX.
    L24s1Ecx(0x24, 1, Ecx, None) {
        AVX10_VNNI_INT = 2 Plain "AVX10 neural networks on integers.";
    }
    /// Leaf 8000_0001h, ECX.
    L81Ecx(0x8000_0001, 0, Ecx, Some(6)) {
        LAHF_LM = 0 Plain "LAHF in 64-bit mode.";
        CMP_LEGACY = 1 Plain "Core multi-processing by legacy rules.";
        SVM = 2 Needs "SVM.";
        CR8_LEGACY = 4 Plain "MOV CR8 by LOCK prefix.";
        ABM = 5 Plain "LZCNT.";
        SSE4A = 6 Plain "SSE4A.";
        MISALIGNSSE = 7 Plain "Misaligned SSE.";
        PREFETCHW = 8 Plain "PREFETCHW.";
        OSVW = 9 Plain "OS-visible workarounds.";
        XOP = 11 Plain "XOP.";
        FMA4 = 16 Plain "FMA4.";
        TBM = 21 Plain "Trailing-bit manipulation.";
        TOPOEXT = 22 Plain "Topology extensions.";
        PERFCTR_CORE = 23 Needs "Extended core counters.";
    }
    /// Leaf 8000_0001h, EDX.
    L81Edx(0x8000_0001, 0, Edx, Some(1)) {
        FPU_ALIAS = 0 Plain "As leaf 1.";
        VME_ALIAS = 1 Plain "As leaf 1.";
        DE_ALIAS = 2 Plain "As leaf 1.";
        PSE_ALIAS = 3 Plain "As leaf 1.";
        TSC_ALIAS = 4 Plain "As leaf 1.";
        MSR_ALIAS = 5 Plain "As leaf 1.";
        PAE_ALIAS = 6 Plain "As leaf 1.";
        MCE_ALIAS = 7 Plain "As leaf 1.";
        CX8_ALIAS = 8 Plain "As leaf 1.";
        APIC_ALIAS = 9 Plain "As leaf 1.";
        SYSCALL = 11 Plain "SYSCALL.";
        MTRR_ALIAS = 12 Plain "As leaf 1.";
        PGE_ALIAS = 13 Plain "As leaf 1.";
        MCA_ALIAS = 14 Plain "As leaf 1.";
        CMOV_ALIAS = 15 Plain "As leaf 1.";
        PAT_ALIAS = 16 Plain "As leaf 1.";
        PSE36_ALIAS = 17 Plain "As leaf 1.";
        NX = 20 Plain "No-execute pages.";
        MMXEXT = 22 Plain "Extended MMX.";
        MMX_ALIAS = 23 Plain "As leaf 1.";
        FXSR_ALIAS = 24 Plain "As leaf 1.";
        FXSR_OPT = 25 Plain "EFER.FFXSR.";
        GBPAGES = 26 Plain "1 GiB pages.";
        RDTSCP = 27 Needs "RDTSCP.";
        LM = 29 Plain "Long mode.";
        AMD_3DNOWEXT = 30 Plain "Extended 3DNow!.";
        AMD_3DNOW = 31 Plain "3DNow!.";
    }
    /// Leaf 8000_0007h, EDX.
    L87Edx(0x8000_0007, 0, Edx, None) {
        CONSTANT_TSC = 8 Needs "Invariant TSC.";
    }
    /// Leaf 8000_0008h, EBX.
    L88Ebx(0x8000_0008, 0, Ebx, Some(13)) {
        CLZERO = 0 Plain "CLZERO.";
        XSAVEERPTR = 2 Plain "Error pointers always saved.";
        WBNOINVD = 9 Plain "WBNOINVD.";
        AMD_IBPB = 12 Needs "IBPB.";
        AMD_IBRS = 14 Needs "IBRS.";
        AMD_STIBP = 15 Needs "STIBP.";
        AMD_STIBP_ALWAYS_ON = 17 Needs "STIBP may stay on.";
        AMD_IBRS_SAME_MODE = 19 Needs "IBRS protects within a mode.";
        EFER_LMSLE_MBZ = 20 Plain "No EFER.LMSLE.";
        AMD_SSBD = 24 Needs "SPEC_CTRL.SSBD.";
        VIRT_SSBD = 25 Needs "VIRT_SPEC_CTRL.";
        AMD_SSB_NO = 26 Synthesized "No speculative store bypass.";
        AMD_PSFD = 28 Needs "SPEC_CTRL.PSFD.";
        AMD_IBPB_RET = 30 Needs "IBPB clears the return predictor.";
    }
    /// Leaf 8000_000Ah, EDX: what SVM has.
    L8aEdx(0x8000_000a, 0, Edx, Some(15)) {
        NPT = 0 Needs "Nested paging.";
        LBRV = 1 Needs "Virtual last-branch records.";
        NRIPS = 3 Needs "Next RIP saved.";
        TSC_SCALE = 4 Needs "TSC scaling.";
        VMCB_CLEAN = 5 Needs "Clean bits.";
        FLUSH_BY_ASID = 6 Needs "Flush by ASID.";
        PAUSE_FILTER = 10 Needs "PAUSE filter.";
        PF_THRESHOLD = 12 Needs "PAUSE filter threshold.";
        VLS = 15 Needs "Virtual VMLOAD and VMSAVE.";
        VGIF = 16 Needs "Virtual GIF.";
        VNMI = 25 Needs "Virtual NMI.";
        SVME_ADDR_CHK = 28 Needs "Address checks by SVM instructions.";
    }
    /// Leaf 8000_0021h, EAX.
    L821Eax(0x8000_0021, 0, Eax, Some(20)) {
        NO_NESTED_DATA_BP = 0 Plain "No nested data breakpoints.";
        WRMSR_XX_BASE_NS = 1 Plain "Base MSRs are written without serializing.";
        LFENCE_RDTSC = 2 Synthesized "LFENCE serializes.";
        VERW_CLEAR = 5 Synthesized "VERW mitigates TSA.";
        NULL_SEL_CLR_BASE = 6 Synthesized "Null selectors clear the base.";
        AUTOIBRS = 8 Needs "Automatic IBRS.";
        NO_SMM_CTL_MSR = 9 Emulated "No SMM_CTL MSR.";
        GP_ON_USER_CPUID = 17 Emulated "CPUID faulting.";
        PREFETCHI = 20 Plain "PREFETCHI.";
        AVX512_BMM = 23 Plain "AVX-512 bit matrices.";
        ERAPS = 24 Needs "Enhanced return predictor.";
        SBPB = 27 Synthesized "Selective predictor barrier.";
        IBPB_BRTYPE = 28 Synthesized "IBPB flushes branch types.";
        SRSO_NO = 29 Synthesized "No speculative return overflow.";
        SRSO_USER_KERNEL_NO = 30 Plain "No speculative return overflow across privileges.";
    }
    /// Leaf 8000_0021h, ECX.
    L821Ecx(0x8000_0021, 0, Ecx, None) {
        TSA_SQ_NO = 1 Synthesized "No TSA by store queue.";
        TSA_L1_NO = 2 Synthesized "No TSA by L1 cache.";
        TSA_FILL_NO = 7 Synthesized "No TSA by fill buffer.";
    }
    /// Leaf 8000_0022h, EAX.
    L822Eax(0x8000_0022, 0, Eax, None) {
        PERFMON_V2 = 0 Needs "Performance monitoring 2.";
    }
}
