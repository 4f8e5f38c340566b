// SPDX-License-Identifier: GPL-2.0
//! Arithmetic and the flags it leaves, as pure functions.
//!
//! Intel SDM volume 1 section 3.4.3.1. Sizes are in bytes.

use x86_defs::Rflags;

pub(super) const CF: u64 = Rflags::CF.bits();
pub(super) const PF: u64 = Rflags::PF.bits();
pub(super) const AF: u64 = Rflags::AF.bits();
pub(super) const ZF: u64 = Rflags::ZF.bits();
pub(super) const SF: u64 = Rflags::SF.bits();
pub(super) const OF: u64 = Rflags::OF.bits();
pub(super) const ARITH: u64 = Rflags::ARITH.bits();

/// All bits of an operand.
#[inline]
pub(super) const fn mask(size: u8) -> u64 {
    match size {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// The sign bit of an operand.
#[inline]
pub(super) const fn sign(size: u8) -> u64 {
    match size {
        1 => 0x80,
        2 => 0x8000,
        4 => 0x8000_0000,
        _ => 1 << 63,
    }
}

/// Bits in an operand.
#[inline]
pub(super) const fn bits(size: u8) -> u32 {
    (size as u32) << 3
}

/// Sign-extends an operand to 64 bits.
#[inline]
pub(super) const fn sign_extend(value: u64, size: u8) -> u64 {
    match size {
        1 => value as u8 as i8 as u64,
        2 => value as u16 as i16 as u64,
        4 => value as u32 as i32 as u64,
        _ => value,
    }
}

/// `flag` if `set`.
#[inline]
pub(super) const fn when(set: bool, flag: u64) -> u64 {
    if set {
        flag
    } else {
        0
    }
}

/// SF, ZF and PF of a result.
#[inline]
pub(super) const fn szp(result: u64, size: u8) -> u64 {
    let result = result & mask(size);
    when(result & sign(size) != 0, SF)
        | when(result == 0, ZF)
        | when((result as u8).count_ones() & 1 == 0, PF)
}

/// `a + b + carry` and its flags.
#[inline]
pub(super) const fn add(a: u64, b: u64, carry: u64, size: u8) -> (u64, u64) {
    let r = a.wrapping_add(b).wrapping_add(carry) & mask(size);
    let carries = (a & b) | ((a | b) & !r);
    let overflow = (a ^ r) & (b ^ r);
    let flags = when(carries & sign(size) != 0, CF)
        | when(overflow & sign(size) != 0, OF)
        | when((a ^ b ^ r) & 0x10 != 0, AF)
        | szp(r, size);
    (r, flags)
}

/// `a - b - borrow` and its flags.
#[inline]
pub(super) const fn sub(a: u64, b: u64, borrow: u64, size: u8) -> (u64, u64) {
    let r = a.wrapping_sub(b).wrapping_sub(borrow) & mask(size);
    let borrows = (!a & b) | ((!a | b) & r);
    let overflow = (a ^ b) & (a ^ r);
    let flags = when(borrows & sign(size) != 0, CF)
        | when(overflow & sign(size) != 0, OF)
        | when((a ^ b ^ r) & 0x10 != 0, AF)
        | szp(r, size);
    (r, flags)
}

/// Whether condition `cc` (low four bits of Jcc, SETcc, CMOVcc) holds.
#[inline]
pub(super) const fn condition(cc: u8, flags: u64) -> bool {
    let less = (flags & SF != 0) != (flags & OF != 0);
    let holds = match cc >> 1 & 7 {
        0 => flags & OF != 0,
        1 => flags & CF != 0,
        2 => flags & ZF != 0,
        3 => flags & (CF | ZF) != 0,
        4 => flags & SF != 0,
        5 => flags & PF != 0,
        6 => less,
        _ => less || flags & ZF != 0,
    };
    holds != (cc & 1 != 0)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn add_and_sub_of_every_byte_pair() {
        for a in 0..=255u64 {
            for b in 0..=255u64 {
                for c in 0..2 {
                    let (r, f) = add(a, b, c, 1);
                    assert_eq!(r, (a + b + c) & 0xff);
                    assert_eq!(f & CF != 0, a + b + c > 255);
                    let signed = a as i8 as i64 + b as i8 as i64 + c as i64;
                    assert_eq!(f & OF != 0, !(-128..=127).contains(&signed));
                    let (r, f) = sub(a, b, c, 1);
                    assert_eq!(r, a.wrapping_sub(b + c) & 0xff);
                    assert_eq!(f & CF != 0, a < b + c);
                    let signed = a as i8 as i64 - b as i8 as i64 - c as i64;
                    assert_eq!(f & OF != 0, !(-128..=127).contains(&signed));
                }
            }
        }
    }

    #[test]
    fn conditions_come_in_pairs() {
        for flags in [0, CF, ZF, SF, OF, PF, SF | OF, ZF | CF] {
            for cc in (0..16).step_by(2) {
                assert_ne!(condition(cc, flags), condition(cc | 1, flags));
            }
        }
    }
}
