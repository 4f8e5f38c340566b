// SPDX-License-Identifier: GPL-2.0
//! What KVM offers to guests that know of it: clock, steal time, ends of interrupts, wake-ups, IPIs,
//! and page faults that don't stop a whole vCPU.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::unistd::Pid;

use super::super::deadline::KICK;
use super::super::thread::{beside, kicked};
use super::super::userfault::Userfault;
use super::super::vcpu::Vcpu;
use super::lapic::{vector_bit, with_irqchip};
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-pv-signature", signature),
    Case::guest("x86/micro-pv-clock", clock),
    Case::guest("x86/micro-pv-clock-monotonic", clock_monotonic),
    Case::guest("x86/micro-pv-clock-set", clock_set),
    Case::guest("x86/micro-pv-wall-clock", wall_clock),
    Case::guest("x86/micro-pv-steal-time", steal_time),
    Case::guest("x86/micro-pv-eoi", eoi),
    Case::guest("x86/micro-pv-eoi-kicked", eoi_kicked),
    Case::guest("x86/micro-pv-kick", kick),
    Case::guest("x86/micro-pv-kick-forgotten", kick_forgotten),
    Case::guest("x86/micro-pv-send-ipi", send_ipi),
    Case::guest("x86/micro-pv-yield", sched_yield),
    Case::guest("x86/micro-pv-async-fault", async_fault),
    Case::guest("x86/micro-pv-poll-control", poll_control),
    Case::guest("x86/micro-pv-poll", poll),
    Case::guest("x86/micro-pv-enforced", enforced),
    Case::guest("x86/micro-pv-send-ipi-255", send_ipi_255),
];

const WALL_CLOCK: [u32; 2] = [0x11, 0x4b56_4d00];
const SYSTEM_TIME: [u32; 2] = [0x12, 0x4b56_4d01];
const ASYNC_PF: u32 = 0x4b56_4d02;
const STEAL_TIME: u32 = 0x4b56_4d03;
const EOI: u32 = 0x4b56_4d04;
const POLL_CONTROL: u32 = 0x4b56_4d05;
const ASYNC_PF_INT: u32 = 0x4b56_4d06;

/// Bits of CPUID 0x40000001.
const HAS_CLOCK: [u32; 2] = [0, 3];
const HAS_ASYNC_PF: u32 = 4;
const HAS_STEAL_TIME: u32 = 5;
const HAS_EOI: u32 = 6;
const HAS_UNHALT: u32 = 7;
const HAS_SEND_IPI: u32 = 11;
const HAS_POLL_CONTROL: u32 = 12;
const HAS_YIELD: u32 = 13;
const HAS_ASYNC_PF_INT: u32 = 14;

/// Skips the case without a paravirtual feature.
fn need(vm: &Vm, bit: u32, name: &str) -> Result<()> {
    let features = vm.supported_cpuid()?.find(0x4000_0001, 0).map_or(0, |leaf| leaf.eax);
    if features >> bit & 1 == 1 {
        return Ok(());
    }
    Err(Skip(format!("guests can't have {name}")).into())
}

/// KVM says who it is.
fn signature() -> Result<()> {
    let vm = Vm::new()?;
    let cpuid = vm.supported_cpuid()?;
    let leaf = cpuid.find(0x4000_0000, 0).context("no leaf 0x40000000")?;
    check_eq!(leaf.eax, 0x4000_0001);
    let name: Vec<u8> =
        [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
    check_eq!(name, b"KVMKVMKVM\0\0\0");
    ensure!(cpuid.find(0x4000_0001, 0).is_some(), "no leaf 0x40000001");
    check_eq!(cpuid.find(1, 0).map(|leaf| leaf.ecx >> 31), Some(1), "the hypervisor's bit");
    Ok(())
}

/// The page of time in a guest's memory.
struct Time {
    version: u32,
    tsc: u64,
    system: u64,
    factor: u32,
    shift: i8,
    flags: u8,
}

impl Time {
    fn read(vm: &Vm, at: u64) -> Result<Self> {
        let ram = vm.ram();
        Ok(Self {
            version: ram.read(at)?,
            tsc: ram.read(at + 8)?,
            system: ram.read(at + 16)?,
            factor: ram.read(at + 24)?,
            shift: ram.read::<u8>(at + 28)? as i8,
            flags: ram.read(at + 29)?,
        })
    }

    /// Nanoseconds at this value of the guest's TSC.
    fn at(&self, tsc: u64) -> u64 {
        let passed = tsc.wrapping_sub(self.tsc);
        let shifted = if self.shift < 0 {
            passed >> -self.shift
        } else {
            passed << self.shift.unsigned_abs()
        };
        let scaled = (u128::from(shifted) * u128::from(self.factor)) >> 32;
        self.system.wrapping_add(scaled as u64)
    }
}

fn get_clock(vm: &Vm) -> Result<u64> {
    let clock: abi::kvm_clock_data =
        request::take(vm.file(), request::GET_CLOCK).context("KVM_GET_CLOCK")?;
    Ok(clock.clock)
}

/// A guest that turns the clock on and reads the TSC for ever.
fn with_clock(vm: &Vm, msr: u32) -> Result<Vcpu> {
    let vcpu = vm.long(guest!(64;
        "mov ecx, esi", "mov eax, {data} + 1", "xor edx, edx", "wrmsr",
        "2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "mov rbx, rax", "out 0x10, al", "jmp 2b";
        data = DATA
    ))?;
    vcpu.change_regs(|regs| regs.rsi = msr.into())?;
    Ok(vcpu)
}

fn guest_tsc(vcpu: &mut Vcpu) -> Result<u64> {
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => Ok(vcpu.regs()?.rbx),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
}

/// The clock, by its old and its new MSR, tells the time that KVM_GET_CLOCK tells.
fn clock() -> Result<()> {
    for (msr, bit) in SYSTEM_TIME.into_iter().zip(HAS_CLOCK) {
        let vm = Vm::new()?;
        need(&vm, bit, "the clock")?;
        let mut vcpu = with_clock(&vm, msr)?;
        for round in 0..10 {
            let before = get_clock(&vm)?;
            let tsc = guest_tsc(&mut vcpu)?;
            let after = get_clock(&vm)?;
            let time = Time::read(&vm, DATA)?;
            ensure!(time.version > 0 && time.version % 2 == 0, "version {}", time.version);
            let now = time.at(tsc);
            // How well two clocks of the host agree.
            let slack = 2_000_000;
            ensure!(
                before <= now + slack && now <= after + slack,
                "MSR {msr:x}, round {round}: {before} {now} {after}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Two vCPUs never see the clock go back, their own nor the other's, where KVM says that it is stable.
fn clock_monotonic() -> Result<()> {
    const ROUNDS: u32 = 20_000;
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    need(&vm, HAS_CLOCK[1], "the clock")?;
    // R8: this vCPU's page. The latest time of both is at DATA + 0x200.
    let code = guest!(64;
        "mov ecx, 0x4b564d01", "mov rax, r8", "or eax, 1", "xor edx, edx", "wrmsr",
        "mov esi, {rounds}",
        "2:", "mov r10, [{data} + 0x200]",
        "3:", "mov r9d, [r8]", "test r9d, 1", "jnz 3b",
        "lfence", "rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, [r8 + 8]",
        "movsx ecx, byte ptr [r8 + 28]", "test ecx, ecx", "js 4f", "shl rax, cl", "jmp 5f",
        "4:", "neg ecx", "shr rax, cl", "5:",
        "mov edx, [r8 + 24]", "mul rdx", "shrd rax, rdx, 32", "add rax, [r8 + 16]",
        "cmp r9d, [r8]", "jne 3b",
        "cmp rax, r10", "jb 7f",
        "mov rdx, rax", "mov rax, r10",
        "6:", "lock cmpxchg [{data} + 0x200], rdx", "je 8f", "cmp rax, rdx", "jb 6b",
        "8:", "dec esi", "jnz 2b",
        "xor eax, eax", "out 0xe8, eax", "9:", "sti", "jmp 9b",
        "7:", "mov r11, rax", "mov eax, 1", "out 0xe8, eax", "jmp 9b";
        rounds = ROUNDS, data = DATA
    );
    let mut first = vm.vcpu(0)?;
    let mut second = vm.vcpu(1)?;
    first.start(Mode::Long, code)?;
    second.start(Mode::Long, code)?;
    let runnable = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    second.set(request::SET_MP_STATE, &runnable)?;
    first.change_regs(|regs| regs.r8 = DATA)?;
    second.change_regs(|regs| regs.r8 = DATA + 0x100)?;
    first.run_page().immediate_exit = 1;
    beside(&mut second, |exits| {
        first.run_page().immediate_exit = 0;
        let own = first.report()?;
        let Exit::Out { data, .. } = exits.next()? else { bail!("the other vCPU comes out") };
        let stable = Time::read(&vm, DATA)?.flags & 1 == 1;
        if (own, data[0]) != (0, 0) {
            let regs = first.regs()?;
            ensure!(!stable, "back from {} to {}", regs.r10, regs.r11);
        }
        Ok(())
    })
}

/// KVM_SET_CLOCK moves the clock; KVMCLOCK_CTRL tells the guest that it stood still.
fn clock_set() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, HAS_CLOCK[1], "the clock")?;
    let mut vcpu = with_clock(&vm, SYSTEM_TIME[1])?;
    let nothing = request::call(vcpu.file(), request::KVMCLOCK_CTRL, 0);
    check_eq!(nothing, Err(Errno::EINVAL), "a guest without a clock");
    guest_tsc(&mut vcpu)?;
    let target = 1_000_000_000_000_000;
    let clock = abi::kvm_clock_data { clock: target, ..Default::default() };
    request::give(vm.file(), request::SET_CLOCK, &clock).context("KVM_SET_CLOCK")?;
    let tsc = guest_tsc(&mut vcpu)?;
    let now = Time::read(&vm, DATA)?.at(tsc);
    ensure!((target..target + 10_000_000_000).contains(&now), "the guest's clock is {now}");
    let bad = abi::kvm_clock_data { flags: 1 << 20, ..clock };
    let refused = request::give(vm.file(), request::SET_CLOCK, &bad);
    check_eq!(refused, Err(Errno::EINVAL), "unknown flags");
    check_eq!(Time::read(&vm, DATA)?.flags & 2, 0);
    request::call(vcpu.file(), request::KVMCLOCK_CTRL, 0).context("KVM_KVMCLOCK_CTRL")?;
    guest_tsc(&mut vcpu)?;
    check_eq!(Time::read(&vm, DATA)?.flags & 2, 2, "the flag of a stopped guest");
    Ok(())
}

/// Wall clock and system time add up to the time of day.
fn wall_clock() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, HAS_CLOCK[1], "the clock")?;
    let mut vcpu = with_clock(&vm, SYSTEM_TIME[1])?;
    let tsc = guest_tsc(&mut vcpu)?;
    let now = Time::read(&vm, DATA)?.at(tsc);
    for msr in WALL_CLOCK {
        vm.ram().write(DATA + 0x100, 0u32)?;
        ensure!(vcpu.set_msr(msr, DATA + 0x100)?, "MSR {msr:x}");
        let (version, seconds) =
            (vm.ram().read::<u32>(DATA + 0x100)?, vm.ram().read::<u32>(DATA + 0x104)?);
        ensure!(version > 0 && version % 2 == 0, "version {version}");
        let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let guest = u64::from(seconds) + now / 1_000_000_000;
        ensure!(real.abs_diff(guest) <= 2, "MSR {msr:x}: {guest} instead of {real}");
    }
    Ok(())
}

/// Time that another thread had the processor is told; and whether the vCPU runs.
fn steal_time() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, HAS_STEAL_TIME, "steal time")?;
    let mut vcpu = vm.long(guest!(64;
        "sti", "mov bl, [{data} + 16]", "out 0x10, al", "2:", "mov bl, [{data} + 16]", "jmp 2b"; data = DATA
    ))?;
    ensure!(!vcpu.set_msr(STEAL_TIME, DATA | 3)?, "reserved bits are accepted");
    ensure!(vcpu.set_msr(STEAL_TIME, DATA | 1)?, "the MSR can't be set");
    vcpu.expect_out(0x10, &[0])?;
    let steal = || vm.ram().read::<u64>(DATA);
    check_eq!(vm.ram().read::<u32>(DATA + 8)? % 2, 0, "the version");
    check_eq!(vcpu.regs()?.rbx & 1, 0, "it runs while it runs");
    let runner = pthread_self();
    let mut one = CpuSet::new();
    one.set(0)?;
    let before = steal()?;
    let result = thread::scope(|scope| -> Result<()> {
        sched_setaffinity(Pid::from_raw(0), &one)?;
        scope.spawn(move || {
            let _ = sched_setaffinity(Pid::from_raw(0), &one);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(400) {
                std::hint::spin_loop();
            }
            let _ = pthread_kill(runner, KICK);
        });
        for _ in 0..3 {
            if vcpu.try_run()? == Err(Errno::EINTR) {
                return Ok(());
            }
        }
        bail!("no signal")
    });
    let mut all = CpuSet::new();
    for cpu in 0..crate::processor::online()? {
        all.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &all)?;
    result?;
    // The next entry brings the sum up to date.
    vcpu.run_page().immediate_exit = 1;
    check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
    let stolen = steal()? - before;
    ensure!(stolen > 20_000_000, "{stolen} ns stolen in 400 ms with another beside");
    Ok(())
}

/// A guest that sends itself interrupts, whose ends need no exit: with R12 set it tells of each.
fn with_eoi() -> Result<(Vm, Vcpu)> {
    let (vm, vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov ecx, {msr}", "mov eax, {data} + 1", "xor edx, edx", "wrmsr", "sti",
        "2:", "mov dword ptr [rbx + 0x300], 0x44041", "nop",
        "test r12, r12", "jz 2b", "out 0x10, al", "jmp 2b";
        msr = EOI, data = DATA
    ))?;
    need(&vm, HAS_EOI, "EOI by memory")?;
    // R14 counts those that need no EOI.
    vcpu.handle(
        0x41,
        guest!(64;
            "inc r15d", "lock btr dword ptr [{data}], 0", "jnc 2f", "inc r14d", "iretq",
            "2:", "mov dword ptr [rbx + 0xb0], 0", "iretq"; data = DATA
        ),
    )?;
    Ok((vm, vcpu))
}

/// The end of an interrupt without an exit: a bit that KVM sets and the guest clears.
fn eoi() -> Result<()> {
    let (_vm, mut vcpu) = with_eoi()?;
    vcpu.change_regs(|regs| regs.r12 = 1)?;
    for round in 1..=10 {
        vcpu.expect_out(0x10, &[1 | DATA as u8])?;
        check_eq!(vcpu.regs()?.r15, round);
        ensure!(!vector_bit(&vcpu, 0x100, 0x41)?, "round {round}: the vector is in service");
    }
    // An exit that comes between takes the offer back.
    let saved = vcpu.regs()?.r14;
    ensure!(saved >= 5, "{saved} of 10 ends without an exit");
    Ok(())
}

/// Outside the guest the bit is clear, also when the guest was about to be entered: who saves the
/// guest then would have it skip an end that nobody at its new place knows of.
fn eoi_kicked() -> Result<()> {
    const ROUNDS: u32 = 3000;
    let (vm, mut vcpu) = with_eoi()?;
    kicked(|| {
        (0..ROUNDS).try_for_each(|round| -> Result<()> {
            check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
            check_eq!(vm.ram().read::<u32>(DATA)?, 0, "round {round}: the bit");
            Ok(())
        })
    })?;
    ensure!(vcpu.regs()?.r15 > 0, "the guest had no interrupts");
    Ok(())
}

/// Another vCPU, started at once, whose code is at 0xa000.
fn second(vm: &Vm, code: &[u8]) -> Result<Vcpu> {
    let vcpu = vm.vcpu(1)?;
    vcpu.start_at(Mode::Long, 0xa000, code)?;
    let state = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    vcpu.set(request::SET_MP_STATE, &state)?;
    Ok(vcpu)
}

/// A kick wakes a vCPU that halts with interrupts off; one before HLT isn't lost.
fn kick() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "2:", "mov eax, 5", "xor ebx, ebx", "mov ecx, 1", "vmmcall", "out 0xe8, eax", "jmp 2b"
    ))?;
    need(&vm, HAS_UNHALT, "kicks")?;
    let mut other = second(
        &vm,
        guest!(64;
            "cli", "2:", "mov eax, r15d", "out 0xe8, eax", "inc r15d", "hlt", "jmp 2b"
        ),
    )?;
    beside(&mut other, |exits| {
        exits.expect_report(0)?;
        for round in 1..20 {
            // Now and then it has halted already.
            if round % 4 == 0 {
                ensure!(exits.is_quiet(), "HLT does not halt");
            }
            first.expect_report(0)?;
            exits.expect_report(round)?;
        }
        Ok(())
    })
}

/// A vCPU that userspace says runs forgets that it was woken: it has been reset, say.
fn kick_forgotten() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov eax, 5", "xor ebx, ebx", "mov ecx, 1", "vmmcall", "out 0xe8, eax"
    ))?;
    need(&vm, HAS_UNHALT, "kicks")?;
    let mut other = second(&vm, guest!(64; "cli", "hlt", "out 0x10, al"))?;
    first.expect_report(0)?;
    let state = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    other.set(request::SET_MP_STATE, &state)?;
    beside(&mut other, |exits| {
        ensure!(exits.is_quiet(), "HLT does not halt");
        Ok(())
    })
}

/// One hypercall for IPIs to several.
fn send_ipi() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "out 0x10, al", "sti",
        "2:", "mov eax, 10", "mov ebx, 3", "xor ecx, ecx", "xor edx, edx", "mov esi, 0x41",
        "vmmcall", "nop", "out 0xe8, eax", "jmp 2b"
    ))?;
    need(&vm, HAS_SEND_IPI, "IPIs by hypercall")?;
    let mut other = second(
        &vm,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            "2:", "mov eax, r15d", "out 0xe8, eax", "sti", "hlt", "cli", "jmp 2b"
        ),
    )?;
    first.handle(
        0x41,
        guest!(64;
            "inc r15d", "mov r8d, 0xfee00000", "mov dword ptr [r8 + 0xb0], 0", "iretq"
        ),
    )?;
    first.expect_out(0x10, &[0])?;
    beside(&mut other, |exits| {
        exits.expect_report(0)?;
        for round in 1..20 {
            first.expect_report(2)?;
            check_eq!(first.regs()?.r15, round.into());
            exits.expect_report(round)?;
        }
        Ok(())
    })
}

/// A hint for the scheduler changes nothing.
fn sched_yield() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "2:", "mov eax, 11", "mov rbx, r8", "vmmcall", "out 0xe8, eax", "jmp 2b"
    ))?;
    need(&vm, HAS_YIELD, "yielding by hypercall")?;
    let _other = vm.vcpu(1)?;
    for id in [1, 0, 77, u64::MAX] {
        vcpu.change_regs(|regs| regs.r8 = id)?;
        vcpu.expect_report(0).with_context(|| format!("to {id}"))?;
    }
    Ok(())
}

/// A page that takes its time is told as a page fault of a special kind, its arrival by an interrupt;
/// meanwhile the guest runs something else.
fn async_fault() -> Result<()> {
    const PLACE: u64 = 0x1000_0000;
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "xor edx, edx",
        "mov ecx, {int}", "mov eax, 0x55", "wrmsr",
        "mov ecx, {enable}", "mov eax, {data} + 0xb", "wrmsr",
        "sti", "nop", "mov r12d, [{place}]", "mov eax, r12d", "out 0xe8, eax";
        int = ASYNC_PF_INT, enable = ASYNC_PF, data = DATA, place = PLACE
    ))?;
    need(&vm, HAS_ASYNC_PF, "page faults that don't stop them")?;
    need(&vm, HAS_ASYNC_PF_INT, "interrupts for pages that are there")?;
    // The page fault: it waits for the interrupt with the same token.
    vcpu.handle(
        14,
        guest!(64;
            "mov eax, [{data}]", "out 0xe8, eax", "mov dword ptr [{data}], 0",
            "mov rax, cr2", "mov r13, rax", "out 0x10, al",
            "2:", "sti", "hlt", "cli", "cmp r14, r13", "jne 2b",
            "add rsp, 8", "iretq"; data = DATA
        ),
    )?;
    vcpu.handle(
        0x55,
        guest!(64;
            "mov r14d, [{data} + 4]", "mov dword ptr [{data} + 4], 0",
            "mov ecx, 0x4b564d07", "mov eax, 1", "xor edx, edx", "wrmsr",
            "mov dword ptr [rbx + 0xb0], 0", "iretq"; data = DATA
        ),
    )?;
    let ram = Ram::new(1 << 20)?;
    vm.add_slot(1, PLACE, &ram)?;
    let fault = Userfault::new(&ram)?;
    vcpu.expect_report(1)?;
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    thread::scope(|scope| -> Result<()> {
        let provider = scope.spawn(|| {
            let offset = fault.wait()?;
            thread::sleep(Duration::from_millis(30));
            fault.provide(offset, 0x600d)
        });
        vcpu.expect_report(0x600d)?;
        match provider.join() {
            Ok(result) => result,
            Err(_) => bail!("the other thread came to harm"),
        }
    })?;
    let regs = vcpu.regs()?;
    check_eq!(regs.r13, regs.r14, "the tokens");
    ensure!(regs.r13 != 0, "no token");
    Ok(())
}

/// A guest may ask its host not to poll.
fn poll_control() -> Result<()> {
    let vm = Vm::new()?;
    need(&vm, HAS_POLL_CONTROL, "a say in polling")?;
    let vcpu = vm.vcpu(0)?;
    check_eq!(vcpu.msr(POLL_CONTROL)?, Some(1), "after reset");
    ensure!(vcpu.set_msr(POLL_CONTROL, 0)?, "0 is refused");
    check_eq!(vcpu.msr(POLL_CONTROL)?, Some(0));
    ensure!(!vcpu.set_msr(POLL_CONTROL, 2)?, "2 is accepted");
    Ok(())
}

/// A vCPU that is woken soon needs no sleep, unless the VMM wants none of that.
fn poll() -> Result<()> {
    for longest in [0u64, 200_000] {
        let vm = Vm::new()?;
        vm.create_irqchip()?;
        vm.need(abi::KVM_CAP_HALT_POLL, "KVM_CAP_HALT_POLL")?;
        check_eq!(vm.enable(abi::KVM_CAP_HALT_POLL, [1 << 32, 0, 0, 0]), Err(Errno::EINVAL));
        vm.enable(abi::KVM_CAP_HALT_POLL, [longest, 0, 0, 0]).context("KVM_CAP_HALT_POLL")?;
        let mut vcpu = vm.long(guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov dword ptr [rbx + 0x3e0], 0xb",
            "mov dword ptr [rbx + 0x320], 0x41",
            "2:", "mov dword ptr [rbx + 0x380], 20000", "sti", "hlt", "cli", "cmp r15d, 50", "jb 2b",
            "mov eax, r15d", "out 0xe8, eax"
        ))?;
        vcpu.handle(0x41, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
        vcpu.expect_report(50).with_context(|| format!("{longest} ns, {:?}", vcpu.regs()))?;
    }
    let vm = Vm::new()?;
    check_eq!(vm.enable(abi::KVM_CAP_HALT_POLL, [0; 4]), Ok(0));
    Ok(())
}

/// A guest that is held to its CPUID has none of KVM's registers and calls that it doesn't tell of.
fn enforced() -> Result<()> {
    let vm = Vm::new()?;
    let cap = abi::KVM_CAP_ENFORCE_PV_FEATURE_CPUID;
    vm.need(cap, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID")?;
    let call =
        guest!(64; "mov eax, 5", "xor ebx, ebx", "xor ecx, ecx", "vmmcall", "out 0xe8, eax", "hlt");
    let write = guest!(64; "mov ecx, 0x4b564d00", "xor eax, eax", "xor edx, edx", "wrmsr");
    let code = &[write, call].concat();
    for enforce in [0, 1] {
        let mut vcpu = vm.bare_vcpu(enforce as u32)?;
        let mut cpuid = vm.supported_cpuid()?;
        cpuid.leaf_mut(0x4000_0001, 0)?.eax = 0;
        vcpu.set_cpuid(&cpuid)?;
        vcpu.start(Mode::Long, code)?;
        let wanted = |flags| abi::kvm_enable_cap {
            cap,
            flags,
            args: [enforce, 0, 0, 0],
            ..Default::default()
        };
        check_eq!(vcpu.try_set(request::ENABLE_CAP, &wanted(1)), Err(Errno::EINVAL), "flags");
        vcpu.set(request::ENABLE_CAP, &wanted(0))?;
        let result = if enforce == 0 {
            0
        } else {
            vcpu.expect_trap(13, 0)?;
            vcpu.start(Mode::Long, call)?;
            // -KVM_ENOSYS
            -1000i32 as u32
        };
        vcpu.expect_report(result)?;
    }
    Ok(())
}

/// 255 is an APIC's number for a hypercall, not everybody's.
fn send_ipi_255() -> Result<()> {
    let (vm, mut first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti",
        "mov eax, 10", "mov ebx, 1", "xor ecx, ecx", "mov edx, 255", "mov esi, 0x41", "vmmcall",
        "nop", "out 0xe8, eax"
    ))?;
    need(&vm, HAS_SEND_IPI, "IPIs by hypercall")?;
    first.expect_report(0)
}
