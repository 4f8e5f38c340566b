// SPDX-License-Identifier: GPL-2.0
//! Interruptions that SIE came out for instead of letting the guest have them.

use crate::{
    guest::{self, read_low, Purpose},
    inject,
    state::{Cx, Next},
};
use kernel::error::Result;
use kvm_core::memory::Fault;
use kvm_paging::{addr::Gpa, entry::Access};
use s390_arch::{
    lowcore,
    pending::{external, Kinds},
    program::{code, Program},
    psw::{Mask, Psw},
};

/// The PSW that an interruption would load.
pub(super) fn new_psw(cx: &Cx<'_>, pair: lowcore::PswPair) -> Result<Psw> {
    let [mask, address] = read_low::<[u64; 2]>(cx, pair.new)?;
    Ok(Psw { mask, address })
}

/// A program interruption.
pub(super) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let block = &*cx.state.block;
    if block.program_code == code::SPECIFICATION && !new_psw(cx, lowcore::PROGRAM)?.is_valid() {
        // It would repeat for ever.
        return Ok(Next::Intercept);
    }
    if block.program_code == code::PROTECTION && is_hosts(cx)? {
        cx.state.retry_insn();
        return Ok(Next::Resume);
    }
    let block = &*cx.state.block;
    let program = Program {
        code: block.program_code,
        translation: block.translation,
        monitor_code: block.translation,
        per_address: block.per_address,
        data_code: block.data_code,
        monitor_class: block.monitor_class,
        per_code: block.per_code,
        per_atmid: block.per_atmid,
        exception_access: block.exception_access,
        per_access: block.per_access,
        operand_access: block.operand_access,
        length: cx.state.insn_length(),
        // SIE did that.
        rewind: false,
    };
    Ok(inject::post(cx, program))
}

/// Whether it is the host's tables that refuse a store, which they don't any more
/// afterwards. Machines without enhanced suppression on protection don't tell.
fn is_hosts(cx: &mut Cx<'_>) -> Result<bool> {
    let block = &*cx.state.block;
    let (page, register) = (block.translation & !0xfff, block.exception_access & 0xf);
    let Ok(at) = guest::translate(cx, page, register, Purpose::Store) else {
        return Ok(false);
    };
    let vm = cx.vm;
    let access = Access::READ | Access::WRITE;
    match vm.memory().fault(&mut cx.state.memory, Gpa::new(at), access)? {
        Fault::Mapped | Fault::Retry | Fault::Slow(_) => Ok(true),
        Fault::Spurious | Fault::Mmio | Fault::ReadOnly => Ok(false),
    }
}

/// An external interruption: either one that waits already comes first, or the new
/// PSW lets in the next one of its kind at once.
pub(super) fn external(cx: &mut Cx<'_>) -> Result<Next> {
    let block = &*cx.state.block;
    let is_clock = matches!(block.external_code, external::CLOCK_COMPARATOR | external::CPU_TIMER);
    if is_clock && new_psw(cx, lowcore::EXTERNAL)?.has(Mask::EXTERNAL) {
        return Ok(Next::Intercept);
    }
    let kind = match block.external_code {
        external::CLOCK_COMPARATOR => Kinds::CLOCK_COMPARATOR,
        external::CPU_TIMER => Kinds::CPU_TIMER,
        external::EXTERNAL_CALL => Kinds::EXTERNAL_CALL,
        _ => return Ok(Next::Intercept),
    };
    let caller = block.external_cpu;
    let _ = cx.vcpu.shared().post(|local| {
        if kind == Kinds::EXTERNAL_CALL && !local.kinds.contains(kind) {
            local.external_call = caller;
        }
        local.kinds |= kind;
        true
    });
    Ok(Next::Resume)
}
