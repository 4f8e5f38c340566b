// SPDX-License-Identifier: GPL-2.0
//! PAUSE in a loop: the guest waits for a lock.

use crate::{control::Control, emulate, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
pub use kvm_policy::pause_window::PauseWindows;
use kvm_sys::{process, x86::trace::kvm_ple_window_update};

/// Lets others run: whoever has the lock may be waiting for a CPU. The next loop may be
/// longer.
///
/// # Errors
///
/// Those of [`emulate::skip`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>) -> Result<Next> {
    grow_window(cx);
    if !cx.vm.vcpus().yield_to_any(cx.vcpu) {
        process::cond_resched();
    }
    emulate::skip(cx)
}

/// The same in any context, if nobody else could run here instead; whether that is so.
#[inline]
pub(crate) fn at_once<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let is_alone = process::is_alone();
    if is_alone {
        grow_window(cx);
    }
    is_alone
}

/// The next loop may be longer.
fn grow_window<V: Vendor>(cx: &mut Cx<'_, V>) {
    let old = cx.state.control.pause_window();
    set_window(cx, old, V::pause_windows().grown(old));
}

/// The vCPU's thread was off its CPU.
pub(crate) fn rested<V: Vendor>(cx: &mut Cx<'_, V>) {
    let old = cx.state.control.pause_window();
    set_window(cx, old, V::pause_windows().shrunk(old));
}

fn set_window<V: Vendor>(cx: &mut Cx<'_, V>, old: u32, window: u32) {
    if window == old {
        return;
    }
    kvm_ple_window_update(|| (cx.vcpu.id(), window, old));
    cx.state.control.set_pause_window(window);
    cx.vcpu.shared().set_spun(window != V::pause_windows().first);
}
