// SPDX-License-Identifier: GPL-2.0
//! A hardware task switch, which both vendors leave to software.

use crate::{emulate, inject::Injected, outcome::Next, state::Cx, vendor::Vendor};
use kernel::error::Result;
use kvm_emulate::TaskSwitchSource;

/// What the processor says of a task switch.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// Selector of the new task's TSS.
    pub selector: u16,
    /// By IRET.
    pub is_iret: bool,
    /// By JMP.
    pub is_jmp: bool,
    /// To be pushed on the new task's stack.
    pub error_code: Option<u32>,
}

/// Switches tasks.
///
/// # Errors
///
/// Those of [`emulate::instruction`].
pub fn handle<V: Vendor>(cx: &mut Cx<'_, V>, switch: &Switch) -> Result<Next> {
    let event = cx.state.events.injected.take();
    let source = if event.is_some() {
        TaskSwitchSource::Gate
    } else if switch.is_iret {
        TaskSwitchSource::Iret
    } else if switch.is_jmp {
        TaskSwitchSource::Jump
    } else {
        TaskSwitchSource::Call
    };
    // An instruction that switches is over; an event found one that wasn't begun.
    let past_instruction = match event {
        None | Some(Injected::Software { .. }) => true,
        Some(_) => false,
    };
    emulate::switch_task(cx, switch, source, past_instruction)
}
