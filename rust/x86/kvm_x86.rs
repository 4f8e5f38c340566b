// SPDX-License-Identifier: GPL-2.0
//! What AMD and Intel processors have in common, generic over the vendor.
//!
//! - [`vendor`]: what a vendor module provides.
//! - [`wiring`]: interrupt routes, in-kernel devices, counters.
//! - [`probe`]: whether a processor can be used, with the reason if not.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod probe;
pub mod vendor;
pub mod wiring;
