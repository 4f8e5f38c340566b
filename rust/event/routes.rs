// SPDX-License-Identifier: GPL-2.0
//! Where a GSI leads (`KVM_SET_GSI_ROUTING`).
//!
//! A GSI has one route to a message or adapter, or up to one route to a pin of
//! each in-kernel chip. Looking one up is two array reads.

use core::{marker::PhantomData, ops::DerefMut};

/// Number of GSIs, and of routes, that a table may have.
pub const MAX_ROUTES: u32 = 4096;

/// Chips that have pins: two 8259A, one IOAPIC.
const CHIPS: usize = 3;
/// Pins of the largest chip.
const PINS: usize = 24;

/// No route, no GSI.
const NONE: u16 = u16::MAX;

/// A pin of an in-kernel chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Number of the chip: `KVM_IRQCHIP_*`, below 3.
    pub chip: u8,
    /// Number of the pin, below 24; those of the second 8259A are 8 to 15.
    pub pin: u8,
}

/// A route in a table.
#[derive(Clone, Copy, Debug)]
pub struct Entry<R> {
    gsi: u32,
    pin: Option<Pin>,
    next: u16,
    route: R,
}

impl<R> Entry<R> {
    /// The route of `gsi`, to a pin if there is one.
    pub const fn new(gsi: u32, pin: Option<Pin>, route: R) -> Self {
        Self { gsi, pin, next: NONE, route }
    }

    /// Whether both can belong to one GSI: pins of different chips.
    fn goes_with(&self, other: &Self) -> bool {
        matches!((self.pin, other.pin), (Some(a), Some(b)) if a.chip != b.chip)
    }
}

/// Why a table can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A GSI or a pin that there isn't, or too many routes.
    Number,
    /// Two routes of a GSI that exclude each other.
    Conflict,
}

/// The GSI of each pin.
#[derive(Clone, Debug)]
struct PinMap([[u16; PINS]; CHIPS]);

impl PinMap {
    fn slot(&mut self, pin: Pin) -> Option<&mut u16> {
        self.0.get_mut(usize::from(pin.chip))?.get_mut(usize::from(pin.pin))
    }

    fn get(&self, pin: Pin) -> Option<u32> {
        let gsi = self.0.get(usize::from(pin.chip))?.get(usize::from(pin.pin))?;
        (*gsi != NONE).then_some((*gsi).into())
    }
}

/// All routes of a VM, in memory that the caller provides.
///
/// # Invariants
///
/// `heads` has the index of each GSI's first route, `Entry::next` that of the next
/// one, in the order in which they were given; `NONE` ends the list. The lists
/// don't loop.
#[derive(Debug)]
pub struct Table<R, H, E> {
    heads: H,
    entries: E,
    pins: PinMap,
    _route: PhantomData<R>,
}

/// Length of the `heads` that [`Table::new`] needs: one more than the highest GSI.
pub fn heads_needed<R>(entries: &[Entry<R>]) -> usize {
    entries.iter().map(|entry| (entry.gsi as usize).saturating_add(1)).max().unwrap_or(0)
}

impl<R, H: DerefMut<Target = [u16]>, E: DerefMut<Target = [Entry<R>]>> Table<R, H, E> {
    /// A table of `entries`. `heads` is as long as [`heads_needed`] says; what is
    /// in it doesn't matter.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn new(mut heads: H, mut entries: E) -> Result<Self, Refused> {
        if entries.len() > MAX_ROUTES as usize || heads.len() > MAX_ROUTES as usize {
            return Err(Refused::Number);
        }
        heads.fill(NONE);
        let mut pins = PinMap([[NONE; PINS]; CHIPS]);
        for index in 0..entries.len() {
            link(&mut heads, &mut entries, index)?;
            let Some(entry) = entries.get(index) else { continue };
            if let Some(pin) = entry.pin {
                let slot = pins.slot(pin).ok_or(Refused::Number)?;
                *slot = u16::try_from(entry.gsi).map_err(|_| Refused::Number)?;
            }
        }
        // INVARIANT: `link` puts each entry at the end of its list, once.
        Ok(Self { heads, entries, pins, _route: PhantomData })
    }

    /// The routes of a GSI, in the order in which they were given.
    #[inline]
    pub fn routes(&self, gsi: u32) -> impl Iterator<Item = &R> {
        let mut next = match self.heads.get(within(gsi as usize, self.heads.len())) {
            Some(head) if (gsi as usize) < self.heads.len() => *head,
            _ => NONE,
        };
        core::iter::from_fn(move || {
            let entry = self.entries.get(usize::from(next))?;
            next = entry.next;
            Some(&entry.route)
        })
    }

    /// The GSI that leads to a pin; the one given last if there are several.
    pub fn gsi_of(&self, pin: Pin) -> Option<u32> {
        self.pins.get(pin)
    }
}

/// The index if it is within the length, otherwise 0, without a branch: userspace
/// chooses GSIs, and a processor that guesses branches must not read past the end.
#[inline]
fn within(index: usize, length: usize) -> usize {
    let index = core::hint::black_box(index);
    let mask = index.wrapping_sub(length) as isize >> (usize::BITS - 1);
    index & mask as usize
}

/// Puts an entry at the end of its GSI's list.
fn link<R>(heads: &mut [u16], entries: &mut [Entry<R>], index: usize) -> Result<(), Refused> {
    let number = u16::try_from(index).map_err(|_| Refused::Number)?;
    let (before, rest) = entries.split_at_mut_checked(index).ok_or(Refused::Number)?;
    let new = rest.first_mut().ok_or(Refused::Number)?;
    new.next = NONE;
    if new.gsi as usize >= heads.len() {
        return Err(Refused::Number);
    }
    let place = within(new.gsi as usize, heads.len());
    let head = heads.get_mut(place).ok_or(Refused::Number)?;
    let Some(mut at) = before.get(usize::from(*head)).map(|_| usize::from(*head)) else {
        *head = number;
        return Ok(());
    };
    while let Some(entry) = before.get_mut(at) {
        if !entry.goes_with(new) {
            return Err(Refused::Conflict);
        }
        if entry.next == NONE {
            entry.next = number;
            break;
        }
        at = usize::from(entry.next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    type Made = Table<u32, Vec<u16>, Vec<Entry<u32>>>;

    fn pin(chip: u8, pin: u8) -> Option<Pin> {
        Some(Pin { chip, pin })
    }

    fn table(entries: &[Entry<u32>]) -> Result<Made, Refused> {
        Table::new(vec![7; heads_needed(entries)], entries.to_vec())
    }

    fn routes(table: &Made, gsi: u32) -> Vec<u32> {
        table.routes(gsi).copied().collect()
    }

    #[test]
    fn the_usual_table() {
        let mut entries = Vec::new();
        for gsi in 0..24 {
            if gsi < 16 {
                entries.push(Entry::new(gsi, pin((gsi / 8) as u8, gsi as u8), gsi));
            }
            entries.push(Entry::new(gsi, pin(2, gsi as u8), 100 + gsi));
        }
        entries.push(Entry::new(4095, None, 1000));
        let table = table(&entries).unwrap();
        assert_eq!(routes(&table, 3), [3, 103]);
        assert_eq!(routes(&table, 20), [120]);
        assert_eq!(routes(&table, 4095), [1000]);
        assert_eq!(routes(&table, 24), []);
        assert_eq!(routes(&table, u32::MAX), []);
        assert_eq!(table.gsi_of(Pin { chip: 1, pin: 9 }), Some(9));
        assert_eq!(table.gsi_of(Pin { chip: 0, pin: 9 }), None);
        assert_eq!(table.gsi_of(Pin { chip: 3, pin: 0 }), None);
        assert_eq!(table.gsi_of(Pin { chip: 2, pin: 24 }), None);
    }

    #[test]
    fn what_is_refused() {
        let message = |gsi| Entry::new(gsi, None, 0);
        let to = |gsi, chip| Entry::new(gsi, pin(chip, 1), 0);
        for (entries, expected) in [
            (vec![message(4096)], Refused::Number),
            (vec![message(u32::MAX)], Refused::Number),
            (vec![to(1, 3)], Refused::Number),
            (vec![message(1), message(1)], Refused::Conflict),
            (vec![message(1), to(1, 0)], Refused::Conflict),
            (vec![to(1, 0), message(1)], Refused::Conflict),
            (vec![to(1, 0), to(1, 2), to(1, 0)], Refused::Conflict),
            (vec![to(1, 0), to(1, 1), to(1, 2), message(1)], Refused::Conflict),
        ] {
            // Heads for the highest GSI aren't even allocated.
            let heads = vec![0; heads_needed(&entries).min(5000)];
            assert_eq!(Made::new(heads, entries).err(), Some(expected));
        }
    }

    #[test]
    fn indices_stay_within() {
        for (index, length, expected) in
            [(0, 1, 0), (4, 5, 4), (5, 5, 0), (6, 5, 0), (u32::MAX as usize, 4096, 0), (0, 0, 0)]
        {
            assert_eq!(within(index, length), expected);
        }
    }

    #[test]
    fn full_and_empty() {
        let full: Vec<_> = (0..4096).map(|gsi| Entry::new(4095 - gsi, None, gsi)).collect();
        let table = table(&full).unwrap();
        assert_eq!(routes(&table, 0), [4095]);
        assert_eq!(routes(&table, 4095), [0]);
        let none = Made::new(vec![], vec![]).unwrap();
        assert_eq!(routes(&none, 0), []);
    }

    #[test]
    fn the_last_gsi_of_a_pin_counts() {
        let table = table(&[Entry::new(5, pin(2, 3), 0), Entry::new(9, pin(2, 3), 1)]).unwrap();
        assert_eq!(table.gsi_of(Pin { chip: 2, pin: 3 }), Some(9));
    }
}
