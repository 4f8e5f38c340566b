// SPDX-License-Identifier: GPL-2.0
//! What each kind of exit costs, from the guest's instruction to the next one.
//!
//! The guest measures: it reads the clock before and after a loop of [`ROUNDS`] instructions that exit and
//! reports the difference. What the loop costs without them is taken off.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings as abi;
use micro::deadline::{self, Deadline};
use micro::mode::Mode;
use micro::request;
use micro::stats::Stats;
use micro::vcpu::{REPORT, Vcpu};
use micro::vm::Vm;
use micro::{Skip, guest};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sample::{self, Bench, Figure, SAMPLES};

/// Exits of one sample.
pub(crate) const ROUNDS: u32 = 64;

/// How many more exits there may be than were wanted: the host's timer interrupts the guest now and then.
const SLACK: u64 = 1000;

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "exit/cpuid", what: "CPUID", body: cpuid },
    Bench { name: "exit/hypercall", what: "a hypercall that does nothing", body: hypercall },
    Bench { name: "exit/rdmsr", what: "RDMSR of IA32_MISC_ENABLE", body: rdmsr },
    Bench { name: "exit/wrmsr", what: "WRMSR to IA32_MISC_ENABLE", body: wrmsr },
    Bench { name: "exit/pause", what: "PAUSE that exits each time", body: pause },
    Bench { name: "exit/wbinvd", what: "WBINVD", body: wbinvd },
    Bench { name: "exit/xapic-read", what: "a load from the local APIC", body: xapic_read },
    Bench { name: "exit/xapic-eoi", what: "EOI by a store", body: xapic_eoi },
    Bench { name: "exit/xapic-tpr", what: "a store to the task priority", body: xapic_tpr },
    Bench { name: "exit/xapic-icr", what: "an IPI to itself by a store", body: xapic_icr },
    Bench { name: "exit/x2apic-read", what: "RDMSR of the local APIC's ID", body: x2apic_read },
    Bench { name: "exit/x2apic-eoi", what: "EOI by WRMSR", body: x2apic_eoi },
    Bench { name: "exit/x2apic-icr", what: "an IPI to itself by WRMSR", body: x2apic_icr },
    Bench { name: "exit/x2apic-timer", what: "WRMSR that starts the timer", body: x2apic_timer },
    Bench { name: "exit/window", what: "an IPI to itself, taken after STI", body: window },
    Bench { name: "exit/pic-read", what: "IN from the 8259A in the kernel", body: pic_read },
    Bench { name: "exit/pit-read", what: "IN from the 8254 in the kernel", body: pit_read },
    Bench { name: "exit/ioapic-read", what: "a load from the IOAPIC", body: ioapic_read },
    Bench { name: "exit/port-eventfd", what: "OUT that an eventfd takes", body: port_eventfd },
    Bench { name: "exit/mmio-eventfd", what: "a store that an eventfd takes", body: mmio_eventfd },
    Bench { name: "exit/mmio-eventfd-any", what: "the same, whatever its length", body: mmio_fast },
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
    /// The same, each with two or three of them.
    InKernelTwice(&'static str),
    /// Here, and by the kernel in this counter.
    InUserspace(&'static str),
    /// The same, or nothing exits, as the processor can do it by itself or not.
    InKernelOrNot(&'static str),
    /// Nothing exits.
    Nothing,
}

/// Runs `code` on vCPU 0 of `vm` and takes the guest's reports for samples; `serve` is called for every
/// other exit.
fn measure(
    vm: &Vm,
    code: &[u8],
    prepare: impl FnOnce(&Vcpu) -> Result<()>,
    counted: &Counted,
    mut serve: impl FnMut(&mut Vcpu) -> Result<()>,
) -> Result<Figure> {
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Long, code)?;
    prepare(&vcpu)?;
    let stats = Stats::open(vcpu.file())?;
    let mut samples = Vec::with_capacity(SAMPLES);
    let _limit = Deadline::start(deadline::LIMIT * if sample::is_endless() { 100 } else { 4 })?;
    // The first fills what is filled once.
    next_report(&mut vcpu, &mut serve)?;
    while sample::is_endless() {
        next_report(&mut vcpu, &mut serve)?;
    }
    let name = match counted {
        Counted::InKernel(name)
        | Counted::InKernelTwice(name)
        | Counted::InKernelOrNot(name)
        | Counted::InUserspace(name) => name,
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
    let (in_kernel, more, in_userspace) = match counted {
        Counted::InKernel(_) => (all, 0, 0),
        Counted::InKernelTwice(_) => (2 * all, all, 0),
        Counted::InKernelOrNot(_) => (0, all, 0),
        Counted::InUserspace(_) => (all, 0, all),
        Counted::Nothing => (0, 0, 0),
    };
    ensure!(served == in_userspace, "{served} exits to userspace, not {in_userspace}");
    let expected = in_kernel..=in_kernel + more + SLACK;
    ensure!(expected.contains(&seen), "{name} went up by {seen} for {in_kernel}");
    Figure::instructions(samples, ROUNDS.into())
}

/// The guest's next report, and how many other exits there were before.
pub(crate) fn next_report(
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
pub(crate) fn report(vcpu: &mut Vcpu) -> Option<u32> {
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

/// The vCPU is ready as it is.
fn nothing_more(_vcpu: &Vcpu) -> Result<()> {
    Ok(())
}

/// Nothing comes to userspace.
pub(crate) fn none(vcpu: &mut Vcpu) -> Result<()> {
    let exit = vcpu.exit();
    bail!("{}", vcpu.describe(&exit))
}

/// Measures code that exits to the kernel only, on a VM of its own.
fn in_kernel(vm: &Vm, code: &[u8]) -> Result<Figure> {
    Ok(measure(vm, code, nothing_more, &Counted::InKernel("exits"), none)?.less(&empty()?))
}

/// Measures code that exits to userspace with this reason.
fn in_userspace(code: &[u8], reason: u32, counter: &'static str) -> Result<Figure> {
    let figure =
        measure(&Vm::new()?, code, nothing_more, &Counted::InUserspace(counter), |vcpu| {
            if vcpu.run_page().exit_reason == reason { Ok(()) } else { none(vcpu) }
        })?;
    Ok(figure.less(&empty()?))
}

/// The loop with nothing in it.
fn empty() -> Result<Figure> {
    measure(&Vm::new()?, rounds!(), nothing_more, &Counted::Nothing, none)
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

/// AMD's processors exit for loops of it only, where they tell them apart; on Intel's, the modules were
/// loaded so that all exit.
fn pause() -> Result<Figure> {
    const FILTER_AND_THRESHOLD: u32 = 1 << 10 | 1 << 12;
    // SAFETY: every x86-64 processor has CPUID, and it has no other effect.
    let svm = unsafe { std::arch::x86_64::__cpuid(0x8000_000a) };
    if is_amd() && svm.edx & FILTER_AND_THRESHOLD != FILTER_AND_THRESHOLD {
        return Err(Skip("the processor doesn't count PAUSEs".into()).into());
    }
    in_kernel(&Vm::new()?, rounds!("pause"))
}

fn wbinvd() -> Result<Figure> {
    in_kernel(&Vm::new()?, rounds!("wbinvd"))
}

/// A VM with all interrupt controllers in the kernel.
fn with_chips() -> Result<Vm> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    Ok(vm)
}

fn xapic_read() -> Result<Figure> {
    let code = rounds!(["mov ebx, 0xfee00000"] "mov eax, [rbx + 0x20]");
    in_kernel(&with_chips()?, code)
}

fn xapic_eoi() -> Result<Figure> {
    let code = rounds!(
        ["mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff"]
        "mov dword ptr [rbx + 0xb0], 0"
    );
    in_kernel(&with_chips()?, code)
}

fn xapic_tpr() -> Result<Figure> {
    let code = rounds!(["mov ebx, 0xfee00000"] "mov dword ptr [rbx + 0x80], 0x20");
    let counted = Counted::InKernelOrNot("exits");
    Ok(measure(&with_chips()?, code, nothing_more, &counted, none)?.less(&empty()?))
}

/// The interrupts stay pending: the guest has them off.
fn xapic_icr() -> Result<Figure> {
    let code = rounds!(
        ["mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff"]
        "mov dword ptr [rbx + 0x300], 0x44061"
    );
    in_kernel(&with_chips()?, code)
}

/// Guest code of [`rounds!`] with the local APIC in x2APIC mode and on.
macro_rules! x2apic_rounds {
    ($($line:literal),+) => {
        rounds!(
            [
                "mov ecx, 0x1b", "rdmsr", "or eax, 0xc00", "wrmsr",
                "mov ecx, 0x80f", "mov eax, 0x1ff", "xor edx, edx", "wrmsr"
            ]
            $($line),+
        )
    };
}

fn x2apic_read() -> Result<Figure> {
    in_kernel(&with_chips()?, x2apic_rounds!("mov ecx, 0x802", "rdmsr"))
}

fn x2apic_eoi() -> Result<Figure> {
    let code = x2apic_rounds!("mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr");
    in_kernel(&with_chips()?, code)
}

fn x2apic_icr() -> Result<Figure> {
    let code = x2apic_rounds!("mov ecx, 0x830", "mov eax, 0x44061", "xor edx, edx", "wrmsr");
    in_kernel(&with_chips()?, code)
}

/// One shot, masked, far away.
fn x2apic_timer() -> Result<Figure> {
    let code = x2apic_rounds!("mov ecx, 0x838", "mov eax, 0x7fffffff", "xor edx, edx", "wrmsr");
    in_kernel(&with_chips()?, code)
}

/// Sends itself an interrupt while it has them off, lets it in, and ends it; each of it an exit but for
/// the interrupt itself, which is counted by the guest.
fn window() -> Result<Figure> {
    let code = x2apic_rounds!(
        "mov ecx, 0x830",
        "mov eax, 0x44061",
        "xor edx, edx",
        "wrmsr",
        "sti",
        "nop",
        "cli"
    );
    let vm = with_chips()?;
    let handler = guest!(64;
        "inc r15", "mov ecx, 0x80b", "xor eax, eax", "xor edx, edx", "wrmsr", "iretq"
    );
    let prepare = |vcpu: &Vcpu| vcpu.handle(0x61, handler);
    let figure = measure(&vm, code, prepare, &Counted::InKernelTwice("exits"), none)?;
    Ok(figure.less(&empty()?))
}

fn pic_read() -> Result<Figure> {
    in_kernel(&with_chips()?, rounds!("in al, 0x21"))
}

fn pit_read() -> Result<Figure> {
    let vm = with_chips()?;
    let config = abi::kvm_pit_config::default();
    request::give(vm.file(), request::CREATE_PIT2, &config).context("KVM_CREATE_PIT2")?;
    in_kernel(&vm, rounds!("in al, 0x40"))
}

fn ioapic_read() -> Result<Figure> {
    let code = rounds!(["mov ebx, 0xfec00000"] "mov eax, [rbx + 0x10]");
    in_kernel(&with_chips()?, code)
}

/// Measures writes that an eventfd takes, and counts what it was told.
fn eventfd(code: &[u8], address: u64, length: u32, flags: u32) -> Result<Figure> {
    let vm = Vm::new()?;
    let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).context("eventfd")?;
    let argument = abi::kvm_ioeventfd {
        addr: address,
        len: length,
        fd: event.as_raw_fd(),
        flags,
        ..Default::default()
    };
    request::give(vm.file(), request::IOEVENTFD, &argument).context("KVM_IOEVENTFD")?;
    let figure = in_kernel(&vm, code)?;
    let count = event.read().context("the eventfd")?;
    let least = u64::from(ROUNDS) * SAMPLES as u64;
    ensure!(count >= least, "{count} signals, not {least}");
    Ok(figure)
}

fn port_eventfd() -> Result<Figure> {
    eventfd(rounds!("out 0x10, al"), 0x10, 1, KVM_IOEVENTFD_FLAG_PIO)
}

const KVM_IOEVENTFD_FLAG_PIO: u32 = 1 << 1;

const DEVICE: u64 = 0x4000_0000;

fn mmio_eventfd() -> Result<Figure> {
    eventfd(rounds!(["mov ebx, 0x40000000"] "mov [rbx], eax"), DEVICE, 4, 0)
}

fn mmio_fast() -> Result<Figure> {
    eventfd(rounds!(["mov ebx, 0x40000000"] "mov [rbx], eax"), DEVICE, 0, 0)
}

/// Whether hypercalls are VMMCALL.
fn is_amd() -> bool {
    // SAFETY: every x86-64 processor has CPUID, and it has no other effect.
    let vendor = unsafe { std::arch::x86_64::__cpuid(0) };
    vendor.ebx == u32::from_le_bytes(*b"Auth")
}
