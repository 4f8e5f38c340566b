// SPDX-License-Identifier: GPL-2.0
//! [`RtcTracker`]: whether the real-time clock's last interrupt was ended.
//!
//! The RTC's pin is edge-triggered, so nothing in the IOAPIC knows about its
//! EOI. But VMMs that compensate lost ticks need to hear from
//! `KVM_IRQ_LINE_STATUS` that a tick found the previous one unserved.

use crate::VcpuIndex;

/// vCPUs that can be tracked.
const VCPUS: usize = 4096;
const WORDS: usize = VCPUS / 64;

/// The vCPUs that still have the RTC's interrupt in their local APIC.
///
/// # Invariants
///
/// `pending` is the number of bits set in `vcpus`.
#[derive(Clone, Debug)]
pub(super) struct RtcTracker {
    pending: u32,
    /// The one vector that all of them have: a new interrupt is sent only when
    /// none is pending.
    vector: u8,
    vcpus: [u64; WORDS],
}

impl RtcTracker {
    pub(super) const fn new() -> Self {
        Self { pending: 0, vector: 0, vcpus: [0; WORDS] }
    }

    pub(super) const fn is_pending(&self) -> bool {
        self.pending != 0
    }

    pub(super) const fn vector(&self) -> u8 {
        self.vector
    }

    pub(super) fn contains(&self, vcpu: VcpuIndex) -> bool {
        let bit = 1u64.wrapping_shl(u32::from(vcpu.0));
        self.vcpus.get(usize::from(vcpu.0 >> 6)).is_some_and(|word| word & bit != 0)
    }

    /// `vcpu` accepted the interrupt at `vector`.
    pub(super) fn accepted(&mut self, vcpu: VcpuIndex, vector: u8) {
        let bit = 1u64.wrapping_shl(u32::from(vcpu.0));
        if let Some(word) = self.vcpus.get_mut(usize::from(vcpu.0 >> 6)) {
            if *word & bit == 0 {
                // INVARIANT: one bit more, one more pending.
                *word |= bit;
                self.pending = self.pending.saturating_add(1);
            }
        }
        self.vector = vector;
    }

    /// `vcpu` ended the interrupt at `vector`.
    pub(super) fn ended(&mut self, vcpu: VcpuIndex, vector: u8) {
        if vector != self.vector {
            return;
        }
        let bit = 1u64.wrapping_shl(u32::from(vcpu.0));
        if let Some(word) = self.vcpus.get_mut(usize::from(vcpu.0 >> 6)) {
            if *word & bit != 0 {
                // INVARIANT: one bit less, one fewer pending.
                *word &= !bit;
                self.pending = self.pending.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_until_all_have_ended() {
        let mut rtc = RtcTracker::new();
        for vcpu in [0, 70, 4095, 70, 5000] {
            rtc.accepted(VcpuIndex(vcpu), 0x28);
        }
        assert!(rtc.is_pending() && rtc.contains(VcpuIndex(70)) && !rtc.contains(VcpuIndex(71)));
        rtc.ended(VcpuIndex(0), 0x29);
        for vcpu in [0, 0, 70, 71, 5000] {
            rtc.ended(VcpuIndex(vcpu), 0x28);
        }
        assert!(rtc.is_pending());
        rtc.ended(VcpuIndex(4095), 0x28);
        assert!(!rtc.is_pending());
    }
}
