// SPDX-License-Identifier: GPL-2.0
//! Message-signalled interrupts: address and data to [`Message`].
//!
//! SDM vol. 3, 12.11; KVM API, `KVM_CAP_X2APIC_API` and
//! `KVM_FEATURE_MSI_EXT_DEST_ID`.

use crate::message::{Delivery, DestMode, Message, Trigger};

/// Where the destination ID's bits above the eighth come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DestFormat {
    /// Nowhere: eight bits.
    #[default]
    Compat,
    /// Bits 14:8 of the ID are bits 11:5 of the address.
    Extended,
    /// Bits 31:8 of the ID are bits 63:40 of the address
    /// (`KVM_X2APIC_API_USE_32BIT_IDS`).
    X2Apic,
}

mod spec {
    pub(super) const ADDRESS_REDIRECT_HINT: u32 = 1 << 3;
    pub(super) const ADDRESS_LOGICAL: u32 = 1 << 2;
    pub(super) const DATA_LEVEL: u32 = 1 << 15;
    /// Low byte of the address's upper half: reserved in x2APIC format.
    pub(super) const HIGH_RESERVED: u32 = 0xff;
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBits;

/// Decodes the write of `data` to the address `high:low`.
///
/// # Errors
///
/// [`ReservedBits`] when bits 39:32 of the address are set in
/// [`DestFormat::X2Apic`]; the ABI answers `EINVAL`.
#[inline]
pub fn decode(low: u32, high: u32, data: u32, format: DestFormat) -> Result<Message, ReservedBits> {
    let id = low >> 12 & 0xff;
    let dest = match format {
        DestFormat::Compat => id,
        DestFormat::Extended => id | (low >> 5 & 0x7f) << 8,
        DestFormat::X2Apic if high & spec::HIGH_RESERVED != 0 => return Err(ReservedBits),
        DestFormat::X2Apic => id | high,
    };
    Ok(Message {
        dest,
        vector: data as u8,
        delivery: Delivery::from_register(data),
        dest_mode: if low & spec::ADDRESS_LOGICAL != 0 {
            DestMode::Logical
        } else {
            DestMode::Physical
        },
        trigger: if data & spec::DATA_LEVEL != 0 { Trigger::Level } else { Trigger::Edge },
        // The level bit has no meaning to the sender of a single message: an
        // MSI always asserts.
        assert: true,
        redirect_hint: low & spec::ADDRESS_REDIRECT_HINT != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_fixed_message() {
        let message = decode(0xfee0_5000, 0, 0x4031, DestFormat::Compat).unwrap();
        assert_eq!(message.dest, 5);
        assert_eq!(message.vector, 0x31);
        assert_eq!(message.delivery, Delivery::Fixed);
        assert_eq!(message.dest_mode, DestMode::Physical);
        assert_eq!(message.trigger, Trigger::Edge);
        assert!(message.assert && !message.is_arbitrated());
    }

    #[test]
    fn lowest_priority_and_hint_are_arbitrated() {
        assert!(decode(0xfee0_000c, 0, 0x31, DestFormat::Compat).unwrap().is_arbitrated());
        assert!(decode(0xfee0_0004, 0, 0x131, DestFormat::Compat).unwrap().is_arbitrated());
    }

    #[test]
    fn high_half_reserved_bits() {
        assert_eq!(decode(0, 1, 0, DestFormat::X2Apic), Err(ReservedBits));
        assert!(decode(0, 1, 0, DestFormat::Compat).is_ok());
    }

    proptest! {
        #[test]
        fn destinations(id in any::<u32>(), data in any::<u32>()) {
            let low = 0xfee0_0000 | (id & 0xff) << 12;
            prop_assert_eq!(decode(low, 0, data, DestFormat::Compat).unwrap().dest, id & 0xff);
            let extended = low | (id >> 8 & 0x7f) << 5;
            prop_assert_eq!(decode(extended, 0, data, DestFormat::Extended).unwrap().dest, id & 0x7fff);
            prop_assert_eq!(decode(extended, 0, data, DestFormat::Compat).unwrap().dest, id & 0xff);
            prop_assert_eq!(decode(low, id & !0xff, data, DestFormat::X2Apic).unwrap().dest, id);
        }
    }
}
