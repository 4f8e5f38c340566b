// SPDX-License-Identifier: GPL-2.0
//! The virtual machine control block (APM vol. 2, appendix B).
//!
//! Two parts in one page: the control area says what the guest may do and why it
//! stopped, the state-save area holds the guest's registers that VMRUN loads and
//! #VMEXIT stores. Offsets are the manual's and are checked below.

use crate::event::Event;
use bitflags::bitflags;
use static_assertions::const_assert_eq;

/// Bits of the VMCB that the processor may keep from the last run (15.15.1):
/// a set bit promises that software didn't change the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clean(u32);

bitflags! {
    impl Clean: u32 {
        /// Intercept vectors, TSC offset, PAUSE filter.
        const INTERCEPTS = 1 << 0;
        /// Bases of the I/O and MSR permission maps.
        const PERMISSION_MAPS = 1 << 1;
        /// ASID.
        const ASID = 1 << 2;
        /// Virtual interrupt control.
        const VIRTUAL_INTERRUPTS = 1 << 3;
        /// Nested paging: nested CR3, guest PAT.
        const NESTED_PAGING = 1 << 4;
        /// CR0, CR3, CR4, EFER.
        const CONTROL_REGISTERS = 1 << 5;
        /// DR6, DR7.
        const DEBUG_REGISTERS = 1 << 6;
        /// GDT and IDT.
        const DESCRIPTOR_TABLES = 1 << 7;
        /// CS, DS, SS, ES and CPL.
        const SEGMENTS = 1 << 8;
        /// CR2.
        const CR2 = 1 << 9;
        /// Last-branch records.
        const LBR = 1 << 10;
        /// AVIC pointers.
        const AVIC = 1 << 11;
        /// Shadow-stack state.
        const CET = 1 << 12;
    }
}

/// `tlb_control` (15.16.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TlbControl {
    /// Nothing is flushed.
    Nothing = 0,
    /// All entries of all ASIDs.
    All = 1,
    /// The entries of this guest's ASID; needs flush-by-ASID.
    Guest = 3,
}

/// Fields of `virtual_interrupts` besides the two numbers (15.21.4, 15.25.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualInterrupts(u64);

bitflags! {
    impl VirtualInterrupts: u64 {
        /// A virtual interrupt is pending.
        const IRQ = 1 << 8;
        /// The virtual global interrupt flag's value.
        const GIF = 1 << 9;
        /// A virtual NMI is pending.
        const NMI = 1 << 11;
        /// Virtual NMIs are masked.
        const NMI_MASK = 1 << 12;
        /// The virtual interrupt's priority doesn't count.
        const IGNORE_TPR = 1 << 20;
        /// RFLAGS.IF of the guest masks virtual interrupts only.
        const MASKING = 1 << 24;
        /// STGI and CLGI act on the virtual flag.
        const GIF_ENABLE = 1 << 25;
        /// Virtual NMIs are on.
        const NMI_ENABLE = 1 << 26;
    }
}

/// The control area, 1 KiB.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Control {
    /// Intercept vectors 0 to 5: see [`crate::intercept`].
    pub intercepts: [u32; 6],
    reserved_018: [u32; 9],
    /// PAUSEs of one burst may be this many TSC ticks apart.
    pub pause_filter_threshold: u16,
    /// PAUSEs until an intercept.
    pub pause_filter_count: u16,
    /// Physical address of the I/O permission map, 12 KiB.
    pub iopm_base: u64,
    /// Physical address of the MSR permission map, 8 KiB.
    pub msrpm_base: u64,
    /// Added to the TSC when the guest reads it.
    pub tsc_offset: u64,
    /// Address space identifier; 0 is the host's.
    pub asid: u32,
    /// [`TlbControl`].
    pub tlb_control: u8,
    reserved_05d: [u8; 3],
    /// [`VirtualInterrupts`]; the virtual TPR in bits 0–7, the vector in 32–39.
    pub virtual_interrupts: u64,
    /// Bit 0: the guest is in an interrupt shadow. Bit 1: RFLAGS.IF of the guest
    /// as it was at the exit.
    pub interrupt_shadow: u64,
    /// Why the guest stopped: [`crate::exit::Exit`].
    pub exit_code: u64,
    /// More about that.
    pub exit_info_1: u64,
    /// Still more.
    pub exit_info_2: u64,
    /// The event whose delivery was interrupted by the exit.
    pub exit_int_info: Event,
    /// Bit 0: nested paging. Others: encryption, shadow-stack checks.
    pub nested_control: u64,
    /// AVIC: base of the guest's APIC.
    pub avic_apic_bar: u64,
    /// Encrypted guests: physical address of the communication block.
    pub ghcb: u64,
    /// An event to deliver on entry.
    pub event_injection: Event,
    /// Physical address of the root of the nested tables.
    pub nested_cr3: u64,
    /// Bit 0: LBR virtualization. Bit 1: virtualized VMLOAD and VMSAVE.
    pub virtual_extensions: u64,
    /// [`Clean`].
    pub clean: u32,
    reserved_0c4: u32,
    /// Address of the instruction after the intercepted one; with next-RIP save.
    pub next_rip: u64,
    /// Number of instruction bytes that follow; with decode assists.
    pub fetched: u8,
    /// Bytes of the instruction; with decode assists.
    pub instruction: [u8; 15],
    /// AVIC: the vCPU's register page.
    pub avic_backing_page: u64,
    reserved_0e8: u64,
    /// AVIC: logical identifier table.
    pub avic_logical_table: u64,
    /// AVIC: physical identifier table.
    pub avic_physical_table: u64,
    reserved_100: [u64; 96],
}

/// A segment register with its hidden part, as the save area has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Visible selector.
    pub selector: u16,
    /// Type, S, DPL, P in bits 0–7; AVL, L, D/B, G in bits 8–11.
    pub attributes: u16,
    /// Bytes minus one, granularity applied.
    pub limit: u32,
    /// Linear base.
    pub base: u64,
}

/// The state-save area of a guest that isn't encrypted.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Save {
    /// Data segment ES.
    pub es: Segment,
    /// Code segment.
    pub cs: Segment,
    /// Stack segment.
    pub ss: Segment,
    /// Data segment DS.
    pub ds: Segment,
    /// Data segment FS; VMLOAD and VMSAVE move it.
    pub fs: Segment,
    /// Data segment GS; VMLOAD and VMSAVE move it.
    pub gs: Segment,
    /// Global descriptor table: base and limit.
    pub gdtr: Segment,
    /// Local descriptor table; VMLOAD and VMSAVE move it.
    pub ldtr: Segment,
    /// Interrupt descriptor table: base and limit.
    pub idtr: Segment,
    /// Task register; VMLOAD and VMSAVE move it.
    pub tr: Segment,
    reserved_0a0: [u8; 43],
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    reserved_0cc: u32,
    /// Extended features; SVME must be 1.
    pub efer: u64,
    reserved_0d8: [u64; 14],
    /// CR4.
    pub cr4: u64,
    /// CR3.
    pub cr3: u64,
    /// CR0.
    pub cr0: u64,
    /// DR7.
    pub dr7: u64,
    /// DR6.
    pub dr6: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    reserved_180: [u64; 11],
    /// RSP.
    pub rsp: u64,
    /// Shadow stacks: S_CET, SSP, interrupt SSP table.
    pub shadow_stack: [u64; 3],
    /// RAX; all other general registers are software's.
    pub rax: u64,
    /// STAR; VMLOAD and VMSAVE move it.
    pub star: u64,
    /// LSTAR; VMLOAD and VMSAVE move it.
    pub lstar: u64,
    /// CSTAR; VMLOAD and VMSAVE move it.
    pub cstar: u64,
    /// SFMASK; VMLOAD and VMSAVE move it.
    pub sfmask: u64,
    /// KernelGSBase; VMLOAD and VMSAVE move it.
    pub kernel_gs_base: u64,
    /// SYSENTER_CS; VMLOAD and VMSAVE move it.
    pub sysenter_cs: u64,
    /// SYSENTER_ESP; VMLOAD and VMSAVE move it.
    pub sysenter_esp: u64,
    /// SYSENTER_EIP; VMLOAD and VMSAVE move it.
    pub sysenter_eip: u64,
    /// CR2.
    pub cr2: u64,
    reserved_248: [u64; 4],
    /// The guest's PAT; only with nested paging.
    pub pat: u64,
    /// DebugCtl; only with LBR virtualization.
    pub debug_control: u64,
    /// Last branch from and to, last interrupt from and to.
    pub last_branch: [u64; 4],
    reserved_298: [u64; 9],
    /// SPEC_CTRL; with its virtualization.
    pub spec_control: u64,
    reserved_2e8: [u64; 291],
}

/// A whole VMCB. The processor wants it page aligned.
#[repr(C, align(4096))]
#[derive(Clone, Debug)]
pub struct Vmcb {
    /// Control area.
    pub control: Control,
    /// State-save area.
    pub save: Save,
}

const_assert_eq!(size_of::<Control>(), 0x400);
const_assert_eq!(size_of::<Save>(), 0xc00);
const_assert_eq!(size_of::<Vmcb>(), 0x1000);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn control_fields_are_where_the_manual_has_them() {
        let fields = [
            (offset_of!(Control, pause_filter_threshold), 0x03c),
            (offset_of!(Control, pause_filter_count), 0x03e),
            (offset_of!(Control, iopm_base), 0x040),
            (offset_of!(Control, tsc_offset), 0x050),
            (offset_of!(Control, asid), 0x058),
            (offset_of!(Control, tlb_control), 0x05c),
            (offset_of!(Control, virtual_interrupts), 0x060),
            (offset_of!(Control, interrupt_shadow), 0x068),
            (offset_of!(Control, exit_code), 0x070),
            (offset_of!(Control, exit_int_info), 0x088),
            (offset_of!(Control, nested_control), 0x090),
            (offset_of!(Control, avic_apic_bar), 0x098),
            (offset_of!(Control, event_injection), 0x0a8),
            (offset_of!(Control, nested_cr3), 0x0b0),
            (offset_of!(Control, virtual_extensions), 0x0b8),
            (offset_of!(Control, clean), 0x0c0),
            (offset_of!(Control, next_rip), 0x0c8),
            (offset_of!(Control, fetched), 0x0d0),
            (offset_of!(Control, avic_backing_page), 0x0e0),
            (offset_of!(Control, avic_logical_table), 0x0f0),
            (offset_of!(Control, avic_physical_table), 0x0f8),
        ];
        for (ours, manual) in fields {
            assert_eq!(ours, manual);
        }
    }

    #[test]
    fn save_fields_are_where_the_manual_has_them() {
        let fields = [
            (offset_of!(Save, cs), 0x010),
            (offset_of!(Save, gdtr), 0x060),
            (offset_of!(Save, tr), 0x090),
            (offset_of!(Save, cpl), 0x0cb),
            (offset_of!(Save, efer), 0x0d0),
            (offset_of!(Save, cr4), 0x148),
            (offset_of!(Save, rflags), 0x170),
            (offset_of!(Save, rip), 0x178),
            (offset_of!(Save, rsp), 0x1d8),
            (offset_of!(Save, rax), 0x1f8),
            (offset_of!(Save, star), 0x200),
            (offset_of!(Save, kernel_gs_base), 0x220),
            (offset_of!(Save, cr2), 0x240),
            (offset_of!(Save, pat), 0x268),
            (offset_of!(Save, debug_control), 0x270),
            (offset_of!(Save, spec_control), 0x2e0),
        ];
        for (ours, manual) in fields {
            assert_eq!(ours, manual);
        }
    }
}
