// SPDX-License-Identifier: GPL-2.0
//! Storage keys (Principles of Operation, "Storage Key" and "Key-Controlled
//! Protection").

/// The key of a page: access-control bits, fetch protection, reference, change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(u8);

impl Key {
    const FETCH_PROTECTED: u8 = 0x08;
    /// The page was accessed.
    pub const REFERENCED: u8 = 0x04;
    /// The page was stored to.
    pub const CHANGED: u8 = 0x02;
    const RECORDS: u8 = Self::REFERENCED | Self::CHANGED;

    /// The key in a byte, as instructions have it. The lowest bit counts for nothing.
    pub const fn new(byte: u8) -> Self {
        Self(byte & !1)
    }

    /// As instructions have it.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The access-control bits.
    pub const fn access(self) -> u8 {
        self.0 >> 4
    }

    /// Reference and change bits alone.
    pub const fn records(self) -> u8 {
        self.0 & Self::RECORDS
    }

    /// With the page accessed and stored to, for all that is known.
    pub const fn touched(self) -> Self {
        Self(self.0 | Self::RECORDS)
    }

    /// Without the reference bit.
    pub const fn unreferenced(self) -> Self {
        Self(self.0 & !Self::REFERENCED)
    }

    /// Whether an access with the key `access`, 0 to 15, is allowed, but for the
    /// overrides of control register 0.
    pub const fn allows(self, access: u8, is_store: bool) -> bool {
        access == 0 || access == self.access() || !is_store && self.0 & Self::FETCH_PROTECTED == 0
    }
}

/// When a key is set only if it differs (conditional SSKE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The reference bit may differ.
    pub any_reference: bool,
    /// The change bit may differ.
    pub any_change: bool,
}

impl Condition {
    /// Whether there is any: if not, the key is set in any case and no condition code.
    pub const fn exists(self) -> bool {
        self.any_reference || self.any_change
    }

    /// Whether a key has to be set for `new`.
    pub const fn wants(self, old: Key, new: Key) -> bool {
        let mut differs = old.0 ^ new.0;
        if self.any_reference {
            differs &= !Key::REFERENCED;
        }
        if self.any_change {
            differs &= !Key::CHANGED;
        }
        differs != 0
    }
}

/// The access-control bits that stores and fetches may use with any key under
/// storage-protection override.
pub const OVERRIDE_KEY: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection() {
        let open = Key::new(0x10);
        assert!(open.allows(0, true) && open.allows(1, true));
        assert!(!open.allows(2, true) && open.allows(2, false));
        let closed = Key::new(0x98);
        assert!(closed.allows(0, false) && closed.allows(9, false));
        assert!(!closed.allows(1, false) && !closed.allows(1, true));
    }

    #[test]
    fn conditions() {
        let (old, new) = (Key::new(0x96), Key::new(0x90));
        let condition = |any_reference, any_change| Condition { any_reference, any_change };
        assert!(condition(true, false).wants(old, new));
        assert!(condition(false, true).wants(old, new));
        assert!(!condition(true, true).wants(old, new));
        assert!(condition(true, true).wants(old, Key::new(0x98)));
        assert!(!condition(false, false).exists());
    }

    #[test]
    fn records() {
        assert_eq!(Key::new(0x97).byte(), 0x96);
        assert_eq!(Key::new(0x98).touched().byte(), 0x9e);
        assert_eq!(Key::new(0x9e).unreferenced().records(), Key::CHANGED);
    }
}
