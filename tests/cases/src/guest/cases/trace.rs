// SPDX-License-Identifier: GPL-2.0
//! Tracepoints, as perf kvm and trace-cmd read them.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::vcpu::Vcpu;
use super::*;
use crate::processor::Processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-trace-fields", fields),
    Case::guest("x86/micro-trace-exits", exits),
    Case::guest("x86/micro-trace-events", events),
    Case::guest("x86/micro-trace-hypercall", hypercall),
];

const TRACEFS: &str = "/sys/kernel/tracing";

/// A field with its offset and size in bytes.
type Field = (&'static str, u32, u32);

/// The fields of events that tools read.
const FIELDS: &[(&str, &[Field])] = &[
    ("kvm_entry", &[("vcpu_id", 8, 4), ("rip", 16, 8), ("intr_info", 28, 4)]),
    (
        "kvm_exit",
        &[
            ("exit_reason", 8, 4),
            ("guest_rip", 16, 8),
            ("isa", 24, 4),
            ("info1", 32, 8),
            ("info2", 40, 8),
            ("intr_info", 48, 4),
            ("error_code", 52, 4),
            ("vcpu_id", 56, 4),
        ],
    ),
    ("kvm_mmio", &[("type", 8, 4), ("len", 12, 4), ("gpa", 16, 8), ("val", 24, 8)]),
    ("kvm_pio", &[("rw", 8, 4), ("port", 12, 4), ("size", 16, 4), ("count", 20, 4)]),
    ("kvm_msr", &[("write", 8, 4), ("ecx", 12, 4), ("data", 16, 8), ("exception", 24, 1)]),
    ("kvm_cpuid", &[("function", 8, 4), ("index", 12, 4), ("rax", 16, 8), ("found", 48, 1)]),
    ("kvm_userspace_exit", &[("reason", 8, 4), ("errno", 12, 4)]),
    ("kvm_hypercall", &[("nr", 8, 8), ("a0", 16, 8), ("a3", 40, 8)]),
    ("kvm_apic", &[("rw", 8, 4), ("reg", 12, 4), ("val", 16, 8)]),
    ("kvm_page_fault", &[("vcpu_id", 8, 4), ("guest_rip", 16, 8), ("fault_address", 24, 8)]),
    ("kvm_inj_virq", &[("vector", 8, 4)]),
    ("kvm_inj_exception", &[("exception", 8, 1), ("has_error", 9, 1), ("error_code", 12, 4)]),
    ("kvm_cr", &[("rw", 8, 4), ("cr", 12, 4), ("val", 16, 8)]),
    ("kvm_eoi", &[("apicid", 8, 4), ("vector", 12, 4)]),
    ("kvm_msi_set_irq", &[("address", 8, 8), ("data", 16, 8)]),
    ("kvm_fast_mmio", &[("gpa", 8, 8)]),
    ("kvm_vcpu_wakeup", &[("ns", 8, 8), ("waited", 16, 1), ("valid", 17, 1)]),
    ("kvm_ple_window_update", &[("vcpu_id", 8, 4), ("new", 12, 4), ("old", 16, 4)]),
    ("kvm_dirty_ring_push", &[("index", 8, 4), ("slot", 20, 4), ("offset", 24, 8)]),
    ("kvm_dirty_ring_reset", &[("index", 8, 4), ("dirty_index", 12, 4), ("reset_index", 16, 4)]),
    ("kvm_dirty_ring_exit", &[("vcpu_id", 8, 4)]),
    ("kvm_set_irq", &[("gsi", 8, 4), ("level", 12, 4)]),
    ("kvm_ack_irq", &[("irqchip", 8, 4), ("pin", 12, 4)]),
];

/// A trace of its own, gone when dropped.
pub(super) struct Trace(PathBuf);

impl Trace {
    /// Of these events.
    pub(super) fn new(events: &[&str]) -> Result<Self> {
        if !Path::new(TRACEFS).join("events/kvm").is_dir() {
            return Err(Skip("the kernel has no tracepoints of KVM".into()).into());
        }
        // Threads' names are noted when the scheduler switches between them: the kernel patches that
        // place for it, which an emulated machine may not survive (docs/machines.md).
        let names = Path::new(TRACEFS).join("options/record-cmd");
        fs::write(&names, "0").with_context(|| format!("{}", names.display()))?;
        let trace = Self(Path::new(TRACEFS).join("instances/kvm-case"));
        fs::create_dir(&trace.0).context("making a trace")?;
        for event in events {
            let enable = trace.0.join("events/kvm").join(event).join("enable");
            fs::write(&enable, "1").with_context(|| format!("{}", enable.display()))?;
        }
        Ok(trace)
    }

    /// What was traced: the lines from the events' names on.
    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.0.join("trace")).context("the trace")?;
        let of_event = |line: &str| line.find(": kvm_").map(|at| line[at + 2..].to_owned());
        Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(of_event).collect())
    }

    /// A line has to begin with `event` and contain all of `parts`.
    pub(super) fn expect(&self, event: &str, parts: &[&str]) -> Result<()> {
        let lines = self.lines()?;
        let fits = |line: &String| {
            line.starts_with(&format!("{event}: ")) && parts.iter().all(|part| line.contains(part))
        };
        ensure!(lines.iter().any(fits), "no {event} with {parts:?} in {lines:#?}");
        Ok(())
    }

    /// There have to be lines of these events with these parts, one after the other.
    pub(super) fn expect_order(&self, events: &[(&str, &str)]) -> Result<()> {
        let lines = self.lines()?;
        let mut rest = lines.iter();
        for (event, part) in events {
            let found = rest.any(|line| line.starts_with(event) && line.contains(part));
            ensure!(found, "no {event} with {part:?} in its place in {lines:#?}");
        }
        Ok(())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // What can't be removed fails the next case.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Offset and size of a field, from an event's format.
fn place(format: &str, name: &str) -> Result<(u32, u32)> {
    let of_field = |line: &&str| {
        let declared = line.trim_start().strip_prefix("field:")?.split(';').next()?;
        let word = declared.rsplit(' ').next()?.split('[').next()?;
        (word == name).then_some(())
    };
    let line = format.lines().find(|line| of_field(line).is_some()).context("no such field")?;
    let number = |key: &str| -> Result<u32> {
        let part = line.split(';').find_map(|part| part.trim().strip_prefix(key));
        Ok(part.context("no number")?.parse()?)
    };
    Ok((number("offset:")?, number("size:")?))
}

/// Tools find the fields where they always were.
fn fields() -> Result<()> {
    for (event, fields) in FIELDS {
        let path = Path::new(TRACEFS).join("events/kvm").join(event).join("format");
        let format = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        for &(name, offset, size) in *fields {
            let found = place(&format, name).with_context(|| format!("{event}.{name}"))?;
            check_eq!(found, (offset, size), "{event}.{name}");
        }
    }
    Ok(())
}

fn traced_guest(vm: &Vm) -> Result<Vcpu> {
    vm.long(guest!(64;
        "mov eax, 1", "xor ecx, ecx", "cpuid",
        "mov ecx, 0x277", "rdmsr",
        "mov eax, 0x5a", "out 0x42, al",
        "in al, 0x43",
        "mov rbx, 0xd0000000", "mov dword ptr [rbx], 0x1234",
        "mov eax, [rbx + 8]",
        "hlt"
    ))
}

fn run_traced(vcpu: &mut Vcpu) -> Result<()> {
    vcpu.expect_out(0x42, &[0x5a])?;
    vcpu.expect(&Exit::In { port: 0x43, size: 1, count: 1 })?;
    vcpu.answer(&[0x77])?;
    vcpu.expect(&Exit::MmioWrite { gpa: 0xd000_0000, data: vec![0x34, 0x12, 0, 0] })?;
    vcpu.expect(&Exit::MmioRead { gpa: 0xd000_0008, len: 4 })?;
    vcpu.answer(&[1, 2, 3, 4])?;
    vcpu.expect(&Exit::Hlt)
}

/// Each exit is told with its reason and place, between an entry and the next.
fn exits() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = traced_guest(&vm)?;
    let trace = Trace::new(&["kvm_entry", "kvm_exit"])?;
    run_traced(&mut vcpu)?;
    let amd = Processor::current()? == Processor::Amd;
    let reasons: [&str; 4] = if amd {
        ["reason cpuid ", "reason msr ", "reason io ", "reason hlt "]
    } else {
        ["reason CPUID ", "reason MSR_READ ", "reason IO_INSTRUCTION ", "reason HLT "]
    };
    for reason in reasons {
        trace.expect("kvm_exit", &["vcpu 0 ", reason])?;
    }
    // MOV, XOR: five and two bytes.
    trace.expect("kvm_exit", &[reasons[0], &format!("rip {:#x} ", CODE + 7)])?;
    trace.expect("kvm_entry", &["vcpu 0,", &format!("rip {:#x} ", CODE + 9)])?;
    let lines = trace.lines()?;
    ensure!(lines.len() >= 12, "{lines:#?}");
    for (line, name) in lines.iter().zip(["kvm_entry", "kvm_exit"].iter().cycle()) {
        ensure!(line.starts_with(name), "{line} instead of {name}: {lines:#?}");
    }
    Ok(())
}

/// What a guest does is told as it happens.
fn events() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = traced_guest(&vm)?;
    let trace = Trace::new(&["kvm_cpuid", "kvm_msr", "kvm_pio", "kvm_mmio", "kvm_userspace_exit"])?;
    run_traced(&mut vcpu)?;
    trace.expect("kvm_cpuid", &["func 1 idx 0 "])?;
    trace.expect("kvm_msr", &["msr_read 277 = 0x7040600070406"])?;
    trace.expect("kvm_pio", &["pio_write at 0x42 size 1 ", "val 0x5a"])?;
    trace.expect("kvm_pio", &["pio_read at 0x43 size 1 ", "val 0x77"])?;
    trace.expect("kvm_mmio", &["write", "gpa 0xd0000000 val 0x1234"])?;
    trace.expect("kvm_mmio", &["mmio unsatisfied-read", "gpa 0xd0000008"])?;
    trace.expect("kvm_mmio", &["mmio read", "gpa 0xd0000008 val 0x4030201"])?;
    trace.expect("kvm_userspace_exit", &["KVM_EXIT_IO"])?;
    trace.expect("kvm_userspace_exit", &["KVM_EXIT_HLT"])
}

/// Registers of a hypercall are told as wide as the guest's mode has them.
fn hypercall() -> Result<()> {
    const HIGH: u64 = 0x1234 << 32;
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let trace = Trace::new(&["kvm_hypercall"])?;
    let (flat, long) = (guest!(32; "vmmcall", "hlt"), guest!(64; "vmmcall", "hlt"));
    for (mode, code, high) in [(Mode::Flat, flat, 0), (Mode::Long, long, HIGH)] {
        vcpu.start(mode, code)?;
        vcpu.change_regs(|regs| {
            (regs.rax, regs.rbx, regs.rsi) = (HIGH | 0x7777, HIGH | 0x11, HIGH | 0x44);
        })?;
        vcpu.expect(&Exit::Hlt)?;
        let [number, first, last] = [0x7777, 0x11, 0x44].map(|low: u64| high | low);
        let told = [format!("nr {number:#x} a0 {first:#x} "), format!(" a3 {last:#x}")];
        trace.expect("kvm_hypercall", &told.each_ref().map(String::as_str))?;
    }
    Ok(())
}
