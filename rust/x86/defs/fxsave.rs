// SPDX-License-Identifier: GPL-2.0
//! The area of FXSAVE in 64-bit mode, which is also the beginning of that of
//! XSAVE.
//!
//! Intel SDM volume 1 sections 10.5.1 and 13.4.1.

/// Size of the area in bytes.
pub const FXSAVE_SIZE: usize = 512;

/// The area, taken apart. Values are as in the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FxSave {
    /// x87 control word.
    pub control: u16,
    /// x87 status word.
    pub status: u16,
    /// Tag word in short: bit n says that physical register n isn't empty.
    pub tags: u8,
    /// The last instruction's opcode, 11 bits.
    pub opcode: u16,
    /// Where the last instruction was.
    pub instruction: u64,
    /// Where its operand was.
    pub operand: u64,
    /// SSE control and status.
    pub mxcsr: u32,
    /// Bits of MXCSR that may be set.
    pub mxcsr_mask: u32,
    /// ST(0) to ST(7), ten bytes each; MM registers are the low eight.
    pub st: [[u8; 16]; 8],
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
}

impl FxSave {
    /// Takes an area apart.
    pub fn from_bytes(area: &[u8; FXSAVE_SIZE]) -> Self {
        let mut fields = Self::default();
        fields.each_field(|at, field| {
            if let Some(bytes) = area.get(at..).and_then(|rest| rest.get(..field.len())) {
                field.copy_from_slice(bytes);
            }
        });
        fields
    }

    /// Puts an area together. What the processor doesn't use is zero.
    pub fn to_bytes(&self) -> [u8; FXSAVE_SIZE] {
        let mut area = [0; FXSAVE_SIZE];
        let mut fields = *self;
        fields.each_field(|at, field| {
            if let Some(bytes) = area.get_mut(at..).and_then(|rest| rest.get_mut(..field.len())) {
                bytes.copy_from_slice(field);
            }
        });
        area
    }

    /// Calls `each` with the offset and the bytes of every field, and takes the
    /// bytes as its new value.
    fn each_field(&mut self, mut each: impl FnMut(usize, &mut [u8])) {
        macro_rules! integer {
            ($at:literal, $field:ident: $kind:ident) => {{
                let mut bytes = self.$field.to_le_bytes();
                each($at, &mut bytes);
                self.$field = $kind::from_le_bytes(bytes);
            }};
        }
        integer!(0, control: u16);
        integer!(2, status: u16);
        integer!(4, tags: u8);
        integer!(6, opcode: u16);
        integer!(8, instruction: u64);
        integer!(16, operand: u64);
        integer!(24, mxcsr: u32);
        integer!(28, mxcsr_mask: u32);
        for (at, register) in (32..).step_by(16).zip(&mut self.st) {
            each(at, register);
        }
        for (at, register) in (160..).step_by(16).zip(&mut self.xmm) {
            each(at, register);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that an area can have apart from the unused ones.
    fn area() -> [u8; FXSAVE_SIZE] {
        let mut area = [0; FXSAVE_SIZE];
        for (at, byte) in area.iter_mut().enumerate() {
            // 5 is reserved, 416 and up belong to software.
            *byte = if at == 5 || at >= 416 { 0 } else { ((at % 251) as u8).wrapping_add(1) };
        }
        area
    }

    #[test]
    fn fields_are_where_the_manual_says() {
        let area = area();
        let fields = FxSave::from_bytes(&area);
        assert_eq!(fields.control, 0x0201);
        assert_eq!(fields.status, 0x0403);
        assert_eq!(fields.tags, 5);
        assert_eq!(fields.opcode, 0x0807);
        assert_eq!(fields.instruction, 0x100f_0e0d_0c0b_0a09);
        assert_eq!(fields.operand, 0x1817_1615_1413_1211);
        assert_eq!(fields.mxcsr, 0x1c1b_1a19);
        assert_eq!(fields.mxcsr_mask, 0x201f_1e1d);
        assert_eq!(fields.st[0], area[32..48]);
        assert_eq!(fields.st[7], area[144..160]);
        assert_eq!(fields.xmm[0], area[160..176]);
        assert_eq!(fields.xmm[15], area[400..416]);
    }

    #[test]
    fn nothing_is_lost() {
        let area = area();
        assert_eq!(FxSave::from_bytes(&area).to_bytes(), area);
    }

    #[test]
    fn unused_bytes_are_zero() {
        let fields = FxSave::from_bytes(&[0xff; FXSAVE_SIZE]);
        let area = fields.to_bytes();
        assert_eq!(area[5], 0);
        assert!(area[416..].iter().all(|byte| *byte == 0));
        assert_eq!(FxSave::from_bytes(&area), fields);
    }
}
