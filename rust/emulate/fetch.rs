// SPDX-License-Identifier: GPL-2.0
//! Reading and decoding the instruction at CS:RIP.
//!
//! Bytes beyond the current page are only touched if the instruction reaches
//! there, as a processor does.

use crate::cpu::Cpu;
use crate::decode::{decode, DecodeError, Insn, MAX_LEN};
use crate::fault::{Exception, Stop};
use x86_defs::{Mode, SegReg, Vector};

/// Decodes the instruction at CS:RIP. `window` holds its first bytes if the
/// owner has them already (the decode assist), else it is empty.
///
/// # Errors
///
/// #UD, #GP(0) for more than 15 bytes or the end of the code segment, faults
/// of the fetch, `Unsupported` for unknown instructions.
pub fn fetch<C: Cpu>(cpu: &mut C, window: &[u8]) -> Result<Insn, Stop> {
    let mode = cpu.mode();
    let features = cpu.features();
    if !window.is_empty() {
        match decode(window, mode, features) {
            Err(DecodeError::Incomplete) => {}
            other => return other.map_err(stop),
        }
    }
    let mut bytes = [0u8; MAX_LEN];
    let mut have = 0usize;
    loop {
        let (addr, room) = code_address(cpu, mode, have)?;
        let in_page = 0x1000u64.wrapping_sub(addr & 0xfff) as usize;
        let want = in_page.min(room).min(MAX_LEN.wrapping_sub(have));
        let end = have.wrapping_add(want);
        let part = bytes.get_mut(have..end).ok_or(Stop::Unsupported)?;
        cpu.fetch(addr, part)?;
        have = end;
        match decode(bytes.get(..have).unwrap_or(&[]), mode, features) {
            Err(DecodeError::Incomplete) if have < MAX_LEN => {}
            other => return other.map_err(stop),
        }
    }
}

/// Length of the instruction that begins with the low bytes of `code`, if it is one of those
/// that processors hand over without saying how long they are, and has no prefix.
pub fn plain_length(code: u64) -> Option<u8> {
    match code as u8 {
        // HLT
        0xf4 => Some(1),
        0x0f => match (code >> 8) as u8 {
            // INVD, WBINVD, WRMSR, RDMSR, RDPMC, CPUID
            0x08 | 0x09 | 0x30 | 0x32 | 0x33 | 0xa2 => Some(2),
            // VMCALL, MONITOR, MWAIT, XSETBV, VMMCALL
            0x01 => matches!((code >> 16) as u8, 0xc1 | 0xc8 | 0xc9 | 0xd1 | 0xd9).then_some(3),
            _ => None,
        },
        // PAUSE
        0xf3 => ((code >> 8) as u8 == 0x90).then_some(2),
        _ => None,
    }
}

/// Linear address of the code byte `ahead` of RIP, and how many follow in the segment.
fn code_address<C: Cpu>(cpu: &C, mode: Mode, ahead: usize) -> Result<(u64, usize), Stop> {
    let rip = cpu.rip().wrapping_add(ahead as u64);
    if mode.is_long() {
        return Ok((rip, MAX_LEN));
    }
    let cs = cpu.segment(SegReg::Cs);
    let rip = rip & 0xffff_ffff;
    let left = u64::from(cs.limit).wrapping_add(1).saturating_sub(rip);
    if left == 0 {
        return Err(Stop::GP0);
    }
    Ok((cs.base.wrapping_add(rip) & 0xffff_ffff, left.min(MAX_LEN as u64) as usize))
}

fn stop(e: DecodeError) -> Stop {
    match e {
        DecodeError::Undefined => Stop::UD,
        DecodeError::TooLong => Stop::Fault(Exception::with_code(Vector::Gp, 0)),
        DecodeError::Incomplete | DecodeError::Unsupported => Stop::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Features;

    /// What [`plain_length`] knows is what the decoder says, in every mode.
    #[test]
    fn plain_lengths_are_those_of_the_decoder() {
        let mut known = 0;
        let second = |first: u8| (0..=255u8).map(move |second| [first, second]);
        for head in second(0xf4).chain(second(0x0f)).chain(second(0xf3)) {
            for third in 0..=255u8 {
                let code = u64::from_le_bytes([head[0], head[1], third, 0, 0, 0, 0, 0]);
                let Some(length) = plain_length(code) else { continue };
                known += 1;
                for mode in [Mode::Real, Mode::Prot16, Mode::Prot32, Mode::Long64] {
                    match decode(&code.to_le_bytes(), mode, Features::default()) {
                        Ok(insn) => assert_eq!(insn.len, length, "{head:x?} {third:x} {mode:?}"),
                        Err(error) => assert_eq!(error, DecodeError::Unsupported, "{head:x?}"),
                    }
                }
            }
        }
        assert!(known > 1000);
        assert_eq!(plain_length(0xa2_0f66), None);
        assert_eq!(plain_length(0x90), None);
    }
}
