// SPDX-License-Identifier: GPL-2.0
//! State of an x86 vCPU and of the in-kernel devices of a PC.

crate::layout::abi_structs! {
    list for_each_x86_struct;

    /// General registers.
    Regs = kvm_regs {
        rax: u64, rbx: u64, rcx: u64, rdx: u64,
        rsi: u64, rdi: u64, rsp: u64, rbp: u64,
        r8: u64, r9: u64, r10: u64, r11: u64,
        r12: u64, r13: u64, r14: u64, r15: u64,
        rip: u64, rflags: u64,
    }
    /// A segment register with its hidden part.
    Segment = kvm_segment {
        base: u64,
        limit: u32,
        selector: u16,
        type_: u8,
        present: u8, dpl: u8, db: u8, s: u8, l: u8, g: u8, avl: u8,
        unusable: u8,
        padding: u8,
    }
    /// GDTR or IDTR.
    Dtable = kvm_dtable {
        base: u64,
        limit: u16,
        padding: [u16; 3],
    }
    /// Segments, control registers and a pending external interrupt.
    Sregs = kvm_sregs {
        cs: Segment, ds: Segment, es: Segment, fs: Segment, gs: Segment, ss: Segment,
        tr: Segment, ldt: Segment,
        gdt: Dtable, idt: Dtable,
        cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64,
        efer: u64,
        apic_base: u64,
        interrupt_bitmap: [u64; 4],
    }
    /// Segments, control registers and the page-directory pointers of PAE paging.
    Sregs2 = kvm_sregs2 {
        cs: Segment, ds: Segment, es: Segment, fs: Segment, gs: Segment, ss: Segment,
        tr: Segment, ldt: Segment,
        gdt: Dtable, idt: Dtable,
        cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64,
        efer: u64,
        apic_base: u64,
        flags: u64,
        pdptrs: [u64; 4],
    }
    /// x87 and SSE registers.
    Fpu = kvm_fpu {
        fpr: [[u8; 16]; 8],
        fcw: u16,
        fsw: u16,
        ftwx: u8,
        pad1: u8,
        last_opcode: u16,
        last_ip: u64,
        last_dp: u64,
        xmm: [[u8; 16]; 16],
        mxcsr: u32,
        pad2: u32,
    }
    /// The XSAVE area, as far as it fits 4 KiB.
    Xsave = kvm_xsave {
        region: [u32; 1024],
    }
    /// An extended control register.
    Xcr = kvm_xcr {
        xcr: u32,
        reserved: u32,
        value: u64,
    }
    /// The extended control registers.
    Xcrs = kvm_xcrs {
        nr_xcrs: u32,
        flags: u32,
        xcrs: [Xcr; 16],
        padding: [u64; 16],
    }
    /// Debug registers.
    Debugregs = kvm_debugregs {
        db: [u64; 4],
        dr6: u64,
        dr7: u64,
        flags: u64,
        reserved: [u64; 9],
    }
    /// Debug registers that a debugger sets.
    GuestDebugArch = kvm_guest_debug_arch {
        debugreg: [u64; 8],
    }
    /// What a debugger wants.
    GuestDebug = kvm_guest_debug {
        control: u32,
        pad: u32,
        arch: GuestDebugArch,
    }
    /// An exception that waits (`pending`) or was interrupted (`injected`).
    EventException = kvm_vcpu_events__bindgen_ty_1 {
        injected: u8, nr: u8, has_error_code: u8, pending: u8,
        error_code: u32,
    }
    /// An interrupt that was interrupted, and what blocks interrupts.
    EventInterrupt = kvm_vcpu_events__bindgen_ty_2 {
        injected: u8, nr: u8, soft: u8, shadow: u8,
    }
    /// NMIs that wait or were interrupted, and whether they are blocked.
    EventNmi = kvm_vcpu_events__bindgen_ty_3 {
        injected: u8, pending: u8, masked: u8, pad: u8,
    }
    /// System-management mode.
    EventSmi = kvm_vcpu_events__bindgen_ty_4 {
        smm: u8, pending: u8, smm_inside_nmi: u8, latched_init: u8,
    }
    /// A triple fault that waits.
    EventTripleFault = kvm_vcpu_events__bindgen_ty_5 {
        pending: u8,
    }
    /// What waits for delivery.
    VcpuEvents = kvm_vcpu_events {
        exception: EventException,
        interrupt: EventInterrupt,
        nmi: EventNmi,
        sipi_vector: u32,
        flags: u32,
        smi: EventSmi,
        triple_fault: EventTripleFault,
        reserved: [u8; 26],
        exception_has_payload: u8,
        exception_payload: u64,
    }
    /// A machine check.
    X86Mce = kvm_x86_mce {
        status: u64, addr: u64, misc: u64, mcg_status: u64,
        bank: u8,
        pad1: [u8; 7],
        pad2: [u64; 3],
    }
    /// The head of a list of MSRs; [`MsrEntry`]s follow.
    Msrs = kvm_msrs {
        nmsrs: u32,
        pad: u32,
        __bindgen_anon_1: [MsrEntry; 0],
    }
    /// An MSR and its value.
    MsrEntry = kvm_msr_entry {
        index: u32,
        reserved: u32,
        data: u64,
    }
    /// The head of a list of MSR numbers, 32 bits each.
    MsrList = kvm_msr_list {
        nmsrs: u32,
    }
    /// The head of a list of CPUID leaves; [`CpuidEntry2`]s follow.
    Cpuid2 = kvm_cpuid2 {
        nent: u32,
        padding: u32,
    }
    /// A CPUID leaf.
    CpuidEntry2 = kvm_cpuid_entry2 {
        function: u32,
        index: u32,
        flags: u32,
        eax: u32, ebx: u32, ecx: u32, edx: u32,
        padding: [u32; 3],
    }
    /// The registers of the local APIC, 16 bytes apart as in memory.
    LapicState = kvm_lapic_state {
        regs: [u8; 1024],
    }
    /// One 8259.
    PicState = kvm_pic_state {
        last_irr: u8, irr: u8, imr: u8, isr: u8,
        priority_add: u8, irq_base: u8, read_reg_select: u8, poll: u8,
        special_mask: u8, init_state: u8, auto_eoi: u8, rotate_on_auto_eoi: u8,
        special_fully_nested_mode: u8, init4: u8, elcr: u8, elcr_mask: u8,
    }
    /// The IOAPIC.
    IoapicState = kvm_ioapic_state {
        base_address: u64,
        ioregsel: u32,
        id: u32,
        irr: u32,
        pad: u32,
        redirtbl: [u64; 24],
    }
    /// An interrupt controller: [`PicState`] or [`IoapicState`], as `chip_id` says.
    Irqchip = kvm_irqchip {
        chip_id: u32,
        pad: u32,
        chip: [u64; 64],
    }
    /// Where a guest's word of task priorities is.
    VapicAddr = kvm_vapic_addr {
        vapic_addr: u64,
    }
    /// Whether accesses to the TPR are reported.
    TprAccessCtl = kvm_tpr_access_ctl {
        enabled: u32,
        flags: u32,
        reserved: [u32; 8],
    }
    /// Whether missed ticks of the 8254 come later.
    ReinjectControl = kvm_reinject_control {
        pit_reinject: u8,
        reserved: [u8; 31],
    }
    /// How an 8254 is made.
    PitConfig = kvm_pit_config {
        flags: u32,
        pad: [u32; 15],
    }
    /// A channel of the 8254.
    PitChannelState = kvm_pit_channel_state {
        count: u32,
        latched_count: u16,
        count_latched: u8, status_latched: u8, status: u8, read_state: u8,
        write_state: u8, write_latch: u8, rw_mode: u8, mode: u8, bcd: u8, gate: u8,
        count_load_time: i64,
    }
    /// The channels of the 8254.
    PitState = kvm_pit_state {
        channels: [PitChannelState; 3],
    }
    /// The 8254 with its flags.
    PitState2 = kvm_pit_state2 {
        channels: [PitChannelState; 3],
        flags: u32,
        reserved: [u32; 9],
    }
}
