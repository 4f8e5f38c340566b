// SPDX-License-Identifier: GPL-2.0
//! Exits that both vendors have, one file each.

pub mod apic;
pub mod cpuid;
pub mod deadline;
pub mod debug;
pub mod halt;
pub mod hypercall;
pub mod msr;
pub mod mwait;
pub mod page_fault;
pub mod pause;
pub mod port;
pub mod smm;
pub mod task_switch;
pub mod undefined;
pub mod window;
