// SPDX-License-Identifier: GPL-2.0
//! SIGNAL PROCESSOR: orders and status bits.

/// Orders.
pub mod order {
    /// Sense.
    pub const SENSE: u8 = 0x01;
    /// External call.
    pub const EXTERNAL_CALL: u8 = 0x02;
    /// Emergency signal.
    pub const EMERGENCY: u8 = 0x03;
    /// Start.
    pub const START: u8 = 0x04;
    /// Stop.
    pub const STOP: u8 = 0x05;
    /// Restart.
    pub const RESTART: u8 = 0x06;
    /// Stop and store status.
    pub const STOP_AND_STORE: u8 = 0x09;
    /// Initial CPU reset.
    pub const INITIAL_RESET: u8 = 0x0b;
    /// CPU reset.
    pub const RESET: u8 = 0x0c;
    /// Set prefix.
    pub const SET_PREFIX: u8 = 0x0d;
    /// Store status at address.
    pub const STORE_STATUS: u8 = 0x0e;
    /// Set architecture.
    pub const SET_ARCHITECTURE: u8 = 0x12;
    /// Conditional emergency signal.
    pub const CONDITIONAL_EMERGENCY: u8 = 0x13;
    /// Sense running status.
    pub const SENSE_RUNNING: u8 = 0x15;
}

/// Status bits, condition code 1.
pub mod status {
    /// The CPU is not running.
    pub const NOT_RUNNING: u32 = 0x400;
    /// Incorrect state.
    pub const INCORRECT_STATE: u32 = 0x200;
    /// Invalid parameter.
    pub const INVALID_PARAMETER: u32 = 0x100;
    /// An external call is pending.
    pub const EXTERNAL_CALL_PENDING: u32 = 0x80;
    /// The CPU is stopped.
    pub const STOPPED: u32 = 0x40;
    /// Invalid order.
    pub const INVALID_ORDER: u32 = 0x02;
}

/// How an order went: the condition code, and for code 1 the status that goes to
/// the lower half of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Code 0.
    Accepted,
    /// Code 1 with status.
    Status(u32),
    /// Code 2.
    Busy,
    /// Code 3: there is no such CPU.
    NotOperational,
}

impl Outcome {
    /// The condition code.
    pub const fn condition(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Status(_) => 1,
            Self::Busy => 2,
            Self::NotOperational => 3,
        }
    }
}
