// SPDX-License-Identifier: GPL-2.0
//! The host's TSC got to where the processor was told to exit.

use crate::{apic, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;

/// The timer of the guest's APIC may be due.
///
/// # Errors
///
/// None.
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    apic::timer::expired(cx);
    Ok(Next::Resume)
}
