// SPDX-License-Identifier: GPL-2.0
//! The other interrupt controllers in the kernel: IOAPIC, the two 8259, the 8254; lines, messages,
//! routes, and an IOAPIC that is the VMM's.

use super::super::vcpu::Vcpu;
use super::lapic::{vector_bit, with_irqchip};
use super::*;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-irqchip-edge", edge),
    Case::guest("x86/micro-irqchip-level", level),
    Case::guest("x86/micro-irqchip-masked", masked),
    Case::guest("x86/micro-irqchip-message", message),
    Case::guest("x86/micro-irqchip-routes", routes),
    Case::guest("x86/micro-irqchip-pic", pic),
    Case::guest("x86/micro-irqchip-pit", pit),
    Case::guest("x86/micro-irqchip-pit-counter", pit_counter),
    Case::guest("x86/micro-irqchip-split", split),
    Case::guest("x86/micro-irqchip-split-interrupt", split_interrupt),
    Case::guest("x86/micro-irqchip-split-masked", split_masked),
    Case::guest("x86/micro-irqchip-state", state),
    Case::guest("x86/micro-irqchip-refused", refused),
];

/// A guest whose IOAPIC sends pin 10 as this entry, and that spins with interrupts on. LINT0 is masked:
/// after reset it lets the 8259 through, to which the same lines lead.
fn with_pin(entry: u32) -> Result<(Vm, Vcpu)> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x350], 0x10000", "mov ebp, 0xfec00000",
        "mov dword ptr [rbp], 0x25", "mov dword ptr [rbp + 0x10], 0",
        "mov dword ptr [rbp], 0x24", "mov [rbp + 0x10], esi",
        "sti", "nop",
        "2:", "out 0x10, al", "nop", "jmp 2b"
    ))?;
    vcpu.change_regs(|regs| regs.rsi = entry.into())?;
    vcpu.expect_out(0x10, &[0])?;
    Ok((vm, vcpu))
}

/// A handler that ends the interrupt.
fn eoi(vcpu: &Vcpu, vector: u8) -> Result<()> {
    vcpu.handle(vector, guest!(64; "inc r15d", "mov dword ptr [rbx + 0xb0], 0", "iretq"))
}

/// Each rise of an edge-triggered line is one interrupt.
fn edge() -> Result<()> {
    let (vm, mut vcpu) = with_pin(0x61)?;
    eoi(&vcpu, 0x61)?;
    for count in 1..4 {
        vm.irq_line(10, true)?;
        vcpu.expect_out(0x10, &[0])?;
        check_eq!(vcpu.regs()?.r15, count);
        // High again is no rise.
        vm.irq_line(10, true)?;
        vcpu.expect_out(0x10, &[0])?;
        check_eq!(vcpu.regs()?.r15, count);
        vm.irq_line(10, false)?;
    }
    check_eq!(vm.irq_line_status(10, true)?, 1, "delivered");
    Ok(())
}

/// A level-triggered line interrupts as long as it is high, once for each EOI.
fn level() -> Result<()> {
    let (vm, mut vcpu) = with_pin(0x8061)?;
    vm.irq_line(10, true)?;
    vcpu.expect_trap(0x61, 0)?;
    ensure!(vector_bit(&vcpu, 0x180, 0x61)?, "TMR");
    let chip = ioapic(&vm)?;
    check_eq!(chip.1 & 0x5000, 0x4000, "remote IRR and delivery status");
    // No EOI: it doesn't come again.
    vcpu.expect_out(0x10, &[0])?;
    vcpu.expect_out(0x10, &[0])?;
    eoi(&vcpu, 0x61)?;
    // The EOI of the one before, by a handler for another vector.
    vcpu.handle(
        0x71,
        guest!(64;
            "mov dword ptr [rbx + 0xb0], 0", "mov dword ptr [rbx + 0xb0], 0", "iretq"
        ),
    )?;
    check_eq!(vm.msi(0xfee0_0000, 0x71), Ok(1));
    vcpu.handle(
        0x61,
        guest!(64; "inc r15d", "out 0x11, al", "mov dword ptr [rbx + 0xb0], 0", "iretq"),
    )?;
    // The line is still high: again, and again.
    for count in 1..4 {
        vcpu.expect_out(0x11, &[0])?;
        check_eq!(vcpu.regs()?.r15, count);
    }
    vm.irq_line(10, false)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 3);
    check_eq!(ioapic(&vm)?.1 & 0x4000, 0, "remote IRR after the EOI");
    Ok(())
}

/// Pin 10 of the IOAPIC, and its word of all lines.
fn ioapic(vm: &Vm) -> Result<(u32, u64)> {
    let mut chip = abi::kvm_irqchip { chip_id: abi::KVM_IRQCHIP_IOAPIC, ..Default::default() };
    request::exchange(vm.file(), request::GET_IRQCHIP, &mut chip).context("KVM_GET_IRQCHIP")?;
    // SAFETY: the chip's id says which member of the union it is, and all are plain numbers.
    unsafe { Ok((chip.chip.ioapic.irr, chip.chip.ioapic.redirtbl[10].bits)) }
}

/// A masked pin interrupts nobody; a level that lasts does when it is unmasked.
fn masked() -> Result<()> {
    let (vm, mut vcpu) = with_pin(0x1_8061)?;
    eoi(&vcpu, 0x61)?;
    vm.irq_line(10, true)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 0);
    vm.ram().write_bytes(0xa000, guest!(64;
        "mov dword ptr [rbp], 0x24", "mov dword ptr [rbp + 0x10], 0x8071", "nop", "nop", "out 0x12, al"
    ))?;
    vcpu.change_regs(|regs| regs.rip = 0xa000)?;
    vcpu.expect_trap(0x71, 0)?;
    vm.irq_line(10, false)?;
    vcpu.expect_out(0x12, &[0])
}

/// Messages: fixed, to one or all, and to nobody.
fn message() -> Result<()> {
    let (vm, mut vcpu) = with_pin(0x1_0000)?;
    check_eq!(vm.msi(0xfee0_0000, 0x55), Ok(1));
    vcpu.expect_trap(0x55, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vm.msi(0xfeef_f000, 0x65), Ok(1), "to all");
    vcpu.expect_trap(0x65, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    ensure!(vm.msi(0xfee0_9000, 0x66) != Ok(1), "a message to an APIC that isn't there");
    check_eq!(vm.msi(0xfee0_0000, 0x400), Ok(1), "an NMI");
    vcpu.expect_trap(2, 0)?;
    Ok(())
}

/// `struct kvm_irq_routing` with up to four routes.
#[repr(C)]
pub(super) struct Routes {
    count: u32,
    flags: u32,
    entries: [abi::kvm_irq_routing_entry; 4],
}

impl Routes {
    pub(super) fn new(entries: &[abi::kvm_irq_routing_entry]) -> Self {
        let mut all = [abi::kvm_irq_routing_entry::default(); 4];
        all.iter_mut().zip(entries).for_each(|(place, entry)| *place = *entry);
        Self { count: entries.len() as u32, flags: 0, entries: all }
    }

    pub(super) fn set(&self, vm: &Vm) -> Result<(), Errno> {
        request::give(vm.file(), request::SET_GSI_ROUTING, self).map(|_| ())
    }
}

/// A route from a line to a message.
pub(super) fn to_message(gsi: u32, address: u32, data: u32) -> abi::kvm_irq_routing_entry {
    let msi = abi::kvm_irq_routing_msi { address_lo: address, data, ..Default::default() };
    abi::kvm_irq_routing_entry {
        gsi,
        type_: abi::KVM_IRQ_ROUTING_MSI,
        u: abi::kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}

/// A route from a line to a pin.
fn to_pin(gsi: u32, irqchip: u32, pin: u32) -> abi::kvm_irq_routing_entry {
    abi::kvm_irq_routing_entry {
        gsi,
        type_: abi::KVM_IRQ_ROUTING_IRQCHIP,
        u: abi::kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: abi::kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    }
}

/// Lines go where their routes say, and nowhere without one.
fn routes() -> Result<()> {
    let (vm, mut vcpu) = with_pin(0x61)?;
    vm.need(abi::KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING")?;
    Routes::new(&[to_message(100, 0xfee0_0000, 0x57), to_pin(101, abi::KVM_IRQCHIP_IOAPIC, 10)])
        .set(&vm)
        .context("KVM_SET_GSI_ROUTING")?;
    vm.irq_line(100, true)?;
    vcpu.expect_trap(0x57, 0)?;
    vcpu.expect_out(0x10, &[0])?;
    eoi(&vcpu, 0x57)?;
    eoi(&vcpu, 0x61)?;
    // The first one's EOI is still due; 0x61 is above it.
    vm.irq_line(101, true)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 1);
    // 10 had a route once.
    vm.irq_line(10, true)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 1);
    for (what, entry) in [
        ("an unknown type", abi::kvm_irq_routing_entry { type_: 77, ..to_message(1, 0, 0) }),
        ("a pin too high", to_pin(1, abi::KVM_IRQCHIP_IOAPIC, 24)),
        ("an unknown chip", to_pin(1, 9, 1)),
        ("flags", abi::kvm_irq_routing_entry { flags: 1, ..to_pin(1, abi::KVM_IRQCHIP_IOAPIC, 1) }),
    ] {
        check_eq!(Routes::new(&[entry]).set(&vm), Err(Errno::EINVAL), "{what}");
    }
    Ok(())
}

/// The 8259, by way of LINT0.
fn pic() -> Result<()> {
    let (vm, mut vcpu) = with_irqchip(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov dword ptr [rbx + 0x350], 0x700",
        "mov al, 0x11", "out 0x20, al", "out 0xa0, al",
        "mov al, 0x20", "out 0x21, al", "mov al, 0x28", "out 0xa1, al",
        "mov al, 4", "out 0x21, al", "mov al, 2", "out 0xa1, al",
        "mov al, 1", "out 0x21, al", "out 0xa1, al",
        "mov al, 0xf9", "out 0x21, al", "mov al, 0xfb", "out 0xa1, al",
        "in al, 0x21", "mov ah, al", "in al, 0xa1", "mov esi, eax",
        "sti", "out 0x10, al", "nop", "out 0x11, al", "nop", "out 0x12, al",
        "mov al, 0xb", "out 0x20, al", "in al, 0x20", "mov esi, eax",
        "mov al, 0x20", "out 0x20, al", "nop", "out 0x13, al",
        "mov al, 0x20", "out 0x20, al", "out 0xa0, al", "nop", "out 0x14, al"
    ))?;
    let next = |vcpu: &mut Vcpu, port| match vcpu.run()? {
        Exit::Out { port: written, .. } if written == port => Ok(()),
        exit => bail!("{} instead of port {port:x}", vcpu.describe(&exit)),
    };
    next(&mut vcpu, 0x10)?;
    check_eq!(vcpu.regs()?.rsi & 0xffff, 0xf9fb, "the masks");
    // Masked: nothing.
    vm.irq_line(4, true)?;
    next(&mut vcpu, 0x11)?;
    vm.irq_line(1, true)?;
    vm.irq_line(1, false)?;
    // An edge that is gone when the processor asks is spurious, 7.
    let trap = vcpu.trap()?;
    ensure!([0x21, 0x27].contains(&trap.vector), "{trap:x?}");
    if trap.vector == 0x27 {
        vm.irq_line(1, true)?;
        vcpu.expect_trap(0x21, 0)?;
    }
    next(&mut vcpu, 0x12)?;
    // 10, by the second chip on 2, is below 1, which is in service.
    vm.irq_line(10, true)?;
    vcpu.expect_trap(0x2a, 0)?;
    check_eq!(vcpu.regs()?.rsi & 0xff, 2, "the ISR");
    next(&mut vcpu, 0x13)?;
    next(&mut vcpu, 0x14)
}

/// The 8254's channel 0: ticks through the IOAPIC's pin 0 at the rate it was set to.
fn pit() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_PIT2, "KVM_CAP_PIT2")?;
    let config = abi::kvm_pit_config { flags: 1, ..Default::default() };
    request::give(vm.file(), request::CREATE_PIT2, &config).context("KVM_CREATE_PIT2")?;
    let again = request::give(vm.file(), request::CREATE_PIT2, &config);
    check_eq!(again, Err(Errno::EEXIST), "a second one");
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x350], 0x10000", "mov ebp, 0xfec00000",
        "mov dword ptr [rbx + 0x350], 0x10000",
        "mov dword ptr [rbp], 0x11", "mov dword ptr [rbp + 0x10], 0",
        "mov dword ptr [rbp], 0x10", "mov dword ptr [rbp + 0x10], 0x50",
        // Mode 2, 5966 periods of 838 ns.
        "mov al, 0x34", "out 0x43, al", "mov al, 0x4e", "out 0x40, al", "mov al, 0x17", "out 0x40, al",
        "xor r15d, r15d",
        // Ticks that a busy host missed come one on top of the other.
        "2:", "sti", "hlt", "cmp r15d, 20", "jb 2b", "mov eax, 20", "out 0xe8, eax"
    ))?;
    eoi(&vcpu, 0x50)?;
    let start = std::time::Instant::now();
    vcpu.expect_report(20)?;
    // Twenty of 5 ms.
    let took = start.elapsed().as_millis();
    ensure!((80..5000).contains(&took), "20 ticks of 5 ms took {took} ms");
    let state: abi::kvm_pit_state2 =
        request::take(vm.file(), request::GET_PIT2).context("KVM_GET_PIT2")?;
    check_eq!((state.channels[0].count, state.channels[0].mode), (5966, 2));
    let other = abi::kvm_pit_state2 { flags: 1, ..state };
    request::give(vm.file(), request::SET_PIT2, &other).context("KVM_SET_PIT2")?;
    let got: abi::kvm_pit_state2 =
        request::take(vm.file(), request::GET_PIT2).context("KVM_GET_PIT2")?;
    check_eq!((got.channels[0].count, got.flags), (5966, 1));
    // A struct whose first byte says whether ticks are made up for.
    let control = 0u64;
    request::give(vm.file(), request::REINJECT_CONTROL, &control)
        .context("KVM_REINJECT_CONTROL")?;
    Ok(())
}

/// The 8254's counters count down, can be latched, and show their output at port 0x61.
fn pit_counter() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    vm.need(abi::KVM_CAP_PIT2, "KVM_CAP_PIT2")?;
    let config = abi::kvm_pit_config { flags: 1, ..Default::default() };
    request::give(vm.file(), request::CREATE_PIT2, &config).context("KVM_CREATE_PIT2")?;
    let mut vcpu = vm.long(guest!(64;
        // Channel 2, gate on, mode 0, 0x2000 periods: 6.9 ms.
        "mov al, 1", "out 0x61, al",
        "mov al, 0xb0", "out 0x43, al", "xor al, al", "out 0x42, al", "mov al, 0x20", "out 0x42, al",
        "in al, 0x61", "mov r8d, eax",
        "mov al, 0x80", "out 0x43, al", "in al, 0x42", "mov cl, al", "in al, 0x42", "mov ch, al",
        "mov al, 0x80", "out 0x43, al", "in al, 0x42", "mov dl, al", "in al, 0x42", "mov dh, al",
        "2:", "pause", "in al, 0x61", "test al, 0x20", "jz 2b",
        "out 0x10, al"
    ))?;
    match vcpu.run()? {
        Exit::Out { port: 0x10, .. } => {}
        exit => bail!("{}", vcpu.describe(&exit)),
    }
    let regs = vcpu.regs()?;
    check_eq!(regs.r8 & 0x21, 1, "port 0x61 at first");
    let down = (regs.rcx as u16).wrapping_sub(regs.rdx as u16);
    ensure!((1..0x8000).contains(&down), "latched {:x}, then {:x}", regs.rcx, regs.rdx);
    Ok(())
}

/// Routes a line to a level-triggered message to the first vCPU.
pub(super) fn route_level(vm: &Vm, gsi: u32, vector: u8) -> Result<()> {
    let routes = Routes::new(&[to_message(gsi, 0xfee0_0000, 0xc000 | u32::from(vector))]);
    routes.set(vm).context("KVM_SET_GSI_ROUTING")?;
    Ok(())
}

/// With the IOAPIC outside, the end of a level interrupt of one of its routes goes to the VMM.
fn split() -> Result<()> {
    let vm = Vm::new()?;
    vm.split_irqchip(24)?;
    check_eq!(vm.enable(abi::KVM_CAP_SPLIT_IRQCHIP, [24, 0, 0, 0]), Err(Errno::EEXIST));
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "sti",
        "2:", "out 0x10, al", "nop", "jmp 2b"
    ))?;
    eoi(&vcpu, 0x61)?;
    eoi(&vcpu, 0x62)?;
    Routes::new(&[to_message(3, 0xfee0_0000, 0xc061), to_message(40, 0xfee0_0000, 0x62)])
        .set(&vm)
        .context("KVM_SET_GSI_ROUTING")?;
    vcpu.expect_out(0x10, &[0])?;
    vm.irq_line(3, true)?;
    vcpu.expect(&Exit::IoapicEoi(0x61))?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 1);
    // An edge that is no pin's ends without the VMM.
    vm.irq_line(40, true)?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(vcpu.regs()?.r15, 2);
    Ok(())
}

/// Interrupts of a VMM's own 8259 reach a guest whose local APIC is in the kernel.
fn split_interrupt() -> Result<()> {
    let vm = Vm::new()?;
    vm.split_irqchip(24)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff", "mov dword ptr [rbx + 0x350], 0x700",
        "out 0x10, al", "mov ecx, 1", "sti", "mov ecx, 2", "out 0x11, al", "hlt"
    ))?;
    vcpu.expect_out(0x10, &[0])?;
    vcpu.run_page().request_interrupt_window = 1;
    vcpu.expect(&Exit::IrqWindow)?;
    check_eq!(vcpu.regs()?.rcx, 2);
    vcpu.run_page().request_interrupt_window = 0;
    vcpu.interrupt(0x33)?;
    check_eq!(vcpu.interrupt(0x34), Err(Errno::EEXIST), "a second one");
    vcpu.expect_trap(0x33, 0)?;
    vcpu.expect_out(0x11, &[0])
}

/// A guest whose LINT0 is masked takes nothing of the VMM's 8259: there is no window to wait for.
fn split_masked() -> Result<()> {
    let vm = Vm::new()?;
    vm.split_irqchip(24)?;
    let mut vcpu = vm.long(guest!(64;
        "mov ebx, 0xfee00000", "mov dword ptr [rbx + 0xf0], 0x1ff",
        "mov dword ptr [rbx + 0x350], 0x10000", "sti", "nop", "out 0x10, al", "nop", "out 0x11, al",
        "mov dword ptr [rbx + 0x350], 0x700", "nop", "out 0x12, al"
    ))?;
    vcpu.run_page().request_interrupt_window = 1;
    // Open from reset until the guest masks it.
    loop {
        match vcpu.run()? {
            Exit::IrqWindow => {}
            Exit::Out { port: 0x10, .. } => break,
            exit => bail!("{}", vcpu.describe(&exit)),
        }
    }
    check_eq!(vcpu.run_page().ready_for_interrupt_injection, 0);
    vcpu.expect_out(0x11, &[0])?;
    vcpu.expect(&Exit::IrqWindow)?;
    check_eq!(vcpu.run_page().ready_for_interrupt_injection, 1);
    vcpu.run_page().request_interrupt_window = 0;
    vcpu.expect_out(0x12, &[0])
}

/// State of the chips goes in and comes out.
fn state() -> Result<()> {
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    for id in [abi::KVM_IRQCHIP_PIC_MASTER, abi::KVM_IRQCHIP_PIC_SLAVE] {
        let mut chip = abi::kvm_irqchip { chip_id: id, ..Default::default() };
        request::exchange(vm.file(), request::GET_IRQCHIP, &mut chip).context("KVM_GET_IRQCHIP")?;
        chip.chip.pic.imr = 0xa5;
        chip.chip.pic.irq_base = 0x70;
        request::give(vm.file(), request::SET_IRQCHIP, &chip).context("KVM_SET_IRQCHIP")?;
        let mut got = abi::kvm_irqchip { chip_id: id, ..Default::default() };
        request::exchange(vm.file(), request::GET_IRQCHIP, &mut got).context("KVM_GET_IRQCHIP")?;
        // SAFETY: these chips are 8259s, and all members of the union are plain numbers.
        check_eq!(unsafe { (got.chip.pic.imr, got.chip.pic.irq_base) }, (0xa5, 0x70));
    }
    let mut chip = abi::kvm_irqchip { chip_id: abi::KVM_IRQCHIP_IOAPIC, ..Default::default() };
    request::exchange(vm.file(), request::GET_IRQCHIP, &mut chip).context("KVM_GET_IRQCHIP")?;
    // SAFETY: this chip is the IOAPIC, and all members of the union are plain numbers.
    unsafe {
        check_eq!(chip.chip.ioapic.base_address, 0xfec0_0000);
        check_eq!(chip.chip.ioapic.redirtbl[5].bits & 0x1_0000, 0x1_0000, "masked after reset");
        chip.chip.ioapic.redirtbl[5].bits = 0x0300_0000_0001_8075;
    }
    request::give(vm.file(), request::SET_IRQCHIP, &chip).context("KVM_SET_IRQCHIP")?;
    let mut got = abi::kvm_irqchip { chip_id: abi::KVM_IRQCHIP_IOAPIC, ..Default::default() };
    request::exchange(vm.file(), request::GET_IRQCHIP, &mut got).context("KVM_GET_IRQCHIP")?;
    // SAFETY: as above.
    check_eq!(unsafe { got.chip.ioapic.redirtbl[5].bits }, 0x0300_0000_0001_8075);
    let mut none = abi::kvm_irqchip { chip_id: 9, ..Default::default() };
    let refused = request::exchange(vm.file(), request::GET_IRQCHIP, &mut none);
    check_eq!(refused, Err(Errno::EINVAL), "an unknown chip");
    Ok(())
}

/// What makes no sense without interrupt controllers, too late, or twice.
fn refused() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP")?;
    let line = abi::kvm_irq_level::default();
    check_eq!(request::give(vm.file(), request::IRQ_LINE, &line), Err(Errno::ENXIO), "a line");
    let mut chip = abi::kvm_irqchip::default();
    let none = request::exchange(vm.file(), request::GET_IRQCHIP, &mut chip);
    check_eq!(none, Err(Errno::ENXIO), "state of a chip");
    let config = abi::kvm_pit_config::default();
    let none = request::give(vm.file(), request::CREATE_PIT2, &config);
    check_eq!(none, Err(Errno::ENOENT), "an 8254");
    let vcpu = vm.vcpu(0)?;
    let late = request::call(vm.file(), request::CREATE_IRQCHIP, 0);
    check_eq!(late, Err(Errno::EINVAL), "chips after a vCPU");
    drop(vcpu);
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let twice = request::call(vm.file(), request::CREATE_IRQCHIP, 0);
    check_eq!(twice, Err(Errno::EEXIST), "chips twice");
    let vcpu = vm.vcpu(0)?;
    check_eq!(vcpu.interrupt(0x40), Err(Errno::ENXIO), "KVM_INTERRUPT with an 8259 in the kernel");
    Ok(())
}
