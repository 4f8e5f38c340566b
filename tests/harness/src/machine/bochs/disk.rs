// SPDX-License-Identifier: GPL-2.0
//! The disk that the `intel` machine boots from.
//!
//! | sectors | what | goes to |
//! | --- | --- | --- |
//! | 0 | boot sector (`tests/machines/intel/boot.S`) | 0x7c00 |
//! | 1 to 8 | `boot_params` | 0x10000 |
//! | 9 to 16 | kernel command line | 0x11000 |
//! | 17 | what to load and where to start | 0x12000 |
//! | 18 on | segments of the kernel, initramfs | their physical addresses |
//!
//! The kernel is an unpacked one, entered in 64-bit mode; `boot_params` are those that
//! `Documentation/arch/x86/boot.rst` asks for then. The boot sector adds the memory map.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SECTOR: u64 = 512;
/// A cylinder of the geometry that Bochs takes for a disk of unknown geometry.
const CYLINDER: u64 = 16 * 63 * SECTOR;
const MIB: u64 = 1 << 20;

/// Sectors and addresses, as the boot sector has them.
const PARAMS_SECTOR: u64 = 1;
const CMDLINE_SECTOR: u64 = 9;
const CMDLINE_SIZE: usize = 4096;
const CMDLINE_ADDRESS: u32 = 0x11000;
const TABLE_SECTOR: u64 = 17;
const DATA_SECTOR: u64 = 18;

/// Lowest address of the initramfs: well above a kernel at its usual 16 MiB.
const INITRAMFS: u64 = 128 * MIB;
/// Memory that has to be left for the kernel to start in.
const ROOM: u64 = 128 * MIB;

/// What a disk is to boot.
pub(super) struct Disk<'a> {
    /// Kernel, as an ELF file.
    pub(super) kernel: &'a Path,
    /// Initramfs.
    pub(super) initramfs: &'a Path,
    /// Kernel command line.
    pub(super) cmdline: &'a str,
    /// Memory of the machine.
    pub(super) mem_mib: u32,
}

/// A part of the kernel that has a place in memory.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    address: u64,
    offset: u64,
    file_size: u64,
    memory_size: u64,
}

/// The kernel's ELF file, as far as it matters.
#[derive(Debug)]
struct Elf {
    entry: u64,
    segments: Vec<Segment>,
}

/// An image being written, and the table of its contents for the boot sector.
struct Image {
    file: File,
    next: u64,
    table: Vec<u8>,
}

impl Disk<'_> {
    /// Writes the disk to `path`.
    pub(super) fn write(&self, boot_sector: &[u8], path: &Path) -> Result<()> {
        let making = || format!("making {}", path.display());
        ensure!(self.cmdline.len() < CMDLINE_SIZE, "the kernel command line is too long");
        ensure!(boot_sector.len() as u64 == SECTOR, "the boot sector has not one sector's size");
        let kernel = File::open(self.kernel)
            .with_context(|| format!("opening {}", self.kernel.display()))?;
        let elf = Elf::read(&kernel)
            .with_context(|| format!("understanding {}", self.kernel.display()))?;
        let initramfs = fs::read(self.initramfs)
            .with_context(|| format!("reading {}", self.initramfs.display()))?;
        let address = elf.end().next_multiple_of(2 * MIB).max(INITRAMFS);
        let need = address + initramfs.len() as u64 + ROOM;
        let have = u64::from(self.mem_mib) * MIB;
        ensure!(have >= need, "intel needs MEM={} or more for this", need.div_ceil(MIB));

        let mut image = Image {
            file: File::create(path).with_context(making)?,
            next: DATA_SECTOR,
            table: Vec::new(),
        };
        image.number(elf.entry)?;
        for segment in &elf.segments {
            image.load(segment.address, &segment.bytes(&kernel)?).with_context(making)?;
        }
        image.load(address, &initramfs).with_context(making)?;
        image.end().with_context(making)?;
        let params = boot_params(u32::try_from(address)?, u32::try_from(initramfs.len())?);
        for (sector, bytes) in [
            (0, boot_sector),
            (PARAMS_SECTOR, params.as_slice()),
            (CMDLINE_SECTOR, self.cmdline.as_bytes()),
            (TABLE_SECTOR, image.table.as_slice()),
        ] {
            image.file.write_all_at(bytes, sector * SECTOR).with_context(making)?;
        }
        Ok(())
    }
}

impl Image {
    /// A number in the table.
    fn number(&mut self, value: u64) -> Result<()> {
        let value = u32::try_from(value).context("an address beyond 4 GiB")?;
        self.table.extend(value.to_le_bytes());
        ensure!(self.table.len() as u64 <= SECTOR, "too many segments");
        Ok(())
    }

    /// Has `bytes` loaded to `address`.
    fn load(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        if sectors == 0 {
            return Ok(());
        }
        self.file.write_all_at(bytes, self.next * SECTOR)?;
        self.number(address)?;
        self.number(self.next)?;
        self.number(sectors)?;
        self.next += sectors;
        Ok(())
    }

    /// Ends the table, and the disk at the end of a cylinder.
    fn end(&mut self) -> Result<()> {
        for _ in 0..3 {
            self.number(0)?;
        }
        let size = (self.next * SECTOR).next_multiple_of(CYLINDER);
        self.file.set_len(size).context("setting its size")
    }
}

/// `struct boot_params` without a memory map.
fn boot_params(initramfs: u32, initramfs_size: u32) -> [u8; 4096] {
    let mut params = [0; 4096];
    let mut put = |offset: usize, bytes: &[u8]| {
        params[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes()); // version of the boot protocol
    put(0x210, &[0xff]); // boot loader: none with a number
    put(0x211, &[0x01]); // loaded high
    put(0x218, &initramfs.to_le_bytes());
    put(0x21c, &initramfs_size.to_le_bytes());
    put(0x228, &CMDLINE_ADDRESS.to_le_bytes());
    put(0x230, &0x0100_0000_u32.to_le_bytes()); // alignment of the kernel
    put(0x238, &(CMDLINE_SIZE as u32 - 1).to_le_bytes());
    params
}

impl Elf {
    fn read(file: &File) -> Result<Elf> {
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0).context("reading its header")?;
        let x86_64 = header.starts_with(b"\x7fELF\x02\x01") && number(&header, 18, 2) == Some(62);
        ensure!(x86_64, "it is no ELF file for x86_64");
        let field = |offset, size| number(&header, offset, size).context("a short header");
        let (entry, table) = (field(24, 8)?, field(32, 8)?);
        let (size, count) = (field(54, 2)?, field(56, 2)?);
        let mut segments = Vec::new();
        for index in 0..count {
            let mut program = [0; 56];
            file.read_exact_at(&mut program, table + index * size)
                .context("reading its program headers")?;
            segments.extend(Segment::read(&program));
        }
        ensure!(!segments.is_empty(), "it has nothing to load");
        Ok(Elf { entry, segments })
    }

    /// Where the kernel ends in memory.
    fn end(&self) -> u64 {
        let ends = self.segments.iter().map(|segment| segment.address + segment.memory_size);
        ends.max().unwrap_or_default()
    }
}

impl Segment {
    /// The segment of a program header, if it is one to load.
    fn read(header: &[u8]) -> Option<Segment> {
        if number(header, 0, 4)? != 1 {
            return None;
        }
        Some(Segment {
            address: number(header, 24, 8)?,
            offset: number(header, 8, 8)?,
            file_size: number(header, 32, 8)?,
            memory_size: number(header, 40, 8)?,
        })
    }

    fn bytes(&self, file: &File) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.file_size)?];
        file.read_exact_at(&mut bytes, self.offset).context("reading a segment of the kernel")?;
        Ok(bytes)
    }
}

/// The little-endian number of `size` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::{Segment, boot_params, number};

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(number(&[9, 0x34, 0x12], 1, 2), Some(0x1234));
        assert_eq!(number(&[1, 2], 1, 2), None);
    }

    #[test]
    fn takes_segments_to_load_only() {
        let mut header = [0; 56];
        header[0] = 4;
        assert_eq!(Segment::read(&header), None);
        header[0] = 1;
        header[26] = 0x10;
        header[33] = 2;
        let segment = Segment::read(&header).expect("a segment");
        assert_eq!((segment.address, segment.file_size), (0x10_0000, 0x200));
    }

    #[test]
    fn boot_params_name_the_initramfs() {
        let params = boot_params(0x0800_0000, 0x1234);
        assert_eq!(number(&params, 0x218, 4), Some(0x0800_0000));
        assert_eq!(number(&params, 0x21c, 4), Some(0x1234));
        assert_eq!(&params[0x202..0x206], b"HdrS");
    }
}
