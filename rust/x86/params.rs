// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm.ko that only x86 has.

kvm_sys::module_params! {
    /// Whether a message of lowest priority goes to the same vCPU as long as the
    /// candidates are the same; otherwise the candidates take turns.
    pub(crate) static VECTOR_HASHING: Param<bool> = true, "vector_hashing", 0o444,
        "lowest-priority interrupts are spread by their vector";

    /// Shortest period of a guest's timers, in microseconds.
    pub(crate) static MIN_TIMER_PERIOD_US: Param<u32> = 200, "min_timer_period_us", 0o644,
        "shortest period of guests' timers, in us";

    /// Whether the host's timer for a guest's TSC deadline goes off a little ahead of it, and
    /// the vCPU waits for the rest.
    pub(crate) static LAPIC_TIMER_ADVANCE: Param<bool> = true, "lapic_timer_advance", 0o444,
        "timers for guests' TSC deadlines go off a little ahead";

    /// Whether UD2 and the letters "kvm" before an instruction have it emulated, for
    /// tests: 1. With 2 as well RFLAGS.RF is cleared before.
    pub(crate) static FORCE_EMULATION_PREFIX: Param<u32> = 0, "force_emulation_prefix", 0o644,
        "ud2 and \"kvm\" before an instruction have it emulated (1; 2: without RF)";

    /// Reads of MSRs that aren't there give zero and writes are ignored, instead of
    /// #GP for the guest and a refusal for userspace.
    pub(crate) static IGNORE_MSRS: Param<bool> = false, "ignore_msrs", 0o644,
        "accept accesses to MSRs that aren't there";

    /// Whether accesses that `ignore_msrs` lets pass are logged.
    pub(crate) static REPORT_IGNORED_MSRS: Param<bool> = true, "report_ignored_msrs", 0o644,
        "log accesses that ignore_msrs lets pass";

    /// How far a guest's TSC frequency may be from the host's, in millionths, and
    /// count as the same.
    pub(crate) static TSC_TOLERANCE_PPM: Param<u32> = 250, "tsc_tolerance_ppm", 0o644,
        "difference of TSC frequencies that doesn't count, in ppm";
}
