// SPDX-License-Identifier: GPL-2.0
//! [`ApicMap`]: from a destination to the vCPUs that it names.
//!
//! A snapshot of all vCPUs' [`Identity`]s with two indices over them: one slot
//! for each physical ID, and one for each logical destination bit while all
//! APICs agree on a logical model. A message to one vCPU or to one x2APIC
//! cluster is then an array access. Where the indices can't answer (broadcasts,
//! IDs that two APICs share, mixed logical models) every identity is asked;
//! both ways give the same vCPUs.
//!
//! The owner builds a new map when an identity changes and replaces the old one
//! as a whole. Storage is the owner's: any type that derefs to a slice.

use crate::lapic::{DestRules, Identity, LogicalModel, Mode, Source, BROADCAST, BROADCAST_X2APIC};
use crate::message::{DestMode, Ipi, Message, Shorthand};
use crate::VcpuIndex;
use core::ops::Deref;

/// An entry of an index: a vCPU or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u16);

impl Slot {
    /// No vCPU.
    pub const EMPTY: Self = Self(u16::MAX);

    const fn get(self) -> Option<VcpuIndex> {
        match self {
            Self::EMPTY => None,
            Self(index) => Some(VcpuIndex(index)),
        }
    }

    /// Puts a vCPU in; false when another one has the slot.
    fn claim(&mut self, vcpu: VcpuIndex) -> bool {
        let free = *self == Self::EMPTY || *self == Self(vcpu.0);
        *self = Self(vcpu.0);
        free
    }
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The local APIC of this vCPU.
    Vcpu(VcpuIndex),
    /// An IOAPIC or a device's MSI.
    Device,
}

impl Sender {
    const fn source(self) -> Source {
        match self {
            Self::Vcpu(_) => Source::Ipi,
            Self::Device => Source::Device,
        }
    }
}

/// How logical destinations are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logical {
    /// No APIC has a logical ID.
    Unused,
    Flat,
    Cluster,
    X2Apic,
    /// Not by the index.
    Mixed,
}

/// Whether the indices cover every APIC. Hardware that delivers interrupts by
/// tables of its own (APICv, AVIC) needs the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Each physical ID names one vCPU at most.
    pub physical: bool,
    /// All logical IDs follow one model, with one bit for each vCPU.
    pub logical: bool,
    /// Each APIC in xAPIC mode has its initial ID.
    pub ids_unchanged: bool,
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Route<'m> {
    /// To this one, or to none.
    One(Option<VcpuIndex>),
    /// To all of these.
    All(Targets<'m>),
    /// To the one of these that wins arbitration: [`ApicMap::pick_by_hash`] or
    /// [`ApicMap::pick_by_priority`]. Only software-enabled APICs take part.
    OneOf(Targets<'m>),
}

/// A VM's APICs by destination.
#[derive(Clone, Debug)]
pub struct ApicMap<P, I> {
    rules: DestRules,
    coverage: Coverage,
    logical: Logical,
    /// There is no APIC in xAPIC mode.
    only_x2apic: bool,
    flat: [Slot; 8],
    cluster: [[Slot; 4]; 16],
    physical: P,
    members: I,
}

/// Slots that the index of physical IDs needs for these vCPUs.
pub fn slots_needed(members: &[Identity]) -> usize {
    members
        .iter()
        .filter(|id| id.mode != Mode::Disabled)
        .map(|id| (id.x2apic_id as usize).max(usize::from(id.xapic_id)).saturating_add(1))
        .max()
        .unwrap_or(0)
}

impl<P, I> ApicMap<P, I>
where
    P: Deref<Target = [Slot]>,
    I: Deref<Target = [Identity]>,
{
    /// Builds the map. `members` are in the order of [`VcpuIndex`];
    /// `physical` has [`slots_needed`] entries (with fewer, IDs past the end
    /// are looked for among the members).
    pub fn new(members: I, mut physical: P, rules: DestRules) -> Self
    where
        P: core::ops::DerefMut,
    {
        physical.fill(Slot::EMPTY);
        let mut coverage = Coverage { physical: true, logical: true, ids_unchanged: true };
        let mut logical = Logical::Unused;
        let mut only_x2apic = true;
        let mut flat = [Slot::EMPTY; 8];
        let mut cluster = [[Slot::EMPTY; 4]; 16];
        for (vcpu, id) in (0..u16::MAX).map(VcpuIndex).zip(members.iter()) {
            if id.mode == Mode::Disabled {
                continue;
            }
            let xapic = id.mode == Mode::XApic;
            only_x2apic &= !xapic;
            coverage.ids_unchanged &= !xapic || id.xapic_id == id.x2apic_id as u8;
            coverage.physical &= add_physical(&mut physical, vcpu, id, rules);
            let (model, unique) = add_logical(&mut flat, &mut cluster, vcpu, id);
            logical = match (logical, model) {
                (old, Logical::Unused) => old,
                (Logical::Unused, new) => new,
                (old, new) if old == new => old,
                _ => Logical::Mixed,
            };
            if !unique {
                logical = Logical::Mixed;
            }
        }
        coverage.logical = logical != Logical::Mixed;
        Self { rules, coverage, logical, only_x2apic, flat, cluster, physical, members }
    }

    /// Whether the indices cover every APIC.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// The identity of a vCPU as the map knows it.
    #[inline]
    pub fn identity(&self, vcpu: VcpuIndex) -> Option<&Identity> {
        self.members.get(usize::from(vcpu.0))
    }

    /// Where a device's message goes.
    #[inline]
    pub fn route(&self, message: &Message) -> Route<'_> {
        match self.find_one(message, Sender::Device) {
            Some(vcpu) => Route::One(vcpu),
            None => self.find_many(message, Sender::Device),
        }
    }

    /// Where an IPI goes.
    #[inline]
    pub fn route_ipi(&self, ipi: &Ipi, sender: VcpuIndex) -> Route<'_> {
        let from = Sender::Vcpu(sender);
        match ipi.shorthand {
            Shorthand::None => match self.find_one(&ipi.message, from) {
                Some(vcpu) => Route::One(vcpu),
                None => self.find_many(&ipi.message, from),
            },
            Shorthand::Itself => Route::One(Some(sender)),
            Shorthand::All | Shorthand::Others => {
                Self::arbitrated(&ipi.message, self.scan(ipi, from))
            }
        }
    }

    fn arbitrated<'m>(message: &Message, targets: Targets<'m>) -> Route<'m> {
        if message.is_arbitrated() {
            Route::OneOf(Targets { only_enabled: true, ..targets })
        } else {
            Route::All(targets)
        }
    }

    /// The one vCPU that a device's message goes to; `None` when there are
    /// several, or none, or when it depends on arbitration by priority. (For
    /// hardware that posts interrupts straight to a vCPU.)
    pub fn single_target(&self, message: &Message, by_hash: bool) -> Option<VcpuIndex> {
        let mut targets = match self.route(message) {
            Route::One(vcpu) => return vcpu,
            Route::OneOf(targets) if by_hash => return pick_by_hash(targets, message.vector),
            Route::OneOf(targets) | Route::All(targets) => targets,
        };
        let first = targets.next()?;
        targets.next().is_none().then_some(first)
    }

    /// Targets of the KVM_HC_SEND_IPI hypercall: bit `i` of `bitmap` is the APIC
    /// with ID `min + i`. `None` when IDs are ambiguous.
    pub fn hypercall_targets(
        &self,
        bitmap: u64,
        min: u32,
    ) -> Option<impl Iterator<Item = VcpuIndex> + '_> {
        let slots = self.physical.get(min as usize..).unwrap_or(&[]);
        self.coverage.physical.then(|| {
            (0..64u32)
                .zip(slots)
                .filter(move |(bit, _)| bitmap & 1u64.wrapping_shl(*bit) != 0)
                .filter_map(|(_, slot)| slot.get())
        })
    }

    fn targets<'m>(&'m self, search: Search<'m>) -> Targets<'m> {
        Targets { members: &self.members, search, only_enabled: false }
    }

    /// Asks every identity.
    fn scan(&self, ipi: &Ipi, sender: Sender) -> Targets<'_> {
        self.targets(Search::Scan { ipi: *ipi, sender, rules: self.rules, next: 0 })
    }

    /// Looks up a destination without shorthand that names one APIC, which most
    /// do. `None` when it doesn't, or the index can't tell.
    #[inline]
    fn find_one(&self, message: &Message, sender: Sender) -> Option<Option<VcpuIndex>> {
        let dest = message.dest;
        if self.may_broadcast(dest, sender) {
            return None;
        }
        let vcpu = match (message.dest_mode, self.logical) {
            (DestMode::Physical, _) if self.coverage.physical => self.at_id(dest as usize),
            (DestMode::Logical, Logical::X2Apic) if self.coverage.physical => {
                let member = single_bit(dest & 0xffff)? as usize;
                let vcpu = self.at_id(dest as usize >> 16 << 4 | member);
                // One that is still in xAPIC mode has no logical ID.
                vcpu.filter(|vcpu| self.identity(*vcpu).is_some_and(|id| id.mode == Mode::X2Apic))
            }
            (DestMode::Logical, Logical::Flat) => {
                let bit = single_bit(dest & 0xff)? as usize;
                self.flat.get(bit).and_then(|slot| slot.get())
            }
            _ => return None,
        };
        if message.is_arbitrated() {
            return Some(vcpu.filter(|vcpu| self.identity(*vcpu).is_some_and(|id| id.enabled)));
        }
        Some(vcpu)
    }

    /// The APIC with this physical ID.
    #[inline]
    fn at_id(&self, id: usize) -> Option<VcpuIndex> {
        self.physical.get(id).and_then(|slot| slot.get())
    }

    /// Looks up any destination without shorthand.
    fn find_many(&self, message: &Message, sender: Sender) -> Route<'_> {
        let logical = message.dest_mode == DestMode::Logical;
        let broadcast = self.may_broadcast(message.dest, sender);
        let indexed = if logical && !broadcast { self.find_logical(message.dest) } else { None };
        let targets = match indexed {
            Some(search) => self.targets(search),
            None => self.scan(&Ipi { message: *message, shorthand: Shorthand::None }, sender),
        };
        // Lowest priority has no meaning for a physical broadcast, which is then
        // delivered as fixed.
        if broadcast && !logical {
            Route::All(targets)
        } else {
            Self::arbitrated(message, targets)
        }
    }

    /// Whether some APIC may take this destination for a broadcast.
    #[inline]
    fn may_broadcast(&self, dest: u32, sender: Sender) -> bool {
        let narrow_is_plain =
            self.only_x2apic && (sender != Sender::Device || self.rules.no_broadcast_quirk);
        dest == BROADCAST_X2APIC || dest == BROADCAST && !narrow_is_plain
    }

    fn find_logical(&self, dest: u32) -> Option<Search<'_>> {
        let (slots, mask) = match self.logical {
            Logical::Unused => (&[][..], 0),
            Logical::Flat => (&self.flat[..], u16::from(dest as u8)),
            Logical::Cluster if dest > 0xff => (&[][..], 0),
            Logical::Cluster => {
                (self.cluster.get(dest as usize >> 4)?.as_slice(), dest as u16 & 0xf)
            }
            Logical::X2Apic if self.coverage.physical => {
                let first = dest as usize >> 16 << 4;
                (self.physical.get(first..).unwrap_or(&[]), dest as u16)
            }
            Logical::X2Apic | Logical::Mixed => return None,
        };
        Some(Search::Slots { slots, mask, only_x2apic: self.logical == Logical::X2Apic })
    }

    /// Arbitration by vector hashing: the `vector % n`-th of `n` candidates.
    /// Keeps a vector on the same vCPU as long as the candidates stay.
    pub fn pick_by_hash(&self, candidates: Targets<'_>, vector: u8) -> Option<VcpuIndex> {
        pick_by_hash(candidates, vector)
    }

    /// Arbitration by priority: the first candidate with the lowest value. With
    /// the number of interrupts delivered so far as its priority, this is round
    /// robin.
    pub fn pick_by_priority(
        &self,
        candidates: Targets<'_>,
        mut priority: impl FnMut(VcpuIndex) -> u32,
    ) -> Option<VcpuIndex> {
        candidates.min_by_key(|vcpu| priority(*vcpu))
    }
}

/// Number of the only bit that is set.
#[inline]
fn single_bit(bits: u32) -> Option<u32> {
    bits.is_power_of_two().then(|| bits.trailing_zeros())
}

fn pick_by_hash(mut candidates: Targets<'_>, vector: u8) -> Option<VcpuIndex> {
    let count = candidates.clone().fold(0usize, |count, _| count.saturating_add(1));
    candidates.nth(usize::from(vector).checked_rem(count)?)
}

/// Enters a vCPU's physical IDs; false when one is taken or past the end.
fn add_physical(physical: &mut [Slot], vcpu: VcpuIndex, id: &Identity, rules: DestRules) -> bool {
    let mut claim = |id: usize| physical.get_mut(id).is_some_and(|slot| slot.claim(vcpu));
    let wide = id.mode == Mode::X2Apic || id.x2apic_id > 0xff;
    let narrow = id.mode == Mode::XApic && !(rules.wide_ids && id.x2apic_id > 0xff);
    let wide_ok = !wide || claim(id.x2apic_id as usize);
    let narrow_ok = !narrow || claim(usize::from(id.xapic_id));
    wide_ok && narrow_ok
}

/// Enters a vCPU's logical ID; says by which model, and whether the index can
/// hold it: one bit, and not yet taken.
fn add_logical(
    flat: &mut [Slot; 8],
    cluster: &mut [[Slot; 4]; 16],
    vcpu: VcpuIndex,
    id: &Identity,
) -> (Logical, bool) {
    if id.mode == Mode::X2Apic {
        // Above 20 bits, IDs share a logical ID.
        return (Logical::X2Apic, id.x2apic_id >> 20 == 0);
    }
    let logical = id.logical_id & 0xff;
    let (model, slots, bits) = match id.model {
        LogicalModel::Flat => (Logical::Flat, Some(&mut flat[..]), logical),
        LogicalModel::Cluster => (
            Logical::Cluster,
            cluster.get_mut((logical >> 4) as usize).map(|slots| &mut slots[..]),
            logical & 0xf,
        ),
        LogicalModel::Reserved => return (Logical::Unused, true),
    };
    if bits == 0 {
        return (Logical::Unused, true);
    }
    let slot = slots.and_then(|slots| slots.get_mut(bits.trailing_zeros() as usize));
    (model, bits.is_power_of_two() && slot.is_some_and(|slot| slot.claim(vcpu)))
}

/// Where targets are looked for.
#[derive(Clone, Debug)]
enum Search<'m> {
    /// Bit `i` of the mask selects slot `i`.
    Slots {
        slots: &'m [Slot],
        mask: u16,
        only_x2apic: bool,
    },
    Scan {
        ipi: Ipi,
        sender: Sender,
        rules: DestRules,
        next: u16,
    },
}

/// The vCPUs that a destination names, each once, in ascending order of their
/// index (of their logical ID, when found by that).
#[derive(Clone, Debug)]
pub struct Targets<'m> {
    members: &'m [Identity],
    search: Search<'m>,
    only_enabled: bool,
}

impl Targets<'_> {
    fn next_candidate(&mut self) -> Option<VcpuIndex> {
        match &mut self.search {
            Search::Slots { slots, mask, only_x2apic } => loop {
                if *mask == 0 {
                    return None;
                }
                let bit = mask.trailing_zeros() as usize;
                *mask &= mask.wrapping_sub(1);
                let Some(vcpu) = slots.get(bit).and_then(|slot| slot.get()) else { continue };
                let mode = self.members.get(usize::from(vcpu.0)).map(|id| id.mode);
                if !*only_x2apic || mode == Some(Mode::X2Apic) {
                    return Some(vcpu);
                }
            },
            Search::Scan { ipi, sender, rules, next } => loop {
                let vcpu = VcpuIndex(*next);
                let id = self.members.get(usize::from(vcpu.0))?;
                *next = next.checked_add(1)?;
                let found = match ipi.shorthand {
                    Shorthand::None => {
                        let message = &ipi.message;
                        id.matches(message.dest, message.dest_mode, sender.source(), *rules)
                    }
                    shorthand => {
                        let itself = *sender == Sender::Vcpu(vcpu);
                        id.matches_ipi(shorthand, &ipi.message, itself, *rules)
                    }
                };
                if found {
                    return Some(vcpu);
                }
            },
        }
    }
}

impl Iterator for Targets<'_> {
    type Item = VcpuIndex;

    #[inline]
    fn next(&mut self) -> Option<VcpuIndex> {
        loop {
            let vcpu = self.next_candidate()?;
            let enabled = |id: &Identity| id.enabled;
            if !self.only_enabled || self.members.get(usize::from(vcpu.0)).is_some_and(enabled) {
                return Some(vcpu);
            }
        }
    }
}

#[cfg(test)]
mod tests;
