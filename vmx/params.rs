// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm-intel.ko.

use kvm_sys::x86::cpuid;
use kvm_x86::exit::pause::PauseWindows;
use vmx_arch::{
    caps::{has_broken_timer, VmxCaps, CPUID_FEATURES},
    config::{Config, Wanted},
    control::{Pin, Secondary},
};

kvm_sys::module_params! {
    /// Whether guests run on extended page tables. There is no other way yet.
    static EPT: Param<bool> = true, "ept", 0o444, "extended page tables (always on)";

    /// Whether the processor notes accesses in the extended page tables, where it can.
    static EPTAD: Param<bool> = true, "eptad", 0o444,
        "accessed and dirty bits in extended page tables";

    /// Whether the processor logs which pages guests write to, where it can.
    static PML: Param<bool> = true, "pml", 0o444,
        "dirty log by the processor's log of modified pages";

    /// Whether the processor knows where guests have their local APIC, where it can.
    static FLEXPRIORITY: Param<bool> = true, "flexpriority", 0o444,
        "task priorities in memory, and accesses to the local APIC, by the processor";

    /// Whether a guest's write to the EOI register, of which the processor says what it is, is taken
    /// for a plain store without a look at the instruction.
    pub(crate) static FASTEOI: Param<bool> = true, "fasteoi", 0o444,
        "ends of interrupts without a look at the guest's instruction";

    /// Whether guests run unrestricted. There is no other way.
    static UNRESTRICTED_GUEST: Param<bool> = true, "unrestricted_guest", 0o444,
        "guests without paging or protection run by themselves (always on)";

    /// Whether guests have identifiers in the TLB, where the processor has them.
    static VPID: Param<bool> = true, "vpid", 0o444, "identifiers of guests in the TLB";

    /// Cycles between two PAUSEs that count as one loop; 0 lets PAUSE never exit.
    pub(crate) static PLE_GAP: Param<u32> = 128, "ple_gap", 0o444,
        "cycles between two PAUSEs of one loop (0: PAUSE doesn't exit)";

    /// Cycles after which a loop of PAUSEs exits.
    pub(crate) static PLE_WINDOW: Param<u32> = 4096, "ple_window", 0o444,
        "cycles that a loop of PAUSEs may take";

    /// What each exit by such a loop multiplies the vCPU's window by; if it isn't smaller than
    /// `ple_window`, what it adds. 0 keeps the window.
    static PLE_WINDOW_GROW: Param<u32> = 2, "ple_window_grow", 0o444,
        "factor by which a window grows with each exit, or summand (0: it doesn't)";

    /// What the window is divided by when the vCPU's thread was off its CPU, or what is taken from
    /// it. 0 makes it `ple_window` again.
    static PLE_WINDOW_SHRINK: Param<u32> = 0, "ple_window_shrink", 0o444,
        "divisor by which a window shrinks, or subtrahend (0: to ple_window)";

    /// The longest window.
    static PLE_WINDOW_MAX: Param<u32> = u32::MAX, "ple_window_max", 0o444,
        "longest window";

    /// Whether guests' timers use the processor's preemption timer, where it has one that counts.
    static PREEMPTION_TIMER: Param<bool> = true, "preemption_timer", 0o444,
        "guests' timers by the processor's preemption timer";

    /// Whether the processor keeps track of which guests handle an NMI, where it can.
    static VNMI: Param<bool> = true, "vnmi", 0o444,
        "NMIs of guests are blocked by the processor";

    /// Whether the log has all of a control structure that the processor refuses.
    pub(crate) static DUMP_INVALID_VMCS: Param<bool> = false, "dump_invalid_vmcs", 0o644,
        "log the control structure when the processor refuses it";

    /// Whether guests may run guests of their own: not yet.
    static NESTED: Param<bool> = false, "nested", 0o444,
        "nested virtualization (not offered yet)";
}

/// What the operator wants of what a processor may have.
pub(crate) fn wanted() -> Wanted {
    let [signature, ..] = cpuid(CPUID_FEATURES, 0);
    Wanted {
        vpid: VPID.get(),
        accessed_dirty: EPTAD.get(),
        pause_loop: PLE_GAP.get() != 0,
        timer: PREEMPTION_TIMER.get() && !has_broken_timer(signature),
        virtual_nmis: VNMI.get(),
        dirty_log: PML.get(),
        apic_page: FLEXPRIORITY.get(),
    }
}

/// Takes back what was asked for and isn't there, so that the files show what
/// holds, and tells the operator what must be.
pub(crate) fn settle(caps: &VmxCaps, config: &Config) {
    if !EPT.get() {
        kernel::pr_warn!("ept=0: guests run on extended page tables only\n");
        EPT.set(true);
    }
    if !UNRESTRICTED_GUEST.get() {
        kernel::pr_warn!("unrestricted_guest=0: guests run unrestricted only\n");
        UNRESTRICTED_GUEST.set(true);
    }
    if NESTED.get() {
        kernel::pr_warn!("nested=1: nested virtualization isn't offered yet\n");
        NESTED.set(false);
    }
    FLEXPRIORITY.set(config.has_secondary(Secondary::VIRTUALIZE_APIC));
    PML.set(config.has_secondary(Secondary::PML));
    EPTAD.set(caps.paging.accessed_dirty);
    PREEMPTION_TIMER.set(config.has_pin(Pin::PREEMPTION_TIMER));
    VNMI.set(config.has_pin(Pin::VIRTUAL_NMIS));
    VPID.set(config.has_secondary(Secondary::VPID));
    if !config.has_secondary(Secondary::PAUSE_LOOP) {
        let all = [&PLE_GAP, &PLE_WINDOW, &PLE_WINDOW_GROW, &PLE_WINDOW_SHRINK, &PLE_WINDOW_MAX];
        for param in all {
            param.set(0);
        }
    }
}

/// How long guests may spin.
pub(crate) fn pause_windows() -> PauseWindows {
    PauseWindows {
        first: PLE_WINDOW.get(),
        grow: PLE_WINDOW_GROW.get(),
        shrink: PLE_WINDOW_SHRINK.get(),
        max: PLE_WINDOW_MAX.get(),
    }
}
