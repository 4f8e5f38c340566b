// SPDX-License-Identifier: GPL-2.0
//! What guests do on exceptions and interrupts that they have no handler of their own for: they note
//! what happened, write to [`PORT`], and go on where the host says.

#![allow(missing_docs, reason = "fields are named as in the architecture")]

use anyhow::{Result, bail, ensure};

use super::code::guest;
use super::exit::Exit;
use super::mode::{Mode, STUBS, TRAP, TRAP_CODE};
use super::ram::Ram;
use super::vcpu::Vcpu;

/// The port that tells of a trap.
pub const PORT: u16 = 0xe9;

/// Bytes of the stub of one vector.
const STUB: u64 = 16;

/// Vectors whose exceptions push an error code.
const WITH_ERROR_CODE: [u8; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];

/// A trap that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    /// Stack pointer before; only noted in 64-bit mode.
    pub rsp: u64,
    pub cr2: u64,
    /// Address of the vector on the stack. The error code follows, then what the processor pushed.
    pub frame: u64,
}

impl Trap {
    /// The last one.
    pub fn read(ram: &Ram) -> Result<Self> {
        let word = |index: u64| ram.read::<u64>(TRAP + 8 * index);
        Ok(Self {
            vector: word(0)?,
            error: word(1)?,
            rip: word(2)?,
            cs: word(3)?,
            rflags: word(4)?,
            rsp: word(5)?,
            cr2: word(6)?,
            frame: word(7)?,
        })
    }
}

impl Vcpu {
    /// Enters the guest, which has to trap.
    pub fn trap(&mut self) -> Result<Trap> {
        let exit = self.run()?;
        if !matches!(exit, Exit::Out { port: PORT, .. }) {
            bail!("{} instead of a trap", self.describe(&exit));
        }
        Trap::read(self.ram())
    }

    /// Enters the guest, which has to take this exception.
    pub fn expect_trap(&mut self, vector: u64, error: u64) -> Result<Trap> {
        let trap = self.trap()?;
        ensure!(
            (trap.vector, trap.error) == (vector, error),
            "{trap:x?} instead of vector {vector:#x} with error code {error:#x}"
        );
        Ok(trap)
    }

    /// Lets a 64-bit guest return from a trap to another place.
    pub fn return_to(&self, trap: &Trap, rip: u64) -> Result<()> {
        self.ram().write(trap.frame + 16, rip)
    }

    /// Lets a 64-bit guest return from a trap behind the instruction of `length` bytes.
    pub fn skip(&self, trap: &Trap, length: u64) -> Result<()> {
        self.return_to(trap, trap.rip + length)
    }
}

/// Where the stub of a vector is.
pub fn stub(vector: u8) -> u64 {
    STUBS + STUB * u64::from(vector)
}

/// Puts the stubs and what they jump to into memory, for this mode.
pub fn install(ram: &Ram, mode: Mode) -> Result<()> {
    for vector in 0..=u8::MAX {
        let at = stub(vector);
        let mut code = Vec::new();
        if !WITH_ERROR_CODE.contains(&vector) {
            // push 0
            code.extend([0x6a, 0]);
        }
        // push vector; jmp
        code.push(0x68);
        code.extend(u32::from(vector).to_le_bytes());
        code.push(0xe9);
        let next = at + code.len() as u64 + 4;
        code.extend(((TRAP_CODE - next) as u32).to_le_bytes());
        ram.write_bytes(at, &code)?;
    }
    ram.write_bytes(TRAP_CODE, if mode == Mode::Long { note_64() } else { note_32() })
}

/// On the stack: vector, error code, what the processor pushed.
fn note_64() -> &'static [u8] {
    guest!(64;
        "push rax",
        "mov rax, [rsp + 8]", "mov [{to}], rax",
        "mov rax, [rsp + 16]", "mov [{to} + 8], rax",
        "mov rax, [rsp + 24]", "mov [{to} + 16], rax",
        "mov rax, [rsp + 32]", "mov [{to} + 24], rax",
        "mov rax, [rsp + 40]", "mov [{to} + 32], rax",
        "mov rax, [rsp + 48]", "mov [{to} + 40], rax",
        "mov rax, cr2", "mov [{to} + 48], rax",
        "lea rax, [rsp + 8]", "mov [{to} + 56], rax",
        "pop rax",
        "out {port}, al",
        "add rsp, 16",
        "iretq";
        to = TRAP, port = PORT
    )
}

/// By way of SS: coming from virtual 8086 the others are empty.
fn note_32() -> &'static [u8] {
    guest!(32;
        "push eax",
        "mov eax, [esp + 4]", "mov ss:[{to}], eax",
        "mov eax, [esp + 8]", "mov ss:[{to} + 8], eax",
        "mov eax, [esp + 12]", "mov ss:[{to} + 16], eax",
        "mov eax, [esp + 16]", "mov ss:[{to} + 24], eax",
        "mov eax, [esp + 20]", "mov ss:[{to} + 32], eax",
        "mov eax, cr2", "mov ss:[{to} + 48], eax",
        "lea eax, [esp + 4]", "mov ss:[{to} + 56], eax",
        "pop eax",
        "out {port}, al",
        "add esp, 8",
        "iretd";
        to = TRAP, port = PORT
    )
}
