// SPDX-License-Identifier: GPL-2.0
//! I/O adapters: devices that set a bit of guest memory for what happened, another
//! bit that sums such bits up, and interrupt if the latter wasn't set. An interrupt
//! route leads to such a pair of bits.
//!
//! Bits are set at once where that needs no sleep and the thread is one of the
//! VMM's. Otherwise the route's number is noted, and a vCPU sets them before it
//! enters the guest again ([`serve`]).

use crate::{floating, sie::Sie, vm::Choice};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};
use kvm_core::{
    memory::{Guest, Kind},
    vm::Vm,
    wiring::Delivery,
};
use kvm_paging::addr::Gpa;
use kvm_uapi::irq::{RoutingAdapter, RoutingEntry, KVM_IRQ_ROUTING_S390_ADAPTER};
use s390_arch::indicator::Indicator;
use zerocopy::{FromBytes, IntoBytes};

/// Adapters that a VM can have: eight of each subclass.
const ADAPTERS: usize = 64;
/// Routes, by 64.
const ROUTE_WORDS: usize = kvm_event::routes::MAX_ROUTES as usize / 64;

/// What an adapter was registered with, as bits of a word; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adapter(u32);

impl Adapter {
    const REGISTERED: u32 = 1 << 8;
    const MASKABLE: u32 = 1 << 9;
    const MASKED: u32 = 1 << 10;
    const SWAP: u32 = 1 << 11;
    const SUPPRESSIBLE: u32 = 1 << 12;

    /// A new one of an interruption subclass. `swap`: bits count from the left, as in
    /// the manual; otherwise as Linux counts them.
    pub(crate) fn new(subclass: u8, maskable: bool, swap: bool, suppressible: bool) -> Self {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        Self(
            Self::REGISTERED
                | u32::from(subclass & 7)
                | flag(maskable, Self::MASKABLE)
                | flag(swap, Self::SWAP)
                | flag(suppressible, Self::SUPPRESSIBLE),
        )
    }

    const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    const fn subclass(self) -> u8 {
        (self.0 & 7) as u8
    }
}

/// How adapter interruptions of each subclass are suppressed: all are let in, or one
/// until userspace asks for the next. A bit of each byte stands for a subclass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    /// One.
    pub(crate) single: u8,
    /// It came.
    pub(crate) none: u8,
}

impl Modes {
    const fn word(self) -> u32 {
        (self.single as u32) << 8 | self.none as u32
    }

    const fn of(word: u32) -> Self {
        Self { single: (word >> 8) as u8, none: word as u8 }
    }
}

/// The adapters of a VM.
pub(crate) struct Adapters {
    all: [Atomic<u32>; ADAPTERS],
    modes: Atomic<u32>,
    /// Routes whose bits are to be set, by GSI.
    delayed: [Atomic<u64>; ROUTE_WORDS],
}

impl Adapters {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            all: [const { Atomic::new(0) }; ADAPTERS],
            modes: Atomic::new(0),
            delayed: [const { Atomic::new(0) }; ROUTE_WORDS],
        }
    }

    /// An adapter.
    pub(crate) fn get(&self, id: u32) -> Option<Adapter> {
        let adapter = Adapter(self.all.get(id as usize)?.load(Acquire));
        adapter.has(Adapter::REGISTERED).then_some(adapter)
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that can't be, or that is taken.
    pub(crate) fn register(&self, id: u32, adapter: Adapter) -> Result {
        let place = self.all.get(id as usize).ok_or(EINVAL)?;
        place.cmpxchg(0, adapter.0, Release).map(|_| ()).map_err(|_| EINVAL)
    }

    /// Masks it, or lets it interrupt again.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such adapter, or it can't be masked.
    pub(crate) fn mask(&self, id: u32, masked: bool) -> Result {
        let place = self.all.get(id as usize).ok_or(EINVAL)?;
        let mut old = place.load(Acquire);
        loop {
            if !Adapter(old).has(Adapter::MASKABLE) {
                return Err(EINVAL);
            }
            let flag = if masked { Adapter::MASKED } else { 0 };
            match place.cmpxchg(old, old & !Adapter::MASKED | flag, Full) {
                Ok(_) => return Ok(()),
                Err(now) => old = now,
            }
        }
    }

    /// How interruptions are suppressed.
    pub(crate) fn modes(&self) -> Modes {
        Modes::of(self.modes.load(Relaxed))
    }

    /// Sets that.
    pub(crate) fn change_modes<R>(&self, change: impl Fn(&mut Modes) -> R) -> R {
        let mut old = self.modes.load(Relaxed);
        loop {
            let mut modes = Modes::of(old);
            let result = change(&mut modes);
            match self.modes.cmpxchg(old, modes.word(), Full) {
                Ok(_) => return result,
                Err(now) => old = now,
            }
        }
    }

    /// Whether an interruption of a subclass is suppressed. If not, the next one may
    /// be.
    fn suppresses(&self, subclass: u8) -> bool {
        let bit = 0x80_u8.wrapping_shr(subclass.into());
        self.change_modes(|modes| {
            let suppressed = modes.none & bit != 0;
            modes.none |= modes.single & bit;
            suppressed
        })
    }

    /// Forgets what was delayed.
    pub(crate) fn forget_delayed(&self) {
        self.delayed.iter().for_each(|word| word.store(0, Relaxed));
    }
}

/// An interrupt route.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    gsi: u32,
    adapter: u32,
    /// What says what happened.
    indicator: Indicator,
    /// What sums up.
    summary: Indicator,
}

/// Parses a route.
///
/// # Errors
///
/// `EINVAL` for another type, or bits that aren't in the page of their address;
/// `EFAULT` if there is no memory.
pub(crate) fn parse(vm: &Vm<Sie>, entry: &RoutingEntry) -> Result<Route> {
    if entry.type_ != KVM_IRQ_ROUTING_S390_ADAPTER {
        return Err(EINVAL);
    }
    let (wanted, _) = RoutingAdapter::read_from_prefix(entry.u.as_bytes()).map_err(|_| EINVAL)?;
    let indicator = Indicator::new(wanted.ind_addr, wanted.ind_offset).ok_or(EINVAL)?;
    let summary =
        Indicator::new(wanted.summary_addr, wanted.summary_offset.into()).ok_or(EINVAL)?;
    for place in [wanted.ind_addr, wanted.summary_addr] {
        if vm.memory().kind(Gpa::new(place)) == Kind::Device {
            return Err(EFAULT);
        }
    }
    Ok(Route { gsi: entry.gsi, adapter: wanted.adapter_id, indicator, summary })
}

/// Delivers what an eventfd signals, in any context.
pub(crate) fn deliver(vm: &Vm<Sie>, route: &Route) -> Delivery {
    vm.stats().arch.io_set_adapter_int.add_shared(1);
    if vm.check_caller().is_ok() {
        if let Ok(delivery) = indicate(vm, &vm.memory().guest_atomic(), route) {
            return delivery;
        }
    }
    delay(vm, route.gsi);
    Delivery(1)
}

/// Leaves a route for a vCPU to deliver.
fn delay(vm: &Vm<Sie>, gsi: u32) {
    let state = vm.arch();
    if let Some(word) = state.adapters.delayed.get(gsi as usize / 64) {
        set(word, 1_u64.wrapping_shl(gsi));
        state.floating.flag_indications();
        floating::tell(vm);
    }
}

/// Sets bits of a word.
fn set(word: &Atomic<u64>, bits: u64) {
    let mut old = word.load(Relaxed);
    while let Err(now) = word.cmpxchg(old, old | bits, Full) {
        old = now;
    }
}

/// Delivers what was left for a vCPU. May sleep.
pub(crate) fn serve(vm: &Vm<Sie>) {
    let state = vm.arch();
    if !state.floating.take_indications() {
        return;
    }
    for (number, word) in state.adapters.delayed.iter().enumerate() {
        let mut left = word.xchg(0, Full);
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            serve_route(vm, (number as u32).wrapping_mul(64).wrapping_add(bit));
        }
    }
}

fn serve_route(vm: &Vm<Sie>, gsi: u32) {
    let mut found = None;
    vm.for_each_route(gsi..gsi.saturating_add(1), |_, route| found = Some(*route));
    let Some(route) = found else { return };
    let result = indicate(vm, &vm.memory().guest(), &route);
    if result.is_err_and(|error| error == EINTR) {
        // Later, when the signal was seen to.
        delay(vm, gsi);
    }
}

/// Sets a route's bits and interrupts.
fn indicate(vm: &Vm<Sie>, guest: &Guest<'_>, route: &Route) -> Result<Delivery> {
    let Some(adapter) = vm.arch().adapters.get(route.adapter) else {
        return Ok(Delivery::IGNORED);
    };
    let set = |indicator: &Indicator| {
        let (at, bit) = indicator.byte(adapter.has(Adapter::SWAP));
        guest.set_bits(Gpa::new(at), bit).map(|old| old & bit != 0)
    };
    let _ = set(&route.indicator)?;
    if set(&route.summary)? {
        return Ok(Delivery::COALESCED);
    }
    if !adapter.has(Adapter::MASKED) {
        interrupt(vm, adapter);
    }
    Ok(Delivery(1))
}

/// Interrupts for an adapter. Any context.
pub(crate) fn interrupt(vm: &Vm<Sie>, adapter: Adapter) {
    let state = vm.arch();
    let subclass = adapter.subclass();
    let may_suppress = adapter.has(Adapter::SUPPRESSIBLE) && state.choices.has(Choice::Suppression);
    if may_suppress && state.adapters.suppresses(subclass) {
        return;
    }
    state.floating.add_adapter(subclass);
    floating::tell(vm);
}
