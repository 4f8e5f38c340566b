// SPDX-License-Identifier: GPL-2.0
//! Parameters of kvm.ko, the same for every vendor module.

kvm_sys::module_params! {
    /// Longest time that a halted vCPU waits busily before it sleeps, in
    /// nanoseconds; 0 turns that off.
    pub static HALT_POLL_NS: Param<u32> = HALT_POLL_NS_DEFAULT, "halt_poll_ns", 0o644,
        "longest busy wait of a halted vCPU before it sleeps, in ns (0: none)";

    /// Factor by which a vCPU's busy wait grows when it was too short; 0 lets it
    /// stay as it is.
    pub static HALT_POLL_NS_GROW: Param<u32> = 2, "halt_poll_ns_grow", 0o644,
        "factor by which the busy wait grows when it was too short";

    /// First busy wait of a vCPU that had none, in nanoseconds.
    pub static HALT_POLL_NS_GROW_START: Param<u32> = 10_000, "halt_poll_ns_grow_start", 0o644,
        "the first busy wait, in ns";

    /// Divisor by which a vCPU's busy wait shrinks when it was in vain; 0 makes
    /// it start again from none.
    pub static HALT_POLL_NS_SHRINK: Param<u32> = 2, "halt_poll_ns_shrink", 0o644,
        "divisor by which the busy wait shrinks when it was in vain (0: to none)";
}

/// What a wake-up costs on the processors there are.
const HALT_POLL_NS_DEFAULT: u32 = if cfg!(CONFIG_S390) { 50_000 } else { 200_000 };
