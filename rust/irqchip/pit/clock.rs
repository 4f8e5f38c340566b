// SPDX-License-Identifier: GPL-2.0
//! The 8254's clock in terms of ns.

/// Frequency of the clock that all channels count, in Hz.
pub const FREQUENCY: u64 = 1_193_181;

const NS_PER_S: u64 = 1_000_000_000;

/// Clock ticks in `ns`, rounded down.
pub(super) const fn ns_to_ticks(ns: u64) -> u64 {
    let (seconds, rest) = (ns / NS_PER_S, ns % NS_PER_S);
    // Neither product can overflow: 1.9e10 s * 1.2e6, and 1e9 * 1.2e6.
    seconds.saturating_mul(FREQUENCY).saturating_add(rest.saturating_mul(FREQUENCY) / NS_PER_S)
}

/// ns that `ticks` take, rounded up: that much later they have passed.
pub(super) const fn ticks_to_ns(ticks: u64) -> u64 {
    let (seconds, rest) = (ticks / FREQUENCY, ticks % FREQUENCY);
    seconds
        .saturating_mul(NS_PER_S)
        .saturating_add(rest.saturating_mul(NS_PER_S).div_ceil(FREQUENCY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exact(ns in any::<u64>(), ticks in 0..1u64 << 50) {
            let wide = u128::from(ns) * u128::from(FREQUENCY) / u128::from(NS_PER_S);
            prop_assert_eq!(u128::from(ns_to_ticks(ns)), wide);
            prop_assert_eq!(ns_to_ticks(ticks_to_ns(ticks)), ticks);
            if ticks > 0 {
                prop_assert_eq!(ns_to_ticks(ticks_to_ns(ticks) - 1), ticks - 1);
            }
        }
    }
}
