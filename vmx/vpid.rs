// SPDX-License-Identifier: GPL-2.0
//! Virtual-processor identifiers, which tell the translations of vCPUs apart in a TLB
//! (SDM vol. 3, 29.4). Each vCPU has its own on all CPUs.

use kernel::sync::atomic::{Atomic, Full};

const WORDS: usize = 1024;

/// A bit for each that is taken. 0 is the host's.
static TAKEN: [Atomic<u64>; WORDS] = [const { Atomic::new(0) }; WORDS];

/// An identifier, until it is dropped.
pub(crate) struct Vpid(u16);

impl Vpid {
    /// One that nobody has; `None` if all are taken.
    pub(crate) fn take() -> Option<Self> {
        for (index, word) in TAKEN.iter().enumerate() {
            let reserved = u64::from(index == 0);
            loop {
                let old = word.load(kernel::sync::atomic::Relaxed);
                let bit = (old | reserved).trailing_ones();
                if bit == 64 {
                    break;
                }
                if word.cmpxchg(old, old | 1_u64.wrapping_shl(bit), Full).is_ok() {
                    return Some(Self((index as u16).wrapping_mul(64).wrapping_add(bit as u16)));
                }
            }
        }
        None
    }

    /// The number.
    #[inline]
    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Vpid {
    fn drop(&mut self) {
        let Some(word) = TAKEN.get(usize::from(self.0 / 64)) else { return };
        let bit = 1_u64.wrapping_shl(u32::from(self.0));
        loop {
            let old = word.load(kernel::sync::atomic::Relaxed);
            if word.cmpxchg(old, old & !bit, Full).is_ok() {
                return;
            }
        }
    }
}
