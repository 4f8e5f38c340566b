// SPDX-License-Identifier: GPL-2.0
//! The ioctls of a vCPU: which function answers which request.

use super::{debug, irq, mem_op, one_reg, regs, reset};
use crate::{exit::store_status, run, state::Cx, sync, vm::Choice};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::{
    ioctl::{
        s390::{
            KVM_GET_FPU, KVM_GET_REGS, KVM_GET_SREGS, KVM_S390_CLEAR_RESET, KVM_S390_GET_IRQ_STATE,
            KVM_S390_INITIAL_RESET, KVM_S390_MEM_OP, KVM_S390_NORMAL_RESET,
            KVM_S390_SET_INITIAL_PSW, KVM_S390_SET_IRQ_STATE, KVM_S390_STORE_STATUS, KVM_SET_FPU,
            KVM_SET_GUEST_DEBUG, KVM_SET_REGS, KVM_SET_SREGS,
        },
        KVM_ENABLE_CAP, KVM_GET_MP_STATE, KVM_GET_ONE_REG, KVM_RUN, KVM_SET_MP_STATE,
        KVM_SET_ONE_REG,
    },
    s390::Psw as AbiPsw,
    vcpu::{EnableCap, MpState},
};
use s390_arch::psw::Psw;

/// `KVM_MP_STATE_STOPPED`.
const STOPPED: u32 = 5;
/// `KVM_MP_STATE_OPERATING`.
const OPERATING: u32 = 7;

pub(crate) fn ioctl(cx: &mut Cx<'_>, request: u32, arg: usize) -> Result<u32> {
    match request {
        KVM_RUN => {
            if arg != 0 {
                return Err(EINVAL);
            }
            run::run(cx)
        }
        KVM_GET_REGS => regs::get(cx, arg),
        KVM_SET_REGS => regs::set(cx, arg),
        KVM_GET_SREGS => regs::get_special(cx, arg),
        KVM_SET_SREGS => regs::set_special(cx, arg),
        KVM_GET_FPU => regs::get_fpu(cx, arg),
        KVM_SET_FPU => regs::set_fpu(cx, arg),
        KVM_GET_ONE_REG => one_reg::get(cx, arg),
        KVM_SET_ONE_REG => one_reg::set(cx, arg),
        KVM_GET_MP_STATE => get_state(cx, arg),
        KVM_SET_MP_STATE => set_state(cx, arg),
        KVM_S390_INITIAL_RESET => reset::initial(cx),
        KVM_S390_NORMAL_RESET => reset::normal(cx),
        KVM_S390_CLEAR_RESET => reset::clear(cx),
        KVM_S390_SET_INITIAL_PSW => set_psw(cx, arg),
        KVM_S390_STORE_STATUS => store(cx, arg as u64),
        KVM_S390_MEM_OP => mem_op::vcpu(cx, arg),
        KVM_S390_GET_IRQ_STATE => irq::get_state(cx, arg),
        KVM_S390_SET_IRQ_STATE => irq::set_state(cx, arg),
        KVM_SET_GUEST_DEBUG => debug::set(cx, arg),
        KVM_ENABLE_CAP => enable_cap(cx, arg),
        _ => cx.vm.memory().vcpu_ioctl(&mut cx.state.memory, request, arg).unwrap_or(Err(ENOTTY)),
    }
}

fn get_state(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let mp_state = if cx.vcpu.shared().is_stopped() { STOPPED } else { OPERATING };
    user::write(arg, &MpState { mp_state }).map(|()| 0)
}

/// Userspace that does this once starts and stops vCPUs alone.
fn set_state(cx: &mut Cx<'_>, arg: usize) -> Result<u32> {
    let MpState { mp_state } = user::read(arg)?;
    cx.vm.arch().choices.make(Choice::UserCpuState);
    match mp_state {
        STOPPED => run::stop(cx),
        OPERATING => run::start(cx),
        _ => return Err(ENXIO),
    }
    Ok(0)
}

fn set_psw(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let psw: AbiPsw = user::read(arg)?;
    if !cx.vcpu.shared().is_stopped() {
        return Err(EBUSY);
    }
    sync::set_psw(sync::page(cx)?, Psw { mask: psw.mask, address: psw.addr });
    Ok(0)
}

/// `KVM_S390_STORE_STATUS`: at an address, or at one of two usual places.
fn store(cx: &Cx<'_>, address: u64) -> Result<u32> {
    /// Where the status lies without a prefix.
    const ABSOLUTE: u64 = u64::MAX;
    /// Where it lies in the CPU's own prefix area.
    const PREFIXED: u64 = u64::MAX - 1;
    /// Byte that says that there are 64-bit registers.
    const ARCHITECTURE: u64 = 163;
    use kvm_paging::addr::Gpa;
    use s390_arch::lowcore::SAVE_AREA;
    let memory = cx.vm.memory();
    match address {
        ABSOLUTE => {
            memory.write(Gpa::new(ARCHITECTURE), &[1])?;
            store_status::store(cx, 0)?;
        }
        PREFIXED => {
            let prefix = u64::from(cx.state.block.prefix());
            memory.write(Gpa::new(prefix.wrapping_add(ARCHITECTURE)), &[1])?;
            store_status::store(cx, prefix)?;
        }
        _ => store_status::store(cx, address.wrapping_sub(SAVE_AREA))?,
    }
    Ok(0)
}

/// Capabilities that a vCPU turns on, for the whole VM.
fn enable_cap(cx: &Cx<'_>, arg: usize) -> Result<u32> {
    let wanted: EnableCap = user::read(arg)?;
    if wanted.flags != 0 {
        return Err(EINVAL);
    }
    match wanted.cap {
        kvm_uapi::cap::KVM_CAP_S390_CSS_SUPPORT => {
            cx.vm.arch().choices.make(Choice::Css);
            Ok(0)
        }
        _ => Err(EINVAL),
    }
}
