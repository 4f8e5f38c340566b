// SPDX-License-Identifier: GPL-2.0
//! The time-stamp counter: its rate, its offset, and who may change it.

use std::thread;
use std::time::{Duration, Instant};

use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-tsc-rate", rate),
    Case::guest("x86/micro-tsc-written", written),
    Case::guest("x86/micro-tsc-adjust", adjust),
    Case::guest("x86/micro-tsc-offset", offset),
    Case::guest("x86/micro-tsc-together", together),
    Case::guest("x86/micro-tsc-khz", khz),
];

const TSC: u32 = 0x10;
const ADJUST: u32 = 0x3b;

/// A guest that reads the TSC for ever.
fn reader(vm: &Vm, id: u32) -> Result<Vcpu> {
    let vcpu = vm.vcpu(id)?;
    vcpu.start(
        Mode::Long,
        guest!(64;
            "2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "mov rbx, rax", "out 0x10, al", "jmp 2b"
        ),
    )?;
    Ok(vcpu)
}

fn read(vcpu: &mut Vcpu) -> Result<u64> {
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => Ok(vcpu.regs()?.rbx),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
}

fn get_khz(vcpu: &Vcpu) -> Result<u64> {
    let khz = request::call(vcpu.file(), request::GET_TSC_KHZ, 0).context("KVM_GET_TSC_KHZ")?;
    ensure!(khz > 0, "{khz} kHz");
    Ok(khz as u64)
}

/// It counts as fast as KVM says, and always on.
fn rate() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = reader(&vm, 0)?;
    let khz = get_khz(&vcpu)?;
    let mut last = read(&mut vcpu)?;
    for _ in 0..1000 {
        let now = read(&mut vcpu)?;
        ensure!(now > last, "back from {last} to {now}");
        last = now;
    }
    // What is between the two readings, at least and at most.
    let outer = Instant::now();
    let first = read(&mut vcpu)?;
    let inner = Instant::now();
    thread::sleep(Duration::from_millis(200));
    let least = inner.elapsed().as_micros() as u64;
    let ticks = read(&mut vcpu)? - first;
    let most = outer.elapsed().as_micros() as u64;
    let (low, high) = (khz * least / 1000, khz * most / 1000);
    ensure!(
        ticks > low - low / 50 && ticks < high + high / 50,
        "{ticks} ticks in {least} to {most} us at {khz} kHz"
    );
    Ok(())
}

/// The guest and the VMM can set it.
fn written() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(
        Mode::Long,
        guest!(64;
            "mov ecx, 0x10", "mov eax, 0x1234", "mov edx, 0x100000", "wrmsr",
            "rdtsc", "shl rdx, 32", "or rax, rdx", "mov rbx, rax",
            "rdmsr", "shl rdx, 32", "or rax, rdx", "mov rsi, rax", "out 0x10, al",
            "rdtsc", "shl rdx, 32", "or rax, rdx", "mov rbx, rax", "hlt"
        ),
    )?;
    let second = get_khz(&vcpu)? * 1000;
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    let regs = vcpu.regs()?;
    let start = 0x10_0000_0000_1234;
    ensure!((start..start + 10 * second).contains(&regs.rbx), "RDTSC gives {:x}", regs.rbx);
    ensure!((regs.rbx..regs.rbx + 10 * second).contains(&regs.rsi), "RDMSR gives {:x}", regs.rsi);
    let seen = vcpu.msr(TSC)?.context("no MSR")?;
    ensure!((regs.rsi..regs.rsi + 10 * second).contains(&seen), "KVM_GET_MSRS gives {seen:x}");
    let start = 0x77_0000_0000_0000;
    ensure!(vcpu.set_msr(TSC, start)?, "the VMM can't set it");
    vcpu.expect(&Exit::Hlt)?;
    let rbx = vcpu.regs()?.rbx;
    ensure!((start..start + 10 * second).contains(&rbx), "RDTSC gives {rbx:x} in the end");
    Ok(())
}

/// IA32_TSC_ADJUST moves with the counter, and the counter with it, when the guest writes either.
fn adjust() -> Result<()> {
    let vm = Vm::new()?;
    if vm.supported_cpuid()?.find(7, 0).is_none_or(|leaf| leaf.ebx & 2 == 0) {
        return Err(Skip("guests have no IA32_TSC_ADJUST".into()).into());
    }
    let mut vcpu = vm.vcpu(0)?;
    let code = guest!(64;
        "mov ecx, 0x3b", "xor eax, eax", "mov edx, 0x1000", "wrmsr",
        "rdtsc", "shl rdx, 32", "or rax, rdx", "mov rbx, rax", "mov eax, 0", "out 0xe8, eax",
        "mov ecx, 0x10", "xor eax, eax", "mov edx, 0x3000", "wrmsr",
        "mov ecx, 0x3b", "rdmsr", "shl rdx, 32", "or rax, rdx", "mov rbx, rax",
        "mov eax, 1", "out 0xe8, eax"
    );
    vcpu.start(Mode::Long, code)?;
    let second = get_khz(&vcpu)? * 1000;
    let before = vcpu.msr(TSC)?.context("no MSR")?;
    vcpu.expect_report(0)?;
    let jump = vcpu.regs()?.rbx - before;
    let step = 0x1000_0000_0000;
    ensure!((step..step + 10 * second).contains(&jump), "the counter jumps by {jump:x}");
    check_eq!(vcpu.msr(ADJUST)?, Some(step));
    vcpu.expect_report(1)?;
    // From about `before` plus a step to three steps.
    let adjust = vcpu.regs()?.rbx;
    let expected = 3 * step - before;
    ensure!(adjust.abs_diff(expected) < 20 * second, "{adjust:x} instead of {expected:x}");
    // The VMM's value is but stored.
    let now = vcpu.msr(TSC)?.context("no MSR")?;
    ensure!(vcpu.set_msr(ADJUST, 0)?, "the VMM can't set it");
    let then = vcpu.msr(TSC)?.context("no MSR")?;
    ensure!(then.abs_diff(now) < 10 * second, "the counter jumps from {now:x} to {then:x}");
    Ok(())
}

/// Gets, sets or asks for an attribute of the vCPU's TSC; 0 is its offset.
pub(super) fn ask(vcpu: &Vcpu, request: u32, attr: u64, value: &mut u64) -> Result<(), Errno> {
    let addr = std::ptr::from_mut(value) as u64;
    let attribute = abi::kvm_device_attr { group: 0, attr, addr, ..Default::default() };
    request::give(vcpu.file(), request, &attribute).map(|_| ())
}

/// The offset is an attribute of the vCPU.
fn offset() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VCPU_ATTRIBUTES, "KVM_CAP_VCPU_ATTRIBUTES")?;
    let mut vcpu = reader(&vm, 0)?;
    let second = get_khz(&vcpu)? * 1000;
    let mut value = 0u64;
    ask(&vcpu, request::HAS_DEVICE_ATTR, 0, &mut value).context("KVM_HAS_DEVICE_ATTR")?;
    check_eq!(ask(&vcpu, request::HAS_DEVICE_ATTR, 9, &mut value), Err(Errno::ENXIO), "another");
    ask(&vcpu, request::GET_DEVICE_ATTR, 0, &mut value).context("KVM_GET_DEVICE_ATTR")?;
    let before = read(&mut vcpu)?;
    let step = 0x55_0000_0000_0000;
    let mut moved = value.wrapping_add(step);
    ask(&vcpu, request::SET_DEVICE_ATTR, 0, &mut moved).context("KVM_SET_DEVICE_ATTR")?;
    let jump = read(&mut vcpu)? - before;
    ensure!((step..step + 10 * second).contains(&jump), "the counter jumps by {jump:x}");
    let mut again = 0;
    ask(&vcpu, request::GET_DEVICE_ATTR, 0, &mut again).context("KVM_GET_DEVICE_ATTR")?;
    check_eq!(again, moved);
    Ok(())
}

/// The counters of vCPUs that are made one after the other agree; and still do after the VMM set each
/// to zero, as it does on a reset.
fn together() -> Result<()> {
    let vm = Vm::new()?;
    let mut first = reader(&vm, 0)?;
    let mut second = reader(&vm, 1)?;
    compare(&mut first, &mut second).context("new")?;
    for vcpu in [&first, &second] {
        ensure!(vcpu.set_msr(TSC, 0)?, "the VMM can't set it");
    }
    compare(&mut first, &mut second).context("set to zero")
}

fn compare(first: &mut Vcpu, second: &mut Vcpu) -> Result<()> {
    for _ in 0..100 {
        let (one, two, three) = (read(first)?, read(second)?, read(first)?);
        ensure!(one < two && two < three, "{one} {two} {three}");
    }
    Ok(())
}

/// The rate can be set to what it is, and to others where the processor scales.
fn khz() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = reader(&vm, 0)?;
    let khz = get_khz(&vcpu)?;
    let set = |vcpu: &Vcpu, khz| request::call(vcpu.file(), request::SET_TSC_KHZ, khz);
    check_eq!(set(&vcpu, khz), Ok(0), "the same");
    check_eq!(get_khz(&vcpu)?, khz);
    if vm.has(abi::KVM_CAP_TSC_CONTROL)? {
        check_eq!(set(&vcpu, khz / 2), Ok(0), "half of it");
        check_eq!(get_khz(&vcpu)?, khz / 2);
        let start = Instant::now();
        let first = read(&mut vcpu)?;
        thread::sleep(Duration::from_millis(100));
        let ticks = read(&mut vcpu)? - first;
        let most = khz / 2 * start.elapsed().as_micros() as u64 / 1000;
        ensure!(ticks < most + most / 20, "{ticks} ticks, at most {most} expected");
    }
    Ok(())
}
