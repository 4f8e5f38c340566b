// SPDX-License-Identifier: GPL-2.0
//! What each kind of exit costs, from the guest's instruction to the next one.
//!
//! The guest measures: it reads the clock before and after a loop of [`ROUNDS`] instructions that exit and
//! reports the difference. What the loop costs without them is taken off.

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings as abi;
use micro::deadline::{self, Deadline};
use micro::guest;
use micro::mode::Mode;
use micro::stats::Stats;
use micro::vcpu::{REPORT, Vcpu};
use micro::vm::Vm;

use crate::sample::{Bench, Figure, SAMPLES};

/// Exits of one sample.
const ROUNDS: u32 = 64;

/// How many more exits there may be than were wanted: the host's timer interrupts the guest now and then.
const SLACK: u64 = 1000;

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "exit/cpuid", what: "CPUID", body: cpuid },
    Bench { name: "exit/hypercall", what: "a hypercall that does nothing", body: hypercall },
    Bench { name: "exit/rdmsr", what: "RDMSR of IA32_MISC_ENABLE", body: rdmsr },
    Bench { name: "exit/wrmsr", what: "WRMSR to IA32_MISC_ENABLE", body: wrmsr },
    Bench { name: "exit/port-out", what: "OUT, served by userspace", body: port_out },
    Bench { name: "exit/port-in", what: "IN, served by userspace", body: port_in },
    Bench { name: "exit/mmio-write", what: "a store, served by userspace", body: mmio_write },
    Bench { name: "exit/mmio-read", what: "a load, served by userspace", body: mmio_read },
];

/// Guest code that does its lines [`ROUNDS`] times and reports by the clock how long that took, again
/// and again. R12 to R15 are taken. Lines in brackets are done first, once.
macro_rules! rounds {
    ($([$($setup:literal),+])? $($line:literal),* $(; $($name:ident = $value:expr),+)?) => {
        guest!(64;
            $($($setup,)+)?
            "3:", "mov r13d, {rounds}",
            "rdtsc", "shl rdx, 32", "lea r14, [rax + rdx]",
            "2:", $($line,)* "dec r13d", "jnz 2b",
            "rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, r14",
            "out 0xe8, eax", "jmp 3b";
            rounds = ROUNDS $(, $($name = $value),+)?
        )
    };
}

/// What has to be counted for each of the exits.
enum Counted {
    /// By the kernel, which handles it.
    InKernel(&'static str),
    /// Here, and by the kernel in this counter.
    InUserspace(&'static str),
    /// Nothing exits.
    Nothing,
}

/// Runs `code` on vCPU 0 of `vm` and takes the guest's reports for samples; `serve` is called for every
/// other exit.
fn measure(
    vm: &Vm,
    code: &[u8],
    counted: &Counted,
    mut serve: impl FnMut(&mut Vcpu) -> Result<()>,
) -> Result<Figure> {
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Long, code)?;
    let stats = Stats::open(vcpu.file())?;
    let mut samples = Vec::with_capacity(SAMPLES);
    let _limit = Deadline::start(deadline::LIMIT * 4)?;
    // The first fills what is filled once.
    next_report(&mut vcpu, &mut serve)?;
    let name = match counted {
        Counted::InKernel(name) | Counted::InUserspace(name) => name,
        Counted::Nothing => "exits",
    };
    let before = stats.value(name)?;
    let mut served = 0;
    for _ in 0..SAMPLES {
        let (value, count) = next_report(&mut vcpu, &mut serve)?;
        samples.push(value);
        served += count;
    }
    let seen = stats.value(name)? - before;
    let all = u64::from(ROUNDS) * SAMPLES as u64;
    let (in_kernel, in_userspace) = match counted {
        Counted::InKernel(_) => (all, 0),
        Counted::InUserspace(_) => (all, all),
        Counted::Nothing => (0, 0),
    };
    ensure!(served == in_userspace, "{served} exits to userspace, not {in_userspace}");
    let expected = in_kernel..=in_kernel + SLACK;
    ensure!(expected.contains(&seen), "{name} went up by {seen} for {in_kernel}");
    Figure::instructions(samples, ROUNDS.into())
}

/// The guest's next report, and how many other exits there were before.
fn next_report(
    vcpu: &mut Vcpu,
    serve: &mut impl FnMut(&mut Vcpu) -> Result<()>,
) -> Result<(u64, u64)> {
    let mut served = 0;
    loop {
        vcpu.enter().with_context(|| format!("KVM_RUN; {}", vcpu.place()))?;
        if let Some(value) = report(vcpu) {
            return Ok((value.into(), served));
        }
        serve(vcpu)?;
        served += 1;
    }
}

/// What the guest reports with this exit, if that is what it does.
fn report(vcpu: &mut Vcpu) -> Option<u32> {
    let page = vcpu.run_page();
    if page.exit_reason != abi::KVM_EXIT_IO {
        return None;
    }
    // SAFETY: every member of the union is plain numbers.
    let io = unsafe { page.__bindgen_anon_1.io };
    if io.port != REPORT {
        return None;
    }
    let bytes = vcpu.page_bytes(io.data_offset, 4);
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Nothing comes to userspace.
fn none(vcpu: &mut Vcpu) -> Result<()> {
    let exit = vcpu.exit();
    bail!("{}", vcpu.describe(&exit))
}

/// Measures code that exits to the kernel only, on a VM of its own.
fn in_kernel(vm: &Vm, code: &[u8]) -> Result<Figure> {
    Ok(measure(vm, code, &Counted::InKernel("exits"), none)?.less(&empty()?))
}

/// Measures code that exits to userspace with this reason.
fn in_userspace(code: &[u8], reason: u32, counter: &'static str) -> Result<Figure> {
    let figure = measure(&Vm::new()?, code, &Counted::InUserspace(counter), |vcpu| {
        if vcpu.run_page().exit_reason == reason { Ok(()) } else { none(vcpu) }
    })?;
    Ok(figure.less(&empty()?))
}

/// The loop with nothing in it.
fn empty() -> Result<Figure> {
    measure(&Vm::new()?, rounds!(), &Counted::Nothing, none)
}

fn cpuid() -> Result<Figure> {
    in_kernel(&Vm::new()?, rounds!("xor eax, eax", "cpuid"))
}

/// `KVM_HC_VAPIC_POLL_IRQ` does nothing.
fn hypercall() -> Result<Figure> {
    let amd = is_amd();
    let code = if amd { rounds!("mov eax, 1", "vmmcall") } else { rounds!("mov eax, 1", "vmcall") };
    in_kernel(&Vm::new()?, code)
}

fn rdmsr() -> Result<Figure> {
    in_kernel(&Vm::new()?, rounds!("mov ecx, 0x1a0", "rdmsr"))
}

fn wrmsr() -> Result<Figure> {
    let code = rounds!(
        ["mov ecx, 0x1a0", "rdmsr", "mov edi, eax", "mov esi, edx"]
        "mov eax, edi", "mov edx, esi", "wrmsr"
    );
    in_kernel(&Vm::new()?, code)
}

fn port_out() -> Result<Figure> {
    in_userspace(rounds!("out 0x10, al"), abi::KVM_EXIT_IO, "io_exits")
}

fn port_in() -> Result<Figure> {
    in_userspace(rounds!("in al, 0x10"), abi::KVM_EXIT_IO, "io_exits")
}

fn mmio_write() -> Result<Figure> {
    let code = rounds!(["mov ebx, 0x40000000"] "mov [rbx], eax");
    in_userspace(code, abi::KVM_EXIT_MMIO, "mmio_exits")
}

fn mmio_read() -> Result<Figure> {
    let code = rounds!(["mov ebx, 0x40000000"] "mov eax, [rbx]");
    in_userspace(code, abi::KVM_EXIT_MMIO, "mmio_exits")
}

/// Whether hypercalls are VMMCALL.
fn is_amd() -> bool {
    // SAFETY: every x86-64 processor has CPUID, and it has no other effect.
    let vendor = unsafe { std::arch::x86_64::__cpuid(0) };
    vendor.ebx == u32::from_le_bytes(*b"Auth")
}
