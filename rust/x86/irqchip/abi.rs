// SPDX-License-Identifier: GPL-2.0
//! States of the devices, as userspace has them and as the devices do.

use super::{chip, ioapic, pic, Board};
use crate::vendor::{Vendor, X86};
use core::mem::offset_of;
use kernel::{error::Result, prelude::*};
use kvm_core::vm::Vm;
use kvm_irqchip::{
    ioapic::IoApicState,
    pic::{ChipId, PicState},
    pit::{ChannelState, PitState},
};
use kvm_sys::user;
use kvm_uapi::x86::{self as uapi, IoapicState, PitChannelState, PitState2};

/// Numbers of the chips.
const PIC_FIRST: u32 = chip::PIC_FIRST as u32;
const PIC_SECOND: u32 = chip::PIC_SECOND as u32;
const IOAPIC: u32 = chip::IOAPIC as u32;

/// Reads or sets `struct kvm_irqchip` at an address.
pub(crate) struct Exchange {
    chip: u32,
    /// Where the chip's state is.
    at: usize,
}

impl Exchange {
    /// The one at `arg`, whose head says which chip is meant.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn read(arg: usize) -> Result<Self> {
        let all: uapi::Irqchip = user::read(arg)?;
        Ok(Self { chip: all.chip_id, at: arg.wrapping_add(offset_of!(uapi::Irqchip, chip)) })
    }

    /// Refuses chips that there aren't.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub(crate) fn check(&self) -> Result<&Self> {
        if self.chip > IOAPIC {
            return Err(EINVAL);
        }
        Ok(self)
    }

    fn pic(&self) -> Option<ChipId> {
        match self.chip {
            PIC_FIRST => Some(ChipId::First),
            PIC_SECOND => Some(ChipId::Second),
            _ => None,
        }
    }

    /// `KVM_GET_IRQCHIP`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn save<V: Vendor>(&self, board: &Board<V>) -> Result {
        match self.pic() {
            Some(id) => user::write(self.at, &pic_to_user(&pic::save(board, id))),
            None => user::write(self.at, &ioapic_to_user(&ioapic::save(board))),
        }
    }

    /// `KVM_SET_IRQCHIP`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn load<V: Vendor>(&self, vm: &Vm<X86<V>>, board: &Board<V>) -> Result {
        match self.pic() {
            Some(id) => pic::load(vm, board, id, &pic_from_user(&user::read(self.at)?)),
            None => ioapic::load(vm, board, &ioapic_from_user(&user::read(self.at)?)),
        }
        Ok(())
    }
}

/// Copies the fields of a structure to its twin.
macro_rules! twin {
    ($from:ident => $to:ident { $($field:ident),* }) => {
        $to { $($field: $from.$field,)* }
    };
}

fn pic_to_user(from: &PicState) -> uapi::PicState {
    use uapi::PicState as To;
    twin!(from => To {
        last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask,
        init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr,
        elcr_mask
    })
}

fn pic_from_user(from: &uapi::PicState) -> PicState {
    twin!(from => PicState {
        last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask,
        init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr,
        elcr_mask
    })
}

fn ioapic_to_user(from: &IoApicState) -> IoapicState {
    twin!(from => IoapicState { base_address, ioregsel, id, irr, pad, redirtbl })
}

fn ioapic_from_user(from: &IoapicState) -> IoApicState {
    twin!(from => IoApicState { base_address, ioregsel, id, irr, pad, redirtbl })
}

fn channel_to_user(from: &ChannelState) -> PitChannelState {
    twin!(from => PitChannelState {
        count, latched_count, count_latched, status_latched, status, read_state, write_state,
        write_latch, rw_mode, mode, bcd, gate, count_load_time
    })
}

fn channel_from_user(from: &PitChannelState) -> ChannelState {
    twin!(from => ChannelState {
        count, latched_count, count_latched, status_latched, status, read_state, write_state,
        write_latch, rw_mode, mode, bcd, gate, count_load_time
    })
}

/// The 8254's channels for userspace.
pub(crate) fn channels_to_user(from: &[ChannelState; 3]) -> [PitChannelState; 3] {
    from.each_ref().map(channel_to_user)
}

/// The 8254's channels from userspace.
pub(crate) fn channels_from_user(from: &[PitChannelState; 3]) -> [ChannelState; 3] {
    from.each_ref().map(channel_from_user)
}

/// The 8254's state for userspace.
pub(crate) fn pit_to_user(from: &PitState) -> PitState2 {
    PitState2 { channels: channels_to_user(&from.channels), flags: from.flags, reserved: [0; 9] }
}

/// The 8254's state from userspace.
pub(crate) fn pit_from_user(from: &PitState2) -> PitState {
    PitState { channels: channels_from_user(&from.channels), flags: from.flags, reserved: [0; 9] }
}
