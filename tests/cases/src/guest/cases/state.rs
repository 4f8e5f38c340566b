// SPDX-License-Identifier: GPL-2.0
//! State of a vCPU that goes in and comes out again.

use super::*;

pub(super) const CASES: &[Case] = &[Case::guest("x86/micro-state-regs", regs)];

/// GET_REGS gives what SET_REGS took.
fn regs() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let mut regs = abi::kvm_regs { rip: 0xfff0, rflags: 0x246, ..Default::default() };
    (regs.rax, regs.r15, regs.rsp) = (u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0);
    vcpu.set_regs(&regs)?;
    check_eq!(vcpu.regs()?, regs);
    Ok(())
}
