// SPDX-License-Identifier: GPL-2.0
//! Registers that the guest and its host have in turn: what either does to them stays with it.

use std::arch::asm;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;
use std::time::{Duration, Instant};

use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-host-vectors", vectors),
    Case::guest("x86/micro-host-vectors-crowd", vectors_crowd),
    Case::guest("x86/micro-host-xcr0", xcr0),
    Case::guest("x86/micro-host-pkru", pkru),
    Case::guest("x86/micro-host-tsc-aux", tsc_aux),
    Case::guest("x86/micro-host-breakpoint", breakpoint),
];

/// CR4 bits for XSETBV and for protection keys.
const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;

/// An XSAVE area in the standard format, with x87, SSE and AVX.
#[derive(Clone, PartialEq)]
#[repr(C, align(64))]
struct Area([u8; 1024]);

impl Area {
    /// All registers different, from a seed.
    fn pattern(seed: u8) -> Self {
        let mut area = Self([0; 1024]);
        let byte = |at: usize| (at as u8).wrapping_mul(7).wrapping_add(seed);
        area.0[0..2].copy_from_slice(&0x27f_u16.to_le_bytes());
        // Bit 15 of MXCSR: flush to zero.
        area.0[24..28].copy_from_slice(&0x9f80_u32.to_le_bytes());
        // Eight valid x87 registers: a number with a pattern for a mantissa.
        area.0[4] = 0xff;
        for (at, register) in area.0[32..160].chunks_exact_mut(16).enumerate() {
            register[..7].fill(byte(at));
            (register[7], register[8], register[9]) = (0x80, 0xff, 0x3f);
        }
        (160..416).chain(576..832).for_each(|at| area.0[at] = byte(at));
        area.0[512] = 7;
        area
    }

    /// The registers alone: not where the last instruction was, nor what XSAVE adds.
    fn registers(&self) -> [&[u8]; 5] {
        let area = &self.0;
        [&area[0..2], &area[4..5], &area[24..28], &area[32..416], &area[576..832]]
    }
}

/// Enters the guest with the registers of `before`, and gives those afterwards.
fn run_with(vcpu: &Vcpu, before: &Area) -> Result<Area> {
    let mut after = Area([0; 1024]);
    let mut result = libc::SYS_ioctl;
    let (mut mxcsr, mut control) = (0_u32, 0_u16);
    // SAFETY: the areas are long enough for the three components, the ioctl touches no memory of this
    // function, and control registers are put back.
    unsafe {
        asm!(
            "stmxcsr [{mxcsr}]",
            "fnstcw [{control}]",
            "mov r12, rax",
            "mov r13, rdx",
            "mov eax, 7",
            "xor edx, edx",
            "xrstor64 [r8]",
            "mov rax, r12",
            "mov rdx, r13",
            "syscall",
            "mov r12, rax",
            "mov eax, 7",
            "xor edx, edx",
            "xsave64 [r9]",
            "mov rax, r12",
            "fninit",
            "fldcw [{control}]",
            "ldmxcsr [{mxcsr}]",
            mxcsr = in(reg) &raw mut mxcsr,
            control = in(reg) &raw mut control,
            inout("rax") result,
            in("rdi") vcpu.file().as_raw_fd() as i64,
            in("rsi") u64::from(request::RUN),
            inout("rdx") 0_i64 => _,
            in("r8") before, in("r9") &raw mut after,
            out("r12") _, out("r13") _, out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _,
            out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _,
            out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    check_eq!(result, 0, "KVM_RUN");
    Ok(after)
}

fn need_xsave() -> Result<()> {
    if is_x86_feature_detected!("xsave") && is_x86_feature_detected!("avx") {
        return Ok(());
    }
    Err(Skip("the processor has no XSAVE or no AVX".into()).into())
}

/// A guest that compares its registers with those in memory at [`DATA`] and stops; with others it
/// writes to a port.
fn checker(vm: &Vm, registers: &Area) -> Result<Vcpu> {
    let code = guest!(64;
        "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv",
        "xrstor64 [{data}]",
        "2:",
        "mov eax, 7", "xor edx, edx", "xsave64 [{now}]",
        "cld",
        // XMM, then the upper halves of YMM, then x87.
        "mov esi, {data} + 160", "mov edi, {now} + 160", "mov ecx, 64", "repe cmpsd", "jne 3f",
        "mov esi, {data} + 576", "mov edi, {now} + 576", "mov ecx, 64", "repe cmpsd", "jne 3f",
        "mov esi, {data} + 32", "mov edi, {now} + 32", "mov ecx, 32", "repe cmpsd", "jne 3f",
        "mov eax, [{data} + 24]", "cmp eax, [{now} + 24]", "jne 3f",
        "mov ax, [{data}]", "cmp ax, [{now}]", "jne 3f",
        // A while, for others to get the processor.
        "mov ecx, 2000", "4:", "dec ecx", "jnz 4b",
        "hlt", "jmp 2b",
        "3:", "out 0x10, al", "jmp 2b";
        data = DATA, now = DATA + 0x800
    );
    let vcpu = vm.long(code)?;
    vm.ram().write_bytes(DATA, &registers.0)?;
    vcpu.change_sregs(|sregs| sregs.cr4 |= OSXSAVE)?;
    Ok(vcpu)
}

fn check_both(vcpu: &Vcpu, host: &Area, what: &str) -> Result<()> {
    let after = run_with(vcpu, host)?;
    check_eq!(vcpu.exit(), Exit::Hlt, "{what}: the guest's registers");
    ensure!(after.registers() == host.registers(), "{what}: the host's registers changed");
    Ok(())
}

/// x87, SSE and AVX registers.
fn vectors() -> Result<()> {
    need_xsave()?;
    let vm = Vm::new()?;
    let vcpu = checker(&vm, &Area::pattern(0x31))?;
    for round in 0..50 {
        check_both(&vcpu, &Area::pattern(round), "alone")?;
    }
    Ok(())
}

/// The same with more threads than processors, all of them with registers of their own.
fn vectors_crowd() -> Result<()> {
    need_xsave()?;
    let end = Instant::now() + Duration::from_secs(1);
    let one = |number: u8| -> Result<()> {
        let vm = Vm::new()?;
        let vcpu = checker(&vm, &Area::pattern(0x80 | number))?;
        let host = Area::pattern(number);
        while Instant::now() < end {
            check_both(&vcpu, &host, "in a crowd")?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread came to harm"),
        })
    })
}

fn host_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller knows that the processor has XSAVE.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// XCR0.
fn xcr0() -> Result<()> {
    need_xsave()?;
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "xor ecx, ecx", "xor edx, edx", "mov eax, 1", "xsetbv",
        "hlt",
        "xgetbv", "mov ebx, eax",
        "hlt"
    ))?;
    vcpu.change_sregs(|sregs| sregs.cr4 |= OSXSAVE)?;
    let before = host_xcr0();
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(host_xcr0(), before);
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(host_xcr0(), before);
    check_eq!(vcpu.regs()?.rbx, 1, "the guest's");
    Ok(())
}

fn read_pkru() -> u32 {
    let value;
    // SAFETY: the caller knows that the kernel turned protection keys on.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _, options(nomem, nostack)) };
    value
}

fn write_pkru(value: u32) {
    // SAFETY: as above; no memory has a key other than 0, whose rights stay.
    unsafe { asm!("wrpkru", in("ecx") 0, in("eax") value & !3, in("edx") 0, options(nostack)) };
}

/// Rights of protection keys.
fn pkru() -> Result<()> {
    let vm = Vm::new()?;
    const OSPKE: u32 = 1 << 4;
    // SAFETY: every 64-bit processor has CPUID.
    let leaf = unsafe { std::arch::x86_64::__cpuid_count(7, 0) };
    if leaf.ecx & OSPKE == 0 {
        return Err(Skip("the processor has no protection keys".into()).into());
    }
    let mut vcpu = vm.long(guest!(64;
        "xor ecx, ecx", "xor edx, edx", "mov eax, 0x12345678", "wrpkru",
        "hlt",
        "rdpkru", "mov ebx, eax",
        "hlt"
    ))?;
    vcpu.change_sregs(|sregs| sregs.cr4 |= PKE)?;
    let before = read_pkru();
    let result = (|| -> Result<()> {
        for value in [0x5555_5550, 0] {
            write_pkru(value);
            vcpu.expect(&Exit::Hlt)?;
            check_eq!(read_pkru(), value);
        }
        check_eq!(vcpu.regs()?.rbx, 0x1234_5678, "the guest's");
        Ok(())
    })();
    write_pkru(before);
    result
}

/// What RDTSCP tells of the processor.
fn tsc_aux() -> Result<()> {
    let vm = Vm::new()?;
    const RDTSCP: u32 = 1 << 27;
    if vm.supported_cpuid()?.find(0x8000_0001, 0).is_none_or(|leaf| leaf.edx & RDTSCP == 0) {
        return Err(Skip("guests have no RDTSCP".into()).into());
    }
    let mut vcpu = vm.long(guest!(64;
        "mov ecx, 0xc0000103", "xor edx, edx", "mov eax, 0x12345678", "wrmsr",
        "hlt",
        "rdtscp", "mov ebx, ecx",
        "hlt"
    ))?;
    for _ in 0..2 {
        vcpu.expect(&Exit::Hlt)?;
        let aux: u32;
        // SAFETY: the processor has the instruction.
        unsafe {
            asm!("rdtscp", out("eax") _, out("edx") _, out("ecx") aux, options(nomem, nostack))
        };
        // The number of the processor and, above it, of its node.
        ensure!(aux != 0x1234_5678 && aux & 0xfff < 64, "TSC_AUX is {aux:x}");
    }
    check_eq!(vcpu.regs()?.rbx, 0x1234_5678, "the guest's");
    Ok(())
}

/// A breakpoint of the host's on a variable, and one of the guest's.
fn breakpoint() -> Result<()> {
    let mut variable = 0_u64;
    let mut hits = Watch::new(&raw mut variable)?;
    let touch = |at: *mut u64| {
        (0..5).for_each(|n| {
            // SAFETY: it is a variable of this function.
            unsafe { at.write_volatile(n) };
        })
    };
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        // On writes of eight bytes at DATA, and at the host's variable.
        "mov eax, {data}", "mov dr0, rax", "mov dr1, rbx",
        "mov eax, 0x00990705", "mov dr7, rax",
        "mov qword ptr [{other}], 1",
        "hlt",
        "mov rcx, dr0", "mov rdx, dr7",
        "hlt";
        data = DATA, other = DATA + 64
    ))?;
    vcpu.change_regs(|regs| regs.rbx = (&raw const variable) as u64)?;
    touch(&raw mut variable);
    check_eq!(hits.count()?, 5, "before the guest");
    vcpu.expect(&Exit::Hlt)?;
    touch(&raw mut variable);
    check_eq!(hits.count()?, 10, "after the guest");
    vcpu.expect(&Exit::Hlt)?;
    touch(&raw mut variable);
    check_eq!(hits.count()?, 15, "after it ran again");
    let regs = vcpu.regs()?;
    check_eq!((regs.rcx, regs.rdx & 0xffff_0000), (DATA, 0x0099_0000), "the guest's");
    Ok(())
}

/// Counts writes of this thread to a variable, by a breakpoint of the processor's.
struct Watch(std::fs::File);

impl Watch {
    fn new(at: *mut u64) -> Result<Self> {
        const BREAKPOINT: u64 = 5;
        const SIZE: u64 = 72;
        const EXCLUDE_KERNEL: u64 = 1 << 5;
        const ON_WRITE: u64 = 2;
        // struct perf_event_attr.
        let mut attributes = [0_u64; 9];
        attributes[0] = BREAKPOINT | SIZE << 32;
        attributes[5] = EXCLUDE_KERNEL;
        attributes[6] = ON_WRITE << 32;
        attributes[7] = at as u64;
        attributes[8] = 8;
        // SAFETY: the attributes are as long as they say.
        let fd =
            unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
        Errno::result(fd).context("perf_event_open")?;
        // SAFETY: a new descriptor.
        Ok(Self(unsafe { std::fs::File::from_raw_fd(fd as i32) }))
    }

    fn count(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes).context("reading a counter")?;
        Ok(u64::from_le_bytes(bytes))
    }
}
