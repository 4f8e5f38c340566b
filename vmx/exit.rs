// SPDX-License-Identifier: GPL-2.0
//! From an exit reason to its handler.

use crate::{control::VmxControl, l1d, params, refusal, setup::Vmx};
use kernel::prelude::*;
use kvm_emulate::{Exception, Stop};
use kvm_paging::{addr::Gpa, entry::Access};
use kvm_uapi::run::{self, reason, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON};
use kvm_x86::{
    apic::page,
    control::Control,
    emulate,
    exit::{self, page_fault::Touched, port::PortAccess},
    inject::Injected,
    outcome::Next,
    registers,
    state::Cx,
    userspace,
    vendor::Quick,
};
use vmx_arch::{
    control::Primary,
    event::{Event, Kind},
    exit::{
        ApicAccess, ApicAccessKind, CrAccess, EptViolation, Exit, IoAccess, Reason, TaskSwitch,
        DEBUG_CAUSES,
    },
    field::Slot,
};
use x86_defs::{Dr6, Vector, DR6_FIXED_1};

/// Exits that may be over at once.
#[inline]
pub(crate) fn quick(control: &VmxControl) -> Option<Quick> {
    let reason = control.reason.filter(|reason| !reason.is_failed_entry())?;
    let exit = reason.exit();
    if matches!(exit, Exit::Io | Exit::EptMisconfiguration | Exit::ApicAccess) && l1d::is_flushing()
    {
        l1d::reached_out();
    }
    match exit {
        Exit::Cpuid => Some(Quick::Cpuid),
        Exit::Rdmsr => Some(Quick::ReadMsr),
        Exit::Wrmsr => Some(Quick::WriteMsr),
        Exit::Io => Some(Quick::Port(port_access(control))),
        Exit::EptMisconfiguration if !control.has_interrupted() => {
            Some(Quick::Device(device_access(control)))
        }
        Exit::ApicAccess if !control.has_interrupted() => match apic_access(control) {
            ApicPage::End => Some(Quick::EndOfInterrupt),
            ApicPage::Other(touched) => touched.is_final.then_some(Quick::LocalApic(touched.gpa)),
        },
        Exit::Vmcall => Some(Quick::Hypercall),
        Exit::Wbinvd | Exit::Invd => Some(Quick::Nothing),
        Exit::Pause => Some(Quick::Pause),
        Exit::InterruptWindow => Some(Quick::Window),
        _ => None,
    }
}

/// The access that a misconfiguration is for, of which the processor says little.
fn device_access(control: &VmxControl) -> Touched {
    let gpa = Gpa::new(control.guest_physical());
    Touched { gpa, access: Access::WRITE, is_final: true }
}

/// What accesses the APIC's page.
enum ApicPage {
    /// A write to the EOI register, by an instruction that is taken for a plain store.
    End,
    /// What touches it.
    Other(Touched),
}

/// What the exit for an access to the APIC's page says.
#[inline]
fn apic_access(control: &VmxControl) -> ApicPage {
    let access = ApicAccess(control.qualification());
    let (kind, offset) = (access.kind(), access.offset());
    if kind == ApicAccessKind::Write && offset == page::EOI && params::FASTEOI.get() {
        return ApicPage::End;
    }
    let how = match kind {
        ApicAccessKind::Read => Access::READ,
        ApicAccessKind::Fetch => Access::EXEC,
        _ => Access::WRITE,
    };
    let is_final = matches!(kind, ApicAccessKind::Read | ApicAccessKind::Write);
    ApicPage::Other(Touched { gpa: page::place(offset), access: how, is_final })
}

/// Does what the exit asks for.
pub(crate) fn handle(cx: &mut Cx<'_, Vmx>) -> Result<Next> {
    let reason = match cx.state.control.reason {
        Some(reason) if !reason.is_failed_entry() => reason,
        other => return refused(cx, other),
    };
    if l1d::is_flushing() {
        l1d::exited(cx, reason.exit());
    }
    match reason.exit() {
        // The host took it.
        Exit::Interrupt => {
            cx.vcpu.stats().arch.irq_exits.add(1);
            if cx.state.events.nmis != 0 && !cx.state.control.nmi_blocked() {
                // The last one took so long that the next may be delivered.
                cx.state.events.check = true;
            }
            Ok(Next::Resume)
        }
        Exit::EptViolation => ept_violation(cx),
        Exit::EptMisconfiguration => {
            let touched = device_access(&cx.state.control);
            exit::page_fault::mmio(cx, touched)
        }
        Exit::ApicAccess => match apic_access(&cx.state.control) {
            ApicPage::End => exit::apic::end(cx),
            ApicPage::Other(touched) => exit::page_fault::device(cx, touched),
        },
        Exit::Rdmsr => exit::msr::read(cx),
        Exit::Wrmsr => exit::msr::write(cx),
        Exit::Cpuid => exit::cpuid::handle(cx),
        Exit::Hlt => exit::halt::handle(cx),
        Exit::Io => {
            let access = port_access(&cx.state.control);
            exit::port::handle(cx, access)
        }
        Exit::InterruptWindow => exit::window::handle(cx),
        Exit::NmiWindow => {
            cx.vcpu.stats().arch.nmi_window_exits.add(1);
            cx.state.control.set_primary(Primary::NMI_WINDOW, false);
            cx.state.events.check = true;
            Ok(Next::Resume)
        }
        Exit::PreemptionTimer => exit::deadline::handle(cx),
        Exit::PmlFull => {
            log_full(cx);
            Ok(Next::Resume)
        }
        Exit::TprBelowThreshold => {
            cx.state.events.check = true;
            Ok(Next::Resume)
        }
        Exit::ControlRegister => control_register(cx),
        Exit::DebugRegister => exit::debug::access(cx),
        Exit::ExceptionOrNmi => exception(cx),
        Exit::Vmcall => exit::hypercall::handle(cx),
        Exit::Pause => exit::pause::handle(cx),
        Exit::Wbinvd | Exit::Invd | Exit::Monitor | Exit::Mwait => emulate::skip(cx),
        Exit::Xsetbv | Exit::Rdpmc | Exit::Invlpg => emulate::instruction(cx),
        Exit::TaskSwitch => task_switch(cx),
        Exit::TripleFault => userspace::exit(cx, reason::KVM_EXIT_SHUTDOWN),
        Exit::Getsec
        | Exit::Vmclear
        | Exit::Vmlaunch
        | Exit::Vmptrld
        | Exit::Vmptrst
        | Exit::Vmread
        | Exit::Vmresume
        | Exit::Vmwrite
        | Exit::Vmxoff
        | Exit::Vmxon
        | Exit::Invept
        | Exit::Invvpid
        | Exit::Vmfunc
        | Exit::Encls => {
            cx.state.events.raise(Exception::new(Vector::Ud));
            Ok(Next::Resume)
        }
        Exit::Init => Ok(Next::Resume),
        _ => unexpected(cx, reason),
    }
}

fn ept_violation(cx: &mut Cx<'_, Vmx>) -> Result<Next> {
    let control = &mut cx.state.control;
    let violation = EptViolation::from_bits_truncate(control.qualification());
    let gpa = Gpa::new(control.guest_physical());
    if violation.contains(EptViolation::NMI_UNBLOCKED) {
        control.block_nmis_again();
    }
    let access = if violation.contains(EptViolation::WRITE) {
        Access::WRITE
    } else if violation.contains(EptViolation::FETCH) {
        Access::EXEC
    } else {
        Access::READ
    };
    // Without a linear address there is no access of an instruction either.
    let is_final = violation.contains(EptViolation::LINEAR | EptViolation::FINAL);
    exit::page_fault::handle(cx, Touched { gpa, access, is_final })
}

/// The log of modified pages has no place left.
fn log_full(cx: &mut Cx<'_, Vmx>) {
    let qualification = EptViolation::from_bits_truncate(cx.state.control.qualification());
    if qualification.contains(EptViolation::NMI_UNBLOCKED) {
        cx.state.control.block_nmis_again();
    }
    cx.vm.memory().take_notes_of(cx.vcpu.shared());
    cx.state.control.rewind_log();
}

/// What an exit for a port says.
fn port_access(control: &VmxControl) -> PortAccess {
    let io = IoAccess(control.qualification());
    let length = control.fields.get(Slot::InstructionLength);
    PortAccess {
        port: io.port(),
        size: io.size(),
        is_in: io.is_in(),
        is_string: io.is_string(),
        next: control.rip().wrapping_add(length),
    }
}

/// MOV is done here, the rest by the emulator, and CR8, which userspace may have to know
/// of.
fn control_register(cx: &mut Cx<'_, Vmx>) -> Result<Next> {
    match CrAccess::from_qualification(cx.state.control.qualification()) {
        CrAccess::Write { cr, gpr } if cr != 8 => {
            let gpr = cx.state.gprs.get(usize::from(gpr)).copied().unwrap_or(0);
            match registers::write_cr(cx, cr, gpr) {
                Ok(()) => emulate::skip(cx),
                Err(Stop::Fault(exception)) => {
                    cx.state.events.raise(exception);
                    Ok(Next::Resume)
                }
                Err(_) => emulate::instruction(cx),
            }
        }
        _ => emulate::instruction(cx),
    }
}

fn exception(cx: &mut Cx<'_, Vmx>) -> Result<Next> {
    const DB: u8 = Vector::Db as u8;
    const BP: u8 = Vector::Bp as u8;
    const UD: u8 = Vector::Ud as u8;
    const AC: u8 = Vector::Ac as u8;
    const MC: u8 = Vector::Mc as u8;
    let control = &mut cx.state.control;
    let event = control.exit_event();
    let Some((kind, vector)) = event.get() else {
        return unexpected(cx, Reason(0));
    };
    if kind == Kind::Nmi {
        // The host took it.
        return Ok(Next::Resume);
    }
    if event.unblocked_nmis() {
        control.block_nmis_again();
    }
    match vector {
        DB => debug(cx, event),
        BP => exit::debug::breakpoint(cx),
        UD => exit::undefined::handle(cx),
        AC => {
            let code = cx.state.control.fields.get(Slot::ExitErrorCode) as u32;
            cx.state.events.raise(Exception::with_code(Vector::Ac, code));
            Ok(Next::Resume)
        }
        // The host's handler has run.
        MC => Ok(Next::Resume),
        _ => unexpected(cx, Reason(0)),
    }
}

fn debug(cx: &mut Cx<'_, Vmx>, event: Event) -> Result<Next> {
    let causes = cx.state.control.qualification() & DEBUG_CAUSES;
    if let (Some((Kind::PrivilegedException, _)), Some(next)) =
        (event.get(), cx.state.control.next_rip())
    {
        // INT1 is a trap that exits before it happens.
        cx.state.control.set_rip(next);
    }
    exit::debug::handle(cx, Dr6::from_bits_retain(causes | DR6_FIXED_1))
}

fn task_switch(cx: &mut Cx<'_, Vmx>) -> Result<Next> {
    let info = TaskSwitch(cx.state.control.qualification());
    let error_code = match cx.state.events.injected {
        Some(Injected::Exception { code, .. }) => code,
        Some(Injected::Nmi) => {
            // The task handles it.
            cx.state.control.set_nmi_blocked(true);
            None
        }
        _ => None,
    };
    let switch = exit::task_switch::Switch {
        selector: info.selector(),
        is_iret: info.is_iret(),
        is_jmp: info.is_jmp(),
        error_code,
    };
    exit::task_switch::handle(cx, &switch)
}

/// The processor didn't accept the VMCS.
fn refused(cx: &mut Cx<'_, Vmx>, reason: Option<Reason>) -> Result<Next> {
    let control: &VmxControl = &cx.state.control;
    refusal::report(control, reason);
    let failure = run::FailEntry {
        hardware_entry_failure_reason: match reason {
            Some(reason) => reason.0.into(),
            None => control.fields.get(Slot::InstructionError),
        },
        cpu: kernel::cpu::CpuId::current().as_u32(),
        pad: 0,
    };
    userspace::exit_with(cx, reason::KVM_EXIT_FAIL_ENTRY, failure)
}

fn unexpected(cx: &mut Cx<'_, Vmx>, reason: Reason) -> Result<Next> {
    let cpu = kernel::cpu::CpuId::current().as_u32();
    let values = [reason.0.into(), cpu.into()];
    userspace::internal_error(cx, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, &values)
}
