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
