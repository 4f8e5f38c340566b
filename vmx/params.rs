// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm-intel.ko.

kvm_sys::module_params! {
    /// Whether guests run on extended page tables. There is no other way yet.
    static EPT: Param<bool> = true, "ept", 0o444, "extended page tables (always on)";

    /// Whether guests may run guests of their own: not yet.
    static NESTED: Param<bool> = false, "nested", 0o444,
        "nested virtualization (not offered yet)";
}

/// Takes back what was asked for and isn't there, so that the files show what
/// holds, and tells the operator.
pub(crate) fn settle() {
    if !EPT.get() {
        kernel::pr_warn!("ept=0: guests run on extended page tables only\n");
        EPT.set(true);
    }
    if NESTED.get() {
        kernel::pr_warn!("nested=1: nested virtualization isn't offered yet\n");
        NESTED.set(false);
    }
}
