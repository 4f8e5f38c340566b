// SPDX-License-Identifier: GPL-2.0
//! Whether a processor can be used, with the reason if not.

use crate::vendor::Vendor;

/// Why a vendor module can't serve this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The processor doesn't have the extension.
    NotPresent,
    /// The processor has it; firmware, or the kernel, turned it off.
    TurnedOff,
}

/// Checks that the extension is there and that the kernel may use it.
///
/// # Errors
///
/// The reason why not, for the operator.
pub fn probe<V: Vendor>() -> Result<(), Refusal> {
    if V::EXTENSION.is_usable() {
        Ok(())
    } else if V::is_present() {
        Err(Refusal::TurnedOff)
    } else {
        Err(Refusal::NotPresent)
    }
}
