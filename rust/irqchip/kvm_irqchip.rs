// SPDX-License-Identifier: GPL-2.0
//! The x86 interrupt controllers as pure state machines.
//!
//! - [`lapic`]: the local APIC of one vCPU, and the [`lapic::Inbox`] through
//!   which everyone else reaches it.
//! - [`map`]: from a destination to the vCPUs it names.
//! - [`ioapic`]: the 82093AA with its redirection table.
//! - [`pic`]: the two 8259A with their edge/level registers.
//! - [`pit`]: the 8254 with its re-injected tick.
//! - [`msi`], [`message`]: decoded interrupt messages.
//! - [`vectors`]: sets of interrupt vectors; [`mod@line`]: shared interrupt inputs.
//!
//! Devices never call out. An access, a line change or a clock tick returns
//! what the owner has to do about it (deliver a message, program a timer, look
//! for a deliverable interrupt again), and the owner does that with whatever
//! locks it likes. Nothing here sleeps, allocates or knows of the kernel; time
//! comes in as an argument. Apart from the inbox, which is lock-free, a device
//! is used by one thread at a time, and its `&mut self` says so.
//!
//! Abbreviations: IRR/ISR/TMR interrupt request/in-service/trigger mode
//! register, TPR/PPR task/processor priority, LVT local vector table, ICR
//! interrupt command register, LDR/DFR logical destination/destination format
//! register, SVR spurious vector register, ESR error status register, EOI end
//! of interrupt, ELCR edge/level control register. "SDM" is Intel's Software
//! Developer's Manual.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod board_tests;
pub mod ioapic;
pub mod lapic;
pub mod line;
pub mod map;
pub mod message;
pub mod msi;
pub mod pic;
pub mod pit;
pub mod vectors;

/// A vCPU's index in its VM: 0, 1, 2, … in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuIndex(pub u16);
