// SPDX-License-Identifier: GPL-2.0
//! Storing the status of a CPU (Principles of Operation, "Store Status").

use crate::{state::Cx, sync};
use kernel::error::Result;
use kvm_paging::addr::Gpa;
use kvm_sys::s390::registers::{self, Registers};
use s390_arch::lowcore::{status, SAVE_AREA};
use zerocopy::{Immutable, IntoBytes};

/// Stores the status in the area that begins at an absolute address, minus the
/// offset that it has in the prefix area.
///
/// # Errors
///
/// `EFAULT` if there is no memory.
pub(crate) fn store(cx: &Cx<'_>, base: u64) -> Result {
    store_at(cx, base.wrapping_add(SAVE_AREA), &current(cx)?)
}

/// Registers of the CPU, wherever they are.
fn current(cx: &Cx<'_>) -> Result<Registers> {
    if cx.vcpu.shared().is_running() {
        return Ok(registers::loaded());
    }
    let page = sync::page(cx)?;
    Ok(sync::registers(page))
}

/// Stores the status at an absolute address.
///
/// # Errors
///
/// `EFAULT` if there is no memory.
pub(crate) fn store_at(cx: &Cx<'_>, at: u64, registers: &Registers) -> Result {
    let block = &*cx.state.block;
    let memory = cx.vm.memory();
    let put = |offset: u64, value: &[u8]| memory.write(Gpa::new(at.wrapping_add(offset)), value);
    let is_running = cx.vcpu.shared().is_running();
    let page = sync::page(cx)?;
    let gprs = if is_running { cx.state.gprs } else { sync::gprs(page) };
    let psw = if is_running { block.psw } else { sync::psw(page) };
    put(0, registers.fprs.as_bytes())?;
    put(status::GENERAL, gprs.as_bytes())?;
    put(status::PSW, [psw.mask, psw.address].as_bytes())?;
    put(status::PREFIX, bytes(&block.prefix()))?;
    put(status::FLOATING_CONTROL, bytes(&registers.fpc))?;
    put(status::TOD_PROGRAMMABLE, bytes(&block.tod_programmable))?;
    put(status::CPU_TIMER, bytes(&block.cpu_timer))?;
    put(status::CLOCK_COMPARATOR, bytes(&(block.clock_comparator >> 8)))?;
    put(status::ACCESS, registers.acrs.as_bytes())?;
    put(status::CONTROL, block.control.as_bytes())
}

fn bytes<T: IntoBytes + Immutable>(value: &T) -> &[u8] {
    value.as_bytes()
}
