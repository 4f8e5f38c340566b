// SPDX-License-Identifier: GPL-2.0
//! Guests under the distribution's own QEMU.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "cases of other machines use the rest")
)]

#[cfg(target_arch = "x86_64")]
mod bare;
mod checks;
mod console;
#[cfg(target_arch = "x86_64")]
mod control;
#[cfg(target_arch = "x86_64")]
mod debian;
#[cfg(target_arch = "x86_64")]
mod debug;
mod diagnose;
#[cfg(target_arch = "x86_64")]
mod ends;
#[cfg(target_arch = "x86_64")]
mod held;
#[cfg(target_arch = "x86_64")]
mod kvm_ioctls;
#[cfg(target_arch = "x86_64")]
mod libvirt;
mod linux;
#[cfg(target_arch = "x86_64")]
pub(crate) mod main_job;
#[cfg(target_arch = "x86_64")]
mod matrix;
#[cfg(target_arch = "x86_64")]
mod migrate;
mod qmp;
#[cfg(target_arch = "x86_64")]
mod robust;
#[cfg(target_arch = "x86_64")]
mod rsp;
#[cfg(target_arch = "x86_64")]
mod tools;
mod vmm;
#[cfg(target_arch = "x86_64")]
mod x86;
pub(crate) mod z;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::CASES;
