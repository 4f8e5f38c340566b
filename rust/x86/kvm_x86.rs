// SPDX-License-Identifier: GPL-2.0
//! What AMD and Intel processors have in common, generic over the vendor.
//!
//! - [`vendor`]: what a vendor module provides; [`control`]: a control block.
//! - [`probe`]: whether a processor can be used, with the reason if not;
//!   [`host`]: what it can give to guests.
//! - [`state`], [`shared`]: a vCPU's state, and the part that everybody reaches;
//!   [`vm`]: the x86 part of a VM; [`settings`]: what userspace chose for it.
//! - `run`: `KVM_RUN`, the loop; `mailbox`: what others left; [`inject`]: events on
//!   their way into the guest; `interrupts`: where they come from.
//! - [`exit`]: one file for each exit that both vendors have; [`userspace`]: exits
//!   through `kvm_run`; [`outcome`]: what follows.
//! - [`emulate`]: the instruction emulator at work.
//! - `registers`, `regs`, `msr`, `cpuid`, [`debug`], [`tsc`], `hypercall`: parts of a
//!   processor.
//! - [`apic`]: a vCPU's local APIC; `irqchip`: the other interrupt controllers.
//! - `request`: what is asked of a vCPU.
//! - `capability`: what a VM can do; `ioctl`: which function answers which request.
//! - [`wiring`]: interrupt routes, in-kernel devices, counters.
//! - [`pv`]: what KVM offers to guests that know of it.
//! - [`smm`]: system-management mode. [`speculation`]: what guests control of it.
//! - `params`: module parameters; `report`: messages in bounded number.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod apic;
mod capability;
pub mod control;
pub mod cpuid;
pub mod debug;
pub mod emulate;
pub mod exit;
pub mod host;
mod hypercall;
pub mod inject;
mod interrupts;
mod ioctl;
mod irqchip;
mod mailbox;
mod msr;
mod msr_filter;
pub mod outcome;
mod params;
mod presence;
pub mod probe;
pub mod pv;
mod quick;
pub mod registers;
mod regs;
mod report;
mod request;
mod run;
pub mod settings;
pub mod shared;
pub mod smm;
pub mod speculation;
pub mod state;
pub mod trace;
pub mod tsc;
pub mod userspace;
pub mod vendor;
pub mod vm;
pub mod wiring;

// What `pr_info!` and its like put in front; `module!` defines it in a module's root.
const __LOG_PREFIX: &[u8] = b"kvm\0";
