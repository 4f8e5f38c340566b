// SPDX-License-Identifier: GPL-2.0
//! What the manuals leave undefined: flags to ignore in comparisons.
//!
//! Intel SDM volume 1 appendix A, AMD APM volume 3 appendix E.

use kvm_emulate::{Insn, Op};
use x86_defs::Rflags;

/// Flags that may differ after `insn`; `count` is CL before it.
pub fn flags(insn: &Insn, cl: u8) -> Rflags {
    let (cf, pf, af, zf, sf, of) =
        (Rflags::CF, Rflags::PF, Rflags::AF, Rflags::ZF, Rflags::SF, Rflags::OF);
    match insn.op {
        Op::And | Op::Or | Op::Xor | Op::Test => af,
        Op::Mul | Op::Imul1 | Op::Imul2 | Op::Imul3 => sf | zf | af | pf,
        Op::Div | Op::Idiv => Rflags::ARITH,
        Op::Bsf | Op::Bsr => cf | of | sf | af | pf,
        Op::Tzcnt | Op::Lzcnt => of | sf | af | pf,
        Op::Bt | Op::Bts | Op::Btr | Op::Btc => of | sf | af | pf,
        Op::Aaa | Op::Aas => of | sf | zf | pf,
        Op::Aam | Op::Aad => of | af | cf,
        Op::Daa | Op::Das => of,
        Op::Bextr => af | sf | pf,
        Op::Andn | Op::Blsi | Op::Blsmsk | Op::Blsr | Op::Bzhi => af | pf,
        Op::Rol
        | Op::Ror
        | Op::Rcl
        | Op::Rcr
        | Op::Shl
        | Op::Shr
        | Op::Sar
        | Op::Shld
        | Op::Shrd => shift_flags(insn, cl),
        _ => Rflags::empty(),
    }
}

fn shift_flags(insn: &Insn, cl: u8) -> Rflags {
    let mask = if insn.op_size == 8 { 0x3f } else { 0x1f };
    let count = count(insn, cl) & mask;
    let mut undefined = Rflags::empty();
    if count == 0 {
        return undefined;
    }
    if !matches!(insn.op, Op::Rol | Op::Ror | Op::Rcl | Op::Rcr) {
        undefined |= Rflags::AF;
    }
    if count != 1 {
        undefined |= Rflags::OF;
    }
    if matches!(insn.op, Op::Shl | Op::Shr | Op::Sar) && count >= insn.op_size * 8 {
        undefined |= Rflags::CF;
    }
    undefined
}

/// The unmasked count of a shift.
pub fn count(insn: &Insn, cl: u8) -> u8 {
    let by = if matches!(insn.op, Op::Shld | Op::Shrd) { insn.src2 } else { insn.src };
    if by == kvm_emulate::Operand::Imm { insn.imm as u8 } else { cl }
}

/// Whether the result itself is undefined.
pub fn result(insn: &Insn, cl: u8) -> bool {
    matches!(insn.op, Op::Shld | Op::Shrd) && insn.op_size == 2 && count(insn, cl) & 0x1f > 16
}
