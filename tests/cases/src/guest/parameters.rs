// SPDX-License-Identifier: GPL-2.0
//! Small guests on modules that were loaded with other parameters than usual.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use micro::code::guest;
use micro::exit::Exit;
use micro::stats::Stats;
use micro::vm::Vm;

use super::cases;
use crate::case::{Body, Case, Outcome, Skip, check_eq};
use crate::module;
use crate::processor::Processor;

const INTEL: &[&str] = &["intel"];

pub(super) const CASES: &[Case] = &[
    Case::new("x86/parameters-vpid", INTEL, vpid),
    Case::new("x86/parameters-eptad", INTEL, accessed_dirty),
    Case::new("x86/parameters-ple-gap", INTEL, no_pause_loops),
    Case::new("x86/parameters-ple-window", INTEL, pause_windows),
    Case::new("x86/parameters-vnmi", INTEL, soft_nmis),
    Case::new("x86/parameters-pml", INTEL, modification_log),
    Case::new("x86/parameters-flexpriority", INTEL, apic_page),
    Case::new("x86/parameters-l1d-flush", INTEL, l1d_flush).with_karg("setcpuid=l1tf"),
    Case::new("x86/parameters-l1d-flush-needless", INTEL, needless_l1d_flush),
];

/// Loads the modules with `parameters` for the vendor's, which then shows `shown`.
fn load(parameters: &str, shown: &[(&str, &str)]) -> Result<()> {
    let vendor = Processor::current()?.vendor_module();
    module::insert(module::CORE)??;
    module::insert_with(vendor, parameters)?.with_context(|| format!("loading: {parameters}"))?;
    for (name, value) in shown {
        let file = module::parameter(vendor, name);
        let have = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        ensure!(have.trim() == *value, "{name}: {have:?}");
    }
    Ok(())
}

/// Runs other cases on the modules as they are; at least one of them can be shown here.
fn run(names: &[&'static str]) -> Result<Outcome> {
    let mut ran = 0;
    for name in names {
        let case = cases::ALL.iter().flat_map(|cases| cases.iter()).find(|case| case.name == *name);
        let Some(Body::Loaded(body)) = case.map(|case| case.body) else {
            bail!("there is no case '{name}'");
        };
        match body() {
            Ok(()) => ran += 1,
            Err(error) if error.is::<Skip>() => {}
            Err(error) => return Err(error).context(*name),
        }
    }
    ensure!(ran > 0, "all of them were skipped");
    Ok(Outcome::Passed)
}

/// A guest without an identifier begins with an empty TLB each time.
fn vpid() -> Result<Outcome> {
    load("vpid=0", &[("vpid", "N")])?;
    run(&[
        "x86/micro-run-modes",
        "x86/micro-exception-page-fault",
        "x86/micro-memory-delete",
        "x86/micro-smp-move",
    ])
}

/// Accesses that nobody notes have to be found out by taking pages away.
fn accessed_dirty() -> Result<Outcome> {
    load("eptad=0", &[("eptad", "N")])?;
    run(&[
        "x86/micro-dirty-clear",
        "x86/micro-dirty-toggle",
        "x86/micro-mm-protect",
        "x86/micro-mm-unmap",
    ])
}

/// No loop of PAUSEs exits.
fn no_pause_loops() -> Result<Outcome> {
    load("ple_gap=0", &[("ple_gap", "0"), ("ple_window", "0"), ("ple_window_max", "0")])?;
    let exits = pause_exits()?;
    ensure!(exits < FEW, "{exits} exits");
    run(&["x86/micro-run-stays"])
}

/// Each exit by a loop makes the next one later; how much later can be chosen.
fn pause_windows() -> Result<Outcome> {
    load("ple_window_grow=1", &[("ple_window", "4096"), ("ple_window_grow", "1")])?;
    let alike = pause_exits()?;
    module::unload_all()?;
    load("", &[("ple_window_grow", "2"), ("ple_window_max", "4294967295")])?;
    let growing = pause_exits()?;
    ensure!(alike >= PAUSES / WINDOW, "{alike} exits of windows that are all alike");
    ensure!(growing < alike / 2 && growing > 2, "{growing} exits of growing windows, not {alike}");
    Ok(Outcome::Passed)
}

/// PAUSEs that a guest executes, and cycles after which they exit at first: one is two more
/// instructions, and each of them at least a cycle.
const PAUSES: u64 = 400_000;
const WINDOW: u64 = 4096;
/// The host interrupts a guest that spins so long a few times.
const FEW: u64 = 60;

/// How often a guest exits that does nothing but pause.
fn pause_exits() -> Result<u64> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ecx, {count}", "2:", "pause", "dec ecx", "jnz 2b", "hlt"; count = PAUSES as u32
    ))?;
    vcpu.expect(&Exit::Hlt)?;
    Stats::open(vcpu.file())?.value("exits")
}

/// The processor doesn't know which guests handle an NMI.
fn soft_nmis() -> Result<Outcome> {
    load("vnmi=0", &[("vnmi", "N")])?;
    next_nmi_waits_for_interrupts()?;
    next_nmi_waits_a_second()?;
    run(&["x86/micro-inject-nmi-first", "x86/micro-lapic-nmi"])
}

/// A guest that can take interrupts has returned from its handler: the next one comes at once.
fn next_nmi_waits_for_interrupts() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu =
        vm.long(guest!(64; "sti", "nop", "out 0x10, al", "mov ebx, 1", "out 0x11, al", "hlt"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.nmi()?;
    let first = vcpu.expect_trap(2, 0)?;
    check_eq!((vcpu.events()?.nmi.masked, vcpu.events()?.nmi.pending), (1, 0));
    vcpu.nmi()?;
    check_eq!(vcpu.events()?.nmi.masked, 1);
    let second = vcpu.expect_trap(2, 0)?;
    check_eq!(second.rip, first.rip, "right behind the first one's IRET");
    vcpu.expect_out(0x11, &[0])?;
    check_eq!((vcpu.events()?.nmi.masked, vcpu.events()?.nmi.pending), (0, 0));
    vcpu.expect(&Exit::Hlt)
}

/// One that never can gets it after a second.
fn next_nmi_waits_a_second() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "out 0x10, al", "2:", "mov esi, 1", "jmp 2b"))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.nmi()?;
    vcpu.expect_trap(2, 0)?;
    vcpu.nmi()?;
    vcpu.expect_trap(2, 0)?;
    check_eq!(vcpu.regs()?.rsi, 1, "it went on in between");
    check_eq!((vcpu.events()?.nmi.masked, vcpu.events()?.nmi.pending), (1, 0));
    Ok(())
}

/// What the host's file says of the fault and guests.
fn l1tf() -> Result<String> {
    let path = "/sys/devices/system/cpu/vulnerabilities/l1tf";
    fs::read_to_string(path).context(path)
}

/// Guests of a processor with L1 terminal fault run with a flushed L1 data cache, each time or
/// when others may have left something in it.
fn l1d_flush() -> Result<Outcome> {
    const NAME: &str = "vmentry_l1d_flush";
    let intel = Processor::Intel.vendor_module();
    load("", &[])?;
    let file = module::parameter(intel, NAME);
    let read = || fs::read_to_string(&file).context("the parameter");
    if read()? == "not required\n" {
        return Ok(Outcome::Skipped("the processor can't be made to have the fault".into()));
    }
    check_eq!(read()?, "cond\n");
    ensure!(l1tf()?.contains("VMX: conditional cache flushes"), "{}", l1tf()?);
    let flushes = || -> Result<(u64, u64)> {
        let vm = Vm::new()?;
        let mut vcpu = vm.long(guest!(64;
            "mov esi, 200", "2:", "xor eax, eax", "cpuid", "dec esi", "jnz 2b", "hlt"
        ))?;
        vcpu.expect(&Exit::Hlt)?;
        let stats = Stats::open(vcpu.file())?;
        Ok((stats.value("l1d_flush")?, stats.value("exits")?))
    };
    let (conditional, exits) = flushes()?;
    ensure!(conditional > 0 && conditional < exits / 2, "{conditional} of {exits}: cond");
    fs::write(&file, "always").context("always")?;
    check_eq!(read()?, "always\n");
    ensure!(l1tf()?.contains("VMX: cache flushes"), "{}", l1tf()?);
    let (each, exits) = flushes()?;
    ensure!(each + 2 >= exits && exits > 200, "{each} of {exits}: always");
    fs::write(&file, "never").context("never")?;
    check_eq!(read()?, "never\n");
    ensure!(l1tf()?.contains("VMX: vulnerable"), "{}", l1tf()?);
    check_eq!(flushes()?.0, 0, "never");
    ensure!(fs::write(&file, "sometimes").is_err(), "'sometimes' is accepted");
    module::unload_all()?;
    ensure!(!l1tf()?.contains("VMX"), "without the module: {}", l1tf()?);
    load("vmentry_l1d_flush=always", &[(NAME, "always")])?;
    run(&["x86/micro-run-modes", "x86/micro-run-stays"])
}

/// Others have nothing to flush, whatever was asked for, if it is a word at all.
fn needless_l1d_flush() -> Result<Outcome> {
    const NAME: &str = "vmentry_l1d_flush";
    let intel = Processor::Intel.vendor_module();
    load("vmentry_l1d_flush=always", &[(NAME, "not required")])?;
    let file = module::parameter(intel, NAME);
    fs::write(&file, "never").context("never")?;
    check_eq!(fs::read_to_string(&file)?, "not required\n");
    ensure!(fs::write(&file, "sometimes").is_err(), "'sometimes' is accepted");
    module::remove(intel)??;
    let refused = module::insert_with(intel, "vmentry_l1d_flush=sometimes")?;
    check_eq!(refused.err(), Some(nix::errno::Errno::EINVAL));
    module::unload_all()?;
    Ok(Outcome::Passed)
}

/// Where the processor logs writes they cost no faults, otherwise one for each page.
fn modification_log() -> Result<Outcome> {
    const PAGES: usize = 1500;
    load("pml=1", &[("pml", "Y")])?;
    let faults = cases::dirty::faults_of_clean_pages(PAGES)?;
    ensure!(faults < 10, "{faults} faults with the log");
    module::unload_all()?;
    load("pml=0", &[("pml", "N")])?;
    let faults = cases::dirty::faults_of_clean_pages(PAGES)?;
    ensure!(faults >= PAGES as u64, "{faults} faults without the log");
    run(&[
        "x86/micro-dirty-huge",
        "x86/micro-dirty-clear",
        "x86/micro-dirty-initially-set",
        "x86/micro-dirty-toggle",
    ])
}

/// What a guest does a number of times with its local APIC, as memory.
const ACCESSES: u64 = 500;

/// A processor that knows where the local APIC is has the task priority by itself, and says what ends an
/// interrupt; otherwise each access exits, and it takes a look at the instruction to know what it does.
fn apic_page() -> Result<Outcome> {
    const CASES: &[&str] = &[
        "x86/micro-apic-page-priority",
        "x86/micro-apic-page-threshold",
        "x86/micro-apic-page-end",
        "x86/micro-apic-page-moved",
        "x86/micro-apic-page-mode",
        "x86/micro-apic-page-delivery",
        "x86/micro-apic-page-fetch",
        "x86/micro-lapic-priority",
        "x86/micro-lapic-nested",
    ];
    load("flexpriority=1", &[("flexpriority", "Y"), ("fasteoi", "Y")])?;
    if module::is_kernels_own()? {
        return Ok(Outcome::Skipped("theirs use the page with APICv only".into()));
    }
    let (priorities, ends) = (task_priorities()?, ends()?);
    ensure!(priorities.0 < FEW, "{} exits for task priorities", priorities.0);
    ensure!(ends.0 >= ACCESSES, "{} exits for EOI", ends.0);
    ensure!(ends.1 < FEW, "{} instructions looked at for EOI", ends.1);
    run(CASES)?;
    module::unload_all()?;

    load("fasteoi=0", &[("flexpriority", "Y"), ("fasteoi", "N")])?;
    let (priorities, looked) = (task_priorities()?, self::ends()?.1);
    ensure!(priorities.0 < FEW, "{} exits for task priorities", priorities.0);
    ensure!(looked >= ACCESSES, "{looked} instructions looked at for EOI");
    run(&["x86/micro-apic-page-end", "x86/micro-lapic-nested"])?;
    module::unload_all()?;

    load("flexpriority=0", &[("flexpriority", "N")])?;
    let (priorities, ends) = (task_priorities()?, self::ends()?);
    ensure!(priorities.0 >= 2 * ACCESSES, "{} exits for task priorities", priorities.0);
    ensure!(ends.1 >= ACCESSES, "{} instructions looked at for EOI", ends.1);
    run(CASES)
}

/// Exits of a guest that writes and reads its task priority so often, and instructions that were looked at.
fn task_priorities() -> Result<(u64, u64)> {
    exits_with_apic(guest!(64;
        "mov ebx, 0xfee00000", "mov ecx, {times}",
        "2:", "mov [rbx + 0x80], ecx", "mov eax, [rbx + 0x80]", "dec ecx", "jnz 2b", "xor eax, eax", "out 0x10, al";
        times = ACCESSES as u32
    ))
}

/// The same of one that writes so often to the EOI register.
fn ends() -> Result<(u64, u64)> {
    exits_with_apic(guest!(64;
        "mov ebx, 0xfee00000", "mov ecx, {times}",
        "2:", "mov dword ptr [rbx + 0xb0], 0", "dec ecx", "jnz 2b", "xor eax, eax", "out 0x10, al";
        times = ACCESSES as u32
    ))
}

/// Exits, and instructions that were looked at, of a guest with a local APIC that goes to port 0x10 at last.
fn exits_with_apic(code: &[u8]) -> Result<(u64, u64)> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let mut vcpu = vm.long(code)?;
    vcpu.expect_out(0x10, &[0])?;
    let stats = Stats::open(vcpu.file())?;
    Ok((stats.value("exits")?, stats.value("insn_emulation")?))
}
