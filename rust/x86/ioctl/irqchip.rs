// SPDX-License-Identifier: GPL-2.0
//! The ioctls of a VM's interrupt controllers and of its 8254.

use crate::{
    irqchip::{self, abi, pit, Mode},
    vendor::{Vendor, X86},
};
use kernel::{error::Result, prelude::*};
use kvm_core::vm::Vm;
use kvm_sys::user;
use kvm_uapi::{
    ioctl::{
        x86::{
            KVM_CREATE_PIT, KVM_CREATE_PIT2, KVM_GET_IRQCHIP, KVM_GET_PIT, KVM_GET_PIT2,
            KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_REINJECT_CONTROL, KVM_SET_IRQCHIP, KVM_SET_PIT,
            KVM_SET_PIT2, KVM_SIGNAL_MSI,
        },
        KVM_CREATE_IRQCHIP,
    },
    x86::{PitConfig, PitState, PitState2, ReinjectControl},
};

/// `KVM_PIT_SPEAKER_DUMMY`.
const WITH_SPEAKER: u32 = 1;

/// Answers a request, if it is for one of them.
pub(crate) fn ioctl<V: Vendor>(vm: &Vm<X86<V>>, request: u32, arg: usize) -> Option<Result<u32>> {
    let done = |result: Result| result.map(|()| 0);
    Some(match request {
        KVM_CREATE_IRQCHIP => done(irqchip::create(vm)),
        KVM_IRQ_LINE => vm.irq_line(arg, false),
        KVM_IRQ_LINE_STATUS => vm.irq_line(arg, true),
        KVM_SIGNAL_MSI => vm.signal_msi(arg),
        KVM_GET_IRQCHIP => done(exchange(vm, arg, false)),
        KVM_SET_IRQCHIP => done(exchange(vm, arg, true)),
        KVM_CREATE_PIT => done(pit::create(vm, WITH_SPEAKER)),
        KVM_CREATE_PIT2 => done(create_pit(vm, arg)),
        KVM_GET_PIT => done(get_pit(vm, arg)),
        KVM_SET_PIT => done(set_pit(vm, arg)),
        KVM_GET_PIT2 => done(get_pit2(vm, arg)),
        KVM_SET_PIT2 => done(set_pit2(vm, arg)),
        KVM_REINJECT_CONTROL => done(reinject_control(vm, arg)),
        _ => return None,
    })
}

/// `KVM_GET_IRQCHIP`, or `KVM_SET_IRQCHIP`.
fn exchange<V: Vendor>(vm: &Vm<X86<V>>, arg: usize, set: bool) -> Result {
    let chip = abi::Exchange::read(arg)?;
    if vm.arch().irqchip().mode() != Mode::Kernel {
        return Err(ENXIO);
    }
    let board = vm.arch().irqchip().board().ok_or(ENXIO)?;
    if set {
        chip.check()?.load(vm, board)
    } else {
        chip.check()?.save(board)
    }
}

fn create_pit<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let config: PitConfig = user::read(arg)?;
    pit::create(vm, config.flags)
}

fn get_pit<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let _: PitState = user::read(arg)?;
    let pit = vm.arch().irqchip().pit().ok_or(ENXIO)?;
    user::write(arg, &PitState { channels: abi::channels_to_user(&pit.save().channels) })
}

fn set_pit<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let state: PitState = user::read(arg)?;
    let pit = vm.arch().irqchip().pit().ok_or(ENXIO)?;
    pit.load_channels(vm, &abi::channels_from_user(&state.channels));
    Ok(())
}

fn get_pit2<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let pit = vm.arch().irqchip().pit().ok_or(ENXIO)?;
    user::write(arg, &abi::pit_to_user(&pit.save()))
}

fn set_pit2<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let state: PitState2 = user::read(arg)?;
    let pit = vm.arch().irqchip().pit().ok_or(ENXIO)?;
    pit.load(vm, &abi::pit_from_user(&state));
    Ok(())
}

/// `KVM_REINJECT_CONTROL`.
fn reinject_control<V: Vendor>(vm: &Vm<X86<V>>, arg: usize) -> Result {
    let control: ReinjectControl = user::read(arg)?;
    let pit = vm.arch().irqchip().pit().ok_or(ENXIO)?;
    pit.set_reinject(vm, control.pit_reinject != 0);
    Ok(())
}
