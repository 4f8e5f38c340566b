// SPDX-License-Identifier: GPL-2.0
//! Port I/O that goes to the VMM.

use super::super::mode::BIG_DATA;
use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-io-out", out),
    Case::guest("x86/micro-io-in", input),
    Case::guest("x86/micro-io-modes", modes),
    Case::guest("x86/micro-io-outs", outs),
    Case::guest("x86/micro-io-ins", ins),
    Case::guest("x86/micro-io-ins-at-once", ins_at_once),
    Case::guest("x86/micro-io-string-page", string_across_pages),
    Case::guest("x86/micro-io-string-backwards", backwards),
    Case::guest("x86/micro-io-string-fault", string_fault),
    Case::guest("x86/micro-io-permission", permission),
];

/// OUT of every size, with the port in the instruction and in DX.
fn out() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, 0x44332211",
        "out 0x21, al", "out 0x22, ax", "out 0x24, eax",
        "mov edx, 0xfff1", "out dx, al",
        "mov edx, 0x1232", "out dx, ax",
        "mov edx, 0x4564", "out dx, eax",
        "hlt"
    ))?;
    let bytes = [0x11, 0x22, 0x33, 0x44];
    for (port, size) in [(0x21, 1), (0x22, 2), (0x24, 4), (0xfff1, 1), (0x1232, 2), (0x4564, 4)] {
        let data = bytes[..usize::from(size)].to_vec();
        vcpu.expect(&Exit::Out { port, size, data })?;
    }
    vcpu.expect(&Exit::Hlt)
}

/// IN of every size changes as much of RAX as it does on a processor.
fn input() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov rax, 0x1122334455667788", "in al, 0x71", "mov r8, rax",
        "mov rax, 0x1122334455667788", "in ax, 0x72", "mov r9, rax",
        "mov rax, 0x1122334455667788", "in eax, 0x74", "mov r10, rax",
        "mov edx, 0xabcd", "in eax, dx", "mov r11, rax",
        "hlt"
    ))?;
    let data = [0xa1, 0xb2, 0xc3, 0xd4];
    for (port, size) in [(0x71, 1), (0x72, 2), (0x74, 4), (0xabcd, 4)] {
        vcpu.expect(&Exit::In { port, size, count: 1 })?;
        vcpu.answer(&data[..usize::from(size)])?;
    }
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!(
        [regs.r8, regs.r9, regs.r10, regs.r11],
        [0x1122_3344_5566_77a1, 0x1122_3344_5566_b2a1, 0xd4c3_b2a1, 0xd4c3_b2a1]
    );
    Ok(())
}

/// The same instructions in the other modes.
fn modes() -> Result<()> {
    let real = guest!(16;
        "mov eax, 0x44332211", "mov dx, 0x3f8", "out dx, al", "out dx, ax", "out dx, eax",
        "in eax, dx", "hlt");
    let protected = guest!(32;
        "mov eax, 0x44332211", "mov dx, 0x3f8", "out dx, al", "out dx, ax", "out dx, eax",
        "in eax, dx", "hlt");
    for (mode, code) in [
        (Mode::Real, real),
        (Mode::Flat, protected),
        (Mode::Paged, protected),
        (Mode::Pae, protected),
    ] {
        let vm = Vm::new()?;
        let mut vcpu = vm.vcpu(0)?;
        vcpu.start(mode, code)?;
        for size in [1usize, 2, 4] {
            let data = &[0x11, 0x22, 0x33, 0x44][..size];
            vcpu.expect_out(0x3f8, data).with_context(|| format!("{mode:?}"))?;
        }
        vcpu.expect(&Exit::In { port: 0x3f8, size: 4, count: 1 })?;
        vcpu.answer(&[5, 6, 7, 8])?;
        vcpu.expect(&Exit::Hlt)?;
        check_eq!(vcpu.regs()?.rax, 0x0807_0605, "{mode:?}");
    }
    Ok(())
}

/// Bytes that are easy to tell apart.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 256) as u8).collect()
}

/// Takes what the guest writes to a port, in however many exits, until it halts.
fn take_output(vcpu: &mut Vcpu, wanted: u16, wanted_size: u8) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match vcpu.run()? {
            Exit::Out { port, size, data } if (port, size) == (wanted, wanted_size) => {
                ensure!(!data.is_empty(), "an exit without data");
                all.extend(data);
            }
            Exit::Hlt => return Ok(all),
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    }
}

/// Gives `data` to the guest's reads from a port, as many at a time as it likes, until it halts.
fn give_input(vcpu: &mut Vcpu, wanted: u16, wanted_size: u8, data: &[u8]) -> Result<()> {
    let mut rest = data;
    loop {
        match vcpu.run()? {
            Exit::In { port, size, count } if (port, size) == (wanted, wanted_size) => {
                let bytes = usize::from(size) * count as usize;
                ensure!(bytes > 0 && bytes <= rest.len(), "{bytes} of {} bytes wanted", rest.len());
                vcpu.answer(&rest[..bytes])?;
                rest = &rest[bytes..];
            }
            Exit::Hlt => {
                ensure!(rest.is_empty(), "{} bytes were not asked for", rest.len());
                return Ok(());
            }
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    }
}

/// REP OUTS of every size.
fn outs() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let data = pattern(400);
    for (size, code) in [
        (1, guest!(64; "mov edx, 0x300", "rep outsb", "hlt")),
        (2, guest!(64; "mov edx, 0x300", "rep outsw", "hlt")),
        (4, guest!(64; "mov edx, 0x300", "rep outsd", "hlt")),
    ] {
        for count in [0, 1, 3, 100] {
            vcpu.start(Mode::Long, code)?;
            vm.ram().write_bytes(DATA, &data)?;
            vcpu.change_regs(|regs| (regs.rsi, regs.rcx) = (DATA, count))?;
            let bytes = take_output(&mut vcpu, 0x300, size)?;
            let length = count * u64::from(size);
            check_eq!(bytes.as_slice(), &data[..length as usize], "{count} of size {size}");
            let regs = vcpu.regs()?;
            check_eq!((regs.rsi, regs.rcx), (DATA + length, 0), "{count} of size {size}");
        }
    }
    Ok(())
}

/// REP INS of every size.
fn ins() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let data = pattern(400);
    for (size, code) in [
        (1, guest!(64; "mov edx, 0x300", "rep insb", "hlt")),
        (2, guest!(64; "mov edx, 0x300", "rep insw", "hlt")),
        (4, guest!(64; "mov edx, 0x300", "rep insd", "hlt")),
    ] {
        for count in [0, 1, 3, 100] {
            vcpu.start(Mode::Long, code)?;
            vm.ram().write_bytes(DATA, &[0xee; 401])?;
            vcpu.change_regs(|regs| (regs.rdi, regs.rcx) = (DATA, count))?;
            let length = count * u64::from(size);
            give_input(&mut vcpu, 0x300, size, &data[..length as usize])?;
            let mut expected = data[..length as usize].to_vec();
            expected.push(0xee);
            check_eq!(vm.ram().read_bytes(DATA, expected.len())?, expected, "{count} of {size}");
            let regs = vcpu.regs()?;
            check_eq!((regs.rdi, regs.rcx), (DATA + length, 0), "{count} of size {size}");
        }
    }
    Ok(())
}

/// INS asks for many elements at once; the VMM may change how many there are to be.
fn ins_at_once() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Long, guest!(64; "mov edx, 0x300", "rep insb", "hlt"))?;
    vcpu.change_regs(|regs| (regs.rdi, regs.rcx) = (BIG_DATA, 1000))?;
    match vcpu.run()? {
        Exit::In { port: 0x300, size: 1, count } => ensure!(count > 100, "{count} at once"),
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    vcpu.answer(&[0xaa; 1000])?;
    vcpu.change_regs(|regs| regs.rcx = 7)?;
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rdi, regs.rcx), (BIG_DATA + 7, 0));
    check_eq!(vm.ram().read_bytes(BIG_DATA, 8)?, [&[0xaa; 7][..], &[0]].concat());
    Ok(())
}

/// Strings across page boundaries, with words that lie in two pages.
fn string_across_pages() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let data = pattern(3 * 4096);
    let start = BIG_DATA + 0xffd;
    vcpu.start(Mode::Long, guest!(64; "mov edx, 0x300", "rep outsd", "hlt"))?;
    vm.ram().write_bytes(start, &data)?;
    vcpu.change_regs(|regs| (regs.rsi, regs.rcx) = (start, 3 * 1024))?;
    ensure!(take_output(&mut vcpu, 0x300, 4)? == data, "OUTS brings other bytes");
    vcpu.start(Mode::Long, guest!(64; "mov edx, 0x300", "rep insw", "hlt"))?;
    vm.ram().write_bytes(start, &vec![0; data.len()])?;
    vcpu.change_regs(|regs| (regs.rdi, regs.rcx) = (start, 3 * 2048))?;
    give_input(&mut vcpu, 0x300, 2, &data)?;
    ensure!(vm.ram().read_bytes(start, data.len())? == data, "INS stores other bytes");
    Ok(())
}

/// With the direction flag set strings run downwards.
fn backwards() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let words: Vec<u16> = (0..50).map(|index| 0x100 + index).collect();
    vcpu.start(Mode::Long, guest!(64; "std", "mov edx, 0x300", "rep outsw", "hlt"))?;
    for (word, at) in words.iter().zip((BIG_DATA..).step_by(2)) {
        vm.ram().write(at, *word)?;
    }
    let last = BIG_DATA + 98;
    vcpu.change_regs(|regs| (regs.rsi, regs.rcx) = (last, 50))?;
    let down: Vec<u8> = words.iter().rev().flat_map(|word| word.to_le_bytes()).collect();
    check_eq!(take_output(&mut vcpu, 0x300, 2)?, down);
    check_eq!(vcpu.regs()?.rsi, BIG_DATA - 2);
    vcpu.start(Mode::Long, guest!(64; "std", "mov edx, 0x300", "rep insw", "hlt"))?;
    vcpu.change_regs(|regs| (regs.rdi, regs.rcx) = (last, 50))?;
    let up: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    give_input(&mut vcpu, 0x300, 2, &up)?;
    check_eq!(vm.ram().read_bytes(BIG_DATA, 100)?, down);
    check_eq!(vcpu.regs()?.rdi, BIG_DATA - 2);
    Ok(())
}

/// A string that runs into a page that isn't mapped stops there with a page fault, everything before it
/// done, and goes on once the page is there.
fn string_fault() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Long, guest!(64; "mov edx, 0x300", "rep outsb", "hlt"))?;
    let hole = BIG_DATA + 0x1000;
    mode::map_page(vm.ram(), hole, 0, mode::MORE_TABLES)?;
    vm.ram().write_bytes(hole - 4, b"abcdefgh")?;
    vcpu.change_regs(|regs| (regs.rsi, regs.rcx) = (hole - 4, 8))?;
    let mut before = Vec::new();
    let trap = loop {
        match vcpu.run()? {
            Exit::Out { port: 0x300, size: 1, data } => before.extend(data),
            Exit::Out { port: super::super::trap::PORT, .. } => {
                break super::super::trap::Trap::read(vm.ram())?;
            }
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    };
    check_eq!(before, b"abcd");
    check_eq!((trap.vector, trap.error, trap.cr2, trap.rip), (14, 0, hole, CODE + 5));
    let regs = vcpu.regs()?;
    check_eq!((regs.rsi, regs.rcx), (hole, 4));
    mode::map_page(vm.ram(), hole, hole | mode::PTE, mode::MORE_TABLES)?;
    check_eq!(take_output(&mut vcpu, 0x300, 1)?, b"efgh");
    Ok(())
}

/// User code may use the ports that its task's bitmap lets it.
fn permission() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov eax, {task}", "ltr ax",
        "mov rbx, rsp", "push {ss}", "push rbx", "pushfq", "push {cs}", "lea rbx, [rip + 2f]",
        "push rbx", "iretq",
        "2:", "out 0x40, al", "out 0x41, al", "hlt";
        task = mode::TASK, ss = mode::USER_DATA, cs = mode::USER_CODE_64
    ))?;
    // The bitmap follows the segment's 104 bytes: 0x41 is forbidden.
    let ram = vm.ram();
    ram.write(mode::GDT + u64::from(mode::TASK), mode::tss_descriptor(mode::TSS) + 33)?;
    ram.write(mode::TSS + 102, 104u16)?;
    ram.write_bytes(mode::TSS + 104, &[0; 33])?;
    ram.write(mode::TSS + 104 + 0x41 / 8, 1u8 << (0x41 % 8))?;
    vcpu.expect_out(0x40, &[mode::TASK as u8])?;
    let second = vcpu.regs()?.rip;
    let trap = vcpu.expect_trap(13, 0)?;
    check_eq!(trap.cs, mode::USER_CODE_64.into());
    // Modules may have moved on already, or do so on the next entry.
    ensure!([second, second + 2].contains(&trap.rip), "{:x} and {second:x}", trap.rip);
    Ok(())
}
