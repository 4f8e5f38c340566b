// SPDX-License-Identifier: GPL-2.0
//! A vCPU's VMCS with copies of its fields: each is read at most once after an exit, and
//! written before an entry if it has changed.
//!
//! So nobody needs to know whether the VMCS is current. Reading a field makes it current
//! on this CPU, wherever the vCPU ran last.

use core::cell::Cell;
use kvm_sys::preempt::PreemptOff;
use vmx_arch::field::Slot;
use vmx_hw::{Loaded, Vmcs};

/// Words with a bit for each [`Slot`].
const WORDS: usize = 2;
const _: () = assert!(Slot::COUNT <= 128);

/// The fields.
pub(crate) struct Fields {
    vmcs: Vmcs,
    copies: [Cell<u64>; Slot::COUNT],
    /// Which copies are what the field is, or is to be.
    valid: [Cell<u64>; WORDS],
    /// Which fields are to be written.
    dirty: [Cell<u64>; WORDS],
}

/// The fields that only software changes.
const CONTROLS: u128 = (1 << Slot::EXIT) - (1 << Slot::CONTROL);

/// Word of a slot's bit, and the bit.
#[inline(always)]
const fn place(index: usize) -> (usize, u64) {
    (index / 64, 1_u64.wrapping_shl(index as u32))
}

impl Fields {
    /// Those of a VMCS that was never used.
    pub(crate) fn new(vmcs: Vmcs) -> Self {
        Self {
            vmcs,
            copies: [const { Cell::new(0) }; Slot::COUNT],
            valid: [const { Cell::new(0) }; WORDS],
            dirty: [const { Cell::new(0) }; WORDS],
        }
    }

    /// The VMCS.
    #[inline]
    pub(crate) fn vmcs(&self) -> &Vmcs {
        &self.vmcs
    }

    /// What a field has, or will have at the next entry.
    #[inline(always)]
    pub(crate) fn get(&self, slot: Slot) -> u64 {
        if self.is_unknown(slot) {
            self.fetch(slot);
        }
        self.copies.get(slot as usize).map_or(0, Cell::get)
    }

    #[inline(always)]
    fn is_unknown(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot as usize);
        self.valid.get(word).is_some_and(|valid| valid.get() & bit == 0)
    }

    #[inline(never)]
    fn fetch(&self, slot: Slot) {
        let here = PreemptOff::new();
        let loaded = self.vmcs.load(here.pinned());
        self.note(slot, loaded.read(slot.field()));
    }

    /// Several fields are asked for next: reads them with one look at the VMCS.
    #[inline]
    pub(crate) fn read_ahead<const N: usize>(&self, slots: [Slot; N]) {
        let here = PreemptOff::new();
        let loaded = self.vmcs.load(here.pinned());
        for slot in slots {
            if self.is_unknown(slot) {
                self.note(slot, loaded.read(slot.field()));
            }
        }
    }

    /// What a field has, which was read just now.
    #[inline(always)]
    pub(crate) fn note(&self, slot: Slot, value: u64) {
        let (word, bit) = place(slot as usize);
        if let (Some(copy), Some(valid)) = (self.copies.get(slot as usize), self.valid.get(word)) {
            copy.set(value);
            valid.set(valid.get() | bit);
        }
    }

    /// It isn't known any more what a field has.
    pub(crate) fn forget(&self, slot: Slot) {
        let (word, bit) = place(slot as usize);
        if let Some(valid) = self.valid.get(word) {
            valid.set(valid.get() & !bit);
        }
    }

    /// Sets a field that isn't read-only.
    #[inline(always)]
    pub(crate) fn set(&mut self, slot: Slot, value: u64) {
        let (word, bit) = place(slot as usize);
        let is_same = self.valid.get(word).is_some_and(|valid| valid.get() & bit != 0)
            && self.copies.get(slot as usize).is_some_and(|copy| copy.get() == value);
        if !is_same {
            self.note(slot, value);
            if let Some(dirty) = self.dirty.get(word) {
                dirty.set(dirty.get() | bit);
            }
        }
    }

    /// Sets or clears bits of a field.
    #[inline]
    pub(crate) fn set_bits(&mut self, slot: Slot, bits: u64, on: bool) {
        let old = self.get(slot);
        self.set(slot, if on { old | bits } else { old & !bits });
    }

    /// Before an entry: writes what has changed.
    #[inline]
    pub(crate) fn write_back(&self, loaded: &Loaded<'_>) {
        for (dirty, first) in self.dirty.iter().zip([0, 64]) {
            let mut bits = dirty.replace(0);
            while bits != 0 {
                let index = usize::wrapping_add(first, bits.trailing_zeros() as usize);
                bits &= bits.wrapping_sub(1);
                if let (Some(field), Some(copy)) = (Slot::field_at(index), self.copies.get(index)) {
                    loaded.write(field, copy.get());
                }
            }
        }
    }

    /// After an exit: what the guest may have changed isn't known.
    #[inline]
    pub(crate) fn exited(&self) {
        let controls = [CONTROLS as u64, (CONTROLS >> 64) as u64];
        for (valid, kept) in self.valid.iter().zip(controls) {
            valid.set(valid.get() & kept);
        }
    }
}
