// SPDX-License-Identifier: GPL-2.0
//! System-management mode: into it at an SMI, out of it by RSM.
//!
//! In it the vCPU is in the VM's second address space, where the VMM puts memory
//! that only the handler sees. What is saved and loaded is [`kvm_policy::smm`]'s.

use crate::{
    control::Control,
    debug,
    ioctl::events::{shadow_bits, shadow_of_bits},
    registers,
    state::{Cx, VcpuState},
    vendor::Vendor,
};
use kernel::error::Result;
use kvm_emulate::{Shadow, Table};
use kvm_paging::addr::Gpa;
use kvm_policy::{
    control::Change,
    feature::Feature as F,
    smm::{entry_control, entry_cs, entry_data, SmmState, ENTRY_RIP, OFFSET, SIZE},
};
use x86_defs::{Rflags, SegReg, TableReg};

/// A vCPU's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smm {
    active: bool,
    /// The SMI came while the guest handled an NMI.
    inside_nmi: bool,
}

impl Smm {
    /// Whether the vCPU is in system-management mode, and in the second address
    /// space.
    #[inline]
    pub fn is_active(self) -> bool {
        self.active
    }

    /// Whether NMIs stay blocked after RSM.
    pub(crate) fn is_inside_nmi(self) -> bool {
        self.inside_nmi
    }
}

/// All segment registers.
const SEGMENTS: [SegReg; 8] = [
    SegReg::Es,
    SegReg::Cs,
    SegReg::Ss,
    SegReg::Ds,
    SegReg::Fs,
    SegReg::Gs,
    SegReg::Ldtr,
    SegReg::Tr,
];

/// Moves the vCPU to the other address space, as userspace or the processor says.
///
/// # Errors
///
/// Those of [`kvm_core::vm::Vm::second_memory`].
pub(crate) fn change<V: Vendor>(cx: &mut Cx<'_, V>, active: bool, inside_nmi: bool) -> Result {
    let root = if active { cx.vm.second_memory()?.root() } else { cx.vm.memory().root() };
    let state = &mut *cx.state;
    if state.smm.active != active {
        state.memory.moved();
        state.control.set_tables(root);
        state.control.flush_tlb();
        // An SMI, or INIT, may have waited for RSM.
        state.events.check = true;
    }
    state.smm = Smm { active, inside_nmi: active && inside_nmi };
    Ok(())
}

/// Takes an SMI. A processor that can't save its state shuts down.
#[cold]
pub(crate) fn enter<V: Vendor>(cx: &mut Cx<'_, V>) {
    cx.state.msrs.count_smi();
    let saved = save(cx.state);
    let image = if has_long_mode(cx.state) { saved.to_image64() } else { saved.to_image32() };
    let area = Gpa::new(cx.state.smbase.wrapping_add(OFFSET));
    let inside_nmi = cx.state.control.nmi_blocked();
    let is_saved = change(cx, true, inside_nmi)
        .and_then(|()| cx.vm.memory_of(true).guest().by(cx.vcpu.index()).write(area, &image));
    if is_saved.is_err() {
        cx.state.events.triple_fault = true;
        return;
    }
    begin(cx);
}

/// The state that the handler starts with (SDM vol. 3, 33.5.1).
fn begin<V: Vendor>(cx: &mut Cx<'_, V>) {
    let control = entry_control(&registers::all(cx.state));
    // Nothing that has to be read from memory.
    let _ = registers::commit(cx, control, Change::PAGING | Change::FLUSH_ALL);
    let state = &mut *cx.state;
    state.control.set_nmi_blocked(true);
    state.control.set_rflags(Rflags::FIXED);
    state.control.set_rip(ENTRY_RIP);
    state.control.set_shadow(Shadow::None);
    state.control.set_table(Table::Idt, TableReg { base: 0, limit: 0 });
    for reg in SegReg::USER {
        state.control.set_segment(reg, &entry_data());
    }
    state.control.set_segment(SegReg::Cs, &entry_cs(state.smbase as u32));
    state.control.set_cpl(0);
    state.debug.dr7 = debug::DR7_FIXED;
    state.debug.load(&mut state.control);
}

fn has_long_mode<V: Vendor>(state: &VcpuState<V>) -> bool {
    state.cpuid.has(F::LM)
}

fn save<V: Vendor>(state: &VcpuState<V>) -> SmmState {
    let control = &state.control;
    let mut saved = SmmState {
        gprs: state.gprs,
        rip: control.rip(),
        rflags: control.rflags().bits(),
        cr0: control.cr0().bits(),
        cr3: control.cr3(),
        cr4: control.cr4().bits(),
        efer: control.efer().bits(),
        dr6: state.debug.dr6,
        dr7: state.debug.dr7,
        gdt: control.table(Table::Gdt),
        idt: control.table(Table::Idt),
        smbase: state.smbase as u32,
        interrupt_shadow: shadow_bits::<V>(control.shadow()),
        ..SmmState::default()
    };
    for (reg, slot) in SEGMENTS.into_iter().zip(&mut saved.segments) {
        *slot = control.segment(reg);
    }
    saved
}

/// RSM in the handler: goes on with what was interrupted. A state that can't be
/// shuts the processor down.
#[cold]
pub(crate) fn leave<V: Vendor>(cx: &mut Cx<'_, V>) {
    if resume(cx).is_none() {
        cx.state.events.triple_fault = true;
    }
}

fn resume<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<()> {
    let mut image = [0; SIZE];
    let area = Gpa::new(cx.state.smbase.wrapping_add(OFFSET));
    cx.vm.memory_of(true).read(area, &mut image).ok()?;
    if !cx.state.smm.inside_nmi {
        cx.state.control.set_nmi_blocked(false);
    }
    change(cx, false, false).ok()?;
    let long = has_long_mode(cx.state);
    let saved = if long { SmmState::from_image64(&image) } else { SmmState::from_image32(&image) };
    let (control, change) = saved.resume(&cx.state.cpuid.features).ok()?;
    // The layout without long mode has only the first eight registers.
    let count = if long { 16 } else { 8 };
    let gprs = cx.state.gprs.iter_mut().zip(saved.gprs).take(count);
    gprs.for_each(|(gpr, value)| *gpr = value);
    load(cx.state, &saved)?;
    let paged = change | Change::FLUSH_ALL;
    registers::commit(cx, control, paged).ok()
}

/// Everything but the general and the control registers.
fn load<V: Vendor>(state: &mut VcpuState<V>, saved: &SmmState) -> Option<()> {
    let control = &mut state.control;
    state.debug.write(control, 6, saved.dr6).ok()?;
    state.debug.write(control, 7, saved.dr7).ok()?;
    for (reg, segment) in SEGMENTS.into_iter().zip(&saved.segments) {
        control.set_segment(reg, segment);
    }
    control.set_table(Table::Gdt, saved.gdt);
    control.set_table(Table::Idt, saved.idt);
    control.set_rip(saved.rip);
    control.set_rflags(Rflags::from_bits_retain(saved.rflags) | Rflags::FIXED);
    control.set_shadow(shadow_of_bits(saved.interrupt_shadow));
    state.smbase = saved.smbase.into();
    state.events.check = true;
    Some(())
}
