// SPDX-License-Identifier: GPL-2.0
//! A busy guest whose state moves to another VM at random moments, as a VMM that migrates it does, again
//! and again: nothing is lost and nothing comes twice.
//!
//! The guest itself keeps count of what it asked for and what came: interrupts and NMIs that it sends to
//! itself, SMIs, ends by memory, deadlines, the counting timer, steps, ports and memory of the VMM's, and
//! interrupts to and from other vCPUs. It waits for each, spinning or halted, so what is lost stops it; and
//! reports by `out 0xe8` what came too often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::pthread::{pthread_kill, pthread_self};

use super::super::deadline::KICK;
use super::super::state::{State, msr_numbers};
use super::super::vcpu::{REPORT, Vcpu};
use super::super::vm::RAM_SIZE;
use super::save::with_deadline;
use super::*;
use crate::{module, processor};

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-move-one", one),
    Case::guest("x86/micro-move-two", two),
    Case::guest("x86/micro-move-started", started),
    Case::guest("x86/micro-move-smm", smm),
];

/// Moves of one case, and rounds of the guest that there have to be in the end.
const MOVES: u32 = 120;
const ROUNDS: u64 = 10;

/// Counters in the guest's memory, eight bytes each.
mod at {
    use super::super::mode::DATA;

    pub(super) const ROUNDS: u64 = DATA;
    pub(super) const IPIS: u64 = DATA + 0x08;
    pub(super) const NMIS: u64 = DATA + 0x10;
    pub(super) const DEADLINES: u64 = DATA + 0x18;
    /// The counting timer is to go off.
    pub(super) const ARMED: u64 = DATA + 0x20;
    pub(super) const TICKS: u64 = DATA + 0x28;
    pub(super) const STEPS: u64 = DATA + 0x30;
    /// Pings that came to the second vCPU, and answers that came to the first.
    pub(super) const PINGS: u64 = DATA + 0x38;
    pub(super) const PONGS: u64 = DATA + 0x40;
    /// Starts of the third vCPU.
    pub(super) const STARTS: u64 = DATA + 0x48;
    /// System-management interrupts.
    pub(super) const SMIS: u64 = DATA + 0x50;
    /// The words for ends of interrupts without an exit.
    pub(super) const EOI: u64 = DATA + 0x100;
    pub(super) const OTHER_EOI: u64 = DATA + 0x140;
}

const PV_EOI: u32 = 0x4b56_4d04;
const HOLE: u64 = 0xd000_0000;
/// Where the second vCPU's code is, and the page of the third one's.
const SECOND: u64 = 0xa000;
const THIRD: u64 = 0x9000;
/// Where SMIs lead after reset.
const SMI_ENTRY: u64 = 0x3_8000;

/// What vCPU 0 does besides, in R12.
mod also {
    /// Send interrupts to the second vCPU, which answers.
    pub(super) const PING: u64 = 1;
    /// Start the third.
    pub(super) const START: u64 = 2;
    /// Send itself SMIs.
    pub(super) const SMI: u64 = 4;
}

/// What the VMM's devices hold.
#[derive(Default)]
struct Devices {
    /// Reads of the first register so far.
    reads: u32,
    /// What the second one got last.
    written: u32,
    /// The third one, which is read and written.
    register: u32,
    /// Bytes that port 0x70 got.
    bytes: u8,
}

impl Devices {
    /// Serves an exit.
    fn serve(&mut self, vcpu: &mut Vcpu, exit: &Exit) -> Result<()> {
        match exit {
            Exit::MmioRead { gpa: HOLE, len: 4 } => {
                self.reads += 1;
                vcpu.answer(&self.reads.to_le_bytes())
            }
            Exit::MmioRead { gpa, len: 4 } if *gpa == HOLE + 8 => {
                vcpu.answer(&self.register.to_le_bytes())
            }
            Exit::MmioWrite { gpa, data } if data.len() == 4 => {
                let value = u32::from_le_bytes(data.as_slice().try_into()?);
                let place = if *gpa == HOLE + 4 { &mut self.written } else { &mut self.register };
                check_eq!(value, *place + 1, "written to {gpa:#x}");
                *place = value;
                Ok(())
            }
            Exit::Out { port: 0x70, data, .. } => {
                check_eq!(data.as_slice(), [self.bytes.wrapping_add(1)], "written to the port");
                self.bytes = data[0];
                Ok(())
            }
            Exit::In { port: 0x71, size: 1, count: 1 } => vcpu.answer(&[self.bytes]),
            Exit::Out { port: REPORT, data, .. } => {
                let counters = (0..11).map(|index| vcpu.ram().read(at::ROUNDS + 8 * index));
                let counters = counters.collect::<Result<Vec<u64>>>()?;
                bail!("fault {}; rounds, …: {counters:?}; {}", data[0], vcpu.place())
            }
            exit => bail!("{}", vcpu.describe(exit)),
        }
    }
}

/// The code of vCPU 0. R14: the local APIC. R8: cycles of a deadline, R9: count of the timer. RBX, R10,
/// R11: reads, writes and bytes so far. EBP: what is wrong.
fn first_code() -> &'static [u8] {
    guest!(64;
        "mov r14d, 0xfee00000", "mov dword ptr [r14 + 0xf0], 0x1ff", "mov dword ptr [r14 + 0x3e0], 0xb",
        "mov dword ptr [r14 + 0x310], 0", "mov edi, 0xd0000000",
        "mov ecx, {pv_eoi}", "mov eax, {eoi} + 1", "xor edx, edx", "wrmsr", "sti",
        "2:",
        // An interrupt to itself.
        "mov rsi, [{ipis}]", "inc rsi", "mov dword ptr [r14 + 0x300], 0x44041",
        "3:", "pause", "cmp [{ipis}], rsi", "jb 3b", "mov ebp, 1", "jne 9f",
        // An NMI to itself.
        "mov rsi, [{nmis}]", "inc rsi", "mov dword ptr [r14 + 0x300], 0x4400",
        "3:", "pause", "cmp [{nmis}], rsi", "jb 3b", "mov ebp, 2", "jne 9f",
        // Both at once, with interrupts off.
        "cli", "mov dword ptr [r14 + 0x300], 0x44041", "mov dword ptr [r14 + 0x300], 0x4400", "inc rsi",
        "mov rax, [{ipis}]", "inc rax", "sti",
        "3:", "pause", "cmp [{nmis}], rsi", "jb 3b", "cmp [{ipis}], rax", "jb 3b",
        "mov ebp, 3", "cmp [{nmis}], rsi", "jne 9f", "cmp [{ipis}], rax", "jne 9f",
        // A deadline.
        "mov dword ptr [r14 + 0x320], 0x40050", "mfence", "mov rsi, [{deadlines}]", "inc rsi",
        "mov ecx, 0x6e0", "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, r8", "mov rdx, rax",
        "shr rdx, 32", "wrmsr",
        "cli", "3:", "cmp [{deadlines}], rsi", "jae 4f", "sti", "hlt", "cli", "jmp 3b", "4:", "sti",
        "mov ebp, 4", "jne 9f",
        // One that is waited for without HLT.
        "inc rsi", "rdtsc", "shl rdx, 32", "or rax, rdx", "add rax, r8", "mov rdx, rax",
        "shr rdx, 32", "wrmsr",
        "3:", "pause", "cmp [{deadlines}], rsi", "jb 3b", "mov ebp, 5", "jne 9f",
        // The timer, once, and again and again.
        "mov qword ptr [{armed}], 1", "mov dword ptr [r14 + 0x320], 0x51", "mov [r14 + 0x380], r9d",
        "cli", "3:", "cmp qword ptr [{armed}], 0", "je 4f", "sti", "hlt", "cli", "jmp 3b", "4:", "sti",
        "mov dword ptr [r14 + 0x320], 0x20051", "mov [r14 + 0x380], r9d",
        "mov rsi, [{ticks}]", "add rsi, 2",
        "3:", "pause", "cmp [{ticks}], rsi", "jb 3b", "mov dword ptr [r14 + 0x380], 0",
        // Steps, of which the first is that behind POPF.
        "mov rsi, [{steps}]", "pushfq", "pushfq", "or qword ptr [rsp], 0x100", "popfq",
        "nop", "xor eax, eax", "mov edx, 7", "in al, 0x71", "nop", "popfq",
        "sub rsi, [{steps}]", "mov ebp, 6", "cmp rsi, -6", "jne 9f",
        "mov ebp, 7", "cmp al, r11b", "jne 9f",
        // The VMM's memory and ports.
        "mov eax, [rdi]", "inc ebx", "mov ebp, 8", "cmp eax, ebx", "jne 9f",
        "inc r10d", "mov [rdi + 4], r10d", "add dword ptr [rdi + 8], 1",
        "inc r11d", "mov eax, r11d", "out 0x70, al",
        // The second vCPU, which answers.
        "test r12d, 1", "jz 5f", "mov rsi, [{pongs}]", "inc rsi",
        "mov dword ptr [r14 + 0x310], 0x1000000", "mov dword ptr [r14 + 0x300], 0x4042",
        "cli", "3:", "cmp [{pongs}], rsi", "jae 4f", "sti", "hlt", "cli", "jmp 3b", "4:", "sti",
        "mov ebp, 9", "jne 9f", "mov ebp, 10", "cmp [{pings}], rsi", "jne 9f",
        // The third, which is started.
        "5:", "test r12d, 2", "jz 6f", "mov rsi, [{starts}]", "inc rsi",
        "mov dword ptr [r14 + 0x310], 0x2000000", "mov dword ptr [r14 + 0x300], 0x4500",
        "mov dword ptr [r14 + 0x300], 0x4609",
        "3:", "pause", "cmp [{starts}], rsi", "jb 3b", "mov ebp, 11", "jne 9f",
        // An SMI to itself.
        "6:", "mov dword ptr [r14 + 0x310], 0", "test r12d, 4", "jz 7f",
        "mov rsi, [{smis}]", "inc rsi", "mov dword ptr [r14 + 0x300], 0x4200",
        "3:", "pause", "cmp [{smis}], rsi", "jb 3b", "mov ebp, 12", "jne 9f",
        "7:", "inc qword ptr [{rounds}]", "jmp 2b",
        "9:", "mov eax, ebp", "out 0xe8, eax", "jmp 9b";
        pv_eoi = PV_EOI, eoi = at::EOI, ipis = at::IPIS, nmis = at::NMIS, deadlines = at::DEADLINES,
        armed = at::ARMED, ticks = at::TICKS, steps = at::STEPS, pings = at::PINGS, pongs = at::PONGS,
        starts = at::STARTS, smis = at::SMIS, rounds = at::ROUNDS
    )
}

/// Handlers of the first vCPU, and the code and handler of the second.
fn write_code(vm: &Vm, first: &Vcpu) -> Result<()> {
    let count = |vector, code| first.handle(vector, code);
    count(1, guest!(64; "inc qword ptr [{steps}]", "iretq"; steps = at::STEPS))?;
    count(2, guest!(64; "inc qword ptr [{nmis}]", "iretq"; nmis = at::NMIS))?;
    count(
        0x41,
        guest!(64;
            "inc qword ptr [{ipis}]", "btr dword ptr [{eoi}], 0", "jc 2f",
            "mov dword ptr [r14 + 0xb0], 0", "2:", "iretq"; ipis = at::IPIS, eoi = at::EOI
        ),
    )?;
    count(
        0x50,
        guest!(64;
            "inc qword ptr [{deadlines}]", "btr dword ptr [{eoi}], 0", "jc 2f",
            "mov dword ptr [r14 + 0xb0], 0", "2:", "iretq"; deadlines = at::DEADLINES, eoi = at::EOI
        ),
    )?;
    count(
        0x51,
        guest!(64;
            "inc qword ptr [{ticks}]", "mov qword ptr [{armed}], 0", "btr dword ptr [{eoi}], 0", "jc 2f",
            "mov dword ptr [r14 + 0xb0], 0", "2:", "iretq";
            ticks = at::TICKS, armed = at::ARMED, eoi = at::EOI
        ),
    )?;
    count(
        0x43,
        guest!(64;
            "inc qword ptr [{pongs}]", "btr dword ptr [{eoi}], 0", "jc 2f",
            "mov dword ptr [r14 + 0xb0], 0", "2:", "iretq"; pongs = at::PONGS, eoi = at::EOI
        ),
    )?;
    count(
        0x42,
        guest!(64;
            "inc qword ptr [{pings}]", "btr dword ptr [{eoi}], 0", "jc 2f",
            "mov dword ptr [r14 + 0xb0], 0",
            "2:", "mov dword ptr [r14 + 0x310], 0", "mov dword ptr [r14 + 0x300], 0x4043", "iretq";
            pings = at::PINGS, eoi = at::OTHER_EOI
        ),
    )?;
    let third = guest!(16; "inc dword ptr [{starts}]", "2:", "hlt", "jmp 2b"; starts = at::STARTS);
    vm.ram().write_bytes(THIRD, third)?;
    let smi = guest!(16;
        "inc dword ptr [{smis}]", "mov cx, 200", "2:", "dec cx", "jnz 2b", "rsm"; smis = at::SMIS
    );
    vm.ram().write_bytes(SMI_ENTRY, smi)
}

/// Another VM with this memory, in both address spaces if there are two.
fn with_memory(ram: &Arc<Ram>) -> Result<Vm> {
    let vm = Vm::with_ram(ram.clone())?;
    vm.create_irqchip()?;
    if vm.capability(abi::KVM_CAP_MULTI_ADDRESS_SPACE)? > 1 {
        vm.set_slot(&vm.slot(1 << 16, 0, ram)).context("a slot of the second address space")?;
    }
    Ok(vm)
}

/// A guest with so many vCPUs, the first of which does `also` besides the rest.
struct Guest {
    vm: Vm,
    vcpus: Vec<Vcpu>,
    devices: Devices,
    msrs: Vec<u32>,
}

impl Guest {
    fn new(vcpus: u32, also: u64) -> Result<Self> {
        let vm = with_memory(&Arc::new(Ram::new(RAM_SIZE)?))?;
        vm.need(abi::KVM_CAP_SREGS2, "KVM_CAP_SREGS2")?;
        if also & also::SMI != 0 {
            vm.need(abi::KVM_CAP_X86_SMM, "KVM_CAP_X86_SMM")?;
        }
        let msrs = msr_numbers(vm.kvm())?;
        let vcpus = (0..vcpus).map(|id| with_deadline(&vm, id)).collect::<Result<Vec<_>>>()?;
        for vcpu in &vcpus {
            match vcpu.id() {
                0 => {
                    vcpu.start(Mode::Long, first_code())?;
                    // 0.3 ms.
                    let khz = request::call(vcpu.file(), request::GET_TSC_KHZ, 0)? as u64;
                    vcpu.change_regs(|regs| {
                        (regs.r8, regs.r9, regs.r12) = (khz * 3 / 10, 300_000, also);
                    })?;
                }
                1 => {
                    let code = guest!(64;
                        "mov r14d, 0xfee00000", "mov dword ptr [r14 + 0xf0], 0x1ff",
                        "mov ecx, {pv_eoi}", "mov eax, {eoi} + 1", "xor edx, edx", "wrmsr",
                        "2:", "sti", "hlt", "jmp 2b"; pv_eoi = PV_EOI, eoi = at::OTHER_EOI
                    );
                    vcpu.start_at(Mode::Long, SECOND, code)?;
                    let runs = abi::kvm_mp_state { mp_state: abi::KVM_MP_STATE_RUNNABLE };
                    vcpu.set(request::SET_MP_STATE, &runs)?;
                }
                _ => {}
            }
        }
        if let Some(vcpu) = vcpus.first() {
            write_code(&vm, vcpu)?;
        }
        Ok(Self { vm, vcpus, devices: Devices::default(), msrs })
    }

    /// Runs all vCPUs until a while has passed and they are through with what userspace serves.
    fn run(&mut self, wait: Duration) -> Result<()> {
        let stop = AtomicBool::new(false);
        let devices = &mut self.devices;
        thread::scope(|scope| {
            let mut devices = Some(devices);
            let (names, named) = mpsc::channel();
            let runners: Vec<_> = self
                .vcpus
                .iter_mut()
                .map(|vcpu| {
                    let (devices, stop, names) = (devices.take(), &stop, names.clone());
                    scope.spawn(move || {
                        names.send(pthread_self()).context("nobody waits for the thread")?;
                        run_one(vcpu, devices, stop)
                    })
                })
                .collect();
            let threads: Vec<_> = named.iter().take(runners.len()).collect();
            thread::sleep(wait);
            stop.store(true, Ordering::Relaxed);
            while runners.iter().any(|runner| !runner.is_finished()) {
                for thread in &threads {
                    // It may have ended meanwhile.
                    let _ = pthread_kill(*thread, KICK);
                }
                thread::sleep(Duration::from_micros(100));
            }
            runners.into_iter().try_for_each(|runner| match runner.join() {
                Ok(result) => result,
                Err(_) => bail!("a vCPU's thread came to harm"),
            })
        })
    }

    /// Where it is, for messages.
    fn place(&self) -> String {
        let counters = (0..11).map(|index| self.vm.ram().read(at::ROUNDS + 8 * index));
        let counters = counters.collect::<Result<Vec<u64>>>();
        let places = self.vcpus.iter().map(Vcpu::place).collect::<Vec<_>>();
        format!("rounds, …: {counters:?}; {}", places.join("; "))
    }

    /// Goes on in another VM.
    fn moves(&mut self) -> Result<()> {
        let states: Vec<_> =
            self.vcpus.iter().map(|vcpu| State::take(vcpu, &self.msrs)).collect::<Result<_>>()?;
        let vm = with_memory(self.vm.ram())?;
        let ids = 0..self.vcpus.len() as u32;
        let vcpus = ids.map(|id| with_deadline(&vm, id)).collect::<Result<Vec<_>>>()?;
        for (vcpu, state) in vcpus.iter().zip(&states) {
            state.put(vcpu)?;
        }
        self.vcpus = vcpus;
        self.vm = vm;
        Ok(())
    }
}

/// Runs a vCPU until it is to stop and has nothing left that userspace has served.
fn run_one(vcpu: &mut Vcpu, mut devices: Option<&mut Devices>, stop: &AtomicBool) -> Result<()> {
    let mut is_over = false;
    vcpu.run_page().immediate_exit = 0;
    loop {
        match vcpu.try_run()? {
            Ok(exit) => match &mut devices {
                Some(devices) => devices.serve(vcpu, &exit)?,
                None => bail!("{}", vcpu.describe(&exit)),
            },
            Err(Errno::EINTR) if is_over => return Ok(()),
            Err(Errno::EINTR) => {
                is_over = stop.load(Ordering::Relaxed);
                vcpu.run_page().immediate_exit = is_over.into();
            }
            // It was started.
            Err(Errno::EAGAIN) => {}
            Err(error) => bail!("KVM_RUN fails with {error:?}; {}", vcpu.place()),
        }
    }
}

/// Moves a guest of so many vCPUs from VM to VM.
fn move_often(vcpus: u32, also: u64) -> Result<()> {
    /// Longest that a round of the guest takes, on a slow host.
    const PATIENCE: Duration = Duration::from_secs(60);
    if module::is_kernels_own()? && processor::is_tcg()? {
        let reason =
            "the kernel's own modules give up at an access to a device there: why isn't known";
        return Err(Skip(reason.into()).into());
    }
    let mut guest = Guest::new(vcpus, also)?;
    let (mut rounds, mut since) = (0, Instant::now());
    let mut random = 12345u32;
    let mut moves = 0;
    // A processor that is slow to begin gets the more time the longer nothing comes of it.
    let mut longest = 2000;
    while moves < MOVES || rounds < ROUNDS {
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
        let wait = Duration::from_micros(u64::from(random >> 16) % longest);
        guest.run(wait).with_context(|| format!("after {moves} moves"))?;
        let now = guest.vm.ram().read::<u64>(at::ROUNDS)?;
        longest += 500;
        if now != rounds {
            (rounds, since, longest) = (now, Instant::now(), 2000);
        }
        if since.elapsed() > PATIENCE {
            bail!("after {moves} moves the guest stands still; {}", guest.place());
        }
        guest.moves().with_context(|| format!("move {moves}"))?;
        moves += 1;
    }
    Ok(())
}

/// One vCPU.
fn one() -> Result<()> {
    move_often(1, 0)
}

/// Two that send each other interrupts.
fn two() -> Result<()> {
    move_often(2, also::PING)
}

/// One that is in system-management mode now and then.
fn smm() -> Result<()> {
    move_often(1, also::SMI)
}

/// A third that is started again and again.
fn started() -> Result<()> {
    if module::is_kernels_own()? {
        let reason = "the kernel's own modules report an INIT, and have done what it says by then";
        return Err(Skip(reason.into()).into());
    }
    move_often(3, also::PING | also::START)
}
