// SPDX-License-Identifier: GPL-2.0
//! The state description of a guest CPU, format 2: the SIE block.
//!
//! The machine reads it when SIE begins and writes back when it ends. General
//! registers 0 to 13 are not in it, nor are floating-point and access registers:
//! those are in the processor.

use crate::psw::Psw;
use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use core::sync::atomic::AtomicU32;
use static_assertions::const_assert_eq;

/// State of the CPU, and what gets it out (`cpuflags`). Others may set and clear
/// bits while the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFlags(u32);

bitflags! {
    impl CpuFlags: u32 {
        /// The CPU is stopped.
        const STOPPED = 0x8000_0000;
        /// The CPU is in the wait state.
        const WAIT = 0x1000_0000;
        /// An external call is pending.
        const EXTERNAL_CALL = 0x0800_0000;
        /// Come out as soon as possible: stop.
        const STOP_PENDING = 0x0400_0000;
        /// An I/O interruption waits: come out when the guest can take it.
        const IO_PENDING = 0x0200_0000;
        /// An external interruption waits: likewise.
        const EXTERNAL_PENDING = 0x0100_0000;
        /// A thread runs the CPU.
        const RUNNING = 0x0080_0000;
        /// The guest is in z/Architecture mode.
        const ZARCH = 0x0000_0800;
        /// Storage keys were never used: come out when they are (keyless
        /// subset).
        const KEYLESS = 0x0000_0200;
        /// With large pages: the guest's own tables may have them.
        const ENHANCED_DAT = 0x0000_0004;
        /// Must be one in z/Architecture ("SM" in Linux).
        const MODE = 0x0000_0080;
        /// Events are recorded whatever the PSW says (guest-PER enhancement).
        const EVENTS = 0x0000_0001;
    }
}

/// Control-register loads to intercept (`lctl`).
pub mod load_control {
    /// Control register 0.
    pub const CR0: u16 = 0x8000;
    /// Control register 6.
    pub const CR6: u16 = 0x0200;
    /// Control register 9.
    pub const CR9: u16 = 0x0040;
    /// Control register 10.
    pub const CR10: u16 = 0x0020;
    /// Control register 11.
    pub const CR11: u16 = 0x0010;
    /// Control register 14.
    pub const CR14: u16 = 0x0002;
}

/// Interception controls (`ictl`).
pub mod intercept_control {
    /// Operation exceptions.
    pub const OPERATION: u32 = 0x8000_0000;
    /// Program interruptions.
    pub const PROGRAM: u32 = 0x2000_0000;
    /// LPSW and LPSWE.
    pub const LOAD_PSW: u32 = 0x0040_0000;
    /// STCTL and STCTG.
    pub const STORE_CONTROL: u32 = 0x0004_0000;
    /// ISKE.
    pub const ISKE: u32 = 0x0000_4000;
    /// SSKE.
    pub const SSKE: u32 = 0x0000_2000;
    /// RRBE.
    pub const RRBE: u32 = 0x0000_1000;
    /// TPROT.
    pub const TPROT: u32 = 0x0000_0200;
}

/// Execution controls A (`eca`).
pub mod execution_a {
    /// Interpret conditional external interruptions.
    pub const EXTERNAL_INTERPRETATION: u32 = 0x8000_0000;
    /// Intervention bypass.
    pub const INTERVENTION_BYPASS: u32 = 0x4000_0000;
    /// Interpret MOVE PAGE.
    pub const MOVE_PAGE: u32 = 0x0100_0000;
    /// The guest gets its protection exceptions without an interception.
    pub const PROTECTION: u32 = 0x0000_2000;
    /// The interlock in the system control area counts its holders.
    pub const SYSTEM_INTERLOCK: u32 = 0x0000_0001;
}

/// Execution controls B (`ecb`).
pub mod execution_b {
    /// Host protection of the guest's memory interrupts the host.
    pub const HOST_PROTECTION: u8 = 0x02;
    /// Interpret SENSE RUNNING STATUS.
    pub const SENSE_RUNNING: u8 = 0x04;
    /// Specification exceptions at PSW loads are intercepted.
    pub const SPECIFICATION: u8 = 0x08;
}

/// Second byte of the execution controls B (`ecb2`).
pub mod execution_b2 {
    /// The system control area is an extended one.
    pub const EXTENDED_SCA: u8 = 0x04;
}

/// Third byte of the execution controls B (`ecb3`).
pub mod execution_b3 {
    /// Protected AES keys.
    pub const AES: u8 = 0x04;
    /// Protected DEA keys.
    pub const DEA: u8 = 0x08;
}

/// The block.
#[repr(C, align(512))]
#[derive(Debug)]
pub struct SieBlock {
    /// [`CpuFlags`].
    pub cpuflags: AtomicU32,
    /// The prefix, and the instruction blocking control in the lower twelve bits.
    prefix: u32,
    reserved_008: [u8; 4],
    /// The kernel's: bit 31 while the CPU is in SIE.
    pub in_sie: AtomicU32,
    reserved_010: [u8; 16],
    /// The kernel's: bits that keep a CPU from entering SIE.
    pub block_sie: AtomicU32,
    reserved_024: [u8; 4],
    /// CPU timer.
    pub cpu_timer: u64,
    /// Clock comparator.
    pub clock_comparator: u64,
    /// Added to the host's clock.
    pub epoch: u64,
    /// SVC interception controls.
    pub svc_control: u32,
    /// [`load_control`].
    pub load_control: u16,
    /// CPU address.
    pub cpu_address: u16,
    /// [`intercept_control`].
    pub intercept_control: u32,
    /// [`execution_a`].
    pub execution_a: u32,
    /// [`crate::intercept::code`], 0 if the guest came out for no reason of its own.
    pub intercept: u8,
    /// Bit 7: the instruction is the target of an execute; bits 1 and 2 then have
    /// the length code of that. Bit 6: a PER event.
    pub intercept_status: u8,
    /// Host CPU.
    pub last_host_cpu: u16,
    reserved_054: u8,
    /// Interruption that a condition intercept is about.
    pub interruption: u8,
    /// First two bytes of the instruction.
    pub ipa: u16,
    /// Next four bytes of the instruction.
    pub ipb: u32,
    /// Upper half of the address of the system control area.
    pub sca_high: u32,
    /// Facility bits.
    pub facility_control: u8,
    /// [`execution_b`].
    pub execution_b: u8,
    /// Execution controls B, second byte.
    pub execution_b2: u8,
    /// Third byte.
    pub execution_b3: u8,
    /// Lower half of the address of the system control area.
    pub sca_low: u32,
    /// Format of the block.
    pub format: u8,
    /// Epoch index.
    pub epoch_index: u8,
    /// Number that identifies the hypervisor's environment (DIAGNOSE 318).
    pub environment: u8,
    reserved_06b: u8,
    /// TOD programmable register.
    pub tod_programmable: u32,
    /// Guest interruption state area.
    pub gisa: u32,
    reserved_074: [u8; 12],
    /// Where the guest's memory begins in the space of its tables.
    pub main_storage_origin: u64,
    /// Where it ends.
    pub main_storage_limit: u64,
    /// Program status word.
    pub psw: Psw,
    /// General register 14.
    pub gpr14: u64,
    /// General register 15.
    pub gpr15: u64,
    reserved_0b0: [u8; 8],
    /// The hypervisor, for monitors.
    pub hypervisor: u8,
    reserved_0b9: [u8; 7],
    /// External interruption parameter; upper half of a machine-check code.
    pub external_parameter: u32,
    /// CPU address of an external interruption.
    pub external_cpu: u16,
    /// Code of an external interruption.
    pub external_code: u16,
    reserved_0c8: u32,
    /// Instruction length of a program interruption, in bits 1 and 2 of the lower
    /// byte.
    pub program_length: u16,
    /// Program interruption code.
    pub program_code: u16,
    /// Data exception code.
    pub data_code: u32,
    /// Monitor class.
    pub monitor_class: u16,
    /// PER code.
    pub per_code: u8,
    /// PER ATMID.
    pub per_atmid: u8,
    /// PER address.
    pub per_address: u64,
    /// Exception access identification.
    pub exception_access: u8,
    /// PER access identification.
    pub per_access: u8,
    /// Operand access identification.
    pub operand_access: u8,
    reserved_0e3: [u8; 5],
    /// Translation-exception identification, or monitor code.
    pub translation: u64,
    reserved_0f0: [u8; 12],
    /// Cryptographic control block.
    pub crypto: u32,
    /// Control registers.
    pub control: [u64; 16],
    /// Breaking-event address.
    pub breaking_event: u64,
    reserved_188: [u8; 8],
    /// State-description annex.
    pub annex: u64,
    reserved_198: [u8; 8],
    /// Facility list that STFLE interprets, if facility 7 is.
    pub facilities: u32,
    reserved_1a4: [u8; 20],
    /// Collaborative memory: log of blocks.
    pub block_log: u64,
    reserved_1c0: [u8; 8],
    /// Execution controls D.
    pub execution_d: u32,
    reserved_1cc: [u8; 18],
    /// Program parameter.
    program_parameter: [u8; 8],
    reserved_1e6: [u8; 2],
    /// Transaction diagnostic block.
    pub transaction_block: u64,
    /// Runtime instrumentation.
    pub runtime_instrumentation: u64,
    reserved_1f8: [u8; 8],
}

impl SieBlock {
    /// The prefix.
    pub const fn prefix(&self) -> u32 {
        prefix_in(self.prefix)
    }

    /// Sets the prefix; the lower 13 bits and the first are ignored.
    pub fn set_prefix(&mut self, prefix: u32) {
        self.prefix = with_prefix(self.prefix, prefix);
    }

    /// Program parameter.
    pub const fn program_parameter(&self) -> u64 {
        u64::from_be_bytes(self.program_parameter)
    }

    /// Sets it.
    pub fn set_program_parameter(&mut self, value: u64) {
        self.program_parameter = value.to_be_bytes();
    }
}

/// A page that begins with a block. The kernel's machine-check handler puts what
/// it found behind the block.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct SiePage {
    /// The block.
    pub block: SieBlock,
    /// Machine-check interruption code.
    pub machine_check_code: u64,
    /// Failing-storage address.
    pub failing_storage: u64,
    /// External-damage code.
    pub external_damage: u32,
    reserved: [u8; 0x1000 - 0x214],
}

macro_rules! offsets {
    ($($field:ident = $offset:expr;)*) => {
        $(const_assert_eq!(offset_of!(SieBlock, $field), $offset);)*
    };
}

offsets! {
    cpuflags = 0x00;
    prefix = 0x04;
    in_sie = 0x0c;
    block_sie = 0x20;
    cpu_timer = 0x28;
    clock_comparator = 0x30;
    epoch = 0x38;
    svc_control = 0x40;
    load_control = 0x44;
    cpu_address = 0x46;
    intercept_control = 0x48;
    execution_a = 0x4c;
    intercept = 0x50;
    interruption = 0x55;
    ipa = 0x56;
    ipb = 0x58;
    sca_high = 0x5c;
    execution_b = 0x61;
    sca_low = 0x64;
    tod_programmable = 0x6c;
    gisa = 0x70;
    main_storage_origin = 0x80;
    main_storage_limit = 0x88;
    psw = 0x90;
    gpr14 = 0xa0;
    hypervisor = 0xb8;
    external_parameter = 0xc0;
    external_code = 0xc6;
    program_length = 0xcc;
    program_code = 0xce;
    data_code = 0xd0;
    monitor_class = 0xd4;
    per_code = 0xd6;
    per_address = 0xd8;
    exception_access = 0xe0;
    translation = 0xe8;
    crypto = 0xfc;
    control = 0x100;
    breaking_event = 0x180;
    annex = 0x190;
    facilities = 0x1a0;
    block_log = 0x1b8;
    execution_d = 0x1c8;
    program_parameter = 0x1de;
    transaction_block = 0x1e8;
}
const_assert_eq!(size_of::<SieBlock>(), 512);
const_assert_eq!(size_of::<SiePage>(), 4096);
const_assert_eq!(offset_of!(SiePage, machine_check_code), 0x200);

/// Bits of a prefix.
const PREFIX: u32 = 0x7fff_e000;

/// What the block says for a prefix, in the place of what it said; the lower twelve
/// bits of the word are somebody else's.
const fn with_prefix(word: u32, prefix: u32) -> u32 {
    word & 0xfff | prefix & PREFIX
}

/// The prefix that a word of the block stands for.
const fn prefix_in(word: u32) -> u32 {
    word & PREFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_where_the_machine_looks() {
        assert_eq!(with_prefix(0xfff, 0x7fff_e000), 0x7fff_efff);
        assert_eq!(prefix_in(0x7fff_efff), 0x7fff_e000);
        assert_eq!(with_prefix(0x7fff_efff, 0x2000), 0x2fff);
        assert_eq!(prefix_in(with_prefix(0, 0x8000_2fff)), 0x2000);
    }
}
