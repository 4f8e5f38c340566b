// SPDX-License-Identifier: GPL-2.0
//! Guests of a few instructions: boot sectors that QEMU's firmware loads to 0x7c00 and starts in real mode.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::vmm::Options;

/// Bytes of a boot sector.
const SECTOR: usize = 512;

/// Start of the words that a boot sector writes to the serial port.
pub(crate) const UP: &str = "sector: up";
/// What [`Code::Ticks`] writes when it has computed and was interrupted often enough.
pub(crate) const DONE: &str = "sector: done";

/// What a boot sector does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Sums up memory, waits in HLT for ten timer interrupts, says so, and waits without more of them: where
    /// fifty tick no other gets to start.
    Ticks,
    /// Loads an empty interrupt table and causes an exception.
    TripleFault,
    /// Jumps to where there is nothing, in protected mode.
    Nowhere,
    /// Jumps to the bytes that follow it, which the test puts there.
    Follow,
}

/// A floppy with one boot sector, removed when this is dropped.
pub(crate) struct Floppy(PathBuf);

impl Floppy {
    /// Makes `/tmp/NAME` with `code`, and `follow` behind it in the same sector.
    pub(crate) fn new(name: &str, code: Code, follow: &[u8]) -> Result<Self> {
        let mut bytes = sector(code).to_vec();
        bytes.extend_from_slice(follow);
        bytes.resize(SECTOR, 0);
        bytes[SECTOR - 2..].copy_from_slice(&[0x55, 0xaa]);
        // The firmware believes in a floppy of the usual size.
        bytes.resize(1440 * 1024, 0);
        let path = Path::new("/tmp").join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Options for a small guest that boots it.
    pub(crate) fn options(&self) -> Options {
        let drive = format!(
            "-nodefaults -boot a -drive if=floppy,format=raw,readonly=on,file={}",
            self.0.display()
        );
        Options { smp: 1, memory: "16M".into(), ..Options::default() }.with(&drive)
    }
}

impl Drop for Floppy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(target_arch = "x86_64")]
fn sector(code: Code) -> &'static [u8] {
    x86::sector(code)
}

#[cfg(not(target_arch = "x86_64"))]
fn sector(_code: Code) -> &'static [u8] {
    &[]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::global_asm;

    use super::Code;

    // Each sector starts with the serial port's greeting. Addresses are those within the sector, at 0x7c00.
    // (The compiler's assembler can compute addresses in AT&T's notation only.)
    global_asm!(
        ".pushsection .rodata",
        ".code16",
        ".macro sector_say text, start",
        "    movw $(\\text - \\start + 0x7c00), %si",
        "    movw $0x3f8, %dx",
        "71: lodsb",
        "    outb %al, %dx",
        "    cmpb $10, %al",
        "    jne 71b",
        ".endm",
        ".macro sector_begin name",
        ".globl \\name\\()_start, \\name\\()_end",
        "\\name\\()_start:",
        "    xorw %ax, %ax",
        "    movw %ax, %ds",
        "    movw %ax, %es",
        "    movw %ax, %ss",
        "    movw $0x7c00, %sp",
        "    cld",
        "    jmp 70f",
        "\\name\\()_text: .ascii \"sector: up\\r\\n\"",
        "70:",
        "    sector_say \\name\\()_text, \\name\\()_start",
        ".endm",
        // Sums up the first 512 KiB by string instructions, then counts ticks that the firmware's handler
        // adds up at 0x46c.
        "    sector_begin sector_ticks",
        "    xorw %bx, %bx",
        "    xorl %ebp, %ebp",
        "1:  movw %bx, %ds",
        "    xorw %si, %si",
        "    movw $0x4000, %cx",
        "2:  lodsl",
        "    addl %eax, %ebp",
        "    loop 2b",
        "    addw $0x1000, %bx",
        "    cmpw $0x8000, %bx",
        "    jne 1b",
        "    xorw %ax, %ax",
        "    movw %ax, %ds",
        "    movl 0x46c, %ebx",
        "    addl $10, %ebx",
        "3:  sti",
        "    hlt",
        "    cmpl 0x46c, %ebx",
        "    ja 3b",
        "    sector_say sector_ticks_done, sector_ticks_start",
        "    inb $0x21, %al",
        "    orb $1, %al",
        "    outb %al, $0x21",
        "4:  hlt",
        "    jmp 4b",
        "sector_ticks_done: .ascii \"sector: done\\r\\n\"",
        "sector_ticks_end:",
        //
        "    sector_begin sector_triple",
        "    lidt sector_triple_table - sector_triple_start + 0x7c00",
        "    int3",
        "sector_triple_table: .word 0",
        "    .long 0",
        "sector_triple_end:",
        // Flat protected mode, then a jump to an address that no device and no memory has.
        "    sector_begin sector_nowhere",
        "    cli",
        "    lgdt sector_nowhere_table - sector_nowhere_start + 0x7c00",
        "    movl %cr0, %eax",
        "    orb $1, %al",
        "    movl %eax, %cr0",
        "    ljmpl $8, $0xd0000000",
        "    .balign 8",
        "sector_nowhere_segments: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff",
        "sector_nowhere_table: .word 23",
        "    .long sector_nowhere_segments - sector_nowhere_start + 0x7c00",
        "sector_nowhere_end:",
        //
        "    sector_begin sector_follow",
        "sector_follow_end:",
        ".code64",
        ".popsection",
        options(att_syntax),
    );

    unsafe extern "C" {
        static sector_ticks_start: u8;
        static sector_ticks_end: u8;
        static sector_triple_start: u8;
        static sector_triple_end: u8;
        static sector_nowhere_start: u8;
        static sector_nowhere_end: u8;
        static sector_follow_start: u8;
        static sector_follow_end: u8;
    }

    pub(super) fn sector(code: Code) -> &'static [u8] {
        let (start, end) = match code {
            Code::Ticks => (&raw const sector_ticks_start, &raw const sector_ticks_end),
            Code::TripleFault => (&raw const sector_triple_start, &raw const sector_triple_end),
            Code::Nowhere => (&raw const sector_nowhere_start, &raw const sector_nowhere_end),
            Code::Follow => (&raw const sector_follow_start, &raw const sector_follow_end),
        };
        // SAFETY: both labels lie in one read-only section, the end behind the start, and everything
        // between them was assembled there.
        unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
    }
}
