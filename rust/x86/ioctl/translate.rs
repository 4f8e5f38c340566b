// SPDX-License-Identifier: GPL-2.0
//! Where a guest's linear address leads: `KVM_TRANSLATE`.

use crate::{emulate, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_sys::user;
use kvm_uapi::vcpu::Translation;

pub(crate) fn translate<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let asked: Translation = user::read(arg)?;
    let physical = emulate::physical(cx, asked.linear_address);
    let answer = Translation {
        // What the interface always said for addresses that lead nowhere.
        physical_address: physical.unwrap_or(u64::MAX),
        valid: physical.is_some().into(),
        writeable: 1,
        usermode: 0,
        ..asked
    };
    user::write(arg, &answer).map(|()| 0)
}
