// SPDX-License-Identifier: GPL-2.0
//! The ioctls that only x86 has, by kind of file, and those of a vCPU.

pub(crate) mod attribute;
mod clock;
pub(crate) mod debugregs;
pub(crate) mod enable_cap;
pub(crate) mod events;
pub(crate) mod fpu;
pub(crate) mod guest_debug;
pub(crate) mod irqchip;
pub(crate) mod lapic;
pub(crate) mod mce;
pub(crate) mod msrs;
mod one_reg;
pub(crate) mod regs;
pub(crate) mod sregs;
pub(crate) mod sync_regs;
pub(crate) mod system;
pub(crate) mod translate;
pub(crate) mod vcpu;
pub(crate) mod vm;
pub(crate) mod xcrs;
