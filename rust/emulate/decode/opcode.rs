// SPDX-License-Identifier: GPL-2.0
//! The one-byte and 0Fh opcode maps.
//!
//! Intel SDM volume 2 appendix A tables; operand specifications
//! follow its notation (`Ev`, `Gb`, `Iz`...).

use super::op::Op;

/// Operand specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Spec {
    No,
    // ModRM rm: register or memory of 1, 2, 4, 8 bytes, operand size, or 4/8 by REX.W.
    Eb,
    Ew,
    Ed,
    /// MOVSXD's source: the operand size, at most 4.
    Md,
    Ev,
    Ey,
    /// Register of operand size, or memory of 2 bytes.
    Mw,
    /// Memory, address only.
    M,
    /// Memory of twice the operand size.
    M2,
    /// Memory of 8 bytes, 16 with REX.W.
    M8,
    // ModRM reg.
    Gb,
    Gw,
    Gv,
    Gy,
    /// Register in the low bits of the opcode.
    Zb,
    Zv,
    Al,
    /// rAX of operand size.
    Av,
    Cl,
    Dx,
    One,
    Ib,
    /// Signed byte.
    Is,
    Iw,
    /// Immediate of operand size, 4 bytes sign-extended for 8.
    Iz,
    /// Full-size immediate.
    Iv,
    /// Word and byte.
    Iwb,
    /// Far pointer.
    Ap,
    Jb,
    Jz,
    /// Absolute offset.
    Ob,
    Ov,
    Sw,
    Cd,
    Dd,
    // XMM: reg field, rm, VEX.vvvv; sizes 4, 8, 16 or by vector length.
    V4,
    V8,
    V16,
    Vx,
    W4,
    W8,
    Wx,
    H16,
    // MMX: reg field, rm.
    Pq,
    Qq,
    /// General register VEX.vvvv.
    By,
}

/// What decides the rest of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Group {
    None,
    G1,
    G1a,
    G2,
    G3b,
    G3v,
    G4,
    G5,
    G6,
    G7,
    G8,
    G9,
    G11,
    G15,
    X87d9,
    X87db,
    X87dd,
    X87df,
    Nop90,
    BitScan,
    /// Mandatory-prefix table in [`super::sse`].
    Sse,
    Blsr,
}

/// There is a ModRM byte.
pub(super) const MODRM: u16 = 1;
/// LOCK is allowed on a memory destination.
pub(super) const LOCK: u16 = 1 << 1;
/// #UD in 64-bit mode.
pub(super) const NO64: u16 = 1 << 2;
/// #UD outside 64-bit mode.
pub(super) const ONLY64: u16 = 1 << 3;
/// Operand size defaults to 64 bits in 64-bit mode.
pub(super) const DEF64: u16 = 1 << 4;
/// Operand size is 64 bits in 64-bit mode.
pub(super) const FORCE64: u16 = 1 << 5;
/// Operand size is a byte.
pub(super) const B8: u16 = 1 << 6;
/// #UD with a register operand.
pub(super) const MEM: u16 = 1 << 7;
/// #UD with a memory operand.
pub(super) const REG: u16 = 1 << 8;
/// #UD in real and virtual-8086 mode.
pub(super) const PROT: u16 = 1 << 9;
/// mod is ignored: rm is a register.
pub(super) const RM_REG: u16 = 1 << 10;
/// A near branch.
pub(super) const BRANCH: u16 = 1 << 11;

/// A table entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) op: Op,
    pub(super) dst: Spec,
    pub(super) src: Spec,
    pub(super) src2: Spec,
    pub(super) group: Group,
    pub(super) flags: u16,
}

impl Entry {
    pub(super) const fn with(self, flags: u16) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    pub(super) const fn src2(self, src2: Spec) -> Self {
        Self { src2, ..self }
    }

    pub(super) const fn op(self, op: Op) -> Self {
        Self { op, ..self }
    }

    const fn group(self, group: Group) -> Self {
        Self { group, flags: self.flags | MODRM, ..self }
    }
}

/// An entry without ModRM.
pub(super) const fn e(op: Op, dst: Spec, src: Spec) -> Entry {
    Entry { op, dst, src, src2: Spec::No, group: Group::None, flags: 0 }
}

/// An entry with ModRM.
pub(super) const fn m(op: Op, dst: Spec, src: Spec) -> Entry {
    e(op, dst, src).with(MODRM)
}

const UNKNOWN: Entry = e(Op::Unknown, Spec::No, Spec::No);

static ONE_BYTE: [Entry; 256] = build_one_byte();
static TWO_BYTE: [Entry; 256] = build_two_byte();

#[inline]
pub(super) fn one_byte(opcode: u8) -> Entry {
    ONE_BYTE.get(usize::from(opcode)).copied().unwrap_or(UNKNOWN)
}

#[inline]
pub(super) fn two_byte(opcode: u8) -> Entry {
    TWO_BYTE.get(usize::from(opcode)).copied().unwrap_or(UNKNOWN)
}

use Spec::*;

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler"
)]
const fn build_one_byte() -> [Entry; 256] {
    let mut t = [UNKNOWN; 256];
    let arith = [Op::Add, Op::Or, Op::Adc, Op::Sbb, Op::And, Op::Sub, Op::Xor, Op::Cmp];
    let mut i = 0;
    while i < 8 {
        let lock = if i < 7 { LOCK } else { 0 };
        t[i * 8] = m(arith[i], Eb, Gb).with(B8 | lock);
        t[i * 8 + 1] = m(arith[i], Ev, Gv).with(lock);
        t[i * 8 + 2] = m(arith[i], Gb, Eb).with(B8);
        t[i * 8 + 3] = m(arith[i], Gv, Ev);
        t[i * 8 + 4] = e(arith[i], Al, Ib).with(B8);
        t[i * 8 + 5] = e(arith[i], Av, Iz);
        t[0x40 + i] = e(Op::Inc, Zv, No).with(NO64);
        t[0x48 + i] = e(Op::Dec, Zv, No).with(NO64);
        t[0x50 + i] = e(Op::Push, No, Zv).with(DEF64);
        t[0x58 + i] = e(Op::Pop, Zv, No).with(DEF64);
        t[0x90 + i] = e(Op::Xchg, Zv, Av);
        t[0xb0 + i] = e(Op::Mov, Zb, Ib).with(B8);
        t[0xb8 + i] = e(Op::Mov, Zv, Iv);
        i += 1;
    }
    i = 0;
    while i < 16 {
        t[0x70 + i] = e(Op::Jcc, No, Jb).with(FORCE64 | BRANCH);
        i += 1;
    }
    // PUSH and POP of ES, CS, SS, DS: the opcode tells which.
    i = 0x06;
    while i < 0x20 {
        t[i] = e(Op::PushSeg, No, No).with(NO64);
        if i != 0x0e {
            t[i + 1] = e(Op::PopSeg, No, No).with(NO64);
        }
        i += 8;
    }
    t[0x27] = e(Op::Daa, No, No).with(NO64);
    t[0x2f] = e(Op::Das, No, No).with(NO64);
    t[0x37] = e(Op::Aaa, No, No).with(NO64);
    t[0x3f] = e(Op::Aas, No, No).with(NO64);
    t[0x60] = e(Op::Pusha, No, No).with(NO64);
    t[0x61] = e(Op::Popa, No, No).with(NO64);
    t[0x62] = m(Op::Bound, Gv, M2).with(NO64 | MEM);
    // ARPL, or MOVSXD in 64-bit mode: told apart in `group`.
    t[0x63] = m(Op::Arpl, Ew, Gw).with(PROT);
    t[0x68] = e(Op::Push, No, Iz).with(DEF64);
    t[0x69] = m(Op::Imul3, Gv, Ev).src2(Iz);
    t[0x6a] = e(Op::Push, No, Is).with(DEF64);
    t[0x6b] = m(Op::Imul3, Gv, Ev).src2(Is);
    t[0x6c] = e(Op::Ins, No, No).with(B8);
    t[0x6d] = e(Op::Ins, No, No);
    t[0x6e] = e(Op::Outs, No, No).with(B8);
    t[0x6f] = e(Op::Outs, No, No);
    t[0x80] = m(Op::Add, Eb, Ib).with(B8).group(Group::G1);
    t[0x81] = m(Op::Add, Ev, Iz).group(Group::G1);
    t[0x82] = m(Op::Add, Eb, Ib).with(B8 | NO64).group(Group::G1);
    t[0x83] = m(Op::Add, Ev, Is).group(Group::G1);
    t[0x84] = m(Op::Test, Eb, Gb).with(B8);
    t[0x85] = m(Op::Test, Ev, Gv);
    t[0x86] = m(Op::Xchg, Eb, Gb).with(B8 | LOCK);
    t[0x87] = m(Op::Xchg, Ev, Gv).with(LOCK);
    t[0x88] = m(Op::Mov, Eb, Gb).with(B8);
    t[0x89] = m(Op::Mov, Ev, Gv);
    t[0x8a] = m(Op::Mov, Gb, Eb).with(B8);
    t[0x8b] = m(Op::Mov, Gv, Ev);
    t[0x8c] = m(Op::MovFromSeg, Mw, Sw);
    t[0x8d] = m(Op::Lea, Gv, M).with(MEM);
    t[0x8e] = m(Op::MovToSeg, Sw, Ew);
    t[0x8f] = m(Op::Pop, Ev, No).with(DEF64).group(Group::G1a);
    t[0x98] = e(Op::Cbw, No, No);
    t[0x99] = e(Op::Cwd, No, No);
    t[0x9a] = e(Op::CallFar, No, Ap).with(NO64);
    t[0x9b] = e(Op::Fwait, No, No);
    t[0x9c] = e(Op::Pushf, No, No).with(DEF64);
    t[0x9d] = e(Op::Popf, No, No).with(DEF64);
    t[0x9e] = e(Op::Sahf, No, No);
    t[0x9f] = e(Op::Lahf, No, No);
    t[0xa0] = e(Op::Mov, Al, Ob).with(B8);
    t[0xa1] = e(Op::Mov, Av, Ov);
    t[0xa2] = e(Op::Mov, Ob, Al).with(B8);
    t[0xa3] = e(Op::Mov, Ov, Av);
    t[0xa4] = e(Op::Movs, No, No).with(B8);
    t[0xa5] = e(Op::Movs, No, No);
    t[0xa6] = e(Op::Cmps, No, No).with(B8);
    t[0xa7] = e(Op::Cmps, No, No);
    t[0xa8] = e(Op::Test, Al, Ib).with(B8);
    t[0xa9] = e(Op::Test, Av, Iz);
    t[0xaa] = e(Op::Stos, No, No).with(B8);
    t[0xab] = e(Op::Stos, No, No);
    t[0xac] = e(Op::Lods, No, No).with(B8);
    t[0xad] = e(Op::Lods, No, No);
    t[0xae] = e(Op::Scas, No, No).with(B8);
    t[0xaf] = e(Op::Scas, No, No);
    t[0xc0] = m(Op::Rol, Eb, Ib).with(B8).group(Group::G2);
    t[0xc1] = m(Op::Rol, Ev, Ib).group(Group::G2);
    t[0xc2] = e(Op::Ret, No, Iw).with(FORCE64 | BRANCH);
    t[0xc3] = e(Op::Ret, No, No).with(FORCE64 | BRANCH);
    t[0xc4] = m(Op::LoadFar, Gv, M).with(NO64 | MEM);
    t[0xc5] = m(Op::LoadFar, Gv, M).with(NO64 | MEM);
    t[0xc6] = m(Op::Mov, Eb, Ib).with(B8).group(Group::G11);
    t[0xc7] = m(Op::Mov, Ev, Iz).group(Group::G11);
    t[0xc8] = e(Op::Enter, No, Iwb).with(DEF64);
    t[0xc9] = e(Op::Leave, No, No).with(DEF64);
    t[0xca] = e(Op::RetFar, No, Iw);
    t[0xcb] = e(Op::RetFar, No, No);
    t[0xcc] = e(Op::Int3, No, No);
    t[0xcd] = e(Op::Int, No, Ib);
    t[0xce] = e(Op::Into, No, No).with(NO64);
    t[0xcf] = e(Op::Iret, No, No);
    t[0xd0] = m(Op::Rol, Eb, One).with(B8).group(Group::G2);
    t[0xd1] = m(Op::Rol, Ev, One).group(Group::G2);
    t[0xd2] = m(Op::Rol, Eb, Cl).with(B8).group(Group::G2);
    t[0xd3] = m(Op::Rol, Ev, Cl).group(Group::G2);
    t[0xd4] = e(Op::Aam, No, Ib).with(NO64);
    t[0xd5] = e(Op::Aad, No, Ib).with(NO64);
    t[0xd6] = e(Op::Salc, No, No).with(NO64);
    t[0xd7] = e(Op::Xlat, No, No).with(B8);
    t[0xd9] = m(Op::Fnstcw, M, No).group(Group::X87d9);
    t[0xdb] = m(Op::Fninit, No, No).group(Group::X87db);
    t[0xdd] = m(Op::Fnstsw, M, No).group(Group::X87dd);
    t[0xdf] = m(Op::Fnstsw, Av, No).group(Group::X87df);
    i = 0xe0;
    while i < 0xe4 {
        t[i] = e(Op::Loop, No, Jb).with(FORCE64 | BRANCH);
        i += 1;
    }
    t[0xe4] = e(Op::In, Al, Ib).with(B8);
    t[0xe5] = e(Op::In, Av, Ib);
    t[0xe6] = e(Op::Out, Ib, Al).with(B8);
    t[0xe7] = e(Op::Out, Ib, Av);
    t[0xe8] = e(Op::Call, No, Jz).with(FORCE64 | BRANCH);
    t[0xe9] = e(Op::Jmp, No, Jz).with(FORCE64 | BRANCH);
    t[0xea] = e(Op::JmpFar, No, Ap).with(NO64);
    t[0xeb] = e(Op::Jmp, No, Jb).with(FORCE64 | BRANCH);
    t[0xec] = e(Op::In, Al, Dx).with(B8);
    t[0xed] = e(Op::In, Av, Dx);
    t[0xee] = e(Op::Out, Dx, Al).with(B8);
    t[0xef] = e(Op::Out, Dx, Av);
    t[0xf1] = e(Op::Int1, No, No);
    t[0xf4] = e(Op::Hlt, No, No);
    t[0xf5] = e(Op::Cmc, No, No);
    t[0xf6] = m(Op::Test, Eb, Ib).with(B8).group(Group::G3b);
    t[0xf7] = m(Op::Test, Ev, Iz).group(Group::G3v);
    t[0xf8] = e(Op::Clc, No, No);
    t[0xf9] = e(Op::Stc, No, No);
    t[0xfa] = e(Op::Cli, No, No);
    t[0xfb] = e(Op::Sti, No, No);
    t[0xfc] = e(Op::Cld, No, No);
    t[0xfd] = e(Op::Std, No, No);
    t[0xfe] = m(Op::Inc, Eb, No).with(B8).group(Group::G4);
    t[0xff] = m(Op::Inc, Ev, No).group(Group::G5);
    // XCHG rAX, rAX is NOP or PAUSE, and an exchange with REX.B.
    t[0x90] = Entry { group: Group::Nop90, ..e(Op::Xchg, Zv, Av) };
    t
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler"
)]
const fn build_two_byte() -> [Entry; 256] {
    let mut t = [UNKNOWN; 256];
    t[0x00] = m(Op::Sldt, Mw, No).with(PROT).group(Group::G6);
    t[0x01] = m(Op::Sgdt, M, No).group(Group::G7);
    t[0x02] = m(Op::Lar, Gv, Mw).with(PROT);
    t[0x03] = m(Op::Lsl, Gv, Mw).with(PROT);
    t[0x05] = e(Op::Syscall, No, No);
    t[0x06] = e(Op::Clts, No, No);
    t[0x07] = e(Op::Sysret, No, No);
    t[0x08] = e(Op::Wbinvd, No, No);
    t[0x09] = e(Op::Wbinvd, No, No);
    t[0x0b] = e(Op::Ud, No, No);
    t[0x0d] = m(Op::Prefetch, M, No).with(MEM);
    let mut i = 0x18;
    while i < 0x20 {
        t[i] = m(Op::Nop, Ev, No);
        i += 1;
    }
    t[0x20] = m(Op::ReadCr, Ey, Cd).with(RM_REG | FORCE64);
    t[0x21] = m(Op::ReadDr, Ey, Dd).with(RM_REG | FORCE64);
    t[0x22] = m(Op::WriteCr, Cd, Ey).with(RM_REG | FORCE64);
    t[0x23] = m(Op::WriteDr, Dd, Ey).with(RM_REG | FORCE64);
    t[0x30] = e(Op::Wrmsr, No, No);
    t[0x31] = e(Op::Rdtsc, No, No);
    t[0x32] = e(Op::Rdmsr, No, No);
    t[0x33] = e(Op::Rdpmc, No, No);
    t[0x34] = e(Op::Sysenter, No, No);
    t[0x35] = e(Op::Sysexit, No, No);
    i = 0;
    while i < 16 {
        t[0x40 + i] = m(Op::Cmovcc, Gv, Ev);
        t[0x80 + i] = e(Op::Jcc, No, Jz).with(FORCE64 | BRANCH);
        t[0x90 + i] = m(Op::Setcc, Eb, No).with(B8);
        i += 1;
    }
    i = 0;
    while i < 8 {
        t[0xc8 + i] = e(Op::Bswap, Zv, No);
        i += 1;
    }
    t[0xa0] = e(Op::PushSeg, No, No).with(DEF64);
    t[0xa1] = e(Op::PopSeg, No, No).with(DEF64);
    t[0xa2] = e(Op::Cpuid, No, No);
    t[0xa3] = m(Op::Bt, Ev, Gv);
    t[0xa4] = m(Op::Shld, Ev, Gv).src2(Ib);
    t[0xa5] = m(Op::Shld, Ev, Gv).src2(Cl);
    t[0xa8] = e(Op::PushSeg, No, No).with(DEF64);
    t[0xa9] = e(Op::PopSeg, No, No).with(DEF64);
    t[0xab] = m(Op::Bts, Ev, Gv).with(LOCK);
    t[0xac] = m(Op::Shrd, Ev, Gv).src2(Ib);
    t[0xad] = m(Op::Shrd, Ev, Gv).src2(Cl);
    t[0xae] = m(Op::Fence, M, No).group(Group::G15);
    t[0xaf] = m(Op::Imul2, Gv, Ev);
    t[0xb0] = m(Op::Cmpxchg, Eb, Gb).with(B8 | LOCK);
    t[0xb1] = m(Op::Cmpxchg, Ev, Gv).with(LOCK);
    t[0xb2] = m(Op::LoadFar, Gv, M).with(MEM);
    t[0xb3] = m(Op::Btr, Ev, Gv).with(LOCK);
    t[0xb4] = m(Op::LoadFar, Gv, M).with(MEM);
    t[0xb5] = m(Op::LoadFar, Gv, M).with(MEM);
    t[0xb6] = m(Op::Movzx, Gv, Eb);
    t[0xb7] = m(Op::Movzx, Gv, Ew);
    t[0xb8] = m(Op::Popcnt, Gv, Ev).group(Group::BitScan);
    t[0xb9] = m(Op::Ud, No, No);
    t[0xba] = m(Op::Bt, Ev, Ib).group(Group::G8);
    t[0xbb] = m(Op::Btc, Ev, Gv).with(LOCK);
    t[0xbc] = m(Op::Bsf, Gv, Ev).group(Group::BitScan);
    t[0xbd] = m(Op::Bsr, Gv, Ev).group(Group::BitScan);
    t[0xbe] = m(Op::Movsx, Gv, Eb);
    t[0xbf] = m(Op::Movsx, Gv, Ew);
    t[0xc0] = m(Op::Xadd, Eb, Gb).with(B8 | LOCK);
    t[0xc1] = m(Op::Xadd, Ev, Gv).with(LOCK);
    t[0xc7] = m(Op::Cmpxchg8b, M8, No).group(Group::G9);
    t[0xff] = m(Op::Ud, No, No);
    let sse = Entry { group: Group::Sse, ..m(Op::Nop, No, No) };
    let opcodes = [
        0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b, 0x6e, 0x6f, 0x7e, 0x7f, 0xc3, 0xd6,
        0xe7, 0xf0,
    ];
    i = 0;
    while i < opcodes.len() {
        t[opcodes[i]] = sse;
        i += 1;
    }
    t
}
