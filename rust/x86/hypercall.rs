// SPDX-License-Identifier: GPL-2.0
//! KVM's hypercalls (`Documentation/virt/kvm/x86/hypercalls.rst`).

use crate::{control::Control, state::Cx, vendor::Vendor};

/// `-KVM_ENOSYS`: there is no such hypercall.
const NO_SUCH_CALL: u64 = (-1000_i64) as u64;
/// `-KVM_EPERM`: user mode may not.
const NOT_PERMITTED: u64 = (-1_i64) as u64;

/// Carries out the hypercall in RAX; the answer goes there.
pub(crate) fn call<V: Vendor>(cx: &mut Cx<'_, V>) {
    let answer = if cx.state.control.cpl() != 0 { NOT_PERMITTED } else { NO_SUCH_CALL };
    let [rax, ..] = &mut cx.state.gprs;
    *rax = answer;
}
