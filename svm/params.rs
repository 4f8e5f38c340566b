// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm-amd.ko.

kvm_sys::module_params! {
    /// Whether guests run on nested page tables. There is no other way yet.
    static NPT: Param<bool> = true, "npt", 0o444, "nested paging (always on)";

    /// Whether guests may run guests of their own: not yet.
    static NESTED: Param<i32> = 0, "nested", 0o444, "nested virtualization (not offered yet)";

    /// Whether the processor delivers interrupts without exits: not yet.
    static AVIC: Param<bool> = false, "avic", 0o444, "interrupts without exits (not offered yet)";
}

/// Takes back what was asked for and isn't there, so that the files show what
/// holds, and tells the operator.
pub(crate) fn settle() {
    if !NPT.get() {
        kernel::pr_warn!("npt=0: guests run on nested page tables only\n");
        NPT.set(true);
    }
    if NESTED.get() != 0 {
        kernel::pr_warn!("nested={}: nested virtualization isn't offered yet\n", NESTED.get());
        NESTED.set(0);
    }
    if AVIC.get() {
        kernel::pr_warn!("avic=1: AVIC isn't used yet\n");
        AVIC.set(false);
    }
}
