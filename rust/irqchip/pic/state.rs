// SPDX-License-Identifier: GPL-2.0
//! `struct kvm_pic_state` of KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.

/// State of one 8259A, 16 bytes. Flags are zero or one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PicState {
    /// Line levels as last seen.
    pub last_irr: u8,
    /// Interrupt request register.
    pub irr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// In-service register.
    pub isr: u8,
    /// Input of highest priority.
    pub priority_add: u8,
    /// Vector of input 0.
    pub irq_base: u8,
    /// Port 0 reads the ISR.
    pub read_reg_select: u8,
    /// The next read is a poll.
    pub poll: u8,
    /// Special mask mode.
    pub special_mask: u8,
    /// Which ICW comes next, zero for none.
    pub init_state: u8,
    /// Automatic EOI.
    pub auto_eoi: u8,
    /// Automatic EOI rotates priorities.
    pub rotate_on_auto_eoi: u8,
    /// Special fully nested mode.
    pub special_fully_nested_mode: u8,
    /// ICW4 follows.
    pub init4: u8,
    /// Level-triggered inputs.
    pub elcr: u8,
    /// Inputs that can be level-triggered.
    pub elcr_mask: u8,
}

const _: () = assert!(core::mem::size_of::<PicState>() == 16);
