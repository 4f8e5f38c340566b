// SPDX-License-Identifier: GPL-2.0
//! The emulator against the processor: same bytes, registers, flags, memory.
//!
//! `EMULATE_CASES` sets the number of cases (default 300 000), `EMULATE_SEED`
//! the first seed. `ten_million` is the long run.

#![cfg(target_arch = "x86_64")]

use emulate_tests::generate::{self, Case};
use emulate_tests::native::{
    CODE, CODE_END, CS16, CS32, CS64, DATA, DATA_LEN, DS, DS16, DS16_LIMIT, ENTRY, End, GS_BASE,
    Native, READ_ONLY, Regs,
};
use emulate_tests::undefined;
use kvm_emulate::fake::FakeCpu;
use kvm_emulate::{Exception, Features, Op, Stop, execute};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::arch::asm;
use std::collections::BTreeMap;
use x86_defs::{Cr0, Descriptor, Efer, Mode, Rflags, SegReg, Segment, Selector, TableReg};

fn selector(reg: SegReg) -> u16 {
    let value: u16;
    // SAFETY: reading a segment selector has no effect.
    unsafe {
        match reg {
            SegReg::Es => asm!("mov {0:x}, es", out(reg) value),
            SegReg::Cs => asm!("mov {0:x}, cs", out(reg) value),
            SegReg::Ss => asm!("mov {0:x}, ss", out(reg) value),
            SegReg::Ds => asm!("mov {0:x}, ds", out(reg) value),
            SegReg::Fs => asm!("mov {0:x}, fs", out(reg) value),
            _ => asm!("mov {0:x}, gs", out(reg) value),
        }
    }
    value
}

fn features() -> Features {
    let amd = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|s| s.contains("AuthenticAMD"));
    Features {
        bmi1: is_x86_feature_detected!("bmi1"),
        bmi2: is_x86_feature_detected!("bmi2"),
        adx: is_x86_feature_detected!("adx"),
        movbe: is_x86_feature_detected!("movbe"),
        lzcnt: is_x86_feature_detected!("lzcnt"),
        ..Features::all(amd)
    }
}

/// Where the fake keeps Linux's GDT; the processor's can't be read.
const GDT: u64 = 0xffff_8000_0000_0000;

const LDT: u64 = GDT + 0x800;

/// Linux's descriptors, index by index (arch/x86/kernel/cpu/common.c). The
/// entries of the TSS, LDT and TLS can't be loaded by anyone; the last one is
/// the CPU number's data segment.
const DESCRIPTORS: [u64; 16] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0x0000_8b00_0000_206f,
    0,
    0,
    0,
    0,
    0,
    0,
    0x0040_f500_0000_0000,
];

/// The emulated twin of this process: CPL 3, the same window and segments.
fn fake(mode: Mode, features: Features) -> FakeCpu {
    let mut cpu = FakeCpu::new(mode);
    cpu.cpl = 3;
    cpu.features = features;
    cpu.efer = Efer::LME | Efer::LMA | Efer::SCE;
    cpu.cr0 |= Cr0::PG;
    cpu.map(DATA, DATA_LEN, true);
    cpu.map(READ_ONLY, 0x1000, false);
    cpu.map(GDT, 0x1000, true);
    cpu.set_seg(
        SegReg::Ldtr,
        Segment { base: LDT, limit: 0xf, present: true, ..Segment::default() },
    );
    let code16 = Segment {
        base: CODE,
        limit: 0xfff,
        typ: 0xb,
        dpl: 3,
        s: true,
        present: true,
        ..Segment::default()
    };
    let data16 = Segment { base: DATA, limit: DS16_LIMIT, typ: 3, ..code16 };
    for (n, seg) in [code16, data16].iter().enumerate() {
        cpu.poke(LDT + 8 * n as u64, &Descriptor::from_segment(seg).0.0.to_le_bytes());
    }
    cpu.gdt = TableReg { base: GDT, limit: 0x7f };
    for (n, desc) in DESCRIPTORS.into_iter().enumerate() {
        cpu.poke(GDT + 8 * n as u64, &desc.to_le_bytes());
    }
    for reg in SegReg::USER {
        let selector = match reg {
            SegReg::Cs if mode.is_long() => CS64,
            SegReg::Cs if mode == Mode::Prot32 => CS32,
            SegReg::Cs => CS16,
            SegReg::Ds | SegReg::Es | SegReg::Ss if mode == Mode::Prot16 => DS16,
            SegReg::Fs | SegReg::Gs => selector(reg),
            _ => DS,
        };
        let desc = match selector {
            CS16 => cpu.peek(LDT, 8),
            DS16 => cpu.peek(LDT + 8, 8),
            _ => DESCRIPTORS[usize::from(selector >> 3)],
        };
        let null = selector == 0;
        let mut seg = if null {
            Segment::null(0)
        } else {
            Descriptor(desc).to_segment(Selector(selector), 0)
        };
        if reg == SegReg::Gs {
            seg.base = GS_BASE;
        }
        cpu.set_seg(reg, seg);
    }
    cpu
}

/// Whether a native run can touch only what it may.
fn is_safe(cpu: &FakeCpu) -> bool {
    cpu.touched.iter().all(|r| {
        let window = DATA - 0x1000..READ_ONLY + 0x2000;
        window.contains(&r.start) && window.contains(&r.end)
            || r.start < 0x1_0000 && r.end < 0x1_0000
            || (GDT..GDT + 0x1000).contains(&r.start)
    })
}

/// Locked accesses across a cache line may be trapped by the host.
fn splits_lock(cpu: &FakeCpu, case: &Case) -> bool {
    let locked = case.insn.is_ok_and(|i| i.prefixes.lock || i.op == Op::Xchg && i.dst.is_mem());
    locked && cpu.touched.iter().any(|r| r.start >> 6 != r.end.wrapping_sub(1) >> 6)
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    gprs: [u64; 16],
    rflags: u64,
    ymm: Option<[[u64; 4]; 16]>,
    end: End,
}

/// Runs the case on the fake; `None` if it must not run natively.
fn emulate(cpu: &mut FakeCpu, segs: &[Segment; 8], case: &Case) -> Option<Outcome> {
    cpu.gprs = case.regs.gprs;
    cpu.rflags = Rflags::from_bits_retain(case.regs.rflags);
    cpu.ymm = case.regs.ymm;
    cpu.segs = *segs;
    cpu.rip = ENTRY - cpu.code_base();
    cpu.cpl = 3;
    cpu.touched.clear();
    cpu.effects.clear();
    let result = match &case.insn {
        Ok(insn) => execute(cpu, insn),
        Err(_) => Err(Stop::UD),
    };
    let end = match result {
        Ok(_) if case.is_branch() => {
            let linear = cpu.code_base().wrapping_add(cpu.rip);
            // The target must be a breakpoint of the code page.
            let outside = !(CODE..CODE_END).contains(&linear);
            let inside_insn = (ENTRY..ENTRY + case.bytes.len() as u64).contains(&linear);
            if outside || inside_insn {
                return None;
            }
            End::At(cpu.rip)
        }
        Ok(_) => End::Next,
        Err(Stop::Fault(Exception { vector, error_code, payload })) => {
            End::Fault(vector as u8, error_code.unwrap_or(0), payload.unwrap_or(0))
        }
        #[expect(clippy::panic, reason = "nothing else can stop these instructions")]
        Err(stop) => panic!("{stop:?} from {:02x?} {:?}", case.bytes, case.insn),
    };
    let trapped = Rflags::TF | Rflags::AC | Rflags::NT;
    if cpu.rflags.intersects(trapped) || !is_safe(cpu) || splits_lock(cpu, case) {
        return None;
    }
    let ymm = (end == End::Next).then_some(cpu.ymm);
    Some(Outcome { gprs: cpu.gprs, rflags: cpu.rflags.bits(), ymm, end })
}

/// Runs the case natively.
fn run_native(native: &mut Native, cs: u16, case: &Case) -> Outcome {
    let mut regs: Regs = case.regs;
    let end = native.run(&case.bytes, cs, case.is_branch(), &mut regs);
    let end = match end {
        // CR2 is stale unless it is a page fault.
        End::Fault(vector, error, _) if vector != 14 => End::Fault(vector, error, 0),
        end => end,
    };
    let ymm = (end == End::Next).then_some(regs.ymm);
    Outcome { gprs: regs.gprs, rflags: regs.rflags & !Rflags::RF.bits(), ymm, end }
}

/// Differences between two faulting runs that the architecture allows: a CALL
/// whose stack and target both fault may report either, and so may CMPS, whose two
/// sources processors read in different order; POPA may have loaded some registers
/// already.
fn may_differ(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    let faults = matches!((expected.end, actual.end), (End::Fault(..), End::Fault(..)));
    faults
        && match case.insn.map(|i| i.op) {
            Ok(Op::Call | Op::Cmps) => expected.gprs == actual.gprs,
            Ok(Op::Popa) => expected.end == actual.end && expected.gprs[4] == actual.gprs[4],
            _ => false,
        }
}

struct Runner {
    native: Native,
    cpu: FakeCpu,
    mode: Mode,
    segs: [Segment; 8],
    rng: SmallRng,
    compared: BTreeMap<Op, u64>,
    faults: u64,
    failures: Vec<String>,
}

impl Runner {
    fn new(mode: Mode, seed: u64) -> Self {
        let native = Native::new();
        let cpu = fake(mode, features());
        let segs = cpu.segs;
        let mut runner = Self {
            native,
            cpu,
            mode,
            segs,
            rng: SmallRng::seed_from_u64(seed),
            compared: BTreeMap::new(),
            faults: 0,
            failures: Vec::new(),
        };
        runner.refill();
        runner
    }

    /// New random contents, the same on both sides; some of it branch targets.
    fn refill(&mut self) {
        let data = self.native.data();
        self.rng.fill(data);
        for chunk in data.chunks_exact_mut(8) {
            if self.rng.random_range(0..2) == 0 {
                chunk.copy_from_slice(&(CODE + self.rng.random_range(0..0x1000)).to_le_bytes());
            }
        }
        self.cpu.poke(DATA, data);
    }

    fn case(&mut self) -> bool {
        let features = self.cpu.features;
        let Some(case) = generate::next(&mut self.rng, self.mode, features) else { return false };
        let cl = case.regs.gprs[1] as u8;
        if case.insn.is_ok_and(|i| undefined::result(&i, cl)) {
            return false;
        }
        if let Some((at, bytes)) = &case.poke {
            self.cpu.poke(*at, bytes);
            let start = (*at - DATA) as usize;
            self.native.data()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        let Some(mut expected) = emulate(&mut self.cpu, &self.segs, &case) else {
            // It didn't run natively: undo its stores.
            self.cpu.poke(DATA, self.native.data());
            return false;
        };
        let mut actual =
            run_native(&mut self.native, self.segs[SegReg::Cs as usize].selector, &case);
        if !self.mode.is_long() {
            // The upper registers aren't architecturally kept in compatibility mode.
            expected.gprs[8..].fill(0);
            actual.gprs[8..].fill(0);
            // Nor are upper halves; an interrupt on a 16-bit stack changes RSP's.
            actual.gprs[4] &= 0xffff_ffff;
        }
        let ignored = case.insn.map_or(Rflags::empty(), |i| undefined::flags(&i, cl)).bits();
        expected.rflags &= !ignored;
        actual.rflags &= !ignored;
        let same_memory = self.cpu.slice(DATA, DATA_LEN).is_some_and(|s| *s == *self.native.data());
        if (expected != actual || !same_memory) && !may_differ(&case, &expected, &actual) {
            self.fail(&case, &expected, &actual, same_memory);
        }
        if matches!(actual.end, End::Fault(..)) {
            self.faults += 1;
        }
        *self.compared.entry(case.insn.map_or(Op::Ud, |i| i.op)).or_default() += 1;
        true
    }

    fn fail(&mut self, case: &Case, expected: &Outcome, actual: &Outcome, same_memory: bool) {
        let what = case.insn.map(|i| (i.op, i.op_size, i.dst, i.src, i.src2, i.mem));
        let mut text = format!("{:02x?} {what:?}\n", case.bytes);
        text += &format!(
            "  emulated {:?} flags {:x}, native {:?} flags {:x} (before {:x})\n",
            expected.end, expected.rflags, actual.end, actual.rflags, case.regs.rflags
        );
        for n in 0..16 {
            let (e, a) = (expected.gprs[n], actual.gprs[n]);
            if e != a {
                text += &format!(
                    "  r{n}: before {:x}, emulated {e:x}, native {a:x}\n",
                    case.regs.gprs[n]
                );
            }
        }
        if expected.end == actual.end && expected.ymm != actual.ymm {
            text += "  vector registers differ\n";
        }
        if !same_memory {
            text += "  memory differs\n";
        }
        self.failures.push(text);
        self.refill();
    }

    fn run(&mut self, cases: u64) {
        let mut done = 0;
        while done < cases && self.failures.len() < 20 {
            done += u64::from(self.case());
            if done % 4096 == 0 {
                self.refill();
            }
        }
        let (kinds, faults) = (self.compared.len(), self.faults);
        println!(
            "{done} cases, {kinds} operations, {faults} faults, {} differ",
            self.failures.len()
        );
        if std::env::var_os("EMULATE_STATS").is_some() {
            for (op, count) in &self.compared {
                println!("{op:?}: {count}");
            }
        }
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
    }
}

trait CodeBase {
    fn code_base(&self) -> u64;
}

impl CodeBase for FakeCpu {
    /// Base of CS, which 64-bit mode ignores.
    fn code_base(&self) -> u64 {
        let cs = self.seg(SegReg::Cs);
        if cs.l { 0 } else { cs.base }
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn agrees_in_64_bit_mode() {
    Runner::new(Mode::Long64, env("EMULATE_SEED", 1)).run(env("EMULATE_CASES", 300_000));
}

#[test]
fn agrees_in_compatibility_mode() {
    Runner::new(Mode::Prot32, env("EMULATE_SEED", 2)).run(env("EMULATE_CASES", 300_000) / 3);
}

#[test]
fn agrees_in_16_bit_compatibility_mode() {
    Runner::new(Mode::Prot16, env("EMULATE_SEED", 5)).run(env("EMULATE_CASES", 300_000) / 3);
}

#[test]
#[ignore = "takes minutes"]
fn ten_million() {
    Runner::new(Mode::Long64, env("EMULATE_SEED", 3)).run(10_000_000);
}

#[test]
#[ignore = "takes minutes"]
fn ten_million_in_compatibility_mode() {
    Runner::new(Mode::Prot32, env("EMULATE_SEED", 4)).run(10_000_000);
}

#[test]
#[ignore = "takes minutes"]
fn ten_million_in_16_bit_compatibility_mode() {
    Runner::new(Mode::Prot16, env("EMULATE_SEED", 6)).run(10_000_000);
}
