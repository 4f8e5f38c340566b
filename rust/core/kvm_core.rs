// SPDX-License-Identifier: GPL-2.0
//! The architecture-neutral core of KVM.
//!
//! It owns the life of /dev/kvm and of everything reached through it, and knows
//! no processor: a vendor module implements [`arch::Arch`] and gives it to
//! [`provider::Provider`]. The generic code is compiled into the vendor module,
//! so that an exit never goes through a function pointer.
//!
//! - [`arch`]: what an architecture provides.
//! - [`provider`]: a loaded vendor module: hardware on, /dev/kvm there.
//! - [`hardware`]: virtualization turned on on every CPU.
//! - [`params`]: parameters of kvm.ko.
//! - [`system`]: the ioctls of /dev/kvm; [`capability`]: what it says is there.
//! - [`request`]: what is asked of a running vCPU.
//! - [`vm`], [`vcpu`]: virtual machines, virtual CPUs, and their files;
//!   [`memory`]: the memory of a VM, [`mmu`]: the tables that map it.
//! - [`wiring`]: how devices, interrupts and counters are connected: [`io_bus`]
//!   (`ioeventfd`, [`coalesced`]), [`irq_route`] (`irqfd`), [`device`], [`stats`],
//!   [`debugfs`], [`uevent`].
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod arch;
pub mod capability;
pub mod coalesced;
pub mod debugfs;
pub mod device;
mod dirty_ring;
mod halt_poll;
pub mod hardware;
pub mod io_bus;
mod ioeventfd;
pub mod irq_route;
mod irqfd;
pub mod memory;
pub mod mmu;
pub mod params;
pub mod provider;
pub mod request;
mod signals;
pub mod stats;
pub mod system;
pub mod uevent;
pub mod vcpu;
pub mod vm;
pub mod wiring;

pub use kvm_event::{statistics, stats as counting};

/// Waits until nothing that was begun needs code of the module that this crate is linked
/// into. At its end: the memory of all tables that were cut off is free, and nobody is on
/// his way through a directory of debugfs.
pub fn wait_for_the_rest() {
    kvm_sys::table_page::wait_for_retired();
    kvm_sys::debugfs::lazy::wait_for_lookers();
}

/// Prefix of this crate's lines in the kernel log, where `pr_err!` and its like
/// look for it.
const __LOG_PREFIX: &[u8] = b"kvm\0";
