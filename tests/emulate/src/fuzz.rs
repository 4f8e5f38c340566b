// SPDX-License-Identifier: GPL-2.0
//! The fuzz entry: any bytes, any mode, any state.
//!
//! Nothing may panic, a stopped instruction may not have moved RIP (task
//! switches and INT1 aside), and a restart must make progress.

use kvm_emulate::fake::FakeCpu;
use kvm_emulate::{Completed, Op, Stop, decode, execute, fetch};
use x86_defs::{Cr0, Mode, Rflags, SegReg, Segment, TableReg};

const MODES: [Mode; 5] = [Mode::Real, Mode::Vm86, Mode::Prot16, Mode::Prot32, Mode::Long64];

/// A processor whose whole state comes from `data`, cyclically.
fn processor(mode: Mode, data: &[u8]) -> FakeCpu {
    let mut source = data.iter().copied().cycle();
    let mut next = move || source.next().unwrap_or(0);
    let mut number = move || (0..8).fold(0u64, |n, _| n << 8 | u64::from(next()));
    let mut cpu = FakeCpu::new(mode);
    cpu.map(0, 0x4000, true).map(0x8000, 0x1000, false);
    let contents = cpu.slice(0, 0x4000).into_iter().flat_map(|s| s.chunks_mut(data.len()));
    for chunk in contents {
        chunk.copy_from_slice(&data[..chunk.len()]);
    }
    for n in 0..16 {
        let raw = number();
        cpu.gprs[n] = if raw & 3 == 0 { raw } else { raw >> 8 & 0x3fff };
    }
    cpu.gdt = TableReg { base: 0x100, limit: number() as u16 };
    cpu.idt = TableReg { base: 0x200, limit: number() as u16 };
    cpu.cpl = if mode.is_protected() { number() as u8 & 3 } else { cpu.cpl };
    let fixed = Rflags::VM;
    let random = Rflags::from_bits_retain(number() & 0x3f_7fd5).difference(fixed);
    cpu.rflags = cpu.rflags.intersection(fixed) | random | Rflags::FIXED;
    let raw = number();
    cpu.set_seg(
        SegReg::Tr,
        Segment {
            base: 0x300,
            limit: raw as u32 & 0xff,
            typ: raw as u8 >> 4,
            present: true,
            ..Segment::default()
        },
    );
    cpu.set_seg(
        SegReg::Ldtr,
        Segment { base: 0x1000, limit: 0xff, present: true, ..Segment::default() },
    );
    cpu.features.amd = raw & 1 == 0;
    cpu.cr4 |= x86_defs::Cr4::from_bits_truncate(number());
    cpu.cr0 |= Cr0::from_bits_truncate(number()) & (Cr0::TS | Cr0::EM);
    cpu.devices.push(0x9000..0xa000);
    cpu.break_after = 64;
    cpu.contention = raw as u32 & 3;
    cpu
}

/// Decodes and executes `data`; the first byte selects the mode.
///
/// # Panics
///
/// If the emulator breaks one of its promises.
pub fn one(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    let mode = MODES[usize::from(*selector) % MODES.len()];
    let mut cpu = processor(mode, data);
    cpu.rip = 0x2000;
    let _ = fetch::fetch(&mut cpu, &[]);
    let Ok(insn) = decode(bytes, mode, cpu.features) else { return };
    assert!((1..=15).contains(&insn.len));
    let moves_rip = matches!(
        insn.op,
        Op::Int1 | Op::Int | Op::Int3 | Op::Into | Op::JmpFar | Op::CallFar | Op::Iret
    );
    for answer in 0..64 {
        cpu.replay.rewind();
        let before = cpu.rip;
        match execute(&mut cpu, &insn) {
            Ok(Completed { repeat: true, .. }) => cpu.replay.clear(),
            Ok(_) => return,
            Err(Stop::NeedsExit) => {
                assert!(cpu.replay.pending().is_some());
                assert_eq!(cpu.rip, before);
                cpu.replay.complete(answer);
            }
            Err(_) => {
                assert!(moves_rip || cpu.rip == before, "{insn:?}");
                return;
            }
        }
    }
}
