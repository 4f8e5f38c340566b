// SPDX-License-Identifier: GPL-2.0
//! Interruptions that wait for any CPU of a guest: service signals, I/O, virtio,
//! the ends of page faults, machine checks of channels.
//!
//! A word says at a glance what there is; whoever takes something looks again with
//! the lock. The lock is taken in task context only. Adapters interrupt from any
//! context: all of a subclass have one bit of the word together, and no queue.

use crate::sie::Sie;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        SpinLock,
    },
};
use kvm_core::vm::Vm;
use s390_arch::pending::{external, External, Gate, MachineCheck};

/// Most interruptions of one kind that may wait: one for each subchannel of four
/// subchannel sets.
const MOST: usize = 4 << 16;

/// An I/O interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    /// Subchannel-set and channel-subsystem identification.
    pub(crate) subchannel_id: u16,
    /// Subchannel number.
    pub(crate) subchannel: u16,
    /// Interruption parameter.
    pub(crate) parameter: u32,
    /// Interruption identification word: subclass, and whether it is an adapter's.
    pub(crate) word: u32,
}

impl Io {
    /// Of the word: it is an adapter's.
    const ADAPTER: u32 = 0x8000_0000;

    /// That of adapters of a subclass, which stands for all of them.
    const fn of_adapters(subclass: u8) -> Self {
        let word = Self::ADAPTER | (subclass as u32 & 7) << 27;
        Self { subchannel_id: 0, subchannel: 0, parameter: 0, word }
    }

    /// Whether it is an adapter's.
    pub(crate) const fn is_adapters(&self) -> bool {
        self.word & Self::ADAPTER != 0
    }

    /// The subclass, 0 to 7.
    pub(crate) const fn subclass(&self) -> u8 {
        (self.word >> 27 & 7) as u8
    }

    /// What the guest finds: subsystem identification word, parameter, word.
    pub(crate) const fn words(&self) -> [u32; 3] {
        let id = (self.subchannel_id as u32) << 16 | self.subchannel as u32;
        [id, self.parameter, self.word]
    }
}

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floating {
    /// A service signal, with its parameter.
    Service(u32),
    /// A virtio interruption or the end of a page fault.
    Host(External),
    /// A machine check.
    MachineCheck(MachineCheck),
    /// I/O.
    Io(Io),
}

#[derive(Default)]
struct Queues {
    service: u32,
    machine_check: Option<MachineCheck>,
    host: KVec<External>,
    /// In the order of their coming, by subclass.
    io: [KVec<Io>; 8],
}

/// Bits of the word besides subclasses of I/O in queues.
mod bit {
    /// What the queues have, subclasses included.
    pub(super) const QUEUED: u32 = 0x7ff;
    pub(super) const SERVICE: u32 = 1 << 8;
    pub(super) const HOST: u32 = 1 << 9;
    pub(super) const MACHINE_CHECK: u32 = 1 << 10;
    /// Bits of guest memory are to be set for adapters.
    pub(super) const INDICATIONS: u32 = 1 << 11;
    /// From here on: subclasses of adapters that interrupt.
    pub(super) const ADAPTERS: u32 = 16;
}

/// All that waits for any CPU.
#[pin_data]
pub(crate) struct FloatingSet {
    /// Subclasses of I/O in the lowest byte, and [`bit`]s. Those that aren't the
    /// queues' are set and cleared without the lock, in any context.
    word: Atomic<u32>,
    #[pin]
    queues: SpinLock<Queues>,
}

/// What the word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance(u32);

impl Glance {
    /// Nothing waits.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// External interruptions wait.
    pub(crate) const fn has_external(self) -> bool {
        self.0 & (bit::SERVICE | bit::HOST) != 0
    }

    /// I/O interruptions wait.
    pub(crate) const fn has_io(self) -> bool {
        self.0 & (0xff | 0xff << bit::ADAPTERS) != 0
    }

    /// A machine check waits.
    pub(crate) const fn has_machine_check(self) -> bool {
        self.0 & bit::MACHINE_CHECK != 0
    }

    /// What of it a CPU with these masks takes.
    pub(crate) fn open(self, gate: &Gate) -> Self {
        let subclasses = u32::from(gate.io_subclasses());
        let mut open = subclasses | subclasses << bit::ADAPTERS | bit::INDICATIONS;
        if gate.takes_service_signal() {
            open |= bit::SERVICE | bit::HOST;
        }
        if gate.takes_channel_reports() {
            open |= bit::MACHINE_CHECK;
        }
        Self(self.0 & open)
    }
}

impl FloatingSet {
    /// Nothing.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            word: Atomic::new(0),
            queues <- new_spinlock!(Queues::default(), "kvm_s390_floating"),
        })
    }

    /// What waits, at a glance.
    #[inline]
    pub(crate) fn glance(&self) -> Glance {
        Glance(self.word.load(Acquire))
    }

    /// Says what the queues have. With the lock.
    fn publish(&self, queues: &Queues) {
        let mut word = 0;
        for (subclass, queue) in queues.io.iter().enumerate() {
            if !queue.is_empty() {
                word |= 0x80_u32.wrapping_shr(subclass as u32);
            }
        }
        if queues.service != 0 {
            word |= bit::SERVICE;
        }
        if !queues.host.is_empty() {
            word |= bit::HOST;
        }
        if queues.machine_check.is_some() {
            word |= bit::MACHINE_CHECK;
        }
        self.change_word(|old| old & !bit::QUEUED | word);
    }

    /// Changes the word; what it was.
    fn change_word(&self, change: impl Fn(u32) -> u32) -> u32 {
        let mut old = self.word.load(Relaxed);
        loop {
            match self.word.cmpxchg(old, change(old), Full) {
                Ok(_) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// Adapters of a subclass interrupt. Any context; tell the CPUs.
    pub(crate) fn add_adapter(&self, subclass: u8) {
        let bit = 0x80_u32.wrapping_shr(subclass.into()) << bit::ADAPTERS;
        let _ = self.change_word(|old| old | bit);
    }

    /// As above, the other way round; whether they did.
    fn take_adapter(&self, bit: u32) -> bool {
        self.change_word(|old| old & !(bit << bit::ADAPTERS)) & bit << bit::ADAPTERS != 0
    }

    /// Bits of guest memory are to be set. Any context; tell the CPUs.
    pub(crate) fn flag_indications(&self) {
        let _ = self.change_word(|old| old | bit::INDICATIONS);
    }

    /// As above, the other way round; whether they were.
    pub(crate) fn take_indications(&self) -> bool {
        let has = |word: u32| word & bit::INDICATIONS != 0;
        has(self.word.load(Acquire)) && has(self.change_word(|old| old & !bit::INDICATIONS))
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if too many wait.
    pub(crate) fn add(&self, floating: Floating) -> Result {
        match floating {
            Floating::Service(parameter) => self.add_service(parameter),
            Floating::MachineCheck(check) => {
                let mut queues = self.queues.lock();
                // Reports of several channels become one.
                let code = queues.machine_check.map_or(0, |old| old.code);
                let subclasses = queues.machine_check.map_or(0, |old| old.subclasses);
                queues.machine_check = Some(MachineCheck {
                    code: check.code | code,
                    subclasses: check.subclasses | subclasses,
                    ..check
                });
                self.publish(&queues);
            }
            Floating::Host(external) => {
                self.push(external, |queues| Some(&mut queues.host))?;
            }
            Floating::Io(io) if io.is_adapters() => self.add_adapter(io.subclass()),
            Floating::Io(io) => {
                self.push(io, |queues| queues.io.get_mut(usize::from(io.subclass())))?;
            }
        }
        Ok(())
    }

    /// A service signal says which block was served, and that events wait. A second
    /// block before the first one's signal was taken is dropped.
    fn add_service(&self, parameter: u32) {
        const EVENTS: u32 = 3;
        let mut queues = self.queues.lock();
        queues.service |= parameter & EVENTS;
        if queues.service & !EVENTS & !4 == 0 {
            queues.service |= parameter & !7;
        }
        self.publish(&queues);
    }

    /// Adds to a queue. Memory is had outside of the lock.
    fn push<T>(&self, item: T, queue: impl Fn(&mut Queues) -> Option<&mut KVec<T>>) -> Result {
        let mut larger = KVec::new();
        loop {
            let needed = {
                let mut queues = self.queues.lock();
                let queue = queue(&mut queues).ok_or(EINVAL)?;
                let length = queue.len();
                if length >= MOST {
                    return Err(EBUSY);
                }
                if queue.capacity() == length && larger.capacity() > length {
                    core::mem::swap(queue, &mut larger);
                    for old in larger.drain_all() {
                        let _ = queue.push_within_capacity(old);
                    }
                }
                if queue.capacity() > length {
                    let _ = queue.push_within_capacity(item);
                    self.publish(&queues);
                    return Ok(());
                }
                length.saturating_mul(2).max(8)
            };
            larger = KVec::with_capacity(needed, GFP_KERNEL_ACCOUNT)?;
        }
    }

    /// Takes the first one that a CPU with these masks lets in.
    pub(crate) fn take(&self, gate: &Gate) -> Option<Floating> {
        let open = self.glance().open(gate);
        if open.is_empty() {
            return None;
        }
        let mut queues = self.queues.lock();
        let taken = self.take_from(&mut queues, open);
        self.publish(&queues);
        taken
    }

    fn take_from(&self, queues: &mut Queues, open: Glance) -> Option<Floating> {
        if open.has_machine_check() {
            if let Some(check) = queues.machine_check.take() {
                return Some(Floating::MachineCheck(check));
            }
        }
        if open.has_external() {
            if queues.service != 0 {
                return Some(Floating::Service(core::mem::take(&mut queues.service)));
            }
            if !queues.host.is_empty() {
                return queues.host.remove(0).ok().map(Floating::Host);
            }
        }
        let (queued, adapters) = (open.0 as u8, (open.0 >> bit::ADAPTERS) as u8);
        self.take_io_from(queues, queued, adapters, None).map(Floating::Io)
    }

    /// Takes the first I/O interruption of these subclasses. Those of adapters belong
    /// to no subchannel.
    fn take_io_from(
        &self,
        queues: &mut Queues,
        queued: u8,
        adapters: u8,
        subchannel: Option<u32>,
    ) -> Option<Io> {
        for (subclass, queue) in (0_u8..).zip(&mut queues.io) {
            let bit = 0x80_u8.wrapping_shr(subclass.into());
            let place = queue.iter().position(|io| {
                let [id, ..] = io.words();
                queued & bit != 0 && subchannel.is_none_or(|wanted| wanted == id)
            });
            if let Some(io) = place.and_then(|place| queue.remove(place).ok()) {
                return Some(io);
            }
            if adapters & bit != 0 && self.take_adapter(bit.into()) {
                return Some(Io::of_adapters(subclass));
            }
        }
        None
    }

    /// Takes the first I/O interruption of these subclasses, and of this subchannel
    /// if one is named.
    pub(crate) fn take_io(&self, subclasses: u8, subchannel: Option<u32>) -> Option<Io> {
        let mut queues = self.queues.lock();
        let adapters = if subchannel.is_none() { subclasses } else { 0 };
        let taken = self.take_io_from(&mut queues, subclasses, adapters, subchannel);
        self.publish(&queues);
        taken
    }

    /// All that waits: I/O by subclass, then the others.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn all(&self) -> Result<KVVec<Floating>> {
        let mut all = KVVec::new();
        loop {
            let needed = {
                let queues = self.queues.lock();
                let waiting =
                    queues.io.iter().map(KVec::len).fold(queues.host.len(), usize::wrapping_add);
                // And one of each subclass of adapters, the service signal, the
                // machine check.
                let needed = waiting.saturating_add(10);
                if needed <= all.capacity() {
                    // There is room.
                    self.list(&queues, |one| drop(all.push_within_capacity(one)));
                    return Ok(all);
                }
                needed
            };
            all = KVVec::with_capacity(needed, GFP_KERNEL_ACCOUNT)?;
        }
    }

    fn list(&self, queues: &Queues, mut put: impl FnMut(Floating)) {
        let word = self.word.load(Acquire) >> bit::ADAPTERS;
        let adapters = (0_u8..8).filter(|subclass| word << subclass & 0x80 != 0);
        adapters.for_each(|subclass| put(Floating::Io(Io::of_adapters(subclass))));
        queues.io.iter().flatten().for_each(|io| put(Floating::Io(*io)));
        queues.host.iter().for_each(|external| put(Floating::Host(*external)));
        if queues.service != 0 {
            put(Floating::Service(queues.service));
        }
        if let Some(check) = queues.machine_check {
            put(Floating::MachineCheck(check));
        }
    }

    /// Forgets all that waits.
    pub(crate) fn clear(&self) {
        let mut old = Queues::default();
        let mut queues = self.queues.lock();
        core::mem::swap(&mut *queues, &mut old);
        let _ = self.change_word(|_| 0);
        // Freed behind the lock.
        drop(queues);
    }
}

/// Adds an interruption that any CPU may take, and tells the CPUs.
///
/// # Errors
///
/// Those of [`FloatingSet::add`].
pub(crate) fn inject(vm: &Vm<Sie>, floating: Floating) -> Result {
    if matches!(floating, Floating::Service(_)) {
        vm.stats().arch.inject_service_signal.add_shared(1);
    }
    vm.arch().floating.add(floating)?;
    tell(vm);
    Ok(())
}

/// Gets the attention of a CPU that waits and lets something in, or else of all
/// that aren't stopped: which of them will let it in, and when, only they know.
pub(crate) fn tell(vm: &Vm<Sie>) {
    let glance = vm.arch().floating.glance();
    let waits = vm.vcpus().iter().find(|vcpu| vcpu.shared().would_take(glance));
    if let Some(vcpu) = waits {
        vcpu.shared().tell();
        return;
    }
    for vcpu in vm.vcpus().iter().filter(|vcpu| !vcpu.shared().is_stopped()) {
        vcpu.shared().tell();
    }
}

/// The masks with which a CPU sleeps, for those who look for one to wake.
pub(crate) struct Sleeping(Atomic<u32>);

impl Sleeping {
    /// Awake.
    pub(crate) const fn awake() -> Self {
        Self(Atomic::new(0))
    }

    /// Sleeps with these masks.
    pub(crate) fn sleep(&self, gate: &Gate) {
        self.0.store(Glance(u32::MAX).open(gate).0, Relaxed);
    }

    /// Is awake again.
    pub(crate) fn wake(&self) {
        self.0.store(0, Relaxed);
    }

    /// Whether it sleeps and lets something in.
    pub(crate) fn would_take(&self, glance: Glance) -> bool {
        self.0.load(Relaxed) & glance.0 != 0
    }
}

/// A service signal as the guest gets it.
pub(crate) fn service_signal(parameter: u32) -> External {
    External { parameter: Some(parameter), ..External::new(external::SERVICE_SIGNAL) }
}
