// SPDX-License-Identifier: GPL-2.0
//! Several vCPUs, several VMs, and processors that they move between.

use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use super::super::thread::beside;
use super::super::vcpu::Vcpu;
use super::*;
use crate::processor;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-smp-atomic", atomic),
    Case::guest("x86/micro-smp-invalidate", invalidate),
    Case::guest("x86/micro-smp-late", late),
    Case::guest("x86/micro-smp-move", moved),
    Case::guest("x86/micro-smp-threads", threads),
    Case::guest("x86/micro-smp-many-vms", many_vms),
    Case::guest("x86/micro-smp-broadcast", broadcast),
];

/// Runs vCPUs each in a thread of its own until each has reported this.
fn run_all(vcpus: Vec<Vcpu>, report: u32) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = vcpus
            .into_iter()
            .map(|mut vcpu| {
                scope.spawn(move || {
                    vcpu.set_limit(Duration::from_secs(60));
                    let id = vcpu.id();
                    vcpu.expect_report(report).with_context(|| format!("vCPU {id}"))
                })
            })
            .collect();
        let mut result = Ok(());
        for thread in threads {
            match thread.join() {
                Ok(ran) => result = result.and(ran),
                Err(_) => bail!("a vCPU's thread came to harm"),
            }
        }
        result
    })
}

/// Locked instructions of four vCPUs on one word: none is lost.
fn atomic() -> Result<()> {
    const ROUNDS: u32 = 100_000;
    let vm = Vm::new()?;
    let code = guest!(64;
        "mov ecx, {rounds}",
        "2:", "lock inc dword ptr [{data}]", "mov eax, 1", "lock xadd [{data} + 64], eax",
        "3:", "mov eax, [{data} + 128]", "lea edx, [rax + 1]", "lock cmpxchg [{data} + 128], edx", "jne 3b",
        "dec ecx", "jnz 2b", "mov eax, 7", "out 0xe8, eax"; rounds = ROUNDS, data = DATA
    );
    let mut vcpus = Vec::new();
    for id in 0..4 {
        let vcpu = vm.vcpu(id)?;
        vcpu.start(Mode::Long, code)?;
        vcpus.push(vcpu);
    }
    run_all(vcpus, 7)?;
    for place in [0, 64, 128] {
        check_eq!(vm.ram().read::<u32>(DATA + place)?, 4 * ROUNDS);
    }
    Ok(())
}

/// One vCPU changes a page table that another uses: after its invalidation the other sees the new page.
fn invalidate() -> Result<()> {
    const ROUNDS: u32 = 2000;
    const PAGE: u64 = 0x5_0000;
    let vm = Vm::new()?;
    let mut first = vm.vcpu(0)?;
    let mut second = vm.vcpu(1)?;
    // DATA: the round. DATA + 64: what the second has seen.
    first.start(Mode::Long, guest!(64;
        "mov ecx, 1",
        // Odd rounds map the page at 60000, even ones that at 61000.
        "2:", "mov eax, ecx", "not eax", "and eax, 1", "shl eax, 12", "add eax, 0x60007", "mov [{entry}], rax",
        "mov [{data}], ecx", "3:", "pause", "cmp [{data} + 64], ecx", "jne 3b",
        "inc ecx", "cmp ecx, {rounds}", "jne 2b", "xor eax, eax", "out 0xe8, eax";
        entry = mode::MORE_TABLES + 8 * 0x50, data = DATA, rounds = ROUNDS
    ))?;
    second.start_at(Mode::Long, 0xa000, guest!(64;
        "mov ecx, 1",
        "2:", "pause", "cmp [{data}], ecx", "jne 2b",
        "invlpg [{page}]", "mov eax, [{page}]", "mov edx, ecx", "and edx, 1", "cmp eax, edx", "jne 4f",
        "mov [{data} + 64], ecx", "inc ecx", "jmp 2b",
        "4:", "mov eax, ecx", "out 0xe8, eax"; page = PAGE, data = DATA
    ))?;
    mode::map_page(vm.ram(), PAGE, 0x6_0000 | mode::PTE, mode::MORE_TABLES)?;
    vm.ram().write(0x6_0000, 1u32)?;
    vm.ram().write(0x6_1000, 0u32)?;
    beside(&mut second, |exits| {
        let done = first.run();
        if let Some(exit) = exits.try_next() {
            bail!("the other vCPU sees the wrong page: {exit:x?}");
        }
        let (round, seen) = (vm.ram().read::<u32>(DATA)?, vm.ram().read::<u32>(DATA + 64)?);
        if done.is_err() && round == seen && processor::is_tcg()? {
            let reason = "TCG now and then doesn't show a processor what another one wrote";
            return Err(Skip(reason.into()).into());
        }
        let done = done.with_context(|| format!("round {round}, seen {seen}"))?;
        let finished = Exit::Out { port: 0xe8, size: 4, data: vec![0; 4] };
        check_eq!(done, finished);
        Ok(())
    })
}

/// vCPUs that are made while others run.
fn late() -> Result<()> {
    let vm = Vm::new()?;
    let mut first = vm.vcpu(0)?;
    let code = guest!(64; "sti", "2:", "inc qword ptr [{data}]", "jmp 2b"; data = DATA);
    first.start(Mode::Long, code)?;
    beside(&mut first, |exits| {
        for id in 1..20 {
            let mut vcpu = vm.vcpu(id)?;
            vcpu.start_at(Mode::Long, 0xa000, guest!(64; "mov eax, 9", "out 0xe8, eax"))?;
            vcpu.expect_report(9)?;
        }
        ensure!(exits.try_next().is_none(), "the first vCPU comes out");
        Ok(())
    })?;
    ensure!(vm.ram().read::<u64>(DATA)? > 0, "the first vCPU doesn't run");
    Ok(())
}

/// A guest whose thread is moved from processor to processor keeps its registers, and its counter
/// never goes back.
fn moved() -> Result<()> {
    let cpus = processor::online()?;
    if cpus < 2 {
        return Err(Skip("one processor".into()).into());
    }
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "sti", "mov eax, 0x3f800000", "movd xmm5, eax", "pshufd xmm5, xmm5, 0", "mov r13, 0x123456789abcdef0",
        "xor r8d, r8d",
        "2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, r8", "jb 3f", "mov r8, rax",
        "movdqa xmm6, xmm5", "psubd xmm6, xmm5", "movd eax, xmm5", "cmp eax, 0x3f800000", "jne 4f",
        "mov rax, 0x123456789abcdef0", "cmp rax, r13", "jne 4f",
        "inc qword ptr [{data}]", "jmp 2b",
        "3:", "mov eax, 1", "out 0xe8, eax", "4:", "mov eax, 2", "out 0xe8, eax"; data = DATA
    ))?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let stopper = vcpu.stopper();
    let result = thread::scope(|scope| -> Result<()> {
        let runner = scope.spawn(|| {
            let _ = sender.send(gettid());
            vcpu.set_limit(Duration::from_secs(60));
            vcpu.try_run()
        });
        let thread = receiver.recv().context("the thread does not start")?;
        let moves = (0..100).try_for_each(|round| {
            thread::sleep(Duration::from_millis(2));
            pin(thread, round % cpus)
        });
        stopper.set(true);
        while !runner.is_finished() {
            // The signal goes to whichever thread of the process; this one doesn't mind it.
            // SAFETY: plain numbers; the thread is alive or its id unused.
            unsafe {
                libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.as_raw(), libc::SIGUSR1)
            };
            thread::sleep(Duration::from_millis(1));
        }
        let ran = runner.join().map_err(|_| anyhow::anyhow!("the thread came to harm"))??;
        check_eq!(ran, Err(Errno::EINTR), "the guest comes out");
        moves
    });
    result?;
    ensure!(vm.ram().read::<u64>(DATA)? > 1000, "the guest hardly runs");
    Ok(())
}

fn pin(thread: Pid, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(thread, &set).context("moving a thread")
}

/// One vCPU that is run by one thread after the other.
fn threads() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu =
        vm.long(guest!(64; "2:", "inc rbx", "mov eax, ebx", "out 0xe8, eax", "jmp 2b"))?;
    for round in 1..100 {
        thread::scope(|scope| match scope.spawn(|| vcpu.expect_report(round)).join() {
            Ok(result) => result,
            Err(_) => bail!("a thread came to harm"),
        })?;
    }
    Ok(())
}

/// Fifty VMs at once, each with its own memory and registers, all running together.
fn many_vms() -> Result<()> {
    const COUNT: u32 = 50;
    let code = guest!(64;
        "mov ecx, 20000", "2:", "add [{data}], r8", "dec ecx", "jnz 2b", "mov eax, 3", "out 0xe8, eax"; data = DATA
    );
    let mut vms = Vec::new();
    let mut vcpus = Vec::new();
    for index in 0..COUNT {
        let vm = Vm::new()?;
        let vcpu = vm.long(code)?;
        vcpu.change_regs(|regs| regs.r8 = u64::from(index + 1))?;
        vms.push(vm);
        vcpus.push(vcpu);
    }
    run_all(vcpus, 3)?;
    for (index, vm) in (1..).zip(&vms) {
        check_eq!(vm.ram().read::<u64>(DATA)?, 20_000 * index);
    }
    Ok(())
}

/// IPIs to all others reach each of seven vCPUs, every time.
fn broadcast() -> Result<()> {
    const OTHERS: u32 = 7;
    const ROUNDS: u32 = 200;
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let first = vm.vcpu(0)?;
    first.start(
        Mode::Long,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            // Until all others have come.
            "2:", "pause", "cmp dword ptr [{data} + 64], {others}", "jne 2b",
            "xor ecx, ecx",
            "3:", "add ecx, {others}", "mov dword ptr [rbx + 0x300], 0xc4041",
            "4:", "pause", "cmp [{data}], ecx", "jne 4b", "cmp ecx, {all}", "jne 3b",
            "mov eax, 7", "out 0xe8, eax"; data = DATA, others = OTHERS, all = OTHERS * ROUNDS
        ),
    )?;
    let mut vcpus = Vec::new();
    for id in 1..=OTHERS {
        let vcpu = vm.vcpu(id)?;
        vcpu.start_at(Mode::Long, 0xa000, guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "lock inc dword ptr [{data} + 64]",
            "2:", "sti", "hlt", "cli", "cmp r15d, {rounds}", "jne 2b", "mov eax, 7", "out 0xe8, eax";
            data = DATA, rounds = ROUNDS
        ))?;
        vcpu.handle(0x41, guest!(64;
            "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "lock inc dword ptr [{data}]", "iretq"; data = DATA
        ))?;
        let state = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
        vcpu.set(request::SET_MP_STATE, &state)?;
        vcpus.push(vcpu);
    }
    vcpus.push(first);
    run_all(vcpus, 7)
}
