// SPDX-License-Identifier: GPL-2.0
//! Bytes that look random and follow from a seed (xorshift64*).

/// An endless stream.
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Stream {
        // A state of zero would stay zero.
        Stream(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// Fills `bytes`, whose length should be a multiple of eight if more is taken afterwards.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn depends_on_the_seed_and_not_on_the_cut() {
        let mut whole = [0; 64];
        Stream::new(7).fill(&mut whole);
        let mut cut = [0; 64];
        let mut stream = Stream::new(7);
        for chunk in cut.chunks_mut(16) {
            stream.fill(chunk);
        }
        assert_eq!(whole, cut);
        let mut other = [0; 64];
        Stream::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }
}
