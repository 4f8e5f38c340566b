// SPDX-License-Identifier: GPL-2.0
//! Facilities, as STORE FACILITY LIST EXTENDED has them: bit 0 is the highest of
//! the first word.

/// Words of a list.
pub const WORDS: usize = 16;

/// Facilities by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facilities(pub [u64; WORDS]);

/// Those that a guest can have if the machine has them, among the ones that take
/// part of the hypervisor: z/Architecture, DAT enhancements, ASN-and-LX reuse,
/// STFLE, enhanced DAT 1, sense running status, conditional SSKE, IPTE range,
/// nonquiescing keys, store/fetch indication, message security 3 and 4, enhanced DAT 2,
/// enhanced suppression 2.
const HYPERVISOR: [u8; 19] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 75, 76, 77, 78, 131, 138];

/// The configuration is z/Architecture from the start; whatever the machine has.
const ALWAYS: u8 = 138;

impl Facilities {
    /// None.
    pub const NONE: Self = Self([0; WORDS]);

    /// Whether it is among them.
    pub fn has(&self, number: u8) -> bool {
        let word = self.0.get(usize::from(number >> 6)).copied().unwrap_or(0);
        word.wrapping_shl(u32::from(number & 63)) >> 63 != 0
    }

    /// Adds one.
    pub fn add(&mut self, number: u8) {
        if let Some(word) = self.0.get_mut(usize::from(number >> 6)) {
            *word |= (1_u64 << 63).wrapping_shr(u32::from(number & 63));
        }
    }

    /// Those that a guest can have on a machine with these. `managed` says of each
    /// word, two bits from the left, how much of it is up to the hypervisor, in
    /// units of 16 bits less one; the rest is the guest's in any case.
    pub fn for_guests(machine: &Self, managed: u32) -> Self {
        let mut wanted = Self::NONE;
        for (number, word) in wanted.0.iter_mut().enumerate() {
            let units = managed.wrapping_shl((number as u32).wrapping_mul(2)) >> 30;
            *word = 0x0000_ffff_ffff_ffff >> units.wrapping_mul(16);
        }
        for number in HYPERVISOR {
            wanted.add(number);
        }
        for (word, machine) in wanted.0.iter_mut().zip(machine.0) {
            *word &= machine;
        }
        wanted.add(ALWAYS);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_get() {
        let mut machine = Facilities::NONE;
        for number in [0, 1, 2, 7, 8, 11, 18, 21, 48, 64, 73, 76, 77, 129] {
            machine.add(number);
        }
        let guest = Facilities::for_guests(&machine, 0);
        let has: std::vec::Vec<u8> = (0..=255).filter(|number| guest.has(*number)).collect();
        assert_eq!(has, [0, 1, 2, 7, 8, 18, 21, 48, 76, 77, 138]);
        // All of the first word is the hypervisor's.
        let guest = Facilities::for_guests(&machine, 3 << 30);
        assert!(!guest.has(18) && guest.has(7));
    }
}
