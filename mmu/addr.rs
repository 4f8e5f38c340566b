// SPDX-License-Identifier: GPL-2.0
//! Address newtypes.
//!
//! | type | space | unit |
//! | --- | --- | --- |
//! | [`Gpa`] | guest physical | byte |
//! | [`Gfn`] | guest physical | 4 KiB frame |
//! | [`Hva`] | VMM virtual | byte |
//! | [`Pfn`] | host physical | 4 KiB frame |
//!
//! There is no conversion between spaces here: going from a [`Gfn`] to an
//! [`Hva`] needs a memory slot, and from there to a [`Pfn`] a pinned page.

/// log2 of the page size that frame numbers count in; the same on x86 and s390.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of that page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw value.
            #[inline]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw value.
            #[inline]
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// The address `distance` units further on, or `None` past the end
            /// of the 64-bit space.
            #[inline]
            pub const fn checked_add(self, distance: u64) -> Option<Self> {
                match self.0.checked_add(distance) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
        }
    };
}

address! {
    /// A guest physical address, in bytes.
    Gpa
}
address! {
    /// A guest frame number: a guest physical address in 4 KiB units.
    Gfn
}
address! {
    /// A virtual address of the VMM's process, in bytes.
    Hva
}
address! {
    /// A host page frame number: a host physical address in 4 KiB units.
    Pfn
}

impl Gpa {
    /// The frame that holds this byte.
    #[inline]
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }

    /// Offset within that frame.
    #[inline]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl Gfn {
    /// The frame's first byte, or `None` if it lies past the 64-bit space.
    #[inline]
    pub const fn gpa(self) -> Option<Gpa> {
        if self.0 >> (64 - PAGE_SHIFT) != 0 {
            return None;
        }
        Some(Gpa(self.0 << PAGE_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpa_splits_into_frame_and_offset() {
        let gpa = Gpa::new(0x1_2345_6789);
        assert_eq!(gpa.gfn(), Gfn::new(0x12_3456));
        assert_eq!(gpa.page_offset(), 0x789);
        assert_eq!(gpa.gfn().gpa(), Some(Gpa::new(0x1_2345_6000)));
    }

    #[test]
    fn a_frame_past_the_address_space_has_no_address() {
        assert_eq!(Gfn::new((1 << 52) - 1).gpa(), Some(Gpa::new(!0 << 12)));
        assert_eq!(Gfn::new(1 << 52).gpa(), None);
        assert_eq!(Gpa::new(u64::MAX).checked_add(1), None);
    }
}
