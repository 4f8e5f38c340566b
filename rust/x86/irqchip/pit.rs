// SPDX-License-Identifier: GPL-2.0
//! The 8254 at work.

use super::{alarm::Alarm, rescan, Mode};
use crate::{
    request,
    shared::Published,
    vendor::{Vendor, X86},
    wiring::Device,
};
use kernel::{
    error::Result,
    prelude::*,
    sync::{new_spinlock_irq, SpinLockIrq},
};
use kvm_core::{io_bus::Space, vm::Vm, wiring::Source};
use kvm_irqchip::{
    lapic::Acceptance,
    pit::{ChannelState, Effects, Pit, PitState},
};
use kvm_sys::{
    irq::{self, IrqOff},
    timer::{self, Timer},
};

/// The GSI of channel 0.
const GSI: u32 = 0;
/// Port of channel 0; the other channels and the control word follow.
const PORTS: u64 = 0x40;
/// Port with the gate of channel 2, and the speaker.
const SPEAKER: u64 = 0x61;
/// `KVM_PIT_SPEAKER_DUMMY`: port 0x61 as well.
const WITH_SPEAKER: u32 = 1;

/// An 8254 with its host timer.
#[pin_data]
pub(crate) struct PitDevice<V: Vendor> {
    #[pin]
    pit: SpinLockIrq<Pit>,
    /// Set under the lock.
    #[pin]
    pub(super) timer: Timer<Alarm<V>>,
}

/// Monotonic time as the 8254 counts it.
fn now() -> u64 {
    u64::try_from(timer::now()).unwrap_or(0)
}

impl<V: Vendor> PitDevice<V> {
    fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            pit <- new_spinlock_irq!(Pit::new(super::min_period_ns()), "kvm_pit"),
            timer <- Timer::new(Alarm::new(request::PIT_TICK)),
        })
    }

    /// Has the device do something, and does what it asks for.
    fn with<R>(&self, vm: &Vm<X86<V>>, operate: impl FnOnce(&mut Pit) -> (R, Effects)) -> R {
        let (result, inject) = {
            let mut pit = self.pit.lock();
            let (result, effects) = operate(&mut pit);
            if effects.timer {
                match pit.expiry() {
                    Some(at) => self.timer.start(i64::try_from(at).unwrap_or(i64::MAX)),
                    // If it goes off right now, it finds nothing to do.
                    None => {
                        let _ = self.timer.try_cancel();
                    }
                }
            }
            (result, effects.inject)
        };
        if inject {
            tick(vm);
        }
        result
    }

    /// The host timer went off.
    pub(crate) fn expired(&self, vm: &Vm<X86<V>>) {
        self.with(vm, |pit| ((), pit.tick(now())));
    }

    /// The guest wants ticks again.
    pub(super) fn unmasked(&self) {
        self.pit.lock().unmasked();
    }

    /// Whether ticks that weren't served come later.
    pub(crate) fn reinjects(&self) -> bool {
        self.pit.lock().reinjects()
    }

    /// Sets whether ticks that weren't served come later.
    pub(crate) fn set_reinject(&self, vm: &Vm<X86<V>>, enabled: bool) {
        self.pit.lock().set_reinject(enabled);
        rescan(vm);
    }

    /// The state.
    pub(crate) fn save(&self) -> PitState {
        self.pit.lock().save(now())
    }

    /// Sets the state.
    pub(crate) fn load(&self, vm: &Vm<X86<V>>, state: &PitState) {
        self.with(vm, |pit| ((), pit.load(state, now())));
    }

    /// Sets the channels.
    pub(crate) fn load_channels(&self, vm: &Vm<X86<V>>, channels: &[ChannelState; 3]) {
        self.with(vm, |pit| ((), pit.load_channels(channels, now())));
    }

    /// A guest's write to a port.
    pub(crate) fn write(&self, vm: &Vm<X86<V>>, port: u64, data: &[u8]) {
        let Some(value) = data.first().copied() else { return };
        self.with(vm, |pit| {
            let effects = if port == SPEAKER {
                pit.write_speaker(value, now());
                Effects::default()
            } else {
                pit.write(port.wrapping_sub(PORTS) as u8, value, now())
            };
            ((), effects)
        });
    }

    /// A guest's read of a port.
    pub(crate) fn read(&self, port: u64, data: &mut [u8], off: Option<&IrqOff>) {
        let Some((first, rest)) = data.split_first_mut() else { return };
        rest.fill(0);
        *first = irq::locked(&self.pit, off, |pit| match port {
            SPEAKER => pit.read_speaker(now()),
            _ => pit.read(port.wrapping_sub(PORTS) as u8, now),
        });
    }
}

/// The interrupt of a GSI was served. From any context.
pub(crate) fn acked<V: Vendor>(vm: &Vm<X86<V>>, gsi: u32) {
    if let Some(pit) = vm.arch().irqchip().pit().filter(|_| gsi == GSI) {
        pit.with(vm, |pit| ((), pit.acked()));
    }
}

/// A tick: pulses the line, and is an NMI where LINT0 asks for that.
fn tick<V: Vendor>(vm: &Vm<X86<V>>) {
    let _ = vm.set_irq(Source::PIT, GSI, true, false);
    let _ = vm.set_irq(Source::PIT, GSI, false, false);
    for vcpu in vm.vcpus().iter() {
        if vcpu.shared().has(Published::LINT0_NMI) {
            let _ = vcpu.shared().mailbox().post(Acceptance::Nmi);
        }
    }
}

/// `KVM_CREATE_PIT2` with these flags.
///
/// # Errors
///
/// `EEXIST` if there is one; `ENOENT` without 8259A in the kernel; `ENOMEM`.
pub(crate) fn create<V: Vendor>(vm: &Vm<X86<V>>, flags: u32) -> Result {
    vm.with_creation_locked(|| {
        let irqchip = vm.arch().irqchip();
        if irqchip.pit().is_some() {
            return Err(EEXIST);
        }
        if irqchip.mode() != Mode::Kernel {
            return Err(ENOENT);
        }
        let pit = KBox::pin_init(PitDevice::new(), GFP_KERNEL_ACCOUNT)?;
        let devices = [(Space::Pio, PORTS, 4, Device::Pit), (Space::Pio, SPEAKER, 1, Device::Pit)];
        let count = if flags & WITH_SPEAKER != 0 { 2 } else { 1 };
        super::add_devices(vm, devices.get(..count).unwrap_or(&[]))?;
        irqchip.pit.populate(pit);
        if let (Some(pit), Some(first)) = (irqchip.pit(), vm.vcpus().get(0)) {
            pit.timer.set_server(first);
        }
        Ok(())
    })?;
    rescan(vm);
    Ok(())
}
