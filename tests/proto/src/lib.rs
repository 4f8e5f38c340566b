// SPDX-License-Identifier: GPL-2.0
//! What the harness and PID 1 inside a machine say to each other.
//!
//! The two talk over a line of printable ASCII in each direction (see [`frame`]), so that it passes
//! a serial port as well as the line-mode console of a mainframe. What a run is to do is a [`Job`],
//! which PID 1 finds as JSON in its initramfs.
//!
//! Guests inside a machine speak to the tests there in [`report`]s, and both sides look for trouble in
//! kernel logs with [`hostlog`].

#![forbid(unsafe_code)]

mod crc;
pub mod decode;
pub mod frame;
pub mod hostlog;
pub mod job;
pub mod report;

pub use decode::{Decoder, Item};
pub use frame::{Exit, Frame, Kind, MAX_PAYLOAD, NARROW_PAYLOAD};
pub use job::{Job, Load, Root};
pub use report::{Fields, Report};
