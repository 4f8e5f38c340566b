// SPDX-License-Identifier: GPL-2.0
//! An intercepted instruction: its operands, from the six bytes that the block has
//! (`ipa` and `ipb`).

/// Length of an instruction by its first byte.
pub const fn length(first: u8) -> u8 {
    match first >> 6 {
        0 => 2,
        1 | 2 => 4,
        _ => 6,
    }
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// First two bytes.
    pub ipa: u16,
    /// The next four.
    pub ipb: u32,
}

/// A base register and a displacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Register; 0 is none.
    pub base: u8,
    /// Added to it.
    pub displacement: i64,
}

impl Address {
    /// The sum, before it is wrapped.
    pub fn resolve(self, registers: &[u64; 16]) -> u64 {
        let base = match self.base {
            0 => 0,
            base => registers.get(usize::from(base)).copied().unwrap_or(0),
        };
        base.wrapping_add_signed(self.displacement)
    }
}

impl Insn {
    /// First byte.
    pub const fn opcode(self) -> u8 {
        (self.ipa >> 8) as u8
    }

    /// R1 of RS, RSY, RX and RSI formats.
    pub const fn r1(self) -> u8 {
        (self.ipa >> 4 & 0xf) as u8
    }

    /// R3, in the same formats.
    pub const fn r3(self) -> u8 {
        (self.ipa & 0xf) as u8
    }

    /// R1 of RRE format.
    pub const fn rre1(self) -> u8 {
        (self.ipb >> 20 & 0xf) as u8
    }

    /// R2 of RRE format.
    pub const fn rre2(self) -> u8 {
        (self.ipb >> 16 & 0xf) as u8
    }

    /// M3 of RRF format.
    pub const fn rrf3(self) -> u8 {
        (self.ipb >> 28) as u8
    }

    /// Second operand of S and RS formats.
    pub const fn base2(self) -> Address {
        Address { base: (self.ipb >> 28) as u8, displacement: (self.ipb >> 16 & 0xfff) as i64 }
    }

    /// Second operand of RSY and SIY formats: 20 bits, signed.
    pub const fn base2_long(self) -> Address {
        let low = (self.ipb >> 16 & 0xfff) as i64;
        let high = (self.ipb >> 8) as u8 as i8 as i64;
        Address { base: (self.ipb >> 28) as u8, displacement: high.wrapping_shl(12) | low }
    }

    /// First operand of SSE format.
    pub const fn sse1(self) -> Address {
        self.base2()
    }

    /// Second operand of SSE format.
    pub const fn sse2(self) -> Address {
        Address { base: (self.ipb >> 12 & 0xf) as u8, displacement: (self.ipb & 0xfff) as i64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands() {
        // SIGP %r1,%r2,0x34(%r5)
        let sigp = Insn { ipa: 0xae12, ipb: 0x5034_0000 };
        assert_eq!((sigp.opcode(), sigp.r1(), sigp.r3()), (0xae, 1, 2));
        let mut registers = [0; 16];
        registers[5] = 0x1000;
        assert_eq!(sigp.base2().resolve(&registers), 0x1034);
        // LCTLG %c0,%c15,-8(%r0)
        let lctlg = Insn { ipa: 0xeb0f, ipb: 0x0ff8_ff2f };
        assert_eq!(lctlg.base2_long(), Address { base: 0, displacement: -8 });
        // SSKE %r3,%r4,8
        let sske = Insn { ipa: 0xb22b, ipb: 0x8034_0000 };
        assert_eq!((sske.rre1(), sske.rre2(), sske.rrf3()), (3, 4, 8));
    }

    #[test]
    fn lengths() {
        assert_eq!([0x0a, 0x47, 0x83, 0xb2, 0xeb].map(length), [2, 4, 4, 4, 6]);
    }
}
