// SPDX-License-Identifier: GPL-2.0
//! Moves between memory and a register, as drivers access devices: told by a few looks at
//! their bytes, for when the processor has said already where in memory.
//!
//! What isn't recognised here is for the decoder. Whatever is, the decoder says the same
//! of; a test compares them.

/// General registers, in the order of their encoding.
type Gprs = [u64; 16];

/// Bytes that are looked at.
pub const WINDOW: usize = 16;

const OPERAND_SIZE: u8 = 0x66;
const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

/// A general register, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number, 0 to 15.
    pub n: u8,
    /// AH, CH, DH or BH, the second byte of it.
    pub high: bool,
}

/// Where to or from the move goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To memory, from a register.
    Store(Register),
    /// To memory, a number.
    StoreNumber(u64),
    /// From memory to so many bytes of a register.
    Load {
        /// The register.
        to: Register,
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Filled up with copies of the sign, not with zeroes.
        signed: bool,
    },
}

/// MOV, MOVZX or MOVSX with one operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainMove {
    /// Which way.
    pub way: Way,
    /// Bytes in memory: 1, 2, 4 or 8.
    pub size: u8,
    /// Length of the instruction.
    pub len: u8,
    address: Address,
}

/// The operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    /// Register, unless there is none.
    base: Option<u8>,
    /// Register and shift, unless there is none.
    index: Option<(u8, u8)>,
    displacement: i32,
    /// Counts from the next instruction.
    is_relative: bool,
}

/// What goes before an opcode.
#[derive(Clone, Copy, Default)]
struct Prefix {
    rex: Option<u8>,
    is_short: bool,
}

impl Prefix {
    fn has(self, bit: u8) -> bool {
        self.rex.is_some_and(|rex| rex & bit != 0)
    }

    /// Size of operands that aren't bytes.
    fn size(self) -> u8 {
        match (self.has(REX_W), self.is_short) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 4,
        }
    }

    /// The register of a ModRM byte, as an operand of `size` bytes.
    fn register(self, modrm: u8, size: u8) -> Register {
        let low = modrm >> 3 & 7;
        let high = size == 1 && self.rex.is_none() && low >= 4;
        let n = if high { low & 3 } else { low | if self.has(REX_R) { 8 } else { 0 } };
        Register { n, high }
    }
}

impl PlainMove {
    /// The instruction that `code` begins with, if it is one of those. `long`: in 64-bit
    /// mode, else with 32-bit operands and addresses.
    pub fn decode(code: &[u8; WINDOW], long: bool) -> Option<Self> {
        let byte = |at: u8| code.get(usize::from(at)).copied();
        let mut prefix = Prefix::default();
        let mut at: u8 = 0;
        let mut opcode = byte(at)?;
        if opcode == OPERAND_SIZE {
            prefix.is_short = true;
            at = at.wrapping_add(1);
            opcode = byte(at)?;
        }
        if long && opcode & 0xf0 == 0x40 {
            prefix.rex = Some(opcode);
            at = at.wrapping_add(1);
            opcode = byte(at)?;
        }
        let is_two_byte = opcode == 0x0f;
        if is_two_byte {
            at = at.wrapping_add(1);
            opcode = byte(at)?;
        }
        let modrm = byte(at.wrapping_add(1))?;
        let operand_at = at.wrapping_add(2);
        let wide = prefix.size();
        let size = match (is_two_byte, opcode) {
            (false, 0x88 | 0x8a | 0xc6) | (true, 0xb6 | 0xbe) => 1,
            (false, 0x89 | 0x8b | 0xc7) => wide,
            (true, 0xb7 | 0xbf) => 2,
            _ => return None,
        };
        let is_number = !is_two_byte && opcode & 0xf0 == 0xc0;
        let number_bytes = if is_number { size.min(4) } else { 0 };
        let (_, operand) = code.split_at_checked(usize::from(operand_at))?;
        let (address, address_bytes) = Address::decode(modrm, operand, prefix, long)?;
        let number_at = operand_at.wrapping_add(address_bytes);
        let way = match opcode {
            0xc6 | 0xc7 if modrm & 0x38 != 0 => return None,
            0xc6 | 0xc7 => Way::StoreNumber(number(code, number_at, size)?),
            0x88 | 0x89 => Way::Store(prefix.register(modrm, size)),
            _ => {
                let bytes = if is_two_byte { wide } else { size };
                let to = prefix.register(modrm, bytes);
                Way::Load { to, bytes, signed: opcode & 0xf8 == 0xb8 }
            }
        };
        Some(Self { way, size, len: number_at.wrapping_add(number_bytes), address })
    }

    /// Where in its page the operand begins. `next`: RIP behind the instruction; `segment`:
    /// base of the segment.
    pub fn page_offset(&self, gprs: &Gprs, next: u64, segment: u64) -> u64 {
        let register = |n: u8| gprs.get(usize::from(n)).copied().unwrap_or(0);
        let Address { base, index, displacement, is_relative } = self.address;
        let base = base.map_or(if is_relative { next } else { 0 }, register);
        let index = index.map_or(0, |(n, shift)| register(n).wrapping_shl(shift.into()));
        let address = base.wrapping_add(index).wrapping_add(displacement as u64);
        address.wrapping_add(segment) & 0xfff
    }

    /// Whether the operand is on the stack, as far as segments are concerned.
    pub fn is_on_stack(&self) -> bool {
        matches!(self.address.base, Some(4 | 5))
    }

    /// What is written to memory; `None` if this reads.
    pub fn stored(&self, gprs: &Gprs) -> Option<u64> {
        match self.way {
            Way::Store(Register { n, high }) => {
                let value = gprs.get(usize::from(n)).copied()?;
                Some(low_bytes(if high { value >> 8 } else { value }, self.size))
            }
            Way::StoreNumber(value) => Some(value),
            Way::Load { .. } => None,
        }
    }

    /// Whether this reads memory.
    pub const fn is_load(&self) -> bool {
        matches!(self.way, Way::Load { .. })
    }

    /// Takes in what was read from memory.
    pub fn load(&self, gprs: &mut Gprs, value: u64) {
        let Way::Load { to: Register { n, high }, bytes, signed } = self.way else { return };
        let Some(register) = gprs.get_mut(usize::from(n)) else { return };
        let read = low_bytes(value, self.size);
        let read = if signed { sign_extended(read, self.size) } else { read };
        *register = match (bytes, high) {
            (1, true) => *register & !0xff00 | (read & 0xff) << 8,
            (1, false) => *register & !0xff | read & 0xff,
            (2, _) => *register & !0xffff | read & 0xffff,
            (4, _) => read & 0xffff_ffff,
            _ => read,
        };
    }
}

impl Address {
    /// The operand of a ModRM byte that `rest` follows, and how many bytes of that belong to
    /// it; `None` if it isn't in memory.
    fn decode(modrm: u8, rest: &[u8], prefix: Prefix, long: bool) -> Option<(Self, u8)> {
        let with = |low: u8, rex: u8| low & 7 | if prefix.has(rex) { 8 } else { 0 };
        let form = modrm >> 6;
        let (mut low, mut index, mut at): (u8, _, u8) = (modrm & 7, None, 0);
        if low == 4 {
            let sib = *rest.first()?;
            let n = with(sib >> 3, REX_X);
            index = (n != 4).then_some((n, sib >> 6));
            (low, at) = (sib & 7, 1);
        }
        let is_absolute = form == 0 && low == 5;
        let bytes: u8 = match form {
            0 if is_absolute => 4,
            0 => 0,
            1 => 1,
            2 => 4,
            _ => return None,
        };
        let (_, rest) = rest.split_at_checked(at.into())?;
        let displacement = match bytes {
            0 => 0,
            1 => i32::from(*rest.first()? as i8),
            _ => i32::from_le_bytes(*rest.first_chunk()?),
        };
        let is_relative = is_absolute && at == 0 && long;
        let base = (!is_absolute).then_some(with(low, REX_B));
        Some((Self { base, index, displacement, is_relative }, at.wrapping_add(bytes)))
    }
}

/// The number at a place, for an operand of `size` bytes.
fn number(code: &[u8; WINDOW], at: u8, size: u8) -> Option<u64> {
    let (_, rest) = code.split_at_checked(usize::from(at))?;
    match size {
        1 => rest.first().map(|byte| u64::from(*byte)),
        2 => rest.first_chunk().map(|bytes| u64::from(u16::from_le_bytes(*bytes))),
        4 => rest.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
        _ => rest.first_chunk().map(|bytes| sign_extended(u32::from_le_bytes(*bytes).into(), 4)),
    }
}

fn low_bytes(value: u64, bytes: u8) -> u64 {
    match bytes {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

fn sign_extended(value: u64, bytes: u8) -> u64 {
    match bytes {
        1 => value as i8 as u64,
        2 => value as i16 as u64,
        4 => value as i32 as u64,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, Features, Insn, Mem, Op, Operand};
    use x86_defs::{Mode, SegReg};

    /// The full decoder's view of what can be a plain move.
    fn decoded(insn: &Insn) -> (Way, u8, u8) {
        let register = |operand| match operand {
            Operand::Gpr { n, size } => (Register { n, high: false }, size),
            Operand::High { n } => (Register { n, high: true }, 1),
            other => panic!("{other:?}"),
        };
        let size = |operand| match operand {
            Operand::Mem { size } => size,
            other => panic!("{other:?}"),
        };
        let (way, size) = match (insn.dst, insn.src) {
            (dst, Operand::Imm) => (Way::StoreNumber(low_bytes(insn.imm, size(dst))), size(dst)),
            (dst @ Operand::Mem { .. }, src) => (Way::Store(register(src).0), size(dst)),
            (dst, src) => {
                let (to, bytes) = register(dst);
                (Way::Load { to, bytes, signed: insn.op == Op::Movsx }, size(src))
            }
        };
        (way, size, insn.len)
    }

    /// The same of where its operand is.
    fn page_offset(insn: &Insn, gprs: &Gprs, rip: u64) -> u64 {
        let register = |n: u8| match n {
            Mem::NONE => 0,
            Mem::RIP => rip.wrapping_add(insn.len.into()),
            n => gprs[usize::from(n)],
        };
        let Mem { base, index, shift, disp, .. } = insn.mem;
        let index = register(index) << shift;
        register(base).wrapping_add(index).wrapping_add(disp as u64) & 0xfff
    }

    /// All prefixes that are known here and two that aren't, all opcodes, all ModRM bytes.
    #[test]
    fn the_decoder_says_the_same() {
        let prefixes: [&[u8]; 8] =
            [&[], &[0x66], &[0x48], &[0x66, 0x44], &[0x41], &[0x66, 0x4c], &[0xf3], &[0x65, 0x40]];
        const RIP: u64 = 0x1234;
        let gprs: Gprs = core::array::from_fn(|n| 0x0765_4321 * (n as u64 + 3));
        let mut count = 0;
        for (mode, long) in [(Mode::Long64, true), (Mode::Prot32, false)] {
            for prefix in prefixes {
                for opcode in 0..=0x1ff_u16 {
                    for modrm in 0..=255 {
                        for sib in [0x25, 0xe4, 0x9c] {
                            let mut code = [0; WINDOW];
                            let escape: &[u8] = if opcode > 0xff { &[0x0f] } else { &[] };
                            let rest =
                                [opcode as u8, modrm, sib, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6];
                            let bytes = prefix.iter().chain(escape).chain(&rest);
                            code.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                            let Some(plain) = PlainMove::decode(&code, long) else { continue };
                            let insn = decode(&code, mode, Features::default()).unwrap();
                            assert!(insn.is_plain_move(), "{code:x?}");
                            let PlainMove { way, size, len, .. } = plain;
                            assert_eq!((way, size, len), decoded(&insn), "{mode:?} {code:x?}");
                            let next = RIP.wrapping_add(len.into());
                            let offset = plain.page_offset(&gprs, next, 0);
                            assert_eq!(
                                offset,
                                page_offset(&insn, &gprs, RIP),
                                "{mode:?} {code:x?}"
                            );
                            assert_eq!(
                                plain.is_on_stack(),
                                insn.mem.seg == SegReg::Ss,
                                "{mode:?} {code:x?}"
                            );
                            count += 1;
                        }
                    }
                }
            }
        }
        assert!(count > 30_000, "{count}");
    }

    #[test]
    fn values_go_both_ways() {
        let mut gprs = [0x1122_3344_5566_7788; 16];
        let of = |bytes: &[u8]| {
            let mut code = [0; WINDOW];
            code.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            PlainMove::decode(&code, true).unwrap()
        };
        // mov [rbx], ah; mov [rbx], ax; mov [rbx], rax
        assert_eq!(of(&[0x88, 0x23]).stored(&gprs), Some(0x77));
        assert_eq!(of(&[0x66, 0x89, 0x03]).stored(&gprs), Some(0x7788));
        assert_eq!(of(&[0x48, 0x89, 0x03]).stored(&gprs), Some(0x1122_3344_5566_7788));
        // mov qword ptr [rbx], -2
        let minus_two = of(&[0x48, 0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(minus_two.stored(&gprs), Some(-2_i64 as u64));
        // mov ah, [rbx]; mov r9w, [rbx]; mov ecx, [rbx]; movsx rdx, word ptr [rbx]
        for (bytes, register, expected) in [
            (&[0x8a_u8, 0x23] as &[u8], 0, 0x1122_3344_5566_8288),
            (&[0x66, 0x44, 0x8b, 0x0b], 9, 0x1122_3344_5566_8182),
            (&[0x8b, 0x0b], 1, 0xf1f2_8182),
            (&[0x48, 0x0f, 0xbf, 0x13], 2, 0xffff_ffff_ffff_8182),
        ] {
            let plain = of(bytes);
            assert_eq!(plain.stored(&gprs), None);
            plain.load(&mut gprs, 0xf1f2_8182);
            assert_eq!(gprs[register], expected, "{bytes:x?}");
        }
    }
}
