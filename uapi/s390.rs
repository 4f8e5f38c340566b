// SPDX-License-Identifier: GPL-2.0
//! State of an IBM Z vCPU.

crate::layout::abi_structs! {
    list for_each_s390_struct;

    /// General registers.
    Regs = kvm_regs {
        gprs: [u64; 16],
    }
    /// Access and control registers.
    Sregs = kvm_sregs {
        acrs: [u32; 16],
        crs: [u64; 16],
    }
    /// Reads and writes of guest memory on the guest's behalf.
    MemOp = kvm_s390_mem_op {
        gaddr: u64,
        flags: u64,
        size: u32,
        op: u32,
        buf: u64,
        __bindgen_anon_1: [u8; 32],
    }
    /// An interruption to inject; `u` is read as the type says.
    Irq = kvm_s390_irq {
        type_: u64,
        u: [u64; 8],
    }
    /// The pending interruptions of a vCPU, a list of [`Irq`]s at `buf`.
    IrqState = kvm_s390_irq_state {
        buf: u64,
        flags: u32,
        len: u32,
        reserved: [u32; 4],
    }
    /// Storage keys of a range of pages.
    Skeys = kvm_s390_skeys {
        start_gfn: u64,
        count: u64,
        skeydata_addr: u64,
        flags: u32,
        reserved: [u32; 9],
    }
    /// A breakpoint or a watchpoint.
    HwBreakpoint = kvm_hw_breakpoint {
        addr: u64,
        phys_addr: u64,
        len: u64,
        type_: u8,
        pad: [u8; 7],
    }
    /// How many there are, and where.
    GuestDebugArch = kvm_guest_debug_arch {
        nr_hw_bp: u32,
        pad: u32,
        hw_bp: u64,
    }
    /// What a debugger wants.
    GuestDebug = kvm_guest_debug {
        control: u32,
        pad: u32,
        arch: GuestDebugArch,
    }
    /// What a debugger is told.
    DebugExit = kvm_debug_exit_arch {
        addr: u64,
        type_: u8,
        pad: [u8; 7],
    }
    /// An operation on one storage key.
    KeyOp = kvm_s390_keyop {
        guest_addr: u64,
        key: u8,
        operation: u8,
        pad: [u8; 6],
    }
    /// States of pages that collaborative memory management knows.
    CmmaLog = kvm_s390_cmma_log {
        start_gfn: u64,
        count: u32,
        flags: u32,
        __bindgen_anon_1: u64,
        values: u64,
    }
    /// The program status word to start with.
    Psw = kvm_s390_psw {
        mask: u64,
        addr: u64,
    }
    /// An I/O adapter, which has interruptions of its own.
    IoAdapter = kvm_s390_io_adapter {
        id: u32,
        isc: u8,
        maskable: u8,
        swap: u8,
        flags: u8,
    }
    /// A change of one.
    IoAdapterRequest = kvm_s390_io_adapter_req {
        id: u32,
        type_: u8,
        mask: u8,
        pad0: u16,
        addr: u64,
    }
    /// How those of all subclasses are.
    AisAll = kvm_s390_ais_all {
        simm: u8,
        nimm: u8,
    }
    /// An interruption in the older, shorter form.
    Interrupt = kvm_s390_interrupt {
        type_: u32,
        parm: u32,
        parm64: u64,
    }
}

/// Floating-point registers (`struct kvm_fpu`): the control register in the upper
/// half of the first word, whose lower half is padding, then the registers.
pub type Fpu = [u64; 17];

/// `struct kvm_run` beyond what all architectures have: byte offsets from its
/// start.
pub mod run {
    use crate::run::offset::SYNC_REGS;

    /// `psw_mask`, u64, in and out.
    pub const PSW_MASK: usize = 32;
    /// `psw_addr`, u64, in and out.
    pub const PSW_ADDR: usize = 40;

    macro_rules! sync {
        ($($(#[$doc:meta])* $name:ident = $field:ident at $offset:expr;)*) => {
            $($(#[$doc])* pub const $name: usize = SYNC_REGS + $offset;)*

            /// Calls `$callback!` with the synchronized registers of this module as
            /// `field = NAME;`.
            #[macro_export]
            macro_rules! for_each_s390_sync_reg {
                ($callback:ident) => { $callback! { $($field = $name;)* } };
            }
        };
    }
    sync! {
        /// Prefix, u64.
        PREFIX = prefix at 0;
        /// General registers, 16 of u64.
        GPRS = gprs at 8;
        /// Access registers, 16 of u32.
        ACRS = acrs at 136;
        /// Control registers, 16 of u64.
        CRS = crs at 200;
        /// TOD programmable register, u64.
        TODPR = todpr at 328;
        /// CPU timer, u64.
        CPUTM = cputm at 336;
        /// Clock comparator, u64.
        CKC = ckc at 344;
        /// Program parameter, u64.
        PP = pp at 352;
        /// Breaking-event address, u64.
        GBEA = gbea at 360;
        /// Page-fault token, u64.
        PFT = pft at 368;
        /// Page-fault select mask, u64.
        PFS = pfs at 376;
        /// Page-fault compare mask, u64.
        PFC = pfc at 384;
        /// Floating-point registers, 16 of u64; or vector registers.
        FPRS = __bindgen_anon_1 at 392;
        /// Floating-point control, u32.
        FPC = fpc at 1416;
        /// What DIAGNOSE 318 set, u64.
        DIAG318 = diag318 at 1536;
    }
}

/// Sets of synchronized registers (`kvm_valid_regs`, `kvm_dirty_regs`).
pub mod sync {
    /// Prefix.
    pub const PREFIX: u64 = 1 << 0;
    /// General registers.
    pub const GPRS: u64 = 1 << 1;
    /// Access registers.
    pub const ACRS: u64 = 1 << 2;
    /// Control registers.
    pub const CRS: u64 = 1 << 3;
    /// Timers and the like.
    pub const ARCH0: u64 = 1 << 4;
    /// Page faults.
    pub const PFAULT: u64 = 1 << 5;
    /// Floating-point registers.
    pub const FPRS: u64 = 1 << 8;
    /// What DIAGNOSE 318 set.
    pub const DIAG318: u64 = 1 << 12;
    /// Those that have a meaning, whether or not the machine has them.
    pub const KNOWN: u64 = 0x1fff;
}

/// Value of the page-fault token that turns the handshake off.
pub const PFAULT_TOKEN_INVALID: u64 = u64::MAX;
