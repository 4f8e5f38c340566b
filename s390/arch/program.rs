// SPDX-License-Identifier: GPL-2.0
//! Program interruptions.

/// Codes.
pub mod code {
    /// Operation exception.
    pub const OPERATION: u16 = 0x01;
    /// Privileged operation.
    pub const PRIVILEGED: u16 = 0x02;
    /// Protection.
    pub const PROTECTION: u16 = 0x04;
    /// Addressing.
    pub const ADDRESSING: u16 = 0x05;
    /// Specification.
    pub const SPECIFICATION: u16 = 0x06;
    /// Data.
    pub const DATA: u16 = 0x07;
    /// Segment translation.
    pub const SEGMENT: u16 = 0x10;
    /// Page translation.
    pub const PAGE: u16 = 0x11;
    /// Translation specification.
    pub const TRANSLATION_SPECIFICATION: u16 = 0x12;
    /// Special operation.
    pub const SPECIAL_OPERATION: u16 = 0x13;
    /// Operand.
    pub const OPERAND: u16 = 0x15;
    /// ASCE type.
    pub const ASCE_TYPE: u16 = 0x38;
    /// Region first translation; the next two codes are second and third.
    pub const REGION_FIRST: u16 = 0x39;
    /// Region third translation.
    pub const REGION_THIRD: u16 = 0x3b;
    /// Monitor event.
    pub const MONITOR: u16 = 0x40;
    /// PER event, perhaps together with another code.
    pub const PER: u16 = 0x80;
}

/// A program interruption with all that it may store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// [`code`].
    pub code: u16,
    /// Translation-exception identification.
    pub translation: u64,
    /// Monitor code.
    pub monitor_code: u64,
    /// PER address.
    pub per_address: u64,
    /// Data-exception code.
    pub data_code: u32,
    /// Monitor class.
    pub monitor_class: u16,
    /// PER code.
    pub per_code: u8,
    /// PER ATMID.
    pub per_atmid: u8,
    /// Exception access identification.
    pub exception_access: u8,
    /// PER access identification.
    pub per_access: u8,
    /// Operand access identification.
    pub operand_access: u8,
    /// Bytes of the instruction.
    pub length: u8,
    /// The PSW is behind the instruction although the exception nullifies it.
    pub rewind: bool,
}

/// What a program interruption stores besides its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Translation-exception identification.
    Translation,
    /// That and the access identifications.
    Access,
    /// The exception access identification alone.
    AccessRegister,
    /// Monitor class and code.
    Monitor,
    /// Data-exception code.
    Data,
}

impl Program {
    /// One with a code and nothing else.
    pub const fn new(code: u16) -> Self {
        Self {
            code,
            translation: 0,
            monitor_code: 0,
            per_address: 0,
            data_code: 0,
            monitor_class: 0,
            per_code: 0,
            per_atmid: 0,
            exception_access: 0,
            per_access: 0,
            operand_access: 0,
            length: 0,
            rewind: false,
        }
    }

    /// This one together with the event of another one.
    pub const fn with_event(self, event: &Self) -> Self {
        Self {
            code: self.code | code::PER,
            per_address: event.per_address,
            per_code: event.per_code,
            per_atmid: event.per_atmid,
            per_access: event.per_access,
            ..self
        }
    }

    /// What the code, without PER, stores.
    pub const fn detail(self) -> Detail {
        match self.code & !code::PER {
            // AFX, ASX, primary and secondary authority, LFX, LSX, LSTE sequence,
            // LX, EX, space switch.
            0x1c | 0x20 | 0x21 | 0x22 | 0x23 | 0x24 | 0x25 | 0x26 | 0x27 => Detail::Translation,
            // ALEN translation, ALE sequence, ASTE validity, sequence, instance,
            // extended authority.
            0x28..=0x2d => Detail::AccessRegister,
            code::SEGMENT
            | code::PAGE
            | code::ASCE_TYPE
            | code::REGION_FIRST
            | 0x3a
            | code::REGION_THIRD
            | code::PROTECTION => Detail::Access,
            code::MONITOR => Detail::Monitor,
            code::DATA | 0x1b => Detail::Data,
            _ => Detail::None,
        }
    }

    /// Whether the instruction is nullified: the PSW points to it again.
    pub const fn is_nullifying(self) -> bool {
        matches!(
            self.code & !code::PER,
            0x1c | 0x20
                | 0x21
                | 0x22
                | 0x23
                | 0x25
                | 0x26
                | 0x27
                | 0x28
                | 0x29
                | 0x2a
                | 0x2b
                | 0x2c
                | 0x2d
                | code::SEGMENT
                | code::PAGE
                | code::ASCE_TYPE
                | code::REGION_FIRST
                | 0x3a
                | code::REGION_THIRD
        )
    }
}
