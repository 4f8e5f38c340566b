// SPDX-License-Identifier: GPL-2.0
//! Random instructions with states that keep their accesses inside the window.
//!
//! Bytes come from opcode lists with random prefixes, ModRM, SIB, displacement
//! and immediates. Once decoded, base and index registers are solved so that
//! the operand lands in the data window or just beyond its end.

use crate::native::{CODE, CODE_END, DATA, DATA_LEN, DS, DS16, ENTRY, GS_BASE, Regs};
use kvm_emulate::{DecodeError, Features, Insn, Mem, Op, Operand, Rep, decode};
use rand::Rng;
use rand::rngs::SmallRng;
use x86_defs::{Mode, Rflags, SegReg};

/// One-byte opcodes, chosen evenly; groups with ModRM cover several instructions.
const ONE_BYTE: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x10, 0x11, 0x12, 0x13,
    0x14, 0x15, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x28, 0x29,
    0x2a, 0x2b, 0x2c, 0x2d, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
    0x50, 0x51, 0x54, 0x57, 0x58, 0x5b, 0x5c, 0x5f, 0x63, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6f, 0x70,
    0x71, 0x74, 0x77, 0x7c, 0x7f, 0x80, 0x81, 0x83, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a,
    0x8b, 0x8c, 0x8d, 0x8f, 0x90, 0x91, 0x94, 0x98, 0x99, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
    0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb4, 0xb8,
    0xbf, 0xc0, 0xc1, 0xc0, 0xc1, 0xc2, 0xc3, 0xc6, 0xc7, 0xc8, 0xc9, 0xd0, 0xd1, 0xd2, 0xd3, 0xd2,
    0xd3, 0xd7, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe8, 0xe9, 0xeb, 0xed, 0xee, 0xf4, 0xf5, 0xf6, 0xf7,
    0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, 0xff, 0x06, 0x27, 0x60, 0x62, 0xc4,
    0xc5, 0xd5, 0xea,
];

/// One-byte opcodes that 64-bit mode lacks.
const LEGACY: &[u8] = &[
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x40, 0x43, 0x44, 0x47, 0x48,
    0x4b, 0x4c, 0x4f, 0x60, 0x61, 0x62, 0x63, 0x82, 0x9a, 0xd4, 0xd5, 0xd6, 0xea,
];

/// Far transfers and segment loads, in every mode.
const FAR: &[u8] = &[0x8e, 0x8e, 0xca, 0xcb, 0xcf, 0xcf, 0xff];

/// Selectors worth loading: null, kernel, user, beyond the table, local.
const SELECTORS: &[u16] = &[
    0, 3, 7, 7, 7, 0x0f, 0x0f, 0x06, 0x17, 0x10, 0x18, 0x23, 0x23, 0x23, 0x2b, 0x2b, 0x2b, 0x33,
    0x33, 0x33, 0x20, 0x28, 0x30, 0x3b, 0x83, 0xffff, 0x2c,
];

/// Opcodes after 0Fh.
const TWO_BYTE: &[u8] = &[
    0x06, 0x08, 0x0b, 0x0d, 0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x18, 0x1f, 0x20, 0x21, 0x22, 0x23,
    0x28, 0x29, 0x2b, 0x30, 0x32, 0x40, 0x42, 0x44, 0x46, 0x48, 0x4a, 0x4c, 0x4f, 0x6e, 0x6f, 0x7e,
    0x7f, 0x80, 0x85, 0x8e, 0x90, 0x93, 0x95, 0x97, 0x98, 0x9b, 0x9d, 0x9e, 0xa3, 0xa4, 0xa5, 0xa0,
    0xa8, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1, 0xb3, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xba, 0xba,
    0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xc7, 0xc7, 0xc8, 0xcf, 0xd6, 0xe7, 0xf0, 0xff,
    0x01,
];

/// What the other operating-system tables or tests own.
fn excluded(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Syscall
            | Sysret
            | Sysenter
            | Sysexit
            | Int
            | Int1
            | Int3
            | Into
            | Iret
            | RetFar
            | JmpFar
            | CallFar
            | Rdtsc
            | Rdtscp
            | Rdpmc
            | Rdpid
            | Cpuid
            | Xgetbv
            | Xsetbv
            | Sgdt
            | Sidt
            | Sldt
            | Str
            | Smsw
            | Lgdt
            | Lidt
            | ReadFsGsBase
            | WriteFsGsBase
            | Fldcw
            | Fninit
            | Fnstcw
            | Fnstsw
            | LoadFar
            | Vmcall
            | Vmmcall
            | Monitor
            | Mwait
            | Lar
            | Lsl
            | Verr
            | Verw
            | MmxMov
            | MmxFromGpr
            | MmxToGpr
            | Invpcid
            | Lldt
            | Ltr
            | Lmsw
    )
}

/// A case: bytes, what they decode to, and the registers before.
pub struct Case {
    /// The instruction.
    pub bytes: Vec<u8>,
    /// Decoded, or that it is undefined.
    pub insn: Result<Insn, DecodeError>,
    /// Registers before.
    pub regs: Regs,
    /// Memory to set before: address and contents.
    pub poke: Option<(u64, Vec<u8>)>,
}

impl Case {
    /// Whether it may go elsewhere than behind itself.
    pub fn is_branch(&self) -> bool {
        use Op::*;
        self.insn.is_ok_and(|i| {
            matches!(i.op, Jmp | Jcc | Call | Ret | Loop | JmpFar | CallFar | RetFar | Iret)
        })
    }
}

fn value(rng: &mut SmallRng) -> u64 {
    let raw: u64 = rng.random();
    match rng.random_range(0..8) {
        0 => raw & 0xff,
        1 => !(raw & 0xf),
        2 => 1 << (raw & 63),
        3 => (1u64 << (raw & 63)).wrapping_sub(1),
        4 => [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            1 << 63,
            i64::MAX as u64,
            u64::MAX,
        ][(raw % 12) as usize],
        _ => raw,
    }
}

/// An address in the window, often unaligned, sometimes at its end or beyond.
fn target(rng: &mut SmallRng) -> u64 {
    let in_window = DATA + rng.random_range(0x200..DATA_LEN as u64 - 0x200);
    match rng.random_range(0..32) {
        0 => DATA + rng.random_range(0xff0..0x1010),
        1 => DATA + DATA_LEN as u64 + rng.random_range(0..0x40) - 0x20,
        2 => DATA + DATA_LEN as u64 + 0x1000 + rng.random_range(0..0x40) - 0x20,
        3 => 0x8000_0000_0000 + rng.random_range(0..0x100),
        4..16 => in_window & !0x1f,
        _ => in_window,
    }
}

/// Bytes of a random instruction.
fn bytes(rng: &mut SmallRng, mode: Mode) -> Vec<u8> {
    let mut b = Vec::with_capacity(16);
    let kind = rng.random_range(0..100);
    if kind >= 90 {
        return vex(rng, b);
    }
    for (prefix, odds) in [(0x66, 5), (0x67, 40), (0xf0, 12), (0x65, 30), (0x2e, 60)] {
        if rng.random_range(0..odds) == 0 {
            b.push(prefix);
        }
    }
    match rng.random_range(0..12) {
        0 | 1 => b.push(0xf3),
        2 => b.push(0xf2),
        _ => {}
    }
    if mode.is_long() && rng.random_range(0..2) == 0 {
        b.push(0x40 | rng.random_range(0..16u8));
    }
    let legacy = !mode.is_long();
    match kind {
        0..4 => b.push(FAR[rng.random_range(0..FAR.len())]),
        4..16 if legacy => b.push(LEGACY[rng.random_range(0..LEGACY.len())]),
        4..16 => b.push(ONE_BYTE[rng.random_range(0..ONE_BYTE.len())]),
        16..50 => b.push(ONE_BYTE[rng.random_range(0..ONE_BYTE.len())]),
        50..85 => b.extend([0x0f, TWO_BYTE[rng.random_range(0..TWO_BYTE.len())]]),
        _ => b.extend([0x0f, 0x38, [0xf0, 0xf1, 0xf6, 0x2a][rng.random_range(0..4)]]),
    }
    tail(rng, &mut b);
    b
}

fn vex(rng: &mut SmallRng, mut b: Vec<u8>) -> Vec<u8> {
    let opcodes: [&[u8]; 3] = [
        &[
            0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b, 0x6e, 0x6f, 0x7e, 0x7f, 0xd6,
            0xe7, 0xf0,
        ],
        &[0x2a, 0xf2, 0xf3, 0xf5, 0xf6, 0xf7],
        &[0xf0],
    ];
    let map = rng.random_range(0..3usize);
    let mut last: u8 = rng.random_range(0..4);
    last |= if rng.random_range(0..2) == 0 { 0x78 } else { rng.random_range(0..16) << 3 };
    if rng.random_range(0..3) == 0 {
        last |= 4;
    }
    if map == 0 && rng.random_range(0..2) == 0 {
        b.extend([0xc5, last | rng.random_range(0..2u8) << 7]);
    } else {
        b.extend([
            0xc4,
            (map as u8 + 1) | rng.random_range(0..8u8) << 5,
            last | rng.random_range(0..2u8) << 7,
        ]);
    }
    b.push(opcodes[map][rng.random_range(0..opcodes[map].len())]);
    tail(rng, &mut b);
    b
}

/// ModRM and whatever may follow; the decoder says how much belongs to it.
fn tail(rng: &mut SmallRng, b: &mut Vec<u8>) {
    b.push(if rng.random_range(0..3) == 0 {
        0xc0 | rng.random::<u8>()
    } else {
        rng.random::<u8>()
    });
    b.push(rng.random());
    for _ in 0..12 {
        b.push(if rng.random_range(0..3) == 0 { rng.random_range(0..4) } else { rng.random() });
    }
}

/// Sets the absolute part of an address inside the instruction, where nothing else can.
fn patch_displacement(
    b: &mut [u8],
    insn: &Insn,
    mode: Mode,
    features: Features,
    rng: &mut SmallRng,
) {
    if !insn.has_mem() && insn.op != Op::Lea || insn.mem.index != Mem::NONE {
        return;
    }
    let next = ENTRY.wrapping_add(u64::from(insn.len));
    let wanted = target(rng);
    let disp = match insn.mem.base {
        Mem::RIP => wanted.wrapping_sub(next),
        Mem::NONE => wanted.wrapping_sub(bias(insn.mem.seg, mode)),
        _ => return,
    };
    // The displacement is where changing a byte changes it and nothing else.
    let len = usize::from(insn.len);
    let width = if matches!(insn.opcode, 0xa0..=0xa3) && insn.modrm == 0 {
        usize::from(insn.addr_size)
    } else {
        4
    };
    for at in 1..len.saturating_sub(width - 1) {
        let mut copy = b[..len].to_vec();
        copy[at..at + width].copy_from_slice(&disp.to_le_bytes()[..width]);
        let Ok(other) = decode(&copy, mode, features) else { continue };
        let want = match (width, insn.modrm) {
            (4, 1..) => disp as u32 as i32 as i64,
            (2, 1..) => disp as u16 as i16 as i64,
            (4, _) => disp as u32 as i64,
            (2, _) => disp as u16 as i64,
            _ => disp as i64,
        };
        if other.len == insn.len
            && other.mem.disp == want
            && other.imm == insn.imm
            && other.op == insn.op
        {
            b[..len].copy_from_slice(&copy);
            return;
        }
    }
}

/// Base of a segment, which addresses in it leave out.
fn bias(seg: SegReg, mode: Mode) -> u64 {
    match (mode, seg) {
        (_, SegReg::Gs) => GS_BASE,
        (Mode::Prot16, SegReg::Ds | SegReg::Es | SegReg::Ss) => DATA,
        _ => 0,
    }
}

/// Makes the memory operand land on a target by choosing its registers.
fn aim(insn: &Insn, mode: Mode, gprs: &mut [u64; 16], rng: &mut SmallRng) {
    let m = &insn.mem;
    let mut at = target(rng).wrapping_sub(m.disp as u64);
    at = at.wrapping_sub(bias(m.seg, mode));
    let reg = |n: u8| usize::from(n & 15);
    match (m.base, m.index) {
        (Mem::RIP | Mem::NONE, Mem::NONE) => {}
        (Mem::RIP | Mem::NONE, index) => gprs[reg(index)] = at >> m.shift,
        (base, Mem::NONE) => gprs[reg(base)] = at,
        (base, index) if base == index => gprs[reg(base)] = at / (1 + (1 << m.shift)),
        (base, index) => {
            let scaled: u64 = rng.random_range(0..0x1000);
            gprs[reg(index)] = scaled;
            gprs[reg(base)] = at.wrapping_sub(scaled << m.shift);
        }
    }
}

fn registers(insn: &Insn, mode: Mode, rng: &mut SmallRng) -> [u64; 16] {
    let mut gprs = [0; 16];
    for gpr in &mut gprs {
        *gpr = value(rng);
    }
    gprs[4] = target(rng).wrapping_sub(bias(SegReg::Ss, mode));
    if matches!(insn.op, Op::Leave | Op::Enter) || rng.random_range(0..4) == 0 {
        gprs[5] = target(rng).wrapping_sub(bias(SegReg::Ss, mode));
    }
    let bit_test = matches!(insn.op, Op::Bt | Op::Bts | Op::Btr | Op::Btc);
    if let (true, Operand::Gpr { n, .. }) = (bit_test && insn.dst.is_mem(), insn.src) {
        gprs[usize::from(n)] = rng.random_range(-2000i64..2000) as u64;
    }
    if matches!(insn.op, Op::Movs | Op::Cmps | Op::Stos | Op::Lods | Op::Scas) {
        gprs[6] = target(rng).wrapping_sub(bias(insn.mem.seg, mode));
        gprs[7] = target(rng).wrapping_sub(bias(SegReg::Es, mode));
        if insn.prefixes.rep != Rep::None {
            gprs[1] = rng.random_range(0..40);
        }
    }
    if insn.op == Op::Xlat {
        gprs[3] = target(rng).wrapping_sub(gprs[0] & 0xff).wrapping_sub(bias(insn.mem.seg, mode));
    }
    if matches!(insn.op, Op::Loop) {
        gprs[1] = rng.random_range(0..3);
    }
    if matches!(insn.op, Op::Div | Op::Idiv) && rng.random_range(0..2) == 0 {
        gprs[2] = if rng.random() { 0 } else { u64::MAX };
    }
    if matches!(insn.op, Op::Jmp | Op::Call) {
        for gpr in &mut gprs {
            if rng.random_range(0..2) == 0 {
                *gpr = CODE + rng.random_range(0..0x1000);
            }
        }
        gprs[4] = target(rng).wrapping_sub(bias(SegReg::Ss, mode));
    }
    if insn.has_mem() || insn.op == Op::Clflush {
        aim(insn, mode, &mut gprs, rng);
    }
    if matches!(insn.op, Op::Cmpxchg) && rng.random_range(0..2) == 0 {
        if let Operand::Gpr { n, .. } = insn.dst {
            gprs[0] = gprs[usize::from(n)];
        }
    }
    gprs
}

/// Whether it loads a segment register that this process needs.
fn breaks_process(insn: &Insn) -> bool {
    match (insn.op, insn.dst) {
        (Op::MovToSeg, Operand::Seg(seg)) => matches!(seg, SegReg::Fs | SegReg::Gs),
        (Op::PopSeg, _) => insn.opcode >= 0xa0,
        _ => false,
    }
}

fn choose_selector(rng: &mut SmallRng) -> u16 {
    SELECTORS[rng.random_range(0..SELECTORS.len())]
}

/// Prepares stack frames and far pointers; returns what to write to memory.
fn far_operands(
    b: &mut [u8],
    insn: &Insn,
    mode: Mode,
    gprs: &mut [u64; 16],
    rng: &mut SmallRng,
) -> Option<(u64, Vec<u8>)> {
    let offset = CODE + rng.random_range(0..CODE_END - CODE);
    let selector = choose_selector(rng);
    match (insn.op, insn.src) {
        (Op::MovToSeg, Operand::Gpr { n, .. }) => gprs[usize::from(n)] = u64::from(selector),
        (Op::JmpFar | Op::CallFar, Operand::Imm) => {
            let size = usize::from(insn.op_size);
            let at = b.len() - 2 - size;
            b[at..at + size].copy_from_slice(&offset.to_le_bytes()[..size]);
            b[at + size..].copy_from_slice(&selector.to_le_bytes());
        }
        (Op::JmpFar | Op::CallFar, _) => {
            let aimed = rng.random_range(0..0x1000) + DATA + 0x800;
            if insn.mem.base > 15
                || insn.mem.index != Mem::NONE
                || insn.mem.base == 4
                || insn.addr_size == 2
            {
                return None;
            }
            gprs[usize::from(insn.mem.base)] =
                aimed.wrapping_sub(insn.mem.disp as u64).wrapping_sub(bias(insn.mem.seg, mode));
            let size = usize::from(insn.op_size.min(4));
            let mut pointer = offset.to_le_bytes()[..size].to_vec();
            pointer.extend(selector.to_le_bytes());
            return Some((aimed, pointer));
        }
        (Op::RetFar | Op::Iret, _) => {
            let stack = DATA + 0x800 + rng.random_range(0..0x100) * 8;
            gprs[4] = stack - bias(SegReg::Ss, mode);
            let flags = rng.random::<u64>() & 0xcd5 | 0x202;
            let ss = match rng.random_range(0..6) {
                0 | 1 => choose_selector(rng),
                2 => DS16,
                _ => DS,
            };
            let rsp = DATA + rng.random_range(0..0x1000);
            let mut frame = vec![offset, u64::from(selector)];
            if insn.op == Op::Iret {
                frame.push(flags);
            }
            frame.extend([rsp, u64::from(ss)]);
            let size = usize::from(insn.op_size);
            let bytes = frame.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec()).collect();
            return Some((stack, bytes));
        }
        _ => {}
    }
    None
}

fn is_prefix(b: u8) -> bool {
    matches!(b, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x65 | 0x2e | 0x40..=0x4f)
}

/// The next case in `mode` (64-bit or compatibility); undefined encodings are
/// cases, unsupported ones aren't.
pub fn next(rng: &mut SmallRng, mode: Mode, features: Features) -> Option<Case> {
    let mut b = bytes(rng, mode);
    let insn = decode(&b, mode, features);
    let flags = Rflags::ARITH | Rflags::DF;
    let rflags = rng.random::<u64>() & flags.bits() | 0x202;
    let mut regs = Regs { gprs: [0; 16], rflags, ymm: [[0; 4]; 16] };
    for q in regs.ymm.iter_mut().flatten() {
        *q = rng.random();
    }
    let mut poke = None;
    let insn = match insn {
        Ok(insn) if excluded(insn.op) || breaks_process(&insn) => return None,
        Ok(insn) => {
            patch_displacement(&mut b, &insn, mode, features, rng);
            let insn = decode(&b, mode, features).ok()?;
            b.truncate(usize::from(insn.len));
            regs.gprs = registers(&insn, mode, rng);
            poke = far_operands(&mut b, &insn, mode, &mut regs.gprs, rng);
            Ok(decode(&b, mode, features).ok()?)
        }
        // With enough prefixes the length limit may come first.
        Err(DecodeError::Undefined) if b.iter().take_while(|p| is_prefix(**p)).count() > 2 => {
            return None;
        }
        Err(DecodeError::Undefined) => {
            regs.gprs = regs.gprs.map(|_| target(rng));
            b.truncate(15);
            Err(DecodeError::Undefined)
        }
        Err(_) => return None,
    };
    if !mode.is_long() {
        for gpr in &mut regs.gprs {
            *gpr &= 0xffff_ffff;
        }
    }
    Some(Case { bytes: b, insn, regs, poke })
}
