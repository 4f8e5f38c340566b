// SPDX-License-Identifier: GPL-2.0
//! The architecture's registers and tables as types, without any behaviour.
//!
//! Everything that describes x86 itself and that more than one crate needs:
//! control, flag and debug registers ([`Cr0`], [`Cr4`], [`Efer`], [`Rflags`],
//! [`Dr7`]), segment descriptors and their cached form ([`Descriptor`],
//! [`Segment`]), exception vectors and error codes ([`Vector`],
//! [`PageFaultCode`]), MSR numbers ([`msr`]), task-state segments ([`tss`]), the
//! area of FXSAVE ([`FxSave`]) and processor modes ([`Mode`]).
//!
//! Manuals: Intel SDM volume 3 chapters 2, 3, 6, 8 and 18; AMD APM volume 2
//! chapters 1, 3, 4, 8, 12 and 13.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![warn(missing_docs)]

mod cr;
mod descriptor;
mod dr;
mod efer;
mod exception;
mod fxsave;
mod mode;
pub mod msr;
mod rflags;
mod seg;
pub mod tss;
mod xcr;

pub use cr::{Cr0, Cr3, Cr4};
pub use descriptor::{Descriptor, GateDescriptor, SystemType};
pub use dr::{Dr6, Dr7, DR6_FIXED_1, DR7_FIXED_1};
pub use efer::Efer;
pub use exception::{PageFaultCode, SelectorCode, Vector};
pub use fxsave::{FxSave, FXSAVE_SIZE};
pub use mode::{is_canonical, Mode};
pub use rflags::Rflags;
pub use seg::{SegReg, Segment, Selector, TableReg};
pub use xcr::Xcr0;
