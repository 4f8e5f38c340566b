// SPDX-License-Identifier: GPL-2.0
//! State of a vCPU that goes in, is there for the guest, and comes out again.

use super::*;
use crate::module;

pub(super) const CASES: &[Case] = &[
    Case::guest("x86/micro-state-regs", regs),
    Case::guest("x86/micro-state-reset", reset),
    Case::guest("x86/micro-state-sregs", sregs),
    Case::guest("x86/micro-state-sregs-refused", sregs_refused),
    Case::guest("x86/micro-state-sregs2", sregs2),
    Case::guest("x86/micro-state-fpu", fpu),
    Case::guest("x86/micro-state-xsave", xsave),
    Case::guest("x86/micro-state-xcrs", xcrs),
    Case::guest("x86/micro-state-debugregs", debugregs),
    Case::guest("x86/micro-state-msrs", msrs),
    Case::guest("x86/micro-state-one-reg", one_reg),
    Case::guest("x86/micro-state-events", events),
    Case::guest("x86/micro-state-mp-state", mp_state),
    Case::guest("x86/micro-state-lapic", lapic),
    Case::guest("x86/micro-state-cpuid", cpuid),
    Case::guest("x86/micro-state-translate", translate),
];

/// GET_REGS gives what SET_REGS took.
fn regs() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let mut regs = abi::kvm_regs { rip: 0xfff0, rflags: 0x246, ..Default::default() };
    (regs.rax, regs.r15, regs.rsp) = (u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0);
    vcpu.set_regs(&regs)?;
    check_eq!(vcpu.regs()?, regs);
    // Bit 1 of the flags is always set.
    vcpu.set_regs(&abi::kvm_regs { rflags: 0, ..regs })?;
    check_eq!(vcpu.regs()?.rflags, 2);
    Ok(())
}

/// A new vCPU is as a processor after reset.
fn reset() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.bare_vcpu(0)?;
    let regs = vcpu.regs()?;
    check_eq!((regs.rip, regs.rflags, regs.rax, regs.rsp), (0xfff0, 2, 0, 0));
    let sregs = vcpu.sregs()?;
    check_eq!((sregs.cs.selector, sregs.cs.base, sregs.cs.limit), (0xf000, 0xffff_0000, 0xffff));
    check_eq!((sregs.cs.type_ & 0xa, sregs.cs.present, sregs.cs.s), (0xa, 1, 1));
    check_eq!((sregs.ds.selector, sregs.ds.base, sregs.ds.limit), (0, 0, 0xffff));
    check_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x6000_0010, 0, 0, 0));
    check_eq!((sregs.gdt.limit, sregs.idt.limit), (0xffff, 0xffff));
    check_eq!(sregs.apic_base & !0x100, 0xfee0_0800 & !0x800 | sregs.apic_base & 0x800);
    let debug: abi::kvm_debugregs = vcpu.get(request::GET_DEBUGREGS)?;
    check_eq!((debug.dr6, debug.dr7), (0xffff_0ff0, 0x400));
    Ok(())
}

/// GET_SREGS gives what SET_SREGS took, in every mode, also after the guest ran.
fn sregs() -> Result<()> {
    for mode in Mode::ALL {
        let vm = Vm::new()?;
        let mut vcpu = vm.vcpu(0)?;
        vcpu.start(mode, guest!(64; "nop", "hlt"))?;
        vcpu.expect(&Exit::Hlt)?;
        let mut sregs = vcpu.sregs()?;
        vcpu.set_sregs(&sregs)?;
        check_eq!(vcpu.sregs()?, sregs, "{mode:?}");
        (sregs.cr2, sregs.cr8) = (0x1234_5678, 7);
        (sregs.gdt.limit, sregs.idt.base) = (0x123, 0x4560);
        (sregs.fs.base, sregs.gs.selector, sregs.gs.avl) = (0x7_8000, 0x33, 1);
        (sregs.ldt.base, sregs.ldt.limit, sregs.ldt.type_, sregs.ldt.present) =
            (0x9000, 0xff, 2, 1);
        sregs.ldt.unusable = 0;
        vcpu.set_sregs(&sregs)?;
        check_eq!(vcpu.sregs()?, sregs, "{mode:?}");
    }
    Ok(())
}

/// Control registers that no processor can have are refused, and change nothing.
fn sregs_refused() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.long(&[0xf4])?;
    let long = vcpu.sregs()?;
    let refused = |what: &str, change: &dyn Fn(&mut abi::kvm_sregs)| -> Result<()> {
        let mut sregs = long;
        change(&mut sregs);
        check_eq!(vcpu.try_set(request::SET_SREGS, &sregs), Err(Errno::EINVAL), "{what}");
        check_eq!(vcpu.sregs()?, long, "{what}: afterwards");
        Ok(())
    };
    refused("LMA without LME", &|s| s.efer &= !0x100)?;
    refused("paging in long mode without LMA", &|s| s.efer &= !0x400)?;
    refused("long mode without PAE", &|s| s.cr4 &= !mode::CR4_PAE)?;
    refused("paging without protection", &|s| s.cr0 &= !mode::CR0_PE)?;
    refused("NW without CD", &|s| s.cr0 |= 1 << 29)?;
    refused("a high bit of CR0", &|s| s.cr0 |= 1 << 40)?;
    refused("a high bit of CR3", &|s| s.cr3 |= 1 << 60)?;
    refused("a high bit of CR4", &|s| s.cr4 |= 1 << 40)?;
    refused("a reserved bit of CR4", &|s| s.cr4 |= 1 << 15)?;
    refused("a bit of EFER", &|s| s.efer |= 1 << 40)?;
    refused("two queued interrupts' vectors, which isn't checked, with a bad CR4", &|s| {
        s.interrupt_bitmap = [u64::MAX; 4];
        s.cr4 |= 1 << 40;
    })
}

/// The same with the structure that holds the page-directory pointers.
fn sregs2() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_SREGS2, "KVM_CAP_SREGS2")?;
    let mut vcpu = vm.vcpu(0)?;
    vcpu.start(Mode::Pae, guest!(32; "mov eax, [0x6000]", "hlt"))?;
    vm.ram().write(DATA, 0x1234_5678u32)?;
    vcpu.expect(&Exit::Hlt)?;
    let mut sregs: abi::kvm_sregs2 = vcpu.get(request::GET_SREGS2)?;
    check_eq!(sregs.flags, u64::from(abi::KVM_SREGS2_FLAGS_PDPTRS_VALID));
    for (index, pointer) in (0..).zip(sregs.pdptrs) {
        // TCG marks the tables' entries as used, which have no such bit.
        check_eq!(pointer & !0x20, vm.ram().read::<u64>(sregs.cr3 + 8 * index)? & !0x20);
    }
    // What the registers hold counts, not the memory they were loaded from.
    vm.ram().write(sregs.cr3, 0u64)?;
    vcpu.set(request::SET_SREGS2, &sregs)?;
    check_eq!(vcpu.get::<abi::kvm_sregs2>(request::GET_SREGS2)?, sregs);
    sregs.flags |= 1 << 63;
    check_eq!(vcpu.try_set(request::SET_SREGS2, &sregs), Err(Errno::EINVAL), "unknown flags");
    sregs.flags = 0;
    sregs.cr4 |= 1 << 40;
    check_eq!(vcpu.try_set(request::SET_SREGS2, &sregs), Err(Errno::EINVAL), "a bad CR4");
    Ok(())
}

/// x87 and SSE registers, each way, but for MXCSR: the structure has it and the ioctls leave it alone.
fn fpu() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "movdqu [{data}], xmm0", "movdqu [{data} + 16], xmm15", "fstp qword ptr [{data} + 32]",
        "fnstcw [{data} + 40]",
        "pcmpeqd xmm7, xmm7", "fld1", "fldpi", "hlt";
        data = DATA
    ))?;
    if module::is_kernels_own()? {
        // Registers that the guest never touched stay as after reset there, whatever is set.
        let code = guest!(64; "movdqu xmm0, [0x1000]", "fld1", "fninit", "hlt");
        vm.ram().write_bytes(mode::BIG_DATA, code)?;
        vcpu.change_regs(|regs| regs.rip = mode::BIG_DATA)?;
        vcpu.expect(&Exit::Hlt)?;
        vcpu.change_regs(|regs| regs.rip = CODE)?;
    }
    let mut fpu: abi::kvm_fpu = vcpu.get(request::GET_FPU)?;
    for (register, bytes) in fpu.xmm.iter_mut().enumerate() {
        *bytes = std::array::from_fn(|byte| (register * 16 + byte) as u8);
    }
    // ST(0) is 1.5.
    fpu.fpr[0][..10].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x3f]);
    (fpu.fcw, fpu.ftwx) = (0x27f, 0x01);
    vcpu.set(request::SET_FPU, &fpu)?;
    let got: abi::kvm_fpu = vcpu.get(request::GET_FPU)?;
    ensure!(got.xmm == fpu.xmm, "XMM registers differ");
    check_eq!((got.fpr[0], got.fcw), (fpu.fpr[0], 0x27f));
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vm.ram().read_bytes(DATA, 16)?, fpu.xmm[0]);
    check_eq!(vm.ram().read_bytes(DATA + 16, 16)?, fpu.xmm[15]);
    check_eq!(vm.ram().read::<u64>(DATA + 32)?, 1.5f64.to_bits());
    check_eq!(vm.ram().read::<u16>(DATA + 40)?, 0x27f);
    let got: abi::kvm_fpu = vcpu.get(request::GET_FPU)?;
    check_eq!(got.xmm[7], [0xff; 16]);
    // 1.0 lies below pi.
    check_eq!(got.fpr[1][..10], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
    Ok(())
}

/// The XSAVE image, each way, with the components that XCR0 turns on.
fn xsave() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_XSAVE, "KVM_CAP_XSAVE")?;
    let mut vcpu = vm.long(guest!(64;
        "xor ecx, ecx", "xor edx, edx", "mov eax, 7", "xsetbv",
        "out 0x10, al",
        "vmovdqu [{data}], ymm3",
        "vpcmpeqd xmm4, xmm4, xmm4", "vinsertf128 ymm4, ymm4, xmm4, 1",
        "hlt";
        data = DATA
    ))?;
    if vm.supported_cpuid()?.find(1, 0).is_none_or(|leaf| leaf.ecx & 1 << 28 == 0) {
        return Err(Skip("the processor has no AVX".into()).into());
    }
    vcpu.change_sregs(|sregs| sregs.cr4 |= 1 << 18)?;
    vcpu.expect_out(0x10, &[7])?;
    let mut area = Area([0; 4096]);
    area.0 = read_xsave(&vcpu)?;
    // XMM3 of the legacy part, its upper half at 576, and which parts aren't initial.
    let pattern: [u8; 32] = std::array::from_fn(|byte| 0xc0 + byte as u8);
    area.0[160 + 48..160 + 64].copy_from_slice(&pattern[..16]);
    area.0[576 + 48..576 + 64].copy_from_slice(&pattern[16..]);
    area.0[512..520].copy_from_slice(&7u64.to_le_bytes());
    area.0[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    vcpu.set(request::SET_XSAVE, &area)?;
    let again = read_xsave(&vcpu)?;
    check_eq!(again[160..416], area.0[160..416], "XMM");
    check_eq!(again[576..832], area.0[576..832], "YMM");
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vm.ram().read_bytes(DATA, 32)?, pattern);
    let after = read_xsave(&vcpu)?;
    check_eq!(after[160 + 64..160 + 80], [0xff; 16]);
    check_eq!(after[576 + 64..576 + 80], [0xff; 16]);
    check_eq!(after[512] & 7 & !1, 6, "XSTATE_BV");
    if vm.capability(abi::KVM_CAP_XSAVE2)? == 4096 {
        let other: Area = vcpu.get(request::GET_XSAVE2)?;
        ensure!(other.0 == after, "KVM_GET_XSAVE2 gives something else");
    }
    // Components that the processor hasn't got.
    area.0[512..520].copy_from_slice(&(1u64 << 62).to_le_bytes());
    check_eq!(vcpu.try_set(request::SET_XSAVE, &area), Err(Errno::EINVAL));
    Ok(())
}

/// The 4 KiB that XSAVE's ioctls copy.
#[repr(C, align(64))]
struct Area([u8; 4096]);

impl Default for Area {
    fn default() -> Self {
        Self([0xcc; 4096])
    }
}

fn read_xsave(vcpu: &super::super::vcpu::Vcpu) -> Result<[u8; 4096]> {
    Ok(vcpu.get::<Area>(request::GET_XSAVE)?.0)
}

/// XCR0: what the guest set, and what can't be.
fn xcrs() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_XCRS, "KVM_CAP_XCRS")?;
    let mut vcpu = vm.long(guest!(64;
        "xor ecx, ecx", "xgetbv", "mov ebx, eax",
        "xor edx, edx", "mov eax, 1", "xsetbv",
        "hlt",
        "mov eax, 2", "xsetbv", "hlt"
    ))?;
    vcpu.change_sregs(|sregs| sregs.cr4 |= 1 << 18)?;
    let mut xcrs: abi::kvm_xcrs = vcpu.get(request::GET_XCRS)?;
    check_eq!((xcrs.nr_xcrs, xcrs.xcrs[0].xcr, xcrs.xcrs[0].value), (1, 0, 1));
    xcrs.xcrs[0].value = 3;
    vcpu.set(request::SET_XCRS, &xcrs)?;
    vcpu.expect(&Exit::Hlt)?;
    check_eq!(vcpu.regs()?.rbx, 3);
    check_eq!(vcpu.get::<abi::kvm_xcrs>(request::GET_XCRS)?.xcrs[0].value, 1);
    vcpu.expect_trap(13, 0)?;
    for value in [0, 2, 5, 1 << 62] {
        xcrs.xcrs[0].value = value;
        check_eq!(vcpu.try_set(request::SET_XCRS, &xcrs), Err(Errno::EINVAL), "XCR0 {value:x}");
    }
    Ok(())
}

/// Debug registers, each way.
fn debugregs() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.long(guest!(64;
        "mov rax, dr0", "mov rbx, dr3", "mov rcx, dr6", "mov rdx, dr7",
        "mov rsi, 0x123456", "mov dr2, rsi",
        "hlt"
    ))?;
    let mut set: abi::kvm_debugregs = vcpu.get(request::GET_DEBUGREGS)?;
    set.db = [0x1111_0000_1000, 0x2000, 0x3000, 0x4444_0000_4000];
    (set.dr6, set.dr7) = (0xffff_4ff1, 0x400);
    vcpu.set(request::SET_DEBUGREGS, &set)?;
    check_eq!(vcpu.get::<abi::kvm_debugregs>(request::GET_DEBUGREGS)?, set);
    vcpu.expect(&Exit::Hlt)?;
    let regs = vcpu.regs()?;
    check_eq!([regs.rax, regs.rbx, regs.rcx, regs.rdx], [set.db[0], set.db[3], set.dr6, set.dr7]);
    check_eq!(vcpu.get::<abi::kvm_debugregs>(request::GET_DEBUGREGS)?.db[2], 0x12_3456);
    for (dr6, dr7, flags) in
        [(1 << 40, 0x400, 0), (0xffff_0ff0, 1 << 40, 0), (0xffff_0ff0, 0x400, 1)]
    {
        let bad = abi::kvm_debugregs { dr6, dr7, flags, ..set };
        check_eq!(
            vcpu.try_set(request::SET_DEBUGREGS, &bad),
            Err(Errno::EINVAL),
            "{dr6:x} {dr7:x}"
        );
    }
    Ok(())
}

/// The list of MSRs to save: each can be read, and set to what was read.
fn msrs() -> Result<()> {
    #[repr(C)]
    struct List {
        count: u32,
        indices: [u32; 1024],
    }
    let vm = Vm::new()?;
    // Some of them need a local APIC.
    vm.create_irqchip()?;
    let vcpu = vm.vcpu(0)?;
    let mut list = List { count: 0, indices: [0; 1024] };
    let short = request::exchange(vm.kvm(), request::GET_MSR_INDEX_LIST, &mut list);
    check_eq!(short, Err(Errno::E2BIG), "no room");
    let wanted = list.count;
    list.count = 1024;
    request::exchange(vm.kvm(), request::GET_MSR_INDEX_LIST, &mut list)
        .context("KVM_GET_MSR_INDEX_LIST")?;
    check_eq!(list.count, wanted);
    ensure!(list.count > 10, "only {} MSRs", list.count);
    let (mut unreadable, mut unwritable) = (Vec::new(), Vec::new());
    for index in &list.indices[..list.count as usize] {
        match vcpu.msr(*index)? {
            None => unreadable.push(*index),
            Some(value) => {
                if !vcpu.set_msr(*index, value)? {
                    unwritable.push((*index, value));
                }
            }
        }
    }
    check_eq!((unreadable, unwritable), (vec![], vec![]));
    for index in [0x10, 0x174, 0x277, 0xc000_0081, 0xc000_0082, 0xc000_0102] {
        ensure!(list.indices.contains(&index), "MSR {index:x} isn't in the list");
    }
    Ok(())
}

/// Pending events, and those a VMM may not make up.
fn events() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS")?;
    let mut vcpu = vm.long(guest!(64; "nop", "hlt"))?;
    let idle = vcpu.events()?;
    check_eq!((idle.exception.injected, idle.interrupt.injected, idle.nmi.pending), (0, 0, 0));
    let mut set = idle;
    set.flags = abi::KVM_VCPUEVENT_VALID_NMI_PENDING | abi::KVM_VCPUEVENT_VALID_SHADOW;
    (set.exception.injected, set.exception.nr) = (1, 13);
    (set.exception.has_error_code, set.exception.error_code) = (1, 0x18);
    (set.nmi.pending, set.nmi.masked) = (1, 1);
    set.interrupt.shadow = abi::KVM_X86_SHADOW_INT_STI as u8;
    vcpu.set(request::SET_VCPU_EVENTS, &set)?;
    let got = vcpu.events()?;
    check_eq!((got.exception.injected, got.exception.nr, got.exception.error_code), (1, 13, 0x18));
    check_eq!((got.nmi.pending, got.nmi.masked), (1, 1));
    // SVM has but one shadow.
    ensure!(got.interrupt.shadow != 0, "the shadow is gone");
    vcpu.set(request::SET_VCPU_EVENTS, &abi::kvm_vcpu_events { flags: set.flags, ..idle })?;
    check_eq!(vcpu.events()?.nmi.pending, 0);
    for (what, bad) in [
        ("vector 32", event(&idle, |e| (e.exception.injected, e.exception.nr) = (1, 32))),
        (
            "an NMI as an exception",
            event(&idle, |e| (e.exception.injected, e.exception.nr) = (1, 2)),
        ),
        ("unknown flags", event(&idle, |e| e.flags = 1 << 30)),
    ] {
        check_eq!(vcpu.try_set(request::SET_VCPU_EVENTS, &bad), Err(Errno::EINVAL), "{what}");
    }
    vcpu.expect(&Exit::Hlt)
}

fn event(
    idle: &abi::kvm_vcpu_events,
    change: impl FnOnce(&mut abi::kvm_vcpu_events),
) -> abi::kvm_vcpu_events {
    let mut events = *idle;
    change(&mut events);
    events
}

/// Run states without interrupt controllers, and with them.
fn mp_state() -> Result<()> {
    let state = |mp_state| abi::kvm_mp_state { mp_state };
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE")?;
    let vcpu = vm.vcpu(0)?;
    check_eq!(
        vcpu.get::<abi::kvm_mp_state>(request::GET_MP_STATE)?,
        state(abi::KVM_MP_STATE_RUNNABLE)
    );
    vcpu.set(request::SET_MP_STATE, &state(abi::KVM_MP_STATE_RUNNABLE))?;
    for refused in [abi::KVM_MP_STATE_HALTED, abi::KVM_MP_STATE_INIT_RECEIVED, 77] {
        check_eq!(
            vcpu.try_set(request::SET_MP_STATE, &state(refused)),
            Err(Errno::EINVAL),
            "{refused}"
        );
    }
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let (first, second) = (vm.vcpu(0)?, vm.vcpu(1)?);
    check_eq!(
        first.get::<abi::kvm_mp_state>(request::GET_MP_STATE)?,
        state(abi::KVM_MP_STATE_RUNNABLE)
    );
    check_eq!(
        second.get::<abi::kvm_mp_state>(request::GET_MP_STATE)?,
        state(abi::KVM_MP_STATE_UNINITIALIZED)
    );
    for accepted in [
        abi::KVM_MP_STATE_HALTED,
        abi::KVM_MP_STATE_INIT_RECEIVED,
        abi::KVM_MP_STATE_UNINITIALIZED,
        abi::KVM_MP_STATE_RUNNABLE,
    ] {
        second
            .set(request::SET_MP_STATE, &state(accepted))
            .with_context(|| format!("{accepted}"))?;
        check_eq!(second.get::<abi::kvm_mp_state>(request::GET_MP_STATE)?, state(accepted));
    }
    // Not a state of x86's: stays what it is on the kernel's own modules, which don't look.
    if !module::is_kernels_own()? {
        check_eq!(second.try_set(request::SET_MP_STATE, &state(77)), Err(Errno::EINVAL));
    }
    Ok(())
}

/// The local APIC's registers.
fn lapic() -> Result<()> {
    let vm = Vm::new()?;
    let bare = vm.bare_vcpu(0)?;
    let none = request::take::<abi::kvm_lapic_state>(bare.file(), request::GET_LAPIC);
    check_eq!(none.err(), Some(Errno::EINVAL), "without a local APIC");
    let vm = Vm::new()?;
    vm.create_irqchip()?;
    let vcpu = vm.vcpu(3)?;
    let register = |state: &abi::kvm_lapic_state, at: usize| {
        u32::from_le_bytes(std::array::from_fn(|byte| state.regs[at + byte] as u8))
    };
    let mut state: abi::kvm_lapic_state = vcpu.get(request::GET_LAPIC)?;
    check_eq!(register(&state, 0x20), 3 << 24, "ID");
    check_eq!(register(&state, 0x30) & 0xff, 0x14, "version");
    check_eq!(register(&state, 0xf0), 0xff, "SPIV");
    check_eq!(register(&state, 0x320), 0x1_0000, "LVTT");
    let mut put = |at: usize, value: u32| {
        for (place, byte) in state.regs[at..].iter_mut().zip(value.to_le_bytes()) {
            *place = byte as _;
        }
    };
    put(0xf0, 0x1ff);
    put(0x80, 0x30);
    put(0xd0, 0x0800_0000);
    put(0x320, 0x2_0055);
    put(0x110, 1 << 5);
    put(0x3e0, 0xb);
    vcpu.set(request::SET_LAPIC, &state)?;
    let got: abi::kvm_lapic_state = vcpu.get(request::GET_LAPIC)?;
    for at in [0x20, 0x80, 0xd0, 0xf0, 0x110, 0x320, 0x3e0] {
        check_eq!(register(&got, at), register(&state, at), "register {at:x}");
    }
    Ok(())
}

/// GET_CPUID2 gives what SET_CPUID2 took; after the vCPU ran only the same again is taken.
fn cpuid() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.bare_vcpu(0)?;
    let mut list = vm.supported_cpuid()?;
    list.leaf_mut(0x4000_00f0, 0)?.ebx = 0x77;
    vcpu.set_cpuid(&list)?;
    let mut got = super::super::cpuid::Cpuid::room();
    request::exchange(vcpu.file(), request::GET_CPUID2, &mut got).context("KVM_GET_CPUID2")?;
    check_eq!(got.entries().len(), list.entries().len());
    check_eq!(got.find(0x4000_00f0, 0).map(|leaf| leaf.ebx), Some(0x77));
    let mut small = super::super::cpuid::Cpuid::room();
    small.clear();
    let refused = request::exchange(vcpu.file(), request::GET_CPUID2, &mut small);
    check_eq!(refused, Err(Errno::E2BIG), "no room");
    vcpu.start(Mode::Long, &[0xf4])?;
    vcpu.expect(&Exit::Hlt)?;
    vcpu.set_cpuid(&got).context("the same again after KVM_RUN")?;
    got.leaf_mut(0x4000_00f0, 0)?.ebx = 0x78;
    check_eq!(vcpu.try_set(request::SET_CPUID2, &got), Err(Errno::EINVAL), "another after KVM_RUN");
    Ok(())
}

/// MSRs by their ids, one at a time.
fn one_reg() -> Result<()> {
    const MSR: u64 = 0x2030_0002 << 32;
    const GET_ONE_REG: u32 = 0x4010_aeab;
    const SET_ONE_REG: u32 = 0x4010_aeac;
    const GET_REG_LIST: u32 = 0xc008_aeb0;
    const STAR: u64 = 0xc000_0081;
    let vm = Vm::new()?;
    vm.need(abi::KVM_CAP_ONE_REG, "KVM_CAP_ONE_REG")?;
    let vcpu = vm.vcpu(0)?;
    let ask = |ioctl: u32, id: u64, value: &mut u64| {
        let register = abi::kvm_one_reg { id, addr: std::ptr::from_mut(value) as u64 };
        request::give(vcpu.file(), ioctl, &register)
    };
    check_eq!(ask(SET_ONE_REG, MSR | STAR, &mut 0x1234_5678), Ok(0));
    check_eq!(vcpu.msr(STAR as u32)?, Some(0x1234_5678));
    ensure!(vcpu.set_msr(STAR as u32, 0x77)?, "STAR can't be set");
    let mut value = 0;
    check_eq!(ask(GET_ONE_REG, MSR | STAR, &mut value), Ok(0));
    check_eq!(value, 0x77);
    // A type that there isn't, 32 bits, another architecture; a memory type that there isn't.
    for id in [1 << 32, 0x2030_0001 << 32, 0x2020_0002 << 32 | STAR, 0x5030_0000_0000_0002] {
        check_eq!(ask(GET_ONE_REG, id, &mut value), Err(Errno::EINVAL), "{id:#x}");
    }
    ensure!(ask(SET_ONE_REG, MSR | 0x277, &mut 2) != Ok(0), "PAT takes anything");
    let mut list = [5u64, 0, 0, 0, 0, 0];
    request::exchange(vcpu.file(), GET_REG_LIST, &mut list).context("KVM_GET_REG_LIST")?;
    check_eq!(list[0], 0);
    Ok(())
}

/// KVM_TRANSLATE walks the guest's tables.
fn translate() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.long(&[0xf4])?;
    let translate = |address: u64| -> Result<(u64, u8)> {
        let mut query = abi::kvm_translation { linear_address: address, ..Default::default() };
        request::exchange(vcpu.file(), request::TRANSLATE, &mut query).context("KVM_TRANSLATE")?;
        Ok((query.physical_address, query.valid))
    };
    check_eq!(translate(0x12_3456)?, (0x12_3456, 1));
    mode::map_page(vm.ram(), 0x12_3000, 0x7_8000 | mode::PTE, mode::MORE_TABLES)?;
    check_eq!(translate(0x12_3456)?, (0x7_8456, 1));
    check_eq!(translate(1 << 40)?.1, 0);
    // Without paging all is as it is, but for what no address can be.
    vcpu.start(Mode::Flat, &[0xf4])?;
    check_eq!(translate(0x12_3456)?, (0x12_3456, 1));
    check_eq!(translate(u64::MAX)?, (u64::MAX, 0));
    Ok(())
}
