// SPDX-License-Identifier: GPL-2.0
//! Lengths and operand sizes against an independent decoder, on random bytes
//! in 16-, 32- and 64-bit code.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use kvm_emulate::{DecodeError, Features, Insn, Op, Operand, decode};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use x86_defs::Mode;

fn options(amd: bool) -> u32 {
    if amd { DecoderOptions::AMD } else { DecoderOptions::NONE }
}

fn bits(mode: Mode) -> u32 {
    match mode {
        Mode::Long64 => 64,
        Mode::Prot32 => 32,
        _ => 16,
    }
}

/// Random bytes that look more like code than noise does.
fn bytes(rng: &mut SmallRng, mode: Mode) -> [u8; 15] {
    let mut b: [u8; 15] = rng.random();
    let mut at = 0;
    while at < 4 && rng.random_range(0..3) == 0 {
        b[at] = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]
            [rng.random_range(0..11)];
        at += 1;
    }
    if mode.is_long() && rng.random() {
        b[at] = 0x40 | rng.random_range(0..16u8);
        at += 1;
    }
    match rng.random_range(0..8) {
        0..3 => b[at] = 0x0f,
        3 => b[at..at + 2].copy_from_slice(&[0x0f, 0x38]),
        4 => b[at] = 0xc4 + rng.random_range(0..2u8),
        _ => {}
    }
    b
}

/// Size of the explicit memory operand, 0 if it isn't one of plain data.
fn iced_memory_size(i: &Instruction) -> usize {
    i.memory_size().size()
}

fn our_memory_size(insn: &Insn) -> Option<usize> {
    [insn.dst, insn.src, insn.src2].into_iter().find_map(|o| match o {
        Operand::Mem { size } => Some(usize::from(size)),
        _ => None,
    })
}

/// Differences that are decisions, not errors.
fn is_known(insn: Result<&Insn, DecodeError>, iced: &Instruction, b: &[u8]) -> bool {
    use Mnemonic as M;
    let op = insn.map(|i| i.op);
    match (op, iced.mnemonic()) {
        // The other decoder gives up on what the processor treats as the BSF or NOP it extends.
        (Ok(Op::Nop | Op::Prefetch), _) => true,
        // Reserved: our decoder leaves the verdict to execution.
        (Ok(Op::Loop | Op::Bsf | Op::Bsr), M::INVALID) => true,
        // Prefixes that make these undefined aren't judged before execution.
        (
            Ok(Op::Fence | Op::Clac | Op::Stac | Op::Xgetbv | Op::Xsetbv | Op::Monitor | Op::Mwait),
            _,
        ) => true,
        (
            Ok(
                Op::Vmcall
                | Op::Vmmcall
                | Op::Swapgs
                | Op::Rdtscp
                | Op::Invlpg
                | Op::Sgdt
                | Op::Lgdt
                | Op::Sidt
                | Op::Lidt
                | Op::Smsw
                | Op::Lmsw,
            ),
            M::INVALID,
        ) => true,
        // Three-operand loads with vvvv: #UD at execution.
        (Ok(Op::VecScalar), M::INVALID) => true,
        (Ok(Op::ReadDr | Op::WriteDr | Op::ReadCr | Op::WriteCr), _) => true,
        // Measured: AMD reads four bytes with 66h.
        (Ok(Op::Movsx), M::Movsxd) => true,
        // Measured: #UD on AMD with a register.
        (Err(_), M::Reservednop) if b.contains(&0x0d) => true,
        (Err(_), M::Ud0 | M::Ud1 | M::Ud2 | M::Jmpe) => true,
        _ => b.is_empty(),
    }
}

fn compare(mode: Mode, amd: bool, cases: u64, seed: u64) {
    let features = Features::all(amd);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut both, mut failures) = (0u64, Vec::new());
    for _ in 0..cases {
        let b = bytes(&mut rng, mode);
        let ours = decode(&b, mode, features);
        let theirs = Decoder::new(bits(mode), &b, options(amd)).decode();
        let valid = theirs.code() != Code::INVALID;
        let same = match &ours {
            Err(DecodeError::Unsupported | DecodeError::TooLong) => true,
            Err(_) => !valid,
            Ok(insn) => {
                both += 1;
                valid && usize::from(insn.len) == theirs.len() && same_size(insn, &theirs)
            }
        };
        if !same && !is_known(ours.as_ref().map_err(|e| *e), &theirs, &b) {
            failures.push(format!(
                "{b:02x?}: {ours:?} but {theirs} ({:?}, {} bytes)",
                theirs.code(),
                theirs.len()
            ));
            if failures.len() > 12 {
                break;
            }
        }
    }
    println!("{mode:?}: {both} of {cases} decoded by both");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn same_size(insn: &Insn, theirs: &Instruction) -> bool {
    // Sizes that the other decoder reports by purpose (pointers, tables, lines) aren't data.
    let ours = match our_memory_size(insn) {
        Some(size) if size != 0 && insn.op != Op::Movnti => size,
        _ => return true,
    };
    let gpr = insn.dst;
    let register_agrees = match gpr {
        Operand::Gpr { n, size } if theirs.op0_register() != Register::None => {
            let r = theirs.op0_register();
            !r.is_gpr()
                || r.size() == usize::from(size) && (size == 1 || r.number() == usize::from(n))
        }
        _ => true,
    };
    register_agrees && ours == iced_memory_size(theirs)
}

fn count() -> u64 {
    std::env::var("EMULATE_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(300_000)
}

#[test]
fn long_mode() {
    compare(Mode::Long64, true, count(), 1);
    compare(Mode::Long64, false, count(), 2);
}

#[test]
fn protected_32() {
    compare(Mode::Prot32, true, count(), 3);
}

#[test]
fn protected_16() {
    compare(Mode::Prot16, true, count(), 4);
}
