// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm-amd.ko.

use kvm_x86::exit::pause::PauseWindows;
use svm_arch::caps::SvmFeatures;

kvm_sys::module_params! {
    /// Whether guests run on nested page tables. There is no other way yet.
    static NPT: Param<bool> = true, "npt", 0o444, "nested paging (always on)";

    /// Cycles between two PAUSEs that count as one loop; 0 lets PAUSE never exit.
    pub(crate) static PAUSE_FILTER_THRESH: Param<u32> = 128, "pause_filter_thresh", 0o444,
        "cycles between two PAUSEs of one loop (0: PAUSE doesn't exit)";

    /// PAUSEs of one loop after which it exits; 0 lets PAUSE never exit.
    pub(crate) static PAUSE_FILTER_COUNT: Param<u32> = 3000, "pause_filter_count", 0o444,
        "PAUSEs that a loop may have";

    /// What each exit by such a loop multiplies the vCPU's count by; if it isn't smaller than
    /// `pause_filter_count`, what it adds. 0 keeps the count.
    static PAUSE_FILTER_COUNT_GROW: Param<u32> = 2, "pause_filter_count_grow", 0o444,
        "factor by which a count grows with each exit, or summand (0: it doesn't)";

    /// What the count is divided by when the vCPU's thread was off its CPU, or what is taken from
    /// it. 0 makes it `pause_filter_count` again.
    static PAUSE_FILTER_COUNT_SHRINK: Param<u32> = 0, "pause_filter_count_shrink", 0o444,
        "divisor by which a count shrinks, or subtrahend (0: to pause_filter_count)";

    /// The largest count.
    static PAUSE_FILTER_COUNT_MAX: Param<u32> = u16::MAX as u32, "pause_filter_count_max", 0o444,
        "largest count";

    /// Whether the log has all of a control block that the processor refuses.
    pub(crate) static DUMP_INVALID_VMCB: Param<bool> = false, "dump_invalid_vmcb", 0o644,
        "log the control block when the processor refuses it";

    /// Whether the processor says where the next instruction is, where it can; 0: that is found out by
    /// decoding.
    static NRIPS: Param<i32> = 1, "nrips", 0o444,
        "the processor says where the next instruction is";

    /// Whether guests may run guests of their own: not yet.
    static NESTED: Param<i32> = 0, "nested", 0o444, "nested virtualization (not offered yet)";

    /// Whether the processor delivers interrupts without exits: not yet.
    static AVIC: Param<bool> = false, "avic", 0o444, "interrupts without exits (not offered yet)";
}

/// Takes back what was asked for and isn't there, so that the files show what
/// holds, and tells the operator. Takes from the features what isn't wanted.
pub(crate) fn settle(features: &mut SvmFeatures) {
    features
        .set(SvmFeatures::NRIP_SAVE, features.contains(SvmFeatures::NRIP_SAVE) && NRIPS.get() != 0);
    NRIPS.set(features.contains(SvmFeatures::NRIP_SAVE).into());
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
    for short in [
        &PAUSE_FILTER_THRESH,
        &PAUSE_FILTER_COUNT,
        &PAUSE_FILTER_COUNT_GROW,
        &PAUSE_FILTER_COUNT_SHRINK,
        &PAUSE_FILTER_COUNT_MAX,
    ] {
        // The control block has 16 bits for each.
        short.set(short.get().min(u16::MAX.into()));
    }
    if !features.contains(SvmFeatures::PAUSE_FILTER) {
        PAUSE_FILTER_COUNT.set(0);
    }
    if !features.contains(SvmFeatures::PAUSE_THRESHOLD) {
        PAUSE_FILTER_THRESH.set(0);
    }
}

/// How long guests may spin.
pub(crate) fn pause_windows() -> PauseWindows {
    PauseWindows {
        first: PAUSE_FILTER_COUNT.get(),
        grow: PAUSE_FILTER_COUNT_GROW.get(),
        shrink: PAUSE_FILTER_COUNT_SHRINK.get(),
        max: PAUSE_FILTER_COUNT_MAX.get(),
    }
}
