// SPDX-License-Identifier: GPL-2.0
//! EOI by a write to the local APIC's [page](crate::apic::page) that the processor tells of. Its other
//! accesses are those to a [device](super::page_fault::device).

use crate::{apic, emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use x86_defs::msr;

/// An instruction writes to the EOI register.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn end<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    apic::end(cx);
    emulate::skip(cx)
}

/// The same in any context, if nobody but the local APIC has to hear of it; whether that is so.
#[inline]
pub(crate) fn end_at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let is_quick = apic::is_quick_write(cx.state, msr::X2APIC_EOI);
    if is_quick {
        apic::end(cx);
    }
    is_quick
}
