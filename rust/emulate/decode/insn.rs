// SPDX-License-Identifier: GPL-2.0
//! The typed instruction: [`Insn`], its operands and memory reference.

use super::op::Op;
use super::prefix::Prefixes;
use x86_defs::SegReg;

/// An operand. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operand {
    /// Absent.
    #[default]
    None,
    /// The low `size` bytes of a general register.
    Gpr {
        /// Number, 0 to 15.
        n: u8,
        /// 1, 2, 4 or 8.
        size: u8,
    },
    /// AH, CH, DH or BH: bits 8 to 15 of register `n`.
    High {
        /// Number of the full register, 0 to 3.
        n: u8,
    },
    /// Memory at [`Insn::mem`]; size 0 means that only the address counts.
    Mem {
        /// 0, 1, 2, 4, 8, 16 or 32.
        size: u8,
    },
    /// [`Insn::imm`].
    Imm,
    /// A segment register.
    Seg(SegReg),
    /// A control register.
    Cr(u8),
    /// A debug register.
    Dr(u8),
    /// The low `size` bytes of an XMM or YMM register.
    Xmm {
        /// Number, 0 to 15.
        n: u8,
        /// 4, 8, 16 or 32.
        size: u8,
    },
    /// An MMX register.
    Mm(u8),
}

impl Operand {
    /// Whether this is memory.
    #[inline]
    pub const fn is_mem(self) -> bool {
        matches!(self, Self::Mem { .. })
    }
}

/// A memory reference: segment, base, scaled index and displacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Segment after overrides.
    pub seg: SegReg,
    /// Base register, [`Mem::NONE`] or [`Mem::RIP`].
    pub base: u8,
    /// Index register or [`Mem::NONE`].
    pub index: u8,
    /// The index is shifted left by this, 0 to 3.
    pub shift: u8,
    /// Displacement, sign-extended.
    pub disp: i64,
}

impl Mem {
    /// No register.
    pub const NONE: u8 = 0xff;
    /// Relative to the next instruction.
    pub const RIP: u8 = 0xfe;

    /// No base, no index.
    pub const fn absolute(seg: SegReg, disp: i64) -> Self {
        Self { seg, base: Self::NONE, index: Self::NONE, shift: 0, disp }
    }
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub op: Op,
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// Operand size in bytes: 1, 2, 4 or 8.
    pub op_size: u8,
    /// Address size in bytes: 2, 4 or 8.
    pub addr_size: u8,
    /// Last opcode byte. Its low four bits are the condition of Jcc, SETcc and CMOVcc.
    pub opcode: u8,
    /// ModRM, 0 if there is none.
    pub modrm: u8,
    /// Prefixes.
    pub prefixes: Prefixes,
    /// Destination.
    pub dst: Operand,
    /// First source.
    pub src: Operand,
    /// Second source.
    pub src2: Operand,
    /// Memory reference of a [`Operand::Mem`].
    pub mem: Mem,
    /// Immediate, extended to 64 bits.
    pub imm: u64,
    /// Second immediate: ENTER's level, a far pointer's selector.
    pub imm2: u16,
}

impl Insn {
    pub(super) fn new(prefixes: Prefixes, opcode: u8) -> Self {
        Self {
            op: Op::Unknown,
            len: 0,
            op_size: 0,
            addr_size: 0,
            opcode,
            modrm: 0,
            prefixes,
            dst: Operand::None,
            src: Operand::None,
            src2: Operand::None,
            mem: Mem::absolute(SegReg::Ds, 0),
            imm: 0,
            imm2: 0,
        }
    }

    /// No instruction: for operations that are not part of one.
    pub(crate) fn empty() -> Self {
        Self::new(Prefixes::default(), 0)
    }

    /// The ModRM reg field without its REX bit.
    #[inline]
    pub const fn reg_field(&self) -> u8 {
        self.modrm >> 3 & 7
    }

    /// Whether this reads or writes memory once, at the place it names, and does no more.
    pub const fn is_plain_move(&self) -> bool {
        let is_move = matches!(self.op, Op::Mov | Op::Movzx | Op::Movsx);
        is_move && self.dst.is_mem() != self.src.is_mem()
    }

    /// Whether this accesses memory through its ModRM operand.
    pub const fn has_mem(&self) -> bool {
        self.dst.is_mem() || self.src.is_mem() || self.src2.is_mem()
    }
}
