// SPDX-License-Identifier: GPL-2.0
//! State that is taken out, or put in, while something is under way: whoever gets it goes on from there,
//! and whoever had it forgets.

use std::thread;
use std::time::Duration;

use super::super::state::{State, TSC_DEADLINE, msr_numbers};
use super::super::thread::kicked;
use super::super::vcpu::Vcpu;
use super::lapic::{vector_bit, with_irqchip};
use super::*;
use crate::module;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-save-deadline", deadline),
    Case::guest("x86/micro-save-deadline-forgotten", deadline_forgotten),
    Case::guest("x86/micro-save-one-shot", one_shot),
    Case::guest("x86/micro-save-pit", pit),
    Case::guest("x86/micro-save-chosen", chosen),
    Case::guest("x86/micro-save-chosen-bitmap", chosen_bitmap),
    Case::guest("x86/micro-save-external", external),
    Case::guest("x86/micro-save-eoi", eoi),
    Case::guest("x86/micro-save-priority", priority),
    Case::guest("x86/micro-save-init", init),
    Case::guest("x86/micro-save-start", start),
    Case::guest("x86/micro-save-trap", trap),
    Case::guest("x86/micro-save-access", access),
];

/// A vCPU with a local APIC whose timer knows TSC deadlines.
pub(super) fn with_deadline(vm: &Vm, id: u32) -> Result<Vcpu> {
    vm.need(abi::KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER")?;
    let vcpu = vm.bare_vcpu(id)?;
    let mut cpuid = vm.supported_cpuid()?;
    cpuid.leaf_mut(1, 0)?.ecx |= 1 << 24;
    cpuid.set_apic_id(id);
    vcpu.set_cpuid(&cpuid)?;
    Ok(vcpu)
}

/// Another VM with the same memory.
fn beside(vm: &Vm) -> Result<Vm> {
    let other = Vm::with_ram(vm.ram().clone())?;
    other.create_irqchip()?;
    Ok(other)
}

/// A guest that sets a deadline R8 cycles ahead, unless that is 0, and waits four times R9 cycles. R15:
/// ticks.
fn with_timer() -> Result<(Vm, Vcpu)> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let mut vcpu = with_deadline(&vm, 0)?;
    vcpu.start(
        Mode::Long,
        guest!(64;
            "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
            "mov dword ptr [rbx + 0x320], 0x40050", "xor r15d, r15d", "out 0x10, al", "nop",
            "test r8, r8", "jz 2f",
            "mov ecx, 0x6e0", "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, r8", "mov rdx, rax",
            "shr rdx, 32", "wrmsr", "out 0x11, al", "nop",
            "2:", "sti", "rdtsc", "shl rdx, 32", "lea r10, [rax + rdx]", "lea r10, [r10 + 4 * r9]",
            "3:", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, r10", "jb 3b",
            "cli", "xor eax, eax", "out 0x12, al"
        ),
    )?;
    vcpu.handle(0x50, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    expect_port(&mut vcpu, 0x10)?;
    // 50 ms.
    let cycles = request::call(vcpu.file(), request::GET_TSC_KHZ, 0)? as u64 * 50;
    vcpu.change_regs(|regs| (regs.r8, regs.r9) = (cycles, cycles))?;
    Ok((vm, vcpu))
}

/// The guest has to write to this port, whatever it is.
fn expect_port(vcpu: &mut Vcpu, port: u16) -> Result<()> {
    match vcpu.run()? {
        Exit::Out { port: written, .. } if written == port => Ok(()),
        exit => bail!("{} instead of a write to port {port:#x}", vcpu.describe(&exit)),
    }
}

/// Finishes an access that userspace has served, and nothing else.
fn finish(vcpu: &mut Vcpu) -> Result<()> {
    vcpu.run_page().immediate_exit = 1;
    let result = vcpu.try_run();
    vcpu.run_page().immediate_exit = 0;
    check_eq!(result?, Err(Errno::EINTR));
    Ok(())
}

/// A deadline that passes while the state is taken out: one tick at the new place.
fn deadline() -> Result<()> {
    let (vm, mut vcpu) = with_timer()?;
    expect_port(&mut vcpu, 0x11)?;
    finish(&mut vcpu)?;
    let msrs = msr_numbers(vm.kvm())?;
    let mut state = State::take(&vcpu, &msrs)?;
    thread::sleep(Duration::from_millis(100));
    ensure!(state.msr(TSC_DEADLINE) != Some(0), "it took too long");
    // The deadline was taken out with the MSRs, before it passed.
    state.lapic = vcpu.get(request::GET_LAPIC)?;
    let other = beside(&vm)?;
    let mut moved = with_deadline(&other, 0)?;
    state.put(&moved)?;
    expect_port(&mut moved, 0x12)?;
    check_eq!(moved.regs()?.r15, 1, "ticks");
    // The same where it passed before all of it.
    let state = State::take(&vcpu, &msrs)?;
    let other = beside(&vm)?;
    let mut moved = with_deadline(&other, 0)?;
    state.put(&moved)?;
    expect_port(&mut moved, 0x12)?;
    check_eq!(moved.regs()?.r15, 1, "ticks, once it has passed");
    expect_port(&mut vcpu, 0x12)?;
    check_eq!(vcpu.regs()?.r15, 1, "ticks at the old place");
    Ok(())
}

/// A deadline of a vCPU that gets another state, with no deadline: no tick.
fn deadline_forgotten() -> Result<()> {
    let (vm, mut vcpu) = with_timer()?;
    finish(&mut vcpu)?;
    let mut idle = State::take(&vcpu, &msr_numbers(vm.kvm())?)?;
    check_eq!(idle.msr(TSC_DEADLINE), Some(0));
    idle.regs.r8 = 0;
    for wait in [0, 100] {
        expect_port(&mut vcpu, 0x11)?;
        finish(&mut vcpu)?;
        thread::sleep(Duration::from_millis(wait));
        idle.put(&vcpu)?;
        expect_port(&mut vcpu, 0x12)?;
        check_eq!(vcpu.regs()?.r15, 0, "ticks of a deadline that isn't set, {wait} ms after");
        vcpu.change_regs(|regs| (regs.rip, regs.r8) = (idle.regs.rip, regs.r9))?;
    }
    Ok(())
}

/// The timer's count runs down while the VMM has the vCPU: one tick at the new place.
fn one_shot() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x3e0], 0xb", "mov dword ptr [rbx + 0x320], 0x50",
        "mov dword ptr [rbx + 0x380], 5000000", "out 0x10, al", "nop",
        "sti", "hlt", "cli", "mov eax, 1", "out 0x11, al"
    ))?;
    vcpu.handle(0x50, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    expect_port(&mut vcpu, 0x10)?;
    finish(&mut vcpu)?;
    thread::sleep(Duration::from_millis(20));
    let state = State::take(&vcpu, &msr_numbers(vm.kvm())?)?;
    let other = beside(&vm)?;
    let mut moved = other.vcpu(0)?;
    state.put(&moved)?;
    moved.set_limit(Duration::from_secs(3));
    moved.expect_out(0x11, &[1])?;
    check_eq!(moved.regs()?.r15, 1, "ticks");
    Ok(())
}

/// A chip's registers.
fn chip(vm: &Vm, id: u32) -> Result<abi::kvm_irqchip> {
    let mut chip = abi::kvm_irqchip { chip_id: id, ..Default::default() };
    request::exchange(vm.file(), request::GET_IRQCHIP, &mut chip).context("KVM_GET_IRQCHIP")?;
    Ok(chip)
}

/// The 8254's count runs down while the VMM has the vCPU: one tick at the new place.
fn pit() -> Result<()> {
    let create = |vm: &Vm| -> Result<()> {
        vm.need(abi::KVM_CAP_PIT2, "KVM_CAP_PIT2")?;
        let config = abi::kvm_pit_config { flags: 1, ..Default::default() };
        request::give(vm.file(), request::CREATE_PIT2, &config).context("KVM_CREATE_PIT2")?;
        Ok(())
    };
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    create(&vm)?;
    let mut vcpu = vm.long(guest!(64;
        // The 8259: vectors 40 to 47, all but the first masked.
        "mov al, 0x11", "out 0x20, al", "mov al, 0x40", "out 0x21, al", "mov al, 4", "out 0x21, al",
        "mov al, 1", "out 0x21, al", "mov al, 0xfe", "out 0x21, al",
        // Channel 0, mode 0, 0x2000 periods: 6.9 ms.
        "mov al, 0x30", "out 0x43, al", "xor al, al", "out 0x40, al", "mov al, 0x20", "out 0x40, al",
        "out 0x10, al", "nop", "sti", "hlt", "cli", "mov eax, 1", "out 0x11, al"
    ))?;
    vcpu.handle(0x40, guest!(64; "inc r15d", "mov al, 0x20", "out 0x20, al", "iretq"))?;
    expect_port(&mut vcpu, 0x10)?;
    finish(&mut vcpu)?;
    thread::sleep(Duration::from_millis(40));
    let state = State::take(&vcpu, &msr_numbers(vm.kvm())?)?;
    let mut pit = abi::kvm_pit_state2::default();
    request::exchange(vm.file(), request::GET_PIT2, &mut pit).context("KVM_GET_PIT2")?;
    let ids = [abi::KVM_IRQCHIP_PIC_MASTER, abi::KVM_IRQCHIP_PIC_SLAVE, abi::KVM_IRQCHIP_IOAPIC];
    let chips = ids.into_iter().map(|id| chip(&vm, id)).collect::<Result<Vec<_>>>()?;
    let other = beside(&vm)?;
    create(&other)?;
    let mut moved = other.vcpu(0)?;
    for chip in chips {
        request::give(other.file(), request::SET_IRQCHIP, &chip).context("KVM_SET_IRQCHIP")?;
    }
    request::give(other.file(), request::SET_PIT2, &pit).context("KVM_SET_PIT2")?;
    state.put(&moved)?;
    moved.set_limit(Duration::from_secs(3));
    moved.expect_out(0x11, &[1])?;
    check_eq!(moved.regs()?.r15, 1, "ticks");
    Ok(())
}

/// A guest that sends itself interrupts, and counts those that come at [`DATA`].
fn with_interrupts() -> Result<(Vm, Vcpu)> {
    let (vm, vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti",
        "2:", "mov dword ptr [rbx + 0x300], 0x44041", "nop", "jmp 2b"
    ))?;
    vcpu.handle(
        0x41,
        guest!(64; "inc dword ptr [{data}]", "mov dword ptr [rbx + 0xb0], 0", "iretq"; data = DATA),
    )?;
    Ok((vm, vcpu))
}

/// Runs a guest until it was kicked `times` times as an interrupt was on its way to it, and calls `then`
/// each time.
fn with_chosen(
    vcpu: &mut Vcpu,
    times: u32,
    mut then: impl FnMut(&mut Vcpu, abi::kvm_vcpu_events) -> Result<()>,
) -> Result<()> {
    let mut seen = 0;
    for _ in 0..20_000 {
        match vcpu.try_run()? {
            Err(Errno::EINTR) => {}
            other => bail!("KVM_RUN ends with {other:?}; {}", vcpu.place()),
        }
        let events = vcpu.events()?;
        if events.interrupt.injected != 0 {
            then(vcpu, events)?;
            seen += 1;
        }
        if seen == times {
            return Ok(());
        }
    }
    // Where nothing is shown to be on its way, nothing can be lost either.
    ensure!(module::is_kernels_own()?, "no interrupt was on its way in 20000 rounds");
    Ok(())
}

/// A vCPU that is reset as an interrupt was on its way forgets it.
fn chosen() -> Result<()> {
    let (vm, mut vcpu) = with_interrupts()?;
    // What the reset guest does: with interrupts off, it writes to a port.
    let code = guest!(64; "2:", "nop", "nop", "out 0x10, al", "jmp 2b");
    vm.ram().write_bytes(mode::BIG_DATA, code)?;
    let msrs = msr_numbers(vm.kvm())?;
    let idle = State::take(&vcpu, &msrs)?;
    kicked(|| {
        with_chosen(&mut vcpu, 20, |vcpu, events| {
            check_eq!(events.interrupt.nr, 0x41);
            let busy = State::take(vcpu, &msrs)?;
            let mut reset = idle.clone();
            reset.regs.rip = mode::BIG_DATA;
            reset.put(vcpu)?;
            let count = vm.ram().read::<u32>(DATA)?;
            loop {
                match vcpu.try_run()? {
                    Ok(Exit::Out { port: 0x10, .. }) => break,
                    Ok(exit) => bail!("{} after the reset", vcpu.describe(&exit)),
                    Err(Errno::EINTR) => {}
                    Err(error) => bail!("KVM_RUN fails with {error:?}"),
                }
            }
            check_eq!(vm.ram().read::<u32>(DATA)?, count, "interrupts after the reset");
            busy.put(vcpu)
        })
    })
}

/// The bitmap of KVM_GET_SREGS has the interrupt that is on its way, and KVM_SET_SREGS takes it.
fn chosen_bitmap() -> Result<()> {
    let (vm, mut vcpu) = with_interrupts()?;
    kicked(|| {
        with_chosen(&mut vcpu, 20, |vcpu, mut events| {
            let sregs = vcpu.sregs()?;
            check_eq!(sregs.interrupt_bitmap, [0, 1 << 1, 0, 0]);
            events.interrupt.injected = 0;
            vcpu.set(request::SET_VCPU_EVENTS, &events)?;
            check_eq!(vcpu.sregs()?.interrupt_bitmap, [0; 4]);
            vcpu.set_sregs(&sregs)?;
            check_eq!(vcpu.events()?.interrupt.injected, 1);
            ensure!(vector_bit(vcpu, 0x100, 0x41)?, "the vector isn't in service");
            let count = vm.ram().read::<u32>(DATA)?;
            // The guest ends it, or stands still for ever.
            for _ in 0..1000 {
                check_eq!(vcpu.try_run()?, Err(Errno::EINTR));
                if vm.ram().read::<u32>(DATA)? != count {
                    return Ok(());
                }
            }
            bail!("the interrupt didn't come");
        })
    })
}

/// An interrupt of the VMM's own 8259 waits until the guest takes it, whatever is done with the events.
fn external() -> Result<()> {
    let vm = Vm::new()?;
    vm.split_irqchip(24)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov dword ptr [rbx + 0x350], 0x700",
        "out 0x10, al", "nop", "nop", "out 0x11, al", "sti", "nop", "nop", "out 0x12, al"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.interrupt(0x33)?;
    let events = vcpu.events()?;
    check_eq!(events.interrupt.injected, 0, "interrupts are off");
    vcpu.set(request::SET_VCPU_EVENTS, &events)?;
    vcpu.set_sregs(&vcpu.sregs()?)?;
    vcpu.expect_out(0x11, &[0])?;
    vcpu.expect_trap(0x33, 0)?;
    vcpu.expect_out(0x12, &[0])
}

/// The end of a level interrupt that the VMM waits for comes out before a signal does: who saves the guest
/// then would never hear of it.
fn eoi() -> Result<()> {
    let vm = Vm::new()?;
    vm.split_irqchip(24)?;
    if module::is_kernels_own()? {
        return Err(Skip("the kernel's own modules let the signal go first".into()).into());
    }
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti", "out 0x10, al",
        "2:", "pause", "jmp 2b"
    ))?;
    vcpu.handle(0x61, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))?;
    super::irqchip::route_level(&vm, 3, 0x61)?;
    vcpu.expect_out(0x10, &[0])?;
    kicked(|| {
        for round in 0..2000 {
            vm.irq_line(3, true)?;
            loop {
                match vcpu.try_run()? {
                    Ok(Exit::IoapicEoi(0x61)) => break,
                    Err(Errno::EINTR) => {}
                    other => bail!("KVM_RUN ends with {other:?}; {}", vcpu.place()),
                }
                let waits = vector_bit(&vcpu, 0x200, 0x61)? || vector_bit(&vcpu, 0x100, 0x61)?;
                ensure!(waits, "round {round}: it has ended, and the VMM wasn't told");
            }
            vm.irq_line(3, false)?;
        }
        Ok(())
    })
}

/// A task priority that is set while the debugger keeps interrupts away stays.
fn priority() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64; "nop", "nop", "nop", "nop", "nop", "nop"))?;
    vm.need(abi::KVM_CAP_SET_GUEST_DEBUG2, "KVM_CAP_SET_GUEST_DEBUG2")?;
    let control =
        abi::KVM_GUESTDBG_ENABLE | abi::KVM_GUESTDBG_SINGLESTEP | abi::KVM_GUESTDBG_BLOCKIRQ;
    let debug = abi::kvm_guest_debug { control, ..Default::default() };
    vcpu.set(request::SET_GUEST_DEBUG, &debug)?;
    for cr8 in [0, 5, 3] {
        vcpu.change_sregs(|sregs| sregs.cr8 = cr8)?;
        match vcpu.run()? {
            Exit::Debug { exception: 1, .. } => {}
            exit => bail!("{}", vcpu.describe(&exit)),
        }
        check_eq!(vcpu.sregs()?.cr8, cr8);
    }
    Ok(())
}

/// A guest that sends INIT to the second vCPU, and then a start-up message with page 9.
fn with_init() -> Result<(Vm, Vcpu, Vcpu)> {
    let (vm, first) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x310], 0x1000000", "mov dword ptr [rbx + 0x300], 0x4500",
        "out 0x10, al", "mov dword ptr [rbx + 0x300], 0x4609", "out 0x11, al"
    ))?;
    let second = vm.vcpu(1)?;
    second.start_at(Mode::Long, 0xa000, guest!(64; "out 0x12, al"))?;
    let runs = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
    second.set(request::SET_MP_STATE, &runs)?;
    vm.ram().write_bytes(0x9000, guest!(16; "mov al, 9", "out 0x13, al"))?;
    Ok((vm, first, second))
}

/// INIT ends what KVM writes to the guest's memory, whose next owner knows nothing of it.
fn init() -> Result<()> {
    const RECORDS: [u32; 5] = [0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x4b56_4d06];
    let (vm, mut first, second) = with_init()?;
    let values =
        [mode::BIG_DATA + 1, mode::BIG_DATA + 0x40 + 9, mode::BIG_DATA + 0x81, DATA + 1, 0x77];
    for (msr, value) in RECORDS.into_iter().zip(values) {
        ensure!(second.set_msr(msr, value)?, "MSR {msr:#x} can't be set");
        check_eq!(second.msr(msr)?, Some(value), "MSR {msr:#x}");
    }
    first.expect_out(0x10, &[0])?;
    let activity: abi::kvm_mp_state = second.get(request::GET_MP_STATE)?;
    check_eq!(activity.mp_state, abi::KVM_MP_STATE_INIT_RECEIVED);
    for msr in RECORDS {
        check_eq!(second.msr(msr)?, Some(0), "MSR {msr:#x} after INIT");
    }
    let version = vm.supported_cpuid()?.find(1, 0).map(|leaf| u64::from(leaf.eax));
    check_eq!(Some(second.regs()?.rdx), version, "RDX after INIT");
    Ok(())
}

/// INIT and a start-up message that wait as the state is taken out have been taken at the new place.
fn start() -> Result<()> {
    let (vm, mut first, second) = with_init()?;
    if module::is_kernels_own()? {
        let reason = "the kernel's own modules report the INIT, and have done what it says by then";
        return Err(Skip(reason.into()).into());
    }
    first.expect_out(0x10, &[0])?;
    first.expect_out(0x11, &[0])?;
    let state = State::take(&second, &msr_numbers(vm.kvm())?)?;
    let other = beside(&vm)?;
    let mut moved = other.vcpu(1)?;
    state.put(&moved)?;
    moved.set_limit(Duration::from_secs(3));
    moved.expect_out(0x13, &[9])
}

/// The trap behind an instruction that userspace has served: DR6 tells of it in whatever order registers
/// are looked at.
fn trap() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "pushfq", "or qword ptr [rsp], 0x100", "popfq", "out 0x10, al", "nop", "nop"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    finish(&mut vcpu)?;
    let debug: abi::kvm_debugregs = vcpu.get(request::GET_DEBUGREGS)?;
    check_eq!(debug.dr6 & 0x4000, 0x4000, "DR6 of a step");
    let events = vcpu.events()?;
    check_eq!((events.exception.injected, events.exception.nr), (1, 1));
    let trap = vcpu.expect_trap(1, 0)?;
    check_eq!(trap.rip, CODE + 12, "behind OUT");
    Ok(())
}

/// A vCPU that is sent elsewhere while userspace serves its access forgets the answer.
fn access() -> Result<()> {
    const HOLE: u64 = 0xd000_0000;
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000", "add dword ptr [rbx], 1", "out 0x10, al", "add dword ptr [rbx], 2", "hlt"
    ))?;
    if module::is_kernels_own()? {
        let reason = "the kernel's own modules go on with the old instruction";
        return Err(Skip(reason.into()).into());
    }
    vcpu.expect(&Exit::MmioRead { gpa: HOLE, len: 4 })?;
    vcpu.answer(&[9, 0, 0, 0])?;
    vcpu.change_regs(|regs| regs.rip += 5)?;
    vcpu.expect(&Exit::MmioRead { gpa: HOLE, len: 4 })?;
    vcpu.answer(&[5, 0, 0, 0])?;
    vcpu.expect(&Exit::MmioWrite { gpa: HOLE, data: vec![7, 0, 0, 0] })?;
    vcpu.expect(&Exit::Hlt)
}
