// SPDX-License-Identifier: GPL-2.0
//! Small guests, run by the program itself: no VMM, no operating system, just the ioctls.
//!
//! A [`vm::Vm`] has 4 MiB of memory at address 0; a [`vcpu::Vcpu`] starts in one of the
//! [`mode::Mode`]s with code that [`guest!`] assembled. It comes out with an [`exit::Exit`];
//! values it reports by `out 0xe8, eax`, exceptions and interrupts nobody handles by a
//! [`trap::Trap`]. A guest that stays inside too long is an error ([`deadline`]).
//!
//! What needs a capability that the modules don't report ends with a [`Skip`].

#[cfg(target_arch = "x86_64")]
pub mod code;
#[cfg(target_arch = "x86_64")]
pub mod cpuid;
pub mod deadline;
pub mod device;
#[cfg(target_arch = "x86_64")]
pub mod exit;
pub mod free;
#[cfg(target_arch = "x86_64")]
pub mod mode;
pub mod ram;
#[cfg(target_arch = "x86_64")]
pub mod request;
mod skip;
#[cfg(target_arch = "x86_64")]
pub mod state;
pub mod stats;
#[cfg(target_arch = "x86_64")]
pub mod thread;
#[cfg(target_arch = "x86_64")]
pub mod trap;
pub mod userfault;
#[cfg(target_arch = "x86_64")]
pub mod vcpu;
#[cfg(target_arch = "x86_64")]
pub mod vm;

pub use skip::Skip;
