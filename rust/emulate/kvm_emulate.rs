// SPDX-License-Identifier: GPL-2.0
//! The instruction emulator.
//!
//! [`decode()`] turns bytes into an [`Insn`] once; [`execute`] runs it over
//! anything that implements [`Cpu`], as often as its memory and port accesses
//! need to leave and come back ([`io`]). [`fetch`](fetch::fetch) reads and
//! decodes at CS:RIP. [`task_switch()`] is the hardware task switch, and
//! [`deliver_real`] an interrupt in real mode.
//!
//! Nothing here knows of virtual machines, allocates, or panics on any guest
//! state. Intel SDM volumes 2 and 3; AMD APM volumes 2 and 3.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![warn(missing_docs)]

mod cpu;
mod decode;
mod exec;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod fault;
pub mod fetch;
pub mod io;
pub mod plain;
mod task_switch;

pub use cpu::{Access, Cpu, Effect, Features, FpuWords, Hypercall, Table};
pub use decode::{decode, DecodeError, Insn, Mem, Op, Operand, Prefixes, Rep, Vex};
pub use exec::{deliver_real, execute};
pub use fault::{Completed, Exception, Shadow, Stop};
pub use task_switch::{task_switch, TaskSwitch, TaskSwitchSource};
