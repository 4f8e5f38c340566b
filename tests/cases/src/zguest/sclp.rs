// SPDX-License-Identifier: GPL-2.0
//! The service-call logical processor, as far as a kernel needs it to start: memory, CPUs, and a console
//! that takes text.

use anyhow::{Context, Result};

use crate::ram::Ram;

/// Kind of an event: text for a terminal.
const VT220: u8 = 0x1a;
/// That kind in a mask of 32 bits.
const VT220_MASK: u32 = 0x40;

/// Responses.
mod response {
    pub(super) const READ: u16 = 0x0010;
    pub(super) const DONE: u16 = 0x0020;
    pub(super) const UNKNOWN: u16 = 0x01f0;
    pub(super) const NOTHING: u16 = 0x60f0;
}

/// A machine of so many MiB and CPUs.
pub(super) struct Sclp {
    pub(super) mib: u16,
    pub(super) cpus: u16,
}

impl Sclp {
    /// Serves a command with the block at an address; text of the console goes to `text`.
    pub(super) fn serve(
        &self,
        ram: &Ram,
        command: u32,
        block: u64,
        text: &mut Vec<u8>,
    ) -> Result<()> {
        let answer = match command {
            0x0002_0001 | 0x0012_0001 => self.read_info(ram, block)?,
            0x0078_0005 => event_mask(ram, block)?,
            0x0076_0005 => event_data(ram, block, text)?,
            0x0077_0005 => response::NOTHING,
            _ => response::UNKNOWN,
        };
        ram.write(block + 6, answer.to_be())
    }

    fn read_info(&self, ram: &Ram, block: u64) -> Result<u16> {
        /// Where the CPUs are told of, 16 bytes each.
        const CPUS: u16 = 128;
        ram.write(block + 8, self.mib.to_be())?;
        ram.write(block + 10, 1_u8)?;
        ram.write(block + 16, self.cpus.to_be())?;
        ram.write(block + 18, CPUS.to_be())?;
        ram.write_bytes(block + 24, &[0x40; 8])?;
        for cpu in 0..self.cpus {
            let entry = block + u64::from(CPUS + 16 * cpu);
            ram.write_bytes(entry, &[0; 16])?;
            ram.write(entry, u8::try_from(cpu)?)?;
        }
        Ok(response::READ)
    }
}

/// What kinds of events the guest and this side send and take.
fn event_mask(ram: &Ram, block: u64) -> Result<u16> {
    let length = u64::from(u16::from_be(ram.read(block + 10)?));
    let ours = block + 12 + 2 * length;
    for at in 0..2 * length {
        ram.write(ours + at, 0_u8)?;
    }
    if length >= 4 {
        // Linux looks for a terminal that could send as well.
        for mask in [ours, ours + length] {
            ram.write_bytes(mask, &VT220_MASK.to_be_bytes())?;
        }
    }
    Ok(response::DONE)
}

/// Events from the guest.
fn event_data(ram: &Ram, block: u64, text: &mut Vec<u8>) -> Result<u16> {
    let end = block + u64::from(u16::from_be(ram.read(block)?));
    let mut event = block + 8;
    while event + 6 <= end {
        let length = u64::from(u16::from_be(ram.read(event)?));
        if ram.read::<u8>(event + 2)? == VT220 {
            let size = usize::try_from(length.saturating_sub(6)).context("an event's size")?;
            text.extend(ram.read_bytes(event + 6, size)?);
            ram.write(event + 3, 0x80_u8)?;
        }
        event += length.max(6);
    }
    Ok(response::DONE)
}

/// EBCDIC as Linux writes it (code page 037), as far as it is text.
pub(super) fn ascii(byte: u8) -> u8 {
    const SPECIAL: &[(u8, u8)] = &[
        (0x40, b' '),
        (0x4b, b'.'),
        (0x4c, b'<'),
        (0x4d, b'('),
        (0x4e, b'+'),
        (0x4f, b'|'),
        (0x50, b'&'),
        (0x5a, b'!'),
        (0x5b, b'$'),
        (0x5c, b'*'),
        (0x5d, b')'),
        (0x5e, b';'),
        (0x60, b'-'),
        (0x61, b'/'),
        (0x6b, b','),
        (0x6c, b'%'),
        (0x6d, b'_'),
        (0x6e, b'>'),
        (0x6f, b'?'),
        (0x7a, b':'),
        (0x7b, b'#'),
        (0x7c, b'@'),
        (0x7d, b'\''),
        (0x7e, b'='),
        (0x7f, b'"'),
        (0xad, b'['),
        (0xba, b'['),
        (0xbb, b']'),
        (0xbd, b']'),
    ];
    match byte {
        0x81..=0x89 => byte - 0x81 + b'a',
        0x91..=0x99 => byte - 0x91 + b'j',
        0xa2..=0xa9 => byte - 0xa2 + b's',
        0xc1..=0xc9 => byte - 0xc1 + b'A',
        0xd1..=0xd9 => byte - 0xd1 + b'J',
        0xe2..=0xe9 => byte - 0xe2 + b'S',
        0xf0..=0xf9 => byte - 0xf0 + b'0',
        _ => SPECIAL.iter().find(|(code, _)| *code == byte).map_or(b'~', |(_, text)| *text),
    }
}
