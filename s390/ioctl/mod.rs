// SPDX-License-Identifier: GPL-2.0
//! The ioctls of VMs and vCPUs that only s390 has, or answers in its own way.

mod attr;
pub(crate) mod clock;
pub(crate) mod debug;
pub(crate) mod irq;
mod key;
pub(crate) mod mem_op;
mod one_reg;
mod regs;
mod reset;
pub(crate) mod vcpu;
pub(crate) mod vm;
