// SPDX-License-Identifier: GPL-2.0
//! Tests of the instruction emulator against the processor and another decoder.
//!
//! [`native`] runs one instruction on the processor that the tests run on;
//! [`generate`] makes random instructions and states whose memory accesses stay
//! inside a window; [`undefined`] knows which flags the manuals leave open.

#![cfg(target_arch = "x86_64")]

pub mod fuzz;
pub mod generate;
pub mod native;
pub mod undefined;
