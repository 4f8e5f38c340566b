// SPDX-License-Identifier: GPL-2.0
//! The modes of the processor that guests start in, and where things lie in their memory.
//!
//! ```text
//!   1000  GDT              8000  code, where guests start
//!   2000  IDT             20000  data of cases
//!   3000  TSS             80000  stacks, downwards, 8 KiB for each vCPU
//!   4000  trap stubs     200000  page tables
//!   5000  trap handler   220000  more page tables
//!   5800  the last trap    10000  handlers of cases, 128 bytes for each vector
//!   6000  data of cases, also in real mode
//!   8000  stack of real mode, downwards
//! ```
//!
//! Page tables map 4 GiB to themselves with 2 MiB pages (4 MiB without PAE), for everybody.

#![allow(missing_docs, reason = "names of the architecture's, and the table above")]

use anyhow::{Result, ensure};
use kvm_bindings::{kvm_dtable, kvm_segment};

use super::ram::Ram;
use super::trap;
use super::vcpu::Vcpu;

pub const GDT: u64 = 0x1000;
pub const IDT: u64 = 0x2000;
pub const TSS: u64 = 0x3000;
pub const STUBS: u64 = 0x4000;
pub const TRAP_CODE: u64 = 0x5000;
pub const TRAP: u64 = 0x5800;
/// Data of cases: a page.
pub const DATA: u64 = 0x6000;
const REAL_STACK: u64 = 0x8000;
/// Where guests start.
pub const CODE: u64 = 0x8000;
/// Where handlers of cases lie, and the room for each.
const HANDLERS: u64 = 0x1_0000;
const HANDLER: u64 = 0x80;
/// More data of cases.
pub const BIG_DATA: u64 = 0x2_0000;
const STACK: u64 = 0x8_0000;
const STACK_SIZE: u64 = 0x2000;
const TABLES: u64 = 0x20_0000;
/// Free for page tables of cases.
pub const MORE_TABLES: u64 = 0x22_0000;

/// Selectors of the GDT.
pub const CODE_64: u16 = 0x08;
pub const DATA_32: u16 = 0x10;
pub const CODE_32: u16 = 0x18;
pub const CODE_16: u16 = 0x20;
pub const DATA_16: u16 = 0x28;
pub const USER_CODE_32: u16 = 0x33;
pub const USER_DATA: u16 = 0x3b;
pub const USER_CODE_64: u16 = 0x43;
pub const TASK: u16 = 0x48;
/// First entry of the GDT that is free, two words long.
pub const FREE: u16 = 0x58;

const DESCRIPTORS: [u64; 9] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x0000_9b00_0000_ffff,
    0x0000_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];

/// A mode of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, all segments at 0.
    Real,
    /// 32-bit protected mode without paging.
    Flat,
    /// 32-bit protected mode with two-level paging.
    Paged,
    /// 32-bit protected mode with PAE paging.
    Pae,
    /// 64-bit mode.
    Long,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Real, Self::Flat, Self::Paged, Self::Pae, Self::Long];
}

pub const CR0_PE: u64 = 1;
const CR0_BASE: u64 = 0x22;
pub const CR0_ET: u64 = 0x10;
pub const CR0_WP: u64 = 1 << 16;
pub const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
pub const CR4_PAE: u64 = 1 << 5;
/// FXSR and SIMD exceptions.
const CR4_SSE: u64 = 3 << 9;
/// LME, LMA, NXE.
const EFER_LONG: u64 = 0xd00;

/// Present, writable, for everybody.
pub const PTE: u64 = 7;
const LARGE: u64 = 0x80;

/// Puts what all modes share into memory.
pub fn prepare(ram: &Ram) -> Result<()> {
    for (descriptor, at) in DESCRIPTORS.iter().zip((GDT..).step_by(8)) {
        ram.write(at, *descriptor)?;
    }
    Ok(())
}

/// A segment register for a selector of the GDT of 4 GiB at 0.
pub fn flat(selector: u16) -> kvm_segment {
    let descriptor = DESCRIPTORS[usize::from(selector >> 3) % DESCRIPTORS.len()];
    let bit = |number: u32| (descriptor >> number & 1) as u8;
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    kvm_segment {
        base: 0,
        limit: if bit(55) == 1 { limit << 12 | 0xfff } else { limit },
        selector,
        type_: (descriptor >> 40 & 0xf) as u8,
        present: bit(47),
        dpl: (descriptor >> 45 & 3) as u8,
        db: bit(54),
        s: bit(44),
        l: bit(53),
        g: bit(55),
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// The descriptor of a task-state segment of 104 bytes.
pub fn tss_descriptor(base: u64) -> u64 {
    0x0000_8900_0000_0067 | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56
}

impl Vcpu {
    /// Copies `code` to [`CODE`] and makes the vCPU about to run it in `mode`.
    pub fn start(&self, mode: Mode, code: &[u8]) -> Result<()> {
        self.ram().write_bytes(CODE, code)?;
        self.enter_mode(mode)
    }

    /// The same at another place, for a second vCPU.
    pub fn start_at(&self, mode: Mode, place: u64, code: &[u8]) -> Result<()> {
        self.ram().write_bytes(place, code)?;
        self.enter_mode(mode)?;
        self.change_regs(|regs| regs.rip = place)
    }

    /// Lets 64-bit code handle a vector, after the vCPU was started.
    pub fn handle(&self, vector: u8, code: &[u8]) -> Result<()> {
        let place = HANDLERS + HANDLER * u64::from(vector);
        ensure!(code.len() as u64 <= HANDLER, "a handler of {} bytes", code.len());
        self.ram().write_bytes(place, code)?;
        self.set_gate(Mode::Long, vector, place)
    }

    /// Makes the vCPU about to run what is at [`CODE`] in `mode`.
    pub fn enter_mode(&self, mode: Mode) -> Result<()> {
        let mut sregs = self.sregs()?;
        if mode == Mode::Real {
            for segment in [
                &mut sregs.cs,
                &mut sregs.ds,
                &mut sregs.es,
                &mut sregs.fs,
                &mut sregs.gs,
                &mut sregs.ss,
            ] {
                segment.base = 0;
                segment.selector = 0;
            }
        } else {
            let long = mode == Mode::Long;
            sregs.cs = flat(if long { CODE_64 } else { CODE_32 });
            for segment in
                [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss]
            {
                *segment = flat(DATA_32);
            }
            sregs.tr = self.task(long)?;
            sregs.gdt = kvm_dtable { base: GDT, limit: 0x7f, ..Default::default() };
            let gate = if long { 16 } else { 8 };
            sregs.idt = kvm_dtable { base: IDT, limit: 256 * gate - 1, ..Default::default() };
            for vector in 0..=u8::MAX {
                self.set_gate(mode, vector, trap::stub(vector))?;
            }
            trap::install(self.ram(), mode)?;
            sregs.cr0 = CR0_PE | CR0_ET | CR0_BASE | CR0_WP;
            sregs.cr4 = CR4_SSE;
            sregs.efer = 0;
            if mode != Mode::Flat {
                sregs.cr0 |= CR0_PG;
                sregs.cr3 = TABLES;
            }
            match mode {
                Mode::Paged => sregs.cr4 |= CR4_PSE,
                Mode::Pae => sregs.cr4 |= CR4_PAE,
                Mode::Long => {
                    sregs.cr4 |= CR4_PAE;
                    sregs.efer = EFER_LONG;
                }
                _ => {}
            }
            write_tables(self.ram(), mode)?;
        }
        self.set_sregs(&sregs)?;
        let rsp = if mode == Mode::Real { REAL_STACK } else { self.stack() };
        self.set_regs(&kvm_bindings::kvm_regs { rip: CODE, rflags: 2, rsp, ..Default::default() })
    }

    /// Makes the rest of a 64-bit guest's code user code.
    pub fn become_user(&self) -> Result<()> {
        self.change_sregs(|sregs| {
            sregs.cs = flat(USER_CODE_64);
            sregs.ss = flat(USER_DATA);
        })
    }

    /// The end of this vCPU's stack.
    pub fn stack(&self) -> u64 {
        STACK - STACK_SIZE * u64::from(self.id() % 16)
    }

    /// Writes the task-state segment and its descriptor, and gives TR.
    fn task(&self, long: bool) -> Result<kvm_segment> {
        let ram = self.ram();
        ram.write(GDT + u64::from(TASK), tss_descriptor(TSS))?;
        ram.write(GDT + u64::from(TASK) + 8, 0u64)?;
        // No bitmap of ports.
        ram.write(TSS + 102, 0x68u16)?;
        let inner = STACK - 16 * STACK_SIZE;
        if long {
            ram.write(TSS + 4, inner as u32)?;
            ram.write(TSS + 8, 0u32)?;
        } else {
            ram.write(TSS + 4, inner as u32)?;
            ram.write(TSS + 8, u32::from(DATA_32))?;
        }
        Ok(kvm_segment {
            base: TSS,
            limit: 0x67,
            selector: TASK,
            type_: 11,
            present: 1,
            ..Default::default()
        })
    }

    /// Lets an interrupt gate lead to `at`; those of real mode are words.
    pub fn set_gate(&self, mode: Mode, vector: u8, at: u64) -> Result<()> {
        let vector = u64::from(vector);
        let gate = |selector: u16| {
            0x0000_8e00_0000_0000
                | at & 0xffff
                | u64::from(selector) << 16
                | (at >> 16 & 0xffff) << 48
        };
        match mode {
            Mode::Real => self.ram().write(vector * 4, at as u32),
            Mode::Long => {
                self.ram().write(IDT + vector * 16, gate(CODE_64))?;
                self.ram().write(IDT + vector * 16 + 8, at >> 32)
            }
            _ => self.ram().write(IDT + vector * 8, gate(CODE_32)),
        }
    }
}

/// Page tables that map 4 GiB to themselves.
pub fn write_tables(ram: &Ram, mode: Mode) -> Result<()> {
    match mode {
        Mode::Real | Mode::Flat => {}
        Mode::Paged => {
            for index in 0..1024u32 {
                let entry = index << 22 | (PTE | LARGE) as u32;
                ram.write(TABLES + 4 * u64::from(index), entry)?;
            }
        }
        Mode::Pae | Mode::Long => {
            let directories = TABLES + 0x2000;
            let mut pointers = TABLES;
            let mut flags = 1;
            if mode == Mode::Long {
                pointers += 0x1000;
                flags = PTE;
                ram.write(TABLES, pointers | PTE)?;
            }
            for index in 0..4 {
                ram.write(pointers + 8 * index, directories + 0x1000 * index | flags)?;
            }
            for index in 0..2048 {
                ram.write(directories + 8 * index, index << 21 | PTE | LARGE)?;
            }
        }
    }
    Ok(())
}

/// Maps the 4 KiB page of `address` with `entry` in the page tables of 64-bit mode, below 4 GiB. The
/// other pages of its 2 MiB stay as they are. `table` is a page for the page table.
pub fn map_page(ram: &Ram, address: u64, entry: u64, table: u64) -> Result<()> {
    let directory = TABLES + 0x2000 + 8 * (address >> 21);
    let large = ram.read::<u64>(directory)?;
    if large & LARGE != 0 {
        let start = address >> 21 << 21;
        for index in 0..512 {
            ram.write(table + 8 * index, start + 0x1000 * index | PTE)?;
        }
        ram.write(directory, table | PTE)?;
    }
    let table = ram.read::<u64>(directory)? & !0xfff;
    ram.write(table + 8 * (address >> 12 & 511), entry)
}
