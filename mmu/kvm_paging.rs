// SPDX-License-Identifier: GPL-2.0
//! Two-level paging: addresses, table geometry, and what a processor can do.
//!
//! A guest's memory is mapped by a second set of page tables that the
//! hypervisor owns: nested page tables (AMD), EPT (Intel), DAT tables under SIE
//! (IBM Z). What they have in common lives here and knows of no processor.
//!
//! - [`addr`]: address newtypes; a guest address can't be used as a host one.
//! - [`level`]: levels of a table and their geometry.
//! - [`caps`]: what a processor's second-level paging offers.
//!
//! This crate is pure: it is compiled into the modules and, by cargo, into host
//! tests.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod addr;
pub mod caps;
pub mod level;
