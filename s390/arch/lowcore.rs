// SPDX-License-Identifier: GPL-2.0
//! Where a CPU stores and finds things at real addresses 0 to 8191 (Principles of
//! Operation, "Assigned Storage Locations").

/// Parameter of an external interruption, 4 bytes.
pub const EXTERNAL_PARAMETER: u64 = 0x80;
/// CPU address of an external interruption, 2 bytes.
pub const EXTERNAL_CPU: u64 = 0x84;
/// Code of an external interruption, 2 bytes.
pub const EXTERNAL_CODE: u64 = 0x86;
/// Program interruption: length code, 2 bytes, and code, 2 bytes.
pub const PROGRAM_LENGTH: u64 = 0x8c;
/// Data-exception code, 4 bytes.
pub const DATA_CODE: u64 = 0x90;
/// Monitor class, 2 bytes.
pub const MONITOR_CLASS: u64 = 0x94;
/// PER code and ATMID, 2 bytes.
pub const PER_CODE: u64 = 0x96;
/// PER address, 8 bytes.
pub const PER_ADDRESS: u64 = 0x98;
/// Exception, PER and operand access identification, a byte each.
pub const ACCESS_IDS: u64 = 0xa0;
/// Translation-exception identification, 8 bytes.
pub const TRANSLATION: u64 = 0xa8;
/// Monitor code, 8 bytes.
pub const MONITOR_CODE: u64 = 0xb0;
/// I/O interruption: subsystem identification word, parameter, identification
/// word; 12 bytes.
pub const IO: u64 = 0xb8;
/// Machine-check interruption code, 8 bytes.
pub const MACHINE_CHECK_CODE: u64 = 0xe8;
/// External-damage code, 4 bytes.
pub const EXTERNAL_DAMAGE: u64 = 0xf4;
/// Failing-storage address, 8 bytes.
pub const FAILING_STORAGE: u64 = 0xf8;
/// Breaking-event address, 8 bytes.
pub const BREAKING_EVENT: u64 = 0x110;
/// Second parameter of an external interruption, 8 bytes.
pub const EXTERNAL_PARAMETER_2: u64 = 0x11b8;
/// Status that is stored: floating-point registers and what follows.
pub const SAVE_AREA: u64 = 0x1200;

/// Old and new PSW of one kind of interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PswPair {
    /// Where the PSW goes.
    pub old: u64,
    /// Where the next one comes from.
    pub new: u64,
}

/// Restart.
pub const RESTART: PswPair = PswPair { old: 0x120, new: 0x1a0 };
/// External.
pub const EXTERNAL: PswPair = PswPair { old: 0x130, new: 0x1b0 };
/// Supervisor call.
pub const SUPERVISOR_CALL: PswPair = PswPair { old: 0x140, new: 0x1c0 };
/// Program.
pub const PROGRAM: PswPair = PswPair { old: 0x150, new: 0x1d0 };
/// Machine check.
pub const MACHINE_CHECK: PswPair = PswPair { old: 0x160, new: 0x1e0 };
/// I/O.
pub const INPUT_OUTPUT: PswPair = PswPair { old: 0x170, new: 0x1f0 };

/// Offsets in the area that stored status takes, from [`SAVE_AREA`] on.
pub mod status {
    /// General registers.
    pub const GENERAL: u64 = 0x80;
    /// PSW.
    pub const PSW: u64 = 0x100;
    /// Prefix, 4 bytes.
    pub const PREFIX: u64 = 0x118;
    /// Floating-point control, 4 bytes.
    pub const FLOATING_CONTROL: u64 = 0x11c;
    /// TOD programmable register, 4 bytes.
    pub const TOD_PROGRAMMABLE: u64 = 0x124;
    /// CPU timer.
    pub const CPU_TIMER: u64 = 0x128;
    /// Bits 0 to 55 of the clock comparator, in the lower seven bytes.
    pub const CLOCK_COMPARATOR: u64 = 0x130;
    /// Access registers.
    pub const ACCESS: u64 = 0x140;
    /// Control registers.
    pub const CONTROL: u64 = 0x180;
}
