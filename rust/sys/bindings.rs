// SPDX-License-Identifier: GPL-2.0
//! Generated declarations of what the `bindings` crate lacks.
//!
//! Private to this crate: every other layer goes through a safe wrapper. Types
//! that are not declared here come from the kernel's own bindings.

#[allow(unused_imports)]
use kernel::{bindings::*, ffi};

include!(env!("KVM_BINDINGS"));
