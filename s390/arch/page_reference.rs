// SPDX-License-Identifier: GPL-2.0
//! The parameter block of DIAGNOSE 258 (CP Programming Services, SC24-6084).

/// What a guest wants to do about page faults that take I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageReference {
    /// Be told of them.
    Token {
        /// Where the tokens are, a real address.
        token: u64,
        /// Bits of the PSW's mask that have to be as in `compare`.
        select: u64,
        /// Those of them that have to be one.
        compare: u64,
    },
    /// Not be told any more.
    Cancel,
    /// Something that isn't known.
    Other,
}

impl PageReference {
    /// Reads the block: code, subcode, length in words and version, then the token's
    /// address, two masks and a word for the architecture. `None` if the block isn't
    /// what it has to be.
    pub fn parse(words: [u64; 5]) -> Option<Self> {
        const CODE: u64 = 0x258;
        const VERSION: u64 = 2;
        const SHORTEST: u64 = 5;
        const ZARCH: u64 = 1 << 63;
        let [head, token, select, compare, architecture] = words;
        let (length, version) = (head >> 16 & 0xffff, head & 0xffff);
        if head >> 48 != CODE || version != VERSION || length < SHORTEST {
            return None;
        }
        match head >> 32 & 0xffff {
            0 => {
                let is_good = compare & !select == 0 && token & 7 == 0 && architecture == ZARCH;
                is_good.then_some(Self::Token { token, select, compare })
            }
            1 => (token | select | compare | architecture == 0).then_some(Self::Cancel),
            _ => Some(Self::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: u64 = 0x0258_0000_0005_0002;

    #[test]
    fn tokens() {
        let words = [HEAD, 0x3000, 3, 1, 1 << 63];
        let expected = PageReference::Token { token: 0x3000, select: 3, compare: 1 };
        assert_eq!(PageReference::parse(words), Some(expected));
        assert_eq!(PageReference::parse([HEAD, 0x3000, 1, 3, 1 << 63]), None, "masks");
        assert_eq!(PageReference::parse([HEAD, 0x3001, 3, 1, 1 << 63]), None, "alignment");
        assert_eq!(PageReference::parse([HEAD, 0x3000, 3, 1, 0]), None, "architecture");
        assert_eq!(PageReference::parse([HEAD + 1, 0x3000, 3, 1, 1 << 63]), None, "version");
    }

    #[test]
    fn others() {
        let cancel = HEAD | 1 << 32;
        assert_eq!(PageReference::parse([cancel, 0, 0, 0, 0]), Some(PageReference::Cancel));
        assert_eq!(PageReference::parse([cancel, 0, 0, 1, 0]), None);
        let other = HEAD | 2 << 32;
        assert_eq!(PageReference::parse([other, 0, 0, 0, 0]), Some(PageReference::Other));
    }
}
