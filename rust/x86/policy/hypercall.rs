// SPDX-License-Identifier: GPL-2.0
//! Hypercalls: number and arguments to a typed [`Call`].
//!
//! Documentation/virt/kvm/x86/hypercalls.rst. Number in RAX, arguments in RBX,
//! RCX, RDX and RSI, result in RAX; outside 64-bit mode the low halves.

use crate::pv::PvFeatures;

/// An error as a guest gets it: the negative number in RAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CallError {
    /// Not at CPL 0.
    NotPermitted = 1,
    /// The memory isn't there.
    Fault = 14,
    /// Arguments make no sense.
    Invalid = 22,
    /// Known, but not possible now.
    NotSupported = 95,
    /// No such call, or the guest's CPUID doesn't have it.
    Unknown = 1000,
}

impl CallError {
    /// RAX in 64-bit mode; elsewhere its low half.
    pub const fn rax(self) -> u64 {
        (self as u64).wrapping_neg()
    }
}

/// The registers of a hypercall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallRegs {
    /// Number.
    pub rax: u64,
    /// First argument.
    pub rbx: u64,
    /// Second.
    pub rcx: u64,
    /// Third.
    pub rdx: u64,
    /// Fourth.
    pub rsi: u64,
}

/// What may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRules {
    /// Features of the guest's CPUID or, unless they are enforced, all.
    pub features: PvFeatures,
    /// Userspace wants MAP_GPA_RANGE (`KVM_CAP_EXIT_HYPERCALL`).
    pub map_gpa_range: bool,
}

/// A hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Does nothing but exit: interrupts are looked for on the way back.
    PollIrq,
    /// Wakes the vCPU with this APIC ID, and yields to it.
    Kick {
        /// Destination.
        apic_id: u32,
    },
    /// Writes host time and the guest's TSC of one moment to memory.
    ClockPairing {
        /// Guest physical address of the 64-byte record.
        gpa: u64,
    },
    /// Sends an interrupt to many.
    SendIpi(SendIpi),
    /// Yields to the vCPU with this APIC ID.
    Yield {
        /// Destination.
        apic_id: u32,
    },
    /// Asks userspace to make pages private or shared.
    MapGpaRange {
        /// Guest physical address, page-aligned.
        gpa: u64,
        /// How many, at least one.
        pages: u64,
        /// Page size in 3:0, encrypted in 4.
        attributes: u64,
    },
}

/// An interrupt to a set of APIC IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendIpi {
    bitmap: [u64; 2],
    width: u32,
    min: u32,
    /// Low half of the ICR: vector, delivery mode, level, trigger mode. No
    /// destination and no shorthand.
    pub icr: u32,
}

impl SendIpi {
    /// Destinations, 64 at a time: of the APIC IDs from the first number on, those
    /// whose bit is set in the second.
    pub fn words(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let mask = if self.width < 64 { 0xffff_ffff } else { u64::MAX };
        (0..2u32).zip(&self.bitmap).filter_map(move |(word, bits)| {
            let first = self.min.checked_add(word.wrapping_mul(self.width))?;
            Some((first, bits & mask))
        })
    }

    /// Destinations, ascending, each once.
    #[cfg(test)]
    pub fn apic_ids(&self) -> impl Iterator<Item = u32> + '_ {
        let words = (0..2u32).zip(&self.bitmap);
        words.flat_map(move |(word, &bits)| {
            let base = self.min.checked_add(word.wrapping_mul(self.width));
            (0..self.width)
                .filter(move |&bit| bits >> (bit & 63) & 1 != 0)
                .filter_map(move |bit| base?.checked_add(bit))
        })
    }
}

/// Understands a hypercall made at `cpl`, in 64-bit mode if `long`.
///
/// # Errors
///
/// What to return in RAX ([`CallError::rax`]).
pub fn decode(regs: &CallRegs, long: bool, cpl: u8, rules: &CallRules) -> Result<Call, CallError> {
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    let [number, a0, a1, a2, a3] =
        [regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi].map(|value| value & mask);
    if cpl != 0 {
        return Err(CallError::NotPermitted);
    }
    let has = |feature| rules.features.contains(feature);
    match number {
        1 => Ok(Call::PollIrq),
        5 if has(PvFeatures::PV_UNHALT) => Ok(Call::Kick { apic_id: a1 as u32 }),
        // The only type is the wall clock.
        9 if a1 == 0 => Ok(Call::ClockPairing { gpa: a0 }),
        9 => Err(CallError::NotSupported),
        10 if has(PvFeatures::PV_SEND_IPI) => send_ipi(a0, a1, a2, a3, long),
        11 if has(PvFeatures::PV_SCHED_YIELD) => Ok(Call::Yield { apic_id: a0 as u32 }),
        12 if rules.map_gpa_range => map_gpa_range(a0, a1, a2),
        _ => Err(CallError::Unknown),
    }
}

fn send_ipi(low: u64, high: u64, min: u64, icr: u64, long: bool) -> Result<Call, CallError> {
    const SHORTHAND: u64 = 3 << 18;
    const DESTINATION: u64 = 0xff << 24;
    if icr & (SHORTHAND | DESTINATION) != 0 {
        return Err(CallError::Invalid);
    }
    let width = if long { 64 } else { 32 };
    Ok(Call::SendIpi(SendIpi { bitmap: [low, high], width, min: min as u32, icr: icr as u32 }))
}

fn map_gpa_range(gpa: u64, pages: u64, attributes: u64) -> Result<Call, CallError> {
    let wraps = (gpa >> 12).checked_add(pages).is_none();
    if gpa & 0xfff != 0 || pages == 0 || wraps {
        return Err(CallError::Invalid);
    }
    Ok(Call::MapGpaRange { gpa, pages, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const ALL: CallRules = CallRules { features: PvFeatures::all(), map_gpa_range: true };
    const NONE: CallRules = CallRules { features: PvFeatures::empty(), map_gpa_range: false };

    fn call(rax: u64, args: [u64; 4], long: bool, rules: &CallRules) -> Result<Call, CallError> {
        let [rbx, rcx, rdx, rsi] = args;
        decode(&CallRegs { rax, rbx, rcx, rdx, rsi }, long, 0, rules)
    }

    #[test]
    fn numbers() {
        assert_eq!(call(1, [0; 4], true, &NONE), Ok(Call::PollIrq));
        assert_eq!(call(5, [0, 3, 0, 0], true, &ALL), Ok(Call::Kick { apic_id: 3 }));
        assert_eq!(call(11, [7, 0, 0, 0], true, &ALL), Ok(Call::Yield { apic_id: 7 }));
        assert_eq!(call(9, [0x1000, 0, 0, 0], true, &NONE), Ok(Call::ClockPairing { gpa: 0x1000 }));
        assert_eq!(call(9, [0, 1, 0, 0], true, &ALL), Err(CallError::NotSupported));
        for absent in [0, 2, 3, 4, 6, 7, 8, 13, u64::MAX] {
            assert_eq!(call(absent, [0; 4], true, &ALL), Err(CallError::Unknown), "{absent}");
        }
        for gated in [5, 10, 11, 12] {
            assert_eq!(call(gated, [0; 4], true, &NONE), Err(CallError::Unknown), "{gated}");
        }
        let user = decode(&CallRegs { rax: 1, ..CallRegs::default() }, true, 3, &ALL);
        assert_eq!(user, Err(CallError::NotPermitted));
        assert_eq!(CallError::Unknown.rax() as i64, -1000);
    }

    #[test]
    fn halves_outside_64_bit_mode() {
        let high = 0xdead_0000_0000;
        assert_eq!(call(high | 1, [0; 4], false, &ALL), Ok(Call::PollIrq));
        assert_eq!(call(high | 1, [0; 4], true, &ALL), Err(CallError::Unknown));
        let Ok(Call::SendIpi(ipi)) = call(10, [high | 1 << 31, 1, 8, 0x30], false, &ALL) else {
            panic!()
        };
        assert_eq!(ipi.apic_ids().collect::<Vec<_>>(), [8 + 31, 8 + 32]);
    }

    #[test]
    fn ranges() {
        let map = |gpa, pages| call(12, [gpa, pages, 0x10, 0], true, &ALL);
        assert_eq!(
            map(0x1000, 2),
            Ok(Call::MapGpaRange { gpa: 0x1000, pages: 2, attributes: 0x10 })
        );
        for (gpa, pages) in [(1, 1), (0x1000, 0), (0x1000, u64::MAX)] {
            assert_eq!(map(gpa, pages), Err(CallError::Invalid));
        }
    }

    #[test]
    fn interrupts_name_their_destinations_in_the_bitmap() {
        for icr in [1 << 18, 2 << 18, 1 << 24] {
            assert_eq!(call(10, [1, 0, 0, icr], true, &ALL), Err(CallError::Invalid));
        }
    }

    proptest! {
        #[test]
        fn destinations_as_the_bits_say(low: u64, high: u64, min: u32) {
            let Ok(Call::SendIpi(ipi)) = call(10, [low, high, min.into(), 0xfd], true, &ALL) else {
                panic!()
            };
            let bits = u128::from(high) << 64 | u128::from(low);
            let expected: Vec<u32> = (0..128u32)
                .filter(|bit| bits >> bit & 1 != 0)
                .filter_map(|bit| min.checked_add(bit))
                .collect();
            prop_assert_eq!(ipi.apic_ids().collect::<Vec<_>>(), expected.clone());
            let by_words = ipi.words().flat_map(|(first, bits)| {
                (0..64u32).filter(move |bit| bits >> bit & 1 != 0).filter_map(move |bit| first.checked_add(bit))
            });
            prop_assert_eq!(by_words.collect::<Vec<_>>(), expected);
        }
    }
}
