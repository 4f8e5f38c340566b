// SPDX-License-Identifier: GPL-2.0
//! Why a guest came out (`SieBlock::intercept`).

use crate::insn;

/// The codes.
pub mod code {
    /// Instruction.
    pub const INSTRUCTION: u8 = 0x04;
    /// Program interruption.
    pub const PROGRAM: u8 = 0x08;
    /// Instruction and program interruption.
    pub const INSTRUCTION_AND_PROGRAM: u8 = 0x0c;
    /// External request: the guest can take the external interruption that waits.
    pub const EXTERNAL_REQUEST: u8 = 0x10;
    /// External interruption.
    pub const EXTERNAL: u8 = 0x14;
    /// I/O request, likewise.
    pub const IO_REQUEST: u8 = 0x18;
    /// The guest loaded a wait PSW.
    pub const WAIT: u8 = 0x1c;
    /// The block or the guest's state is invalid.
    pub const VALIDITY: u8 = 0x20;
    /// The CPU is to stop.
    pub const STOP: u8 = 0x28;
    /// Operation exception.
    pub const OPERATION: u8 = 0x2c;
    /// Execution ended in the middle of an instruction.
    pub const PARTIAL: u8 = 0x38;
    /// I/O instruction.
    pub const IO_INSTRUCTION: u8 = 0x40;
    /// Storage keys are used for the first time.
    pub const KEYLESS: u8 = 0x5c;
    /// The guest can take the machine check that waits.
    pub const MACHINE_CHECK_REQUEST: u8 = 0x60;
    /// The guest enabled interruptions.
    pub const ENABLED: u8 = 0x64;
}

/// Bytes of the intercepted instruction, or of what a program interruption is
/// about; 0 if the code has none. `ipa`, `status` and `program_length` are the
/// block's. If it was executed by EXECUTE, the length is that of the latter.
pub const fn instruction_length(intercept: u8, status: u8, ipa: u16, program_length: u16) -> u8 {
    match intercept {
        code::INSTRUCTION
        | code::INSTRUCTION_AND_PROGRAM
        | code::OPERATION
        | code::PARTIAL
        | code::IO_INSTRUCTION => {
            if status & 1 == 0 {
                return insn::length((ipa >> 8) as u8);
            }
            match status >> 4 & 6 {
                0 => 4,
                length => length,
            }
        }
        code::PROGRAM => (program_length & 6) as u8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(instruction_length(code::INSTRUCTION, 0, 0x8300, 0), 4);
        assert_eq!(instruction_length(code::INSTRUCTION, 0, 0xe502, 0), 6);
        assert_eq!(instruction_length(code::INSTRUCTION, 1, 0xe502, 0), 4);
        assert_eq!(instruction_length(code::INSTRUCTION, 0x61, 0xb202, 0), 6);
        assert_eq!(instruction_length(code::PROGRAM, 0, 0, 6), 6);
        assert_eq!(instruction_length(code::WAIT, 0, 0xe502, 6), 0);
    }
}
