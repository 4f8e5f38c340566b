// SPDX-License-Identifier: GPL-2.0
//! Accesses to memory that isn't there, which go to the VMM.

use super::super::mode::BIG_DATA;
use super::super::vcpu::Vcpu;
use super::super::vm::RAM_SIZE;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-mmio-write", write),
    Case::guest("x86/micro-mmio-read", read),
    Case::guest("x86/micro-mmio-modes", modes),
    Case::guest("x86/micro-mmio-split", split),
    Case::guest("x86/micro-mmio-modify", modify),
    Case::guest("x86/micro-mmio-string", string),
    Case::guest("x86/micro-mmio-vector", vector),
    Case::guest("x86/micro-mmio-fetch", fetch),
    Case::guest("x86/micro-mmio-unknown", unknown),
];

/// An address where nothing is.
const HOLE: u64 = 0xd000_0000;

fn expect_write(vcpu: &mut Vcpu, gpa: u64, data: &[u8]) -> Result<()> {
    vcpu.expect(&Exit::MmioWrite { gpa, data: data.to_vec() })
}

fn expect_read(vcpu: &mut Vcpu, gpa: u64, data: &[u8]) -> Result<()> {
    vcpu.expect(&Exit::MmioRead { gpa, len: data.len() as u32 })?;
    vcpu.answer(data)
}

const BYTES: [u8; 8] = [0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8];

/// Writes of every size, each address twice: the second finds what the first left in the tables.
fn write() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov rax, 0xf8e7d6c5b4a39281", "mov ebx, 0xd0000000", "mov ecx, 2",
        "2:",
        "mov [rbx], al", "mov [rbx + 2], ax", "mov [rbx + 4], eax", "mov [rbx + 8], rax",
        "mov byte ptr [rbx + 3], 0x55", "mov dword ptr [rbx + 0x10], 0x12345678",
        "mov [rbx + 1], ah",
        "dec ecx", "jnz 2b",
        "hlt"
    ))?;
    for _ in 0..2 {
        for (offset, size) in [(0, 1), (2, 2), (4, 4), (8, 8)] {
            expect_write(&mut vcpu, HOLE + offset, &BYTES[..size])?;
        }
        expect_write(&mut vcpu, HOLE + 3, &[0x55])?;
        expect_write(&mut vcpu, HOLE + 0x10, &[0x78, 0x56, 0x34, 0x12])?;
        expect_write(&mut vcpu, HOLE + 1, &[0x92])?;
    }
    vcpu.expect(&Exit::Hlt)
}

/// Reads of every size, plain and extended.
fn read() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000",
        "mov r8, -1", "mov r8b, [rbx]",
        "mov r9, -1", "mov r9w, [rbx + 2]",
        "mov r10, -1", "mov r10d, [rbx + 4]",
        "mov r11, [rbx + 8]",
        "movzx r12, word ptr [rbx]",
        "movsx r13d, byte ptr [rbx]",
        "movsxd r14, dword ptr [rbx]",
        "cmp dword ptr [rbx], 0x12345678", "sete al", "movzx r15, al",
        "hlt"
    ))?;
    for (offset, size) in [(0, 1), (2, 2), (4, 4), (8, 8), (0, 2), (0, 1), (0, 4)] {
        expect_read(&mut vcpu, HOLE + offset, &BYTES[..size])?;
    }
    expect_read(&mut vcpu, HOLE, &[0x78, 0x56, 0x34, 0x12])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!(regs.r8, 0xffff_ffff_ffff_ff81);
    check_eq!(regs.r9, 0xffff_ffff_ffff_9281);
    check_eq!(regs.r10, 0xb4a3_9281);
    check_eq!(regs.r11, 0xf8e7_d6c5_b4a3_9281);
    check_eq!(regs.r12, 0x9281);
    check_eq!(regs.r13, 0xffff_ff81);
    check_eq!(regs.r14, 0xffff_ffff_b4a3_9281);
    check_eq!(regs.r15, 1);
    Ok(())
}

/// The other modes reach the hole as well; real mode one below 1 MiB.
fn modes() -> Result<()> {
    for mode in [Mode::Flat, Mode::Paged, Mode::Pae] {
        let vm = Vm::new()?;
        let mut vcpu = vm.vcpu(0)?;
        vcpu.start(mode, guest!(32;
            "mov ebx, 0xd0000000", "mov eax, 0xb4a39281", "mov [ebx], eax", "mov cx, [ebx + 6]", "hlt"
        ))?;
        expect_write(&mut vcpu, HOLE, &BYTES[..4]).with_context(|| format!("{mode:?}"))?;
        expect_read(&mut vcpu, HOLE + 6, &[1, 2]).with_context(|| format!("{mode:?}"))?;
        vcpu.expect(&Exit::Hlt)?;
        check_eq!(vcpu.regs()?.rcx, 0x201, "{mode:?}");
    }
    let vm = Vm::new()?;
    // All memory but for its first 64 KiB goes away.
    vm.set_slot(&abi::kvm_userspace_memory_region { memory_size: 0, ..vm.slot(0, 0, vm.ram()) })?;
    vm.set_slot(&abi::kvm_userspace_memory_region {
        memory_size: 0x1_0000,
        ..vm.slot(0, 0, vm.ram())
    })?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Real, guest!(16;
        "mov ax, 0xb800", "mov es, ax", "mov ax, 0x9281", "mov es:[0x10], ax", "mov cl, es:[0x20]",
        "hlt"
    ))?;
    expect_write(&mut vcpu, 0xb_8010, &BYTES[..2])?;
    expect_read(&mut vcpu, 0xb_8020, &[0x77])?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rcx & 0xff, 0x77);
    Ok(())
}

/// Accesses that lie in two pages come in two pieces; where memory ends, only one of them does.
fn split() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov rax, 0xf8e7d6c5b4a39281",
        "mov ebx, 0xd0000ffd", "mov [rbx], rax", "mov rcx, [rbx]",
        "mov ebx, {end} - 3", "mov [rbx], rax", "mov rdx, [rbx]",
        "hlt";
        end = RAM_SIZE
    ))?;
    expect_write(&mut vcpu, HOLE + 0xffd, &BYTES[..3])?;
    expect_write(&mut vcpu, HOLE + 0x1000, &BYTES[3..])?;
    expect_read(&mut vcpu, HOLE + 0xffd, &[1, 2, 3])?;
    expect_read(&mut vcpu, HOLE + 0x1000, &[4, 5, 6, 7, 8])?;
    let end = RAM_SIZE as u64;
    expect_write(&mut vcpu, end, &BYTES[3..])?;
    check_eq!(vm.ram().read_bytes(end - 3, 3)?, &BYTES[..3], "the part that is memory");
    expect_read(&mut vcpu, end, &[4, 5, 6, 7, 8])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!(regs.rcx, 0x0807_0605_0403_0201);
    check_eq!(regs.rdx, 0x0807_0605_04a3_9281);
    Ok(())
}

/// Instructions that read and write: two exits and the right result.
fn modify() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000", "mov eax, 0x11",
        "add [rbx], eax",
        "xchg [rbx + 4], ax",
        "mov r8, rax",
        "lock or dword ptr [rbx + 8], 0x100",
        "mov eax, 5", "mov ecx, 9", "cmpxchg [rbx + 12], ecx", "sete r9b",
        "bts dword ptr [rbx + 16], 3", "setc r10b",
        "not byte ptr [rbx + 20]",
        "shl word ptr [rbx + 24], 2",
        "hlt"
    ))?;
    let number = |value: u32| value.to_le_bytes();
    expect_read(&mut vcpu, HOLE, &number(0x1000))?;
    expect_write(&mut vcpu, HOLE, &number(0x1011))?;
    expect_read(&mut vcpu, HOLE + 4, &[0x34, 0x12])?;
    expect_write(&mut vcpu, HOLE + 4, &[0x11, 0])?;
    expect_read(&mut vcpu, HOLE + 8, &number(2))?;
    expect_write(&mut vcpu, HOLE + 8, &number(0x102))?;
    expect_read(&mut vcpu, HOLE + 12, &number(5))?;
    expect_write(&mut vcpu, HOLE + 12, &number(9))?;
    expect_read(&mut vcpu, HOLE + 16, &number(8))?;
    expect_write(&mut vcpu, HOLE + 16, &number(8))?;
    expect_read(&mut vcpu, HOLE + 20, &[0x0f])?;
    expect_write(&mut vcpu, HOLE + 20, &[0xf0])?;
    expect_read(&mut vcpu, HOLE + 24, &[0x81, 0x40])?;
    expect_write(&mut vcpu, HOLE + 24, &[0x04, 0x02])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.r8, regs.r9 & 0xff, regs.r10 & 0xff), (0x1234, 1, 1));
    Ok(())
}

/// String instructions from, to, and within the hole.
fn string() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov esi, 0xd0000000", "mov edi, {data}", "mov ecx, 3", "rep movsd",
        "mov esi, {data}", "mov edi, 0xd0000100", "mov ecx, 2", "rep movsw",
        "mov edi, 0xd0000200", "mov eax, 0x5a", "mov ecx, 3", "rep stosb",
        "mov esi, 0xd0000300", "mov edi, 0xd0000400", "movsq",
        "mov esi, 0xd0000500", "lodsw", "mov r8, rax",
        "mov edi, 0xd0000600", "mov al, 7", "mov ecx, 4", "repne scasb",
        "hlt";
        data = BIG_DATA
    ))?;
    for (index, value) in [(0, 0x1111_2222u32), (1, 0x3333_4444), (2, 0x5555_6666)] {
        expect_read(&mut vcpu, HOLE + 4 * index, &value.to_le_bytes())?;
    }
    expect_write(&mut vcpu, HOLE + 0x100, &[0x22, 0x22])?;
    check_eq!(vm.ram().read::<u32>(BIG_DATA + 8)?, 0x5555_6666);
    expect_write(&mut vcpu, HOLE + 0x102, &[0x11, 0x11])?;
    for index in 0..3 {
        expect_write(&mut vcpu, HOLE + 0x200 + index, &[0x5a])?;
    }
    expect_read(&mut vcpu, HOLE + 0x300, &BYTES)?;
    expect_write(&mut vcpu, HOLE + 0x400, &BYTES)?;
    expect_read(&mut vcpu, HOLE + 0x500, &[0x34, 0x12])?;
    expect_read(&mut vcpu, HOLE + 0x600, &[6])?;
    expect_read(&mut vcpu, HOLE + 0x601, &[7])?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.r8, regs.rcx, regs.rdi), (0x1234, 2, HOLE + 0x602));
    Ok(())
}

/// 16-byte moves come in pieces of 8.
fn vector() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xd0000000", "mov esi, {data}",
        "movdqu xmm3, [rsi]", "movdqu [rbx + 0x10], xmm3",
        "movups xmm4, [rbx + 0x20]", "movdqu [rsi + 16], xmm4",
        "hlt";
        data = DATA
    ))?;
    let data: Vec<u8> = (1..=16).collect();
    vm.ram().write_bytes(DATA, &data)?;
    expect_write(&mut vcpu, HOLE + 0x10, &data[..8])?;
    expect_write(&mut vcpu, HOLE + 0x18, &data[8..])?;
    let answer: Vec<u8> = (0x81..=0x90).collect();
    expect_read(&mut vcpu, HOLE + 0x20, &answer[..8])?;
    expect_read(&mut vcpu, HOLE + 0x28, &answer[8..])?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vm.ram().read_bytes(DATA + 16, 16)?, answer);
    Ok(())
}

/// A guest that jumps to where nothing is can't go on.
fn fetch() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64; "mov eax, 0xd0000000", "jmp rax"))?;
    match vcpu.run()? {
        Exit::Internal { suberror: abi::KVM_INTERNAL_ERROR_EMULATION, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    check_eq!(vcpu.regs()?.rip, HOLE);
    Ok(())
}

/// An instruction that nobody emulates: user mode gets #UD, the guest's kernel stops with the code told,
/// and so does user mode if the VMM wants that.
fn unknown() -> Result<()> {
    // FLD of a number in memory.
    let code = guest!(64; "mov eax, 0xd0000000", "fld dword ptr [rax]", "hlt");
    let failure = |vcpu: &mut Vcpu| -> Result<()> {
        match vcpu.run()? {
            Exit::Internal { suberror: abi::KVM_INTERNAL_ERROR_EMULATION, data } => {
                ensure!(data.len() >= 3, "{} words of data", data.len());
                check_eq!(data[0], 1, "there is code");
                ensure!(data[1] & 0xff >= 2, "{} bytes of code", data[1] & 0xff);
                check_eq!(data[1] >> 8 & 0xffff, 0x00d9, "the code");
                Ok(())
            }
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    };
    let vm = Vm::new()?;
    failure(&mut vm.long(code)?)?;

    let vm = Vm::new()?;
    let name = "KVM_CAP_EXIT_ON_EMULATION_FAILURE";
    vm.need(abi::KVM_CAP_EXIT_ON_EMULATION_FAILURE, name)?;
    let enable = |value| vm.enable(abi::KVM_CAP_EXIT_ON_EMULATION_FAILURE, [value, 0, 0, 0]);
    check_eq!(enable(2), Err(Errno::EINVAL));
    check_eq!(enable(1), Ok(0));
    let mut vcpu = vm.long(code)?;
    failure(&mut vcpu)?;
    // Nothing was injected: the VMM goes past it, and the guest goes on.
    vcpu.change_regs(|regs| regs.rip += 2)?;
    vcpu.expect(&Exit::Hlt)
}
