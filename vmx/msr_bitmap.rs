// SPDX-License-Identifier: GPL-2.0
//! MSRs that a guest accesses without an exit.

use kernel::prelude::*;
use kvm_sys::hw_pages::HwPages;
use kvm_x86::speculation;
use vmx_arch::msr_bitmap::{position, WRITES};
use x86_defs::msr;

/// MSRs that the guest reads and writes without an exit: an entry and an exit, or the
/// vCPU's thread ([`kvm_sys::x86::user_segments`]), keep them apart from the host's. Those for
/// speculation come later, if at all.
const PASSED: [u32; 9] = [
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::SPEC_CTRL,
    msr::PRED_CMD,
    msr::FLUSH_CMD,
];

/// A vCPU's bitmap. The processor reads it while the guest runs.
pub(crate) struct MsrBitmap(HwPages<1>);

impl MsrBitmap {
    /// Most of [`PASSED`] are the guest's.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let mut bitmap = Self(HwPages::new()?);
        bitmap.0.bytes().fill(0xff);
        bitmap.pass(&|msr, _| !speculation::is_one(msr));
        Ok(bitmap)
    }

    /// Those are the guest's that `may` (number, whether it is a write) lets it access.
    pub(crate) fn pass(&mut self, may: &dyn Fn(u32, bool) -> bool) {
        for msr in PASSED {
            let Some((at, bit)) = position(msr) else { continue };
            for (at, is_write) in [(at, false), (at.wrapping_add(WRITES), true)] {
                let mask = 1_u8.wrapping_shl(bit.into());
                if let Some(byte) = self.0.bytes().get_mut(at) {
                    *byte = if may(msr, is_write) { *byte & !mask } else { *byte | mask };
                }
            }
        }
    }

    /// Its address.
    pub(crate) fn physical(&self) -> u64 {
        self.0.physical()
    }
}
