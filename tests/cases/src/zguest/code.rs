// SPDX-License-Identifier: GPL-2.0
//! Guest code, put together where it is used: the few instructions that cases need, by the formats of
//! the Principles of Operation.

/// Number of the DIAGNOSE by which guests report: one that no hypervisor has.
pub(super) const REPORT: u16 = 0x9f0;

/// Code that grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Code(Vec<u8>);

impl Code {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Any bytes.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// RS and RX formats, and S with the second half of the opcode as `registers`.
    pub(super) fn rs(self, opcode: u8, registers: u8, base: u8, displacement: u16) -> Self {
        let [high, low] = (u16::from(base) << 12 | displacement & 0xfff).to_be_bytes();
        self.raw(&[opcode, registers, high, low])
    }

    /// S format.
    pub(super) fn s(self, opcode: u16, base: u8, displacement: u16) -> Self {
        let [first, second] = opcode.to_be_bytes();
        self.rs(first, second, base, displacement)
    }

    /// RRE format.
    pub(super) fn rre(self, opcode: u16, r1: u8, r2: u8) -> Self {
        let [first, second] = opcode.to_be_bytes();
        self.raw(&[first, second, 0, r1 << 4 | r2])
    }

    /// RXY and RSY formats; the displacement is not negative.
    pub(super) fn rxy(self, opcode: u16, registers: u8, base: u8, displacement: u16) -> Self {
        let [first, second] = opcode.to_be_bytes();
        let [high, low] = (u16::from(base) << 12 | displacement & 0xfff).to_be_bytes();
        self.raw(&[first, registers, high, low, 0, second])
    }

    /// LGFI: a register gets a signed number.
    pub(super) fn load(self, register: u8, value: i32) -> Self {
        let [a, b, c, d] = value.to_be_bytes();
        self.raw(&[0xc0, register << 4 | 1, a, b, c, d])
    }

    /// A register gets a number of 64 bits.
    pub(super) fn load64(self, register: u8, value: u64) -> Self {
        // IIHF and IILF.
        let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
        self.raw(&[0xc0, register << 4 | 8, a, b, c, d]).raw(&[0xc0, register << 4 | 9, e, f, g, h])
    }

    /// LG: a register from memory.
    pub(super) fn lg(self, register: u8, base: u8, displacement: u16) -> Self {
        self.rxy(0xe304, register << 4, base, displacement)
    }

    /// STG: a register to memory.
    pub(super) fn stg(self, register: u8, base: u8, displacement: u16) -> Self {
        self.rxy(0xe324, register << 4, base, displacement)
    }

    /// AGHI: adds to a register.
    pub(super) fn aghi(self, register: u8, value: i16) -> Self {
        let [high, low] = value.to_be_bytes();
        self.raw(&[0xa7, register << 4 | 0xb, high, low])
    }

    /// DIAGNOSE.
    pub(super) fn diagnose(self, r1: u8, r3: u8, number: u16) -> Self {
        self.rs(0x83, r1 << 4 | r3, 0, number)
    }

    /// Reports a register to the case.
    pub(super) fn report(self, register: u8) -> Self {
        self.diagnose(register, 0, REPORT)
    }

    /// IPM: the condition code to bits 2 and 3 of a register's lower half, alone there.
    pub(super) fn condition(self, register: u8) -> Self {
        // IPM; SRL by 28.
        self.rre(0xb222, register, 0).rs(0x88, register << 4, 0, 28)
    }

    /// LPSWE from memory.
    pub(super) fn lpswe(self, address: u16) -> Self {
        self.s(0xb2b2, 0, address)
    }

    /// SIGP: an order to the CPU whose address is in `target`; status to `status`.
    pub(super) fn sigp(self, status: u8, target: u8, order: u8) -> Self {
        self.rs(0xae, status << 4 | target, 0, order.into())
    }

    /// A jump to itself, for ever.
    pub(super) fn hang(self) -> Self {
        self.raw(&[0xa7, 0xf4, 0, 0])
    }
}
