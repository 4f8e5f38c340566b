// SPDX-License-Identifier: GPL-2.0
//! What a tick of a guest's timer costs: the guest sets a deadline, spins until the interrupt comes, ends
//! it and sets the next one. What the spinning alone would have taken is taken off.

use anyhow::{Result, bail, ensure};
use kvm_bindings as abi;
use micro::deadline::{self, Deadline};
use micro::exit::Exit;
use micro::guest;
use micro::mode::Mode;
use micro::vcpu::Vcpu;
use micro::vm::Vm;

use crate::sample::{Bench, Figure, SAMPLES};

/// Ticks of one sample.
const TICKS: u32 = 32;

/// Cycles from one setting of the timer to its deadline: more than all that a tick costs.
const PERIOD: u32 = 100_000;

const VECTOR: u8 = 0x50;

pub(crate) const BENCHES: &[Bench] = &[Bench {
    name: "timer/tick",
    what: "a TSC deadline: set, met while the guest runs, its interrupt ended",
    body: tick,
}];

/// The APIC in x2APIC mode, its timer by the TSC.
fn code() -> &'static [u8] {
    guest!(64;
    "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
    "xor edx, edx",
    "mov ecx, 0x80f", "mov eax, 0x1ff", "wrmsr",
    "mov ecx, 0x832", "mov eax, 0x40000 | {vector}", "wrmsr",
    "sti",
    "3:", "mov r13d, {ticks}", "rdtsc", "shl rdx, 32", "lea r14, [rax + rdx]",
    "2:", "xor ebx, ebx",
    "mov ecx, 0x6e0", "rdtsc", "add eax, {period}", "adc edx, 0", "wrmsr",
    "4:", "test ebx, ebx", "jz 4b",
    "dec r13d", "jnz 2b",
    "rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, r14", "out 0xe8, eax", "jmp 3b";
    ticks = TICKS, period = PERIOD, vector = VECTOR
    )
}

/// Ends the interrupt and says that it came.
fn handler() -> &'static [u8] {
    guest!(64; "mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr", "mov ebx, 1", "iretq")
}

fn tick() -> Result<Figure> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER")?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut cpuid = vm.supported_cpuid()?;
    cpuid.leaf_mut(1, 0)?.ecx |= 1 << 24 | 1 << 21;
    vcpu.set_cpuid(&cpuid)?;
    vcpu.start(Mode::Long, code())?;
    vcpu.handle(VECTOR, handler())?;
    let _limit = Deadline::start(deadline::LIMIT * 4)?;
    let spun = u64::from(TICKS) * u64::from(PERIOD);
    sample(&mut vcpu)?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let all = sample(&mut vcpu)?;
        ensure!(all >= spun, "{TICKS} ticks in {all} cycles: the timer is early");
        samples.push(all - spun);
    }
    Figure::instructions(samples, TICKS.into())
}

/// The guest's next report.
fn sample(vcpu: &mut Vcpu) -> Result<u64> {
    match vcpu.run()? {
        Exit::Out { port: 0xe8, data, .. } if data.len() == 4 => {
            Ok(u32::from_le_bytes([data[0], data[1], data[2], data[3]]).into())
        }
        exit => bail!("{}", vcpu.describe(&exit)),
    }
}
