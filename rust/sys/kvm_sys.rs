// SPDX-License-Identifier: GPL-2.0
//! Safe wrappers for the kernel facilities that KVM needs and the `kernel` crate
//! lacks.
//!
//! This is the one crate of the core that sees C, and where unsafe code is
//! allowed: each wrapper states its contract, and callers need no `unsafe`. What
//! differs between kernel versions stays in here as well.
//!
//! - [`anon_file`]: files without a name, for VMs, vCPUs and the like.
//! - [`shared_page`]: pages that userspace maps.
//! - [`killable_mutex`]: a mutex whose waiters can be killed.
//! - [`kick`]: getting a vCPU's attention.
//! - [`hw_pages`]: memory that the virtualization hardware reads.
//! - [`module_cell`]: what a module needs until it is unloaded.
//! - [`once_box`]: a value that comes once and stays.
//! - [`srcu_cell`]: a value that many read while one replaces it.
//! - [`rcu_cell`]: the same for readers that can't sleep, at next to no cost.
//! - [`eventfd`]: event descriptors, signalled and heard of.
//! - [`debugfs`]: directories of numbers. [`global`]: variables of the whole module.
//! - [`user`]: structures copied from and to userspace.
//! - [`process`]: the process that a VM belongs to.
//! - [`timer`]: high-resolution timers; [`work`]: waiting for queued work.
//! - [`chardev`]: a character device below the misc major, with a fixed minor.
//! - [`cpuhp`]: a callback on each CPU as it comes and goes.
//! - [`module_param`]: module parameters with files in sysfs.
//! - [`syscore`]: callbacks at suspend, resume and shutdown.
//! - [`mmu_notifier`]: being told of changes to an address space.
//! - [`gup`]: from a user address to the page behind it.
//! - [`vmm_memory`]: bytes at user addresses.
//! - [`memory_file`]: files of memory for guests.
//! - [`table_page`]: pages that hold second-level tables.
//! - [`map_section`]: short sections in which a vCPU maps pages.
//! - [`cpu_set`]: a static set of CPUs.
//! - [`percpu`]: a value for each CPU.
//! - [`preempt`], [`irq`]: evidence that code stays on its CPU, that interrupts are
//!   off; hooks for being scheduled out and in.
//! - [`guest_mode`]: what the kernel wants done around running a guest.
//! - [`x86`], [`s390`]: the processor.
//!
//! Nothing here takes a lock that a caller could hold.
#![warn(missing_docs)]

mod abi_check;
pub mod anon_file;
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    dead_code,
    improper_ctypes,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod bindings;
pub mod chardev;
pub mod cpu_set;
pub mod cpuhp;
pub mod debugfs;
pub mod eventfd;
pub mod fault_in;
pub mod global;
pub mod guest_mode;
pub mod gup;
pub mod hw_pages;
pub mod irq;
pub mod kick;
pub mod killable_mutex;
pub mod map_section;
pub mod memory_file;
pub mod mmu_notifier;
pub mod module_cell;
pub mod module_param;
pub mod once_box;
pub mod percpu;
pub mod plain;
pub mod preempt;
pub mod process;
pub mod rcu_cell;
pub mod runner;
#[cfg(CONFIG_S390)]
pub mod s390;
pub mod shared_page;
pub mod srcu_cell;
pub mod syscore;
pub mod table_page;
#[cfg(CONFIG_X86_64)]
pub mod task;
pub mod timer;
pub mod trace;
pub mod user;
pub mod vmm_memory;
pub mod work;
#[cfg(CONFIG_X86_64)]
pub mod x86;
