// SPDX-License-Identifier: GPL-2.0
//! The steal-time record in a guest's memory.
//!
//! Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME. The guest reads time
//! it didn't run, and whether a vCPU is preempted; it may ask a preempted vCPU
//! to flush its TLB before it runs again instead of waiting for it.

/// Bytes of the record, which is aligned to its size.
pub const SIZE: usize = 64;
/// Offset of the stolen nanoseconds, 64 bits.
pub const STEAL_AT: u64 = 0;
/// Offset of the version, 32 bits: odd during an update.
pub const VERSION_AT: u64 = 8;
/// Offset of the byte with [`PREEMPTED`] and [`FLUSH_TLB`].
pub const PREEMPTED_AT: u64 = 16;

/// The vCPU isn't running.
pub const PREEMPTED: u8 = 1;
/// Set by the guest: flush before running.
pub const FLUSH_TLB: u8 = 1 << 1;

/// The MSR's bit that turns the record on.
const ENABLE: u64 = 1;
/// Bits that have to be zero, as the record is aligned.
const RESERVED: u64 = 0x3e;

/// Where the record lies according to the MSR, `None` while it is off.
#[inline]
pub const fn address(msr: u64) -> Option<u64> {
    if msr & ENABLE != 0 {
        Some(msr & !(ENABLE | RESERVED))
    } else {
        None
    }
}

/// Whether the MSR takes the value.
pub const fn is_valid(msr: u64) -> bool {
    msr & RESERVED == 0
}

/// An update of the record: write the odd version, a write barrier, the time, a
/// barrier, the even version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Version while the time is written.
    pub begin: u32,
    /// Stolen nanoseconds.
    pub steal: u64,
    /// Version after that.
    pub end: u32,
}

/// Adds `waited`, the nanoseconds that the vCPU's thread waited for a processor
/// since the last update, to what the record holds.
#[inline]
pub const fn update(version: u32, steal: u64, waited: u64) -> Update {
    // The first version is whatever lay there.
    let begin = version.wrapping_add(1) | 1;
    Update { begin, steal: steal.wrapping_add(waited), end: begin.wrapping_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msr_and_versions() {
        assert_eq!(address(0x1000), None);
        assert_eq!(address(0x1041), Some(0x1040));
        assert!(is_valid(0x1041) && !is_valid(0x1021) && !is_valid(3));
        assert_eq!(update(4, 10, 5), Update { begin: 5, steal: 15, end: 6 });
        assert_eq!(update(5, 0, 0), Update { begin: 7, steal: 0, end: 8 });
        assert_eq!(update(u32::MAX, u64::MAX, 1), Update { begin: 1, steal: 0, end: 2 });
    }
}
