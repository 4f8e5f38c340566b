// SPDX-License-Identifier: GPL-2.0
//! What it costs to wake a halted vCPU and to interrupt another one. Everything runs on one processor of
//! the machine, so that a switch of threads is part of each round, and polling finds nothing to wait for.

use std::os::fd::AsRawFd;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings as abi;
use micro::guest;
use micro::mode::Mode;
use micro::request;
use micro::stats::Stats;
use micro::thread::beside;
use micro::vcpu::Vcpu;
use micro::vm::Vm;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::exits::{ROUNDS, next_report, none};
use crate::sample::{Bench, Figure, SAMPLES, sample};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "wake/irqfd", what: "OUT to an eventfd, HLT, woken by an irqfd", body: by_irqfd },
    Bench { name: "wake/ipi", what: "an IPI to a halted vCPU and one back", body: by_ipi },
    Bench { name: "wake/timer-near", what: "a timer's handler late, 0.1 ms ahead", body: near },
    Bench { name: "wake/timer-far", what: "a timer's handler late, 2 ms ahead", body: far },
    Bench { name: "irq/irqfd", what: "write to an irqfd, no vCPU running", body: irqfd },
];

/// The line that the irqfds raise, and the vector that it leads to.
const GSI: u32 = 24;

/// `struct kvm_irq_routing` with one message.
#[repr(C)]
struct Route {
    count: u32,
    flags: u32,
    entry: abi::kvm_irq_routing_entry,
}

/// A VM with local APICs, whose line [`GSI`] is vector 0x61 of vCPU 0.
fn routed() -> Result<(Vm, EventFd)> {
    let vm = Vm::new()?;
    vm.split_irqchip(GSI.into())?;
    let mut entry = abi::kvm_irq_routing_entry {
        gsi: GSI,
        type_: abi::KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    entry.u.msi = abi::kvm_irq_routing_msi {
        address_lo: 0xfee0_0000,
        address_hi: 0,
        data: 0x61,
        ..Default::default()
    };
    let route = Route { count: 1, flags: 0, entry };
    request::give(vm.file(), request::SET_GSI_ROUTING, &route).context("KVM_SET_GSI_ROUTING")?;
    let event = EventFd::from_flags(EfdFlags::empty()).context("eventfd")?;
    let argument = abi::kvm_irqfd { fd: event.as_raw_fd() as u32, gsi: GSI, ..Default::default() };
    request::give(vm.file(), request::IRQFD, &argument).context("KVM_IRQFD")?;
    Ok((vm, event))
}

/// Guest code that turns its local APIC on in x2APIC mode, does `$setup`, and then `$line` [`ROUNDS`]
/// times between looks at the clock. The handler of vector 0x61 counts in R15.
macro_rules! apic_rounds {
    ([$($setup:literal),*] $($line:literal),+) => {
        guest!(64;
            "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
            "mov ecx, 0x80f", "mov eax, 0x1ff", "xor edx, edx", "wrmsr",
            $($setup,)*
            "3:", "mov r13d, {rounds}",
            "rdtsc", "shl rdx, 32", "lea r14, [rax + rdx]",
            "2:", $($line,)+ "dec r13d", "jnz 2b",
            "rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, r14",
            "out 0xe8, eax", "jmp 3b";
            rounds = ROUNDS
        )
    };
}

/// Counts in R15 and ends the interrupt.
fn handler() -> &'static [u8] {
    guest!(64; "inc r15", "mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr", "iretq")
}

/// Takes the guest's reports for samples; each round has to be one interrupt and one HLT.
fn measure(vcpu: &mut Vcpu) -> Result<Figure> {
    let stats = Stats::open(vcpu.file())?;
    next_report(vcpu, &mut none)?;
    let before = (vcpu_interrupts(vcpu)?, stats.value("halt_exits")?);
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(next_report(vcpu, &mut none)?.0);
    }
    let all = u64::from(ROUNDS) * SAMPLES as u64;
    let interrupts = vcpu_interrupts(vcpu)? - before.0;
    let halts = stats.value("halt_exits")? - before.1;
    ensure!(interrupts == all, "{interrupts} interrupts in {all} rounds");
    ensure!(halts <= all && halts * 10 >= all * 9, "{halts} HLTs in {all} rounds");
    Ok(Figure::instructions(samples, ROUNDS.into())?.typical())
}

fn vcpu_interrupts(vcpu: &Vcpu) -> Result<u64> {
    Ok(vcpu.regs()?.r15)
}

/// Another thread answers each write of the guest's to one eventfd by a write to the irqfd.
fn by_irqfd() -> Result<Figure> {
    const STOP: u64 = 1 << 32;
    let (vm, irq) = routed()?;
    let asked = EventFd::from_flags(EfdFlags::empty()).context("eventfd")?;
    let argument = abi::kvm_ioeventfd {
        addr: 0x10,
        len: 1,
        fd: asked.as_raw_fd(),
        flags: 1 << abi::kvm_ioeventfd_flag_nr_pio,
        ..Default::default()
    };
    request::give(vm.file(), request::IOEVENTFD, &argument).context("KVM_IOEVENTFD")?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Long, apic_rounds!([] "out 0x10, al", "sti", "hlt", "cli"))?;
    vcpu.handle(0x61, handler())?;
    thread::scope(|scope| {
        let answerer = scope.spawn(|| -> Result<()> {
            while asked.read()? < STOP {
                irq.write(1)?;
            }
            Ok(())
        });
        let figure = measure(&mut vcpu);
        asked.write(STOP)?;
        match answerer.join() {
            Ok(result) => result.and(figure),
            Err(_) => bail!("the answering thread came to harm"),
        }
    })
}

/// Both halt until the other's interrupt comes.
fn by_ipi() -> Result<Figure> {
    let vm = Vm::new()?;
    vm.split_irqchip(GSI.into())?;
    let (mut first, mut second) = (vm.vcpu(0)?, vm.vcpu(1)?);
    let ping = apic_rounds!(
        [] "mov ecx, 0x830", "mov eax, 0x4061", "mov edx, 1", "wrmsr", "sti", "hlt", "cli"
    );
    let pong = guest!(64;
        "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
        "mov ecx, 0x80f", "mov eax, 0x1ff", "xor edx, edx", "wrmsr",
        "2:", "sti", "hlt", "cli",
        "mov ecx, 0x830", "mov eax, 0x4061", "xor edx, edx", "wrmsr", "jmp 2b"
    );
    first.start(Mode::Long, ping)?;
    second.start_at(Mode::Long, 0x9000, pong)?;
    first.handle(0x61, handler())?;
    let runnable = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    second.set(request::SET_MP_STATE, &runnable)?;
    beside(&mut second, |_| {
        // Its local APIC is on, and it halts, before the first interrupt comes.
        thread::sleep(std::time::Duration::from_millis(20));
        measure(&mut first)
    })
}

/// Polling for it pays.
fn near() -> Result<Figure> {
    by_timer(100_000)
}

/// The thread sleeps.
fn far() -> Result<Figure> {
    by_timer(2_000_000)
}

/// The guest sets a deadline, halts, and looks how late it is in the handler.
fn by_timer(ahead: u64) -> Result<Figure> {
    let vm = Vm::new()?;
    vm.split_irqchip(GSI.into())?;
    let mut vcpu = vm.vcpu(0)?;
    let code = guest!(64;
        "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
        "mov ecx, 0x80f", "mov eax, 0x1ff", "xor edx, edx", "wrmsr",
        "mov ecx, 0x832", "mov eax, 0x40061", "wrmsr",
        "2:", "rdtsc", "shl rdx, 32", "lea r14, [rax + rdx]", "add r14, rdi",
        "mov rax, r14", "mov rdx, r14", "shr rdx, 32", "mov ecx, 0x6e0", "wrmsr",
        "sti", "hlt", "cli", "mov rax, rbx", "out 0xe8, eax", "jmp 2b"
    );
    vcpu.start(Mode::Long, code)?;
    vcpu.change_regs(|regs| regs.rdi = ahead)?;
    let handler = guest!(64;
        "rdtsc", "shl rdx, 32", "lea rbx, [rax + rdx]", "sub rbx, r14", "inc r15",
        "mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr", "iretq"
    );
    vcpu.handle(0x61, handler)?;
    next_report(&mut vcpu, &mut none)?;
    let before = vcpu_interrupts(&vcpu)?;
    let samples: Result<Vec<u64>> =
        (0..SAMPLES).map(|_| Ok(next_report(&mut vcpu, &mut none)?.0)).collect();
    let count = vcpu_interrupts(&vcpu)? - before;
    ensure!(count == SAMPLES as u64, "{count} interrupts of {SAMPLES} timers");
    Ok(Figure::instructions(samples?, 1)?.typical())
}

/// Without what a write to any eventfd costs.
fn irqfd() -> Result<Figure> {
    let (vm, irq) = routed()?;
    let mut vcpu = vm.vcpu(0)?;
    // The local APIC has to be on to take it.
    vcpu.start(Mode::Long, apic_rounds!([] "nop"))?;
    next_report(&mut vcpu, &mut none)?;
    let write = |event: &EventFd| event.write(1).map(|_| ()).context("writing to an eventfd");
    let plain = EventFd::from_flags(EfdFlags::empty()).context("eventfd")?;
    let empty = Figure::instructions(sample(|| write(&plain))?, 1)?;
    let figure = Figure::instructions(sample(|| write(&irq))?, 1)?;
    let apic: abi::kvm_lapic_state = vcpu.get(request::GET_LAPIC)?;
    // Vector 0x61 in the register of requested interrupts (IRR).
    ensure!(apic.regs[0x230] & 2 != 0, "the interrupt doesn't wait");
    Ok(figure.less(&empty))
}
