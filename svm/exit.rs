// SPDX-License-Identifier: GPL-2.0
//! From an exit code to its handler.

use crate::{
    control::{NmiState, SvmControl},
    params,
    setup::Svm,
};
use kernel::prelude::*;
use kvm_emulate::Exception;
use kvm_paging::{addr::Gpa, entry::Access};
use kvm_uapi::run::{self, reason, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON};
use kvm_x86::{
    control::Control,
    emulate,
    exit::{self, page_fault::Touched, port::PortAccess},
    outcome::Next,
    state::Cx,
    userspace,
    vendor::Quick,
};
use svm_arch::{
    exit::{Exit, IoAccess, NestedFault},
    intercept::Intercept,
};
use x86_defs::{Dr6, Vector};

/// Exits that may be over at once.
#[inline]
pub(crate) fn quick(control: &SvmControl) -> Option<Quick> {
    if control.stepping.is_some() || matches!(control.nmi, NmiState::Returning(_)) {
        return None;
    }
    match control.vmcb().control.exit_code {
        Exit::CPUID => Some(Quick::Cpuid),
        Exit::MSR if is_msr_read(control) => Some(Quick::ReadMsr),
        Exit::MSR => Some(Quick::WriteMsr),
        Exit::IO => Some(Quick::Port(port_access(control))),
        Exit::NESTED_PAGE_FAULT => device_access(control).map(Quick::Device),
        Exit::VMMCALL => Some(Quick::Hypercall),
        Exit::WBINVD | Exit::INVD => Some(Quick::Nothing),
        Exit::PAUSE => Some(Quick::Pause),
        Exit::INTERRUPT_WINDOW => Some(Quick::Window),
        _ => None,
    }
}

/// The access that a nested page fault is for, if it is an instruction's to a device.
fn device_access(control: &SvmControl) -> Option<Touched> {
    let block = &control.vmcb().control;
    let is_marked = NestedFault::from_bits_truncate(block.exit_info_1)
        .contains(NestedFault::RESERVED | NestedFault::FINAL);
    (is_marked && block.exit_int_info.get().is_none()).then(|| touched(control))
}

/// Does what the exit asks for.
pub(crate) fn handle(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    step_over(&mut cx.state.control, &mut cx.state.events.check);
    let exit = cx.state.control.exit();
    match exit {
        // The host took it when interrupts came on.
        Exit::Interrupt => {
            cx.vcpu.stats().arch.irq_exits.add(1);
            Ok(Next::Resume)
        }
        Exit::Nmi | Exit::Smi => Ok(Next::Resume),
        Exit::NestedPageFault => nested_page_fault(cx),
        Exit::Msr => msr(cx),
        Exit::Cpuid => exit::cpuid::handle(cx),
        Exit::Hlt => exit::halt::handle(cx),
        Exit::Io => {
            let access = port_access(&cx.state.control);
            exit::port::handle(cx, access)
        }
        Exit::InterruptWindow => exit::window::handle(cx),
        Exit::Svm(VMMCALL) => exit::hypercall::handle(cx),
        Exit::Pause => exit::pause::handle(cx),
        Exit::Wbinvd | Exit::Invd => emulate::skip(cx),
        Exit::Monitor | Exit::Mwait | Exit::MwaitArmed => exit::mwait::handle(cx),
        Exit::ReadCr(_) | Exit::WriteCr(_) | Exit::WriteCr0Selective => emulate::instruction(cx),
        Exit::ReadDr(_) | Exit::WriteDr(_) => exit::debug::access(cx),
        Exit::Xsetbv | Exit::Rdpmc => emulate::instruction(cx),
        Exit::Iret => {
            cx.vcpu.stats().arch.nmi_window_exits.add(1);
            iret(&mut cx.state.control);
            // What waits needs another window now.
            cx.state.events.check = true;
            Ok(Next::Resume)
        }
        Exit::Exception(vector) => exception(cx, vector),
        Exit::TaskSwitch => exit::task_switch::handle(cx, &switch(&cx.state.control)),
        Exit::Shutdown => userspace::exit(cx, reason::KVM_EXIT_SHUTDOWN),
        Exit::Rsm => exit::smm::rsm(cx),
        Exit::Svm(_) | Exit::Invlpga | Exit::Rdpru => {
            cx.state.events.raise(Exception::new(Vector::Ud));
            Ok(Next::Resume)
        }
        Exit::Init => Ok(Next::Resume),
        Exit::FerrFreeze => Ok(Next::Resume),
        Exit::Invalid => refused(cx),
        _ => unexpected(cx),
    }
}

/// VMMCALL among the instructions of [`Exit::Svm`].
const VMMCALL: u8 = 1;

/// The window of an NMI may be open, after one instruction.
fn step_over(control: &mut SvmControl, check: &mut bool) {
    if let NmiState::Returning(from) = control.nmi {
        if control.rip() != from {
            control.set_nmi_blocked(false);
            *check = true;
        }
    }
}

/// IRET is about to end an NMI handler: NMIs stay blocked until it is done.
fn iret(control: &mut SvmControl) {
    if let Some(iret) = Intercept::by_code(0x74) {
        control.intercept(iret, false);
    }
    control.nmi = NmiState::Returning(control.rip());
}

/// What a nested page fault says.
fn touched(control: &SvmControl) -> Touched {
    let block = &control.vmcb().control;
    let fault = NestedFault::from_bits_truncate(block.exit_info_1);
    let gpa = Gpa::new(block.exit_info_2);
    let access = if fault.contains(NestedFault::WRITE) {
        Access::WRITE
    } else if fault.contains(NestedFault::FETCH) {
        Access::EXEC
    } else {
        Access::READ
    };
    Touched { gpa, access, is_final: fault.contains(NestedFault::FINAL) }
}

fn nested_page_fault(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    let touched = touched(&cx.state.control);
    let fault = NestedFault::from_bits_truncate(cx.state.control.vmcb().control.exit_info_1);
    if fault.contains(NestedFault::RESERVED) {
        return exit::page_fault::mmio(cx, touched);
    }
    exit::page_fault::handle(cx, touched)
}

/// Whether an exit for an MSR is for RDMSR.
fn is_msr_read(control: &SvmControl) -> bool {
    control.vmcb().control.exit_info_1 == 0
}

fn msr(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    if is_msr_read(&cx.state.control) {
        exit::msr::read(cx)
    } else {
        exit::msr::write(cx)
    }
}

/// What an exit for a port says.
fn port_access(control: &SvmControl) -> PortAccess {
    let block = &control.vmcb().control;
    let io = IoAccess(block.exit_info_1 as u32);
    PortAccess {
        port: io.port(),
        size: io.size(),
        is_in: io.is_in(),
        is_string: io.is_string(),
        // APM vol. 2, 15.10.2: the address of the next instruction.
        next: block.exit_info_2,
    }
}

fn exception(cx: &mut Cx<'_, Svm>, vector: u8) -> Result<Next> {
    const DB: u8 = Vector::Db as u8;
    const BP: u8 = Vector::Bp as u8;
    const UD: u8 = Vector::Ud as u8;
    const AC: u8 = Vector::Ac as u8;
    const MC: u8 = Vector::Mc as u8;
    match vector {
        DB => debug(cx),
        BP => exit::debug::breakpoint(cx),
        UD => exit::undefined::handle(cx),
        AC => {
            let code = cx.state.control.vmcb().control.exit_info_1 as u32;
            cx.state.events.raise(Exception::with_code(Vector::Ac, code));
            Ok(Next::Resume)
        }
        // The host's handler has run.
        MC => Ok(Next::Resume),
        _ => unexpected(cx),
    }
}

fn debug(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    let control = &mut cx.state.control;
    if control.stepping.is_some() {
        let own = control.rflags();
        control.stop_stepping();
        cx.state.events.check = true;
        // A step that the guest wanted as well goes on below.
        if !own.contains(x86_defs::Rflags::TF) && !cx.state.debug.is_stepping() {
            return Ok(Next::Resume);
        }
    }
    let dr6 = Dr6::from_bits_retain(cx.state.control.dr6());
    exit::debug::handle(cx, dr6)
}

fn switch(control: &SvmControl) -> exit::task_switch::Switch {
    const FROM_IRET: u64 = 1 << 36;
    const FROM_JMP: u64 = 1 << 38;
    const HAS_ERROR_CODE: u64 = 1 << 44;
    let block = &control.vmcb().control;
    let info = block.exit_info_2;
    exit::task_switch::Switch {
        selector: block.exit_info_1 as u16,
        is_iret: info & FROM_IRET != 0,
        is_jmp: info & FROM_JMP != 0,
        error_code: (info & HAS_ERROR_CODE != 0).then_some(info as u32),
    }
}

/// The processor didn't accept the block.
fn refused(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    if params::DUMP_INVALID_VMCB.get() {
        pr_warn!("the processor refuses the control block, which has:\n");
        for (name, value) in cx.state.control.vmcb().named() {
            pr_warn!("{}: {:#x}\n", name, value);
        }
        for (name, segment) in cx.state.control.vmcb().save.segments() {
            let (selector, attributes) = (segment.selector, segment.attributes);
            let (limit, base) = (segment.limit, segment.base);
            pr_warn!("{}: {:#x} {:#x} {:#x} {:#x}\n", name, selector, attributes, limit, base);
        }
    }
    let failure = run::FailEntry {
        hardware_entry_failure_reason: cx.state.control.vmcb().control.exit_code,
        cpu: kernel::cpu::CpuId::current().as_u32(),
        pad: 0,
    };
    userspace::exit_with(cx, reason::KVM_EXIT_FAIL_ENTRY, failure)
}

fn unexpected(cx: &mut Cx<'_, Svm>) -> Result<Next> {
    let code = cx.state.control.vmcb().control.exit_code;
    let cpu = kernel::cpu::CpuId::current().as_u32();
    userspace::internal_error(cx, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, &[code, cpu.into()])
}
