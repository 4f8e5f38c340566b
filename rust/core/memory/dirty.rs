// SPDX-License-Identifier: GPL-2.0
//! The dirty log of a slot: one bit for each page that was written to.
//!
//! While a slot is logged, a page becomes writable with the first write to it,
//! which sets its bit ([`MemSlot::mark_dirty`]) afterwards. Userspace takes bits
//! in one of two ways: `KVM_GET_DIRTY_LOG` hands them out and starts anew, or,
//! with manual protection, hands out a copy, and `KVM_CLEAR_DIRTY_LOG` starts anew
//! where userspace says so. Starting anew means: take the bit, take write
//! permission, flush. In this order each write is seen by this harvest or by the
//! next one.
//!
//! A processor may log writes itself: then a page loses its dirty bit in the tables in
//! place of write permission, and the first write makes an entry in a log of the vCPU's,
//! without a fault. Before bits are taken these entries become bits. The logs don't say
//! which address space an entry is of, so only pages of the first one are ever clean.
//!
//! [`MemSlot::mark_dirty`]: super::slots::MemSlot::mark_dirty

use super::{
    slots::{Log, MemSlot, SlotSet},
    Memory, Settings,
};
use crate::{arch::Arch, mmu::SecondLevel};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{error::Result, prelude::*, sync::Arc};
use kvm_paging::{addr::Gfn, flush::FlushDebt, ring::Batch};
use kvm_sys::{process, user};
use kvm_uapi::memory::{ClearDirtyLog, DirtyLog};

/// Pages of one word.
const WORD: u64 = 64;

/// Words that are handled between offers to let others run.
const BATCH: usize = 512;

/// A bit for each page of a slot, set and taken by many at once.
pub(crate) struct DirtyBitmap {
    words: KVVec<AtomicU64>,
}

impl DirtyBitmap {
    /// A bitmap for `frames` pages, all clean or all dirty. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(frames: u64, dirty: bool) -> Result<Self> {
        let count = frames.div_ceil(WORD) as usize;
        let mut words = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for index in 0..count as u64 {
            let left = frames.saturating_sub(index.saturating_mul(WORD));
            let mask = if left >= WORD { u64::MAX } else { (1_u64 << left).wrapping_sub(1) };
            words.push(AtomicU64::new(if dirty { mask } else { 0 }), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Self { words })
    }

    /// Sets the bit of the page with this index in the slot. A full barrier: a
    /// harvest that took the bit before takes write permission, or looks at the
    /// page, after the write that brought us here.
    #[inline]
    pub(crate) fn set(&self, index: u64) {
        if let Some(word) = self.words.get((index / WORD) as usize) {
            word.fetch_or(1 << (index % WORD), Ordering::SeqCst);
        }
    }

    /// The words from `first` on.
    fn words_from(&self, first: usize) -> &[AtomicU64] {
        self.words.get(first..).unwrap_or(&[])
    }
}

impl<A: Arch> Memory<A> {
    /// `KVM_GET_DIRTY_LOG` with the structure at `arg`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it can't be read or the bitmap not be written; `EINVAL` for a
    /// slot number that can't be; `ENOENT` if the slot isn't there or isn't logged;
    /// `ENXIO` if vCPUs have rings;
    /// `ENOMEM`.
    pub(super) fn get_dirty_log(&self, arg: usize) -> Result<u32> {
        let request: DirtyLog = user::read(arg)?;
        let settings = self.changing.lock();
        if settings.rings {
            return Err(ENXIO);
        }
        let (slot, log) = logged(&settings, self.slot_id(request.slot)?)?;
        self.take_notes();
        let copy = if settings.manual_protect {
            let mut copy = KVVec::with_capacity(log.words.len(), GFP_KERNEL_ACCOUNT)?;
            for word in &log.words {
                copy.push(word.load(Ordering::Relaxed), GFP_KERNEL_ACCOUNT)?;
            }
            copy
        } else {
            self.harvest(&slot, &log)?
        };
        let written = write_words(user::pointer(request.__bindgen_anon_1), &copy);
        if written.is_err() && !settings.manual_protect {
            // Nobody learned of them.
            for (word, bits) in log.words.iter().zip(&copy) {
                word.fetch_or(*bits, Ordering::SeqCst);
            }
        }
        written.map(|()| 0)
    }

    /// Takes all bits and starts anew.
    fn harvest(&self, slot: &MemSlot, log: &DirtyBitmap) -> Result<KVVec<u64>> {
        let mut taken = KVVec::with_capacity(log.words.len(), GFP_KERNEL_ACCOUNT)?;
        let noted = self.has_notes();
        let mut protect = Protect { memory: self, slot, noted, debt: FlushDebt::NONE };
        for (index, word) in log.words.iter().enumerate() {
            let bits = match word.load(Ordering::Relaxed) {
                0 => 0,
                _ => word.swap(0, Ordering::SeqCst),
            };
            protect.word(index, bits);
            taken.push(bits, GFP_KERNEL_ACCOUNT)?;
        }
        self.pay(protect.debt);
        Ok(taken)
    }

    /// `KVM_CLEAR_DIRTY_LOG` with the structure at `arg`.
    ///
    /// # Errors
    ///
    /// As [`Self::get_dirty_log`]; `EINVAL` for pages that aren't in the slot or
    /// don't fill words.
    pub(super) fn clear_dirty_log(&self, arg: usize) -> Result<u32> {
        let request: ClearDirtyLog = user::read(arg)?;
        let (first, count) = (request.first_page, u64::from(request.num_pages));
        if first % WORD != 0 {
            return Err(EINVAL);
        }
        let settings = self.changing.lock();
        if settings.rings {
            return Err(ENXIO);
        }
        let (slot, log) = logged(&settings, self.slot_id(request.slot)?)?;
        let behind = slot.place.frames.checked_sub(first).ok_or(EINVAL)?;
        if count > behind || count < behind && count % WORD != 0 {
            return Err(EINVAL);
        }
        let total = count.div_ceil(WORD) as usize;
        let mut first_word = (first / WORD) as usize;
        let mut left = total;
        let mut from = user::pointer(request.__bindgen_anon_1);
        let noted = self.has_notes();
        let mut protect = Protect { memory: self, slot: &slot, noted, debt: FlushDebt::NONE };
        let mut result = Ok(0);
        while left > 0 {
            let now = left.min(BATCH);
            let masks = match user::read_words(from, now) {
                Ok(masks) => masks,
                Err(err) => {
                    result = Err(err);
                    break;
                }
            };
            for (index, (word, mask)) in log.words_from(first_word).iter().zip(&masks).enumerate() {
                let bits = match u64::from_le(*mask) {
                    0 => 0,
                    mask => word.fetch_and(!mask, Ordering::SeqCst) & mask,
                };
                protect.word(first_word.saturating_add(index), bits);
            }
            process::cond_resched();
            from = from.wrapping_add(now.saturating_mul(8));
            first_word = first_word.saturating_add(now);
            left = left.saturating_sub(now);
        }
        self.pay(protect.debt);
        result
    }

    /// Takes write permission from pages of a slot, if they are this address space's.
    pub(crate) fn protect_batch(&self, batch: &Batch) -> FlushDebt {
        let Ok(id) = self.slot_id(batch.slot) else { return FlushDebt::NONE };
        let settings = self.changing.lock();
        let Some(slot) = settings.numbers.get(id) else { return FlushDebt::NONE };
        if slot.log.is_none() || !batch.is_within(slot.place.frames) {
            return FlushDebt::NONE;
        }
        // Notes don't say which vCPU's ring they are for.
        let mut protect = Protect { memory: self, slot, noted: false, debt: FlushDebt::NONE };
        protect.pages(batch.first, batch.pages);
        protect.debt
    }

    /// The processors note writes to pages that are clean.
    pub(super) fn has_notes(&self) -> bool {
        self.number == 0 && self.tables.has_dirty_log()
    }

    /// Moves what the processors noted to the logs of the slots. The caller holds
    /// `changing`, so that nobody else is about to.
    pub(super) fn take_notes(&self) {
        if self.has_notes() {
            let set = self.slots.read();
            let mut bits = Bits { set: &set, last: None };
            self.flush.take_notes(&mut |gfn| bits.set(gfn));
        }
    }

    /// The same with what was noted for one vCPU, in its thread.
    pub fn take_notes_of(&self, vcpu: &A::VcpuShared) {
        let set = self.slots.read();
        let mut bits = Bits { set: &set, last: None };
        A::take_notes(vcpu, &mut |gfn| bits.set(gfn));
    }

    /// The next write to each of these pages is seen, once the debt is paid: `noted` by the
    /// processor, or by a fault.
    fn watch_frames(&self, first: Gfn, end: Gfn, noted: bool) -> FlushDebt {
        if noted {
            self.tables.clean(first, end)
        } else {
            self.tables.write_protect(first, end)
        }
    }

    /// The next write to each page of the slot is seen, as in [`Self::watch_frames`].
    pub(super) fn watch(&self, slot: &MemSlot, noted: bool) {
        let mut debt = FlushDebt::NONE;
        let mut at = slot.place.first.raw();
        while at < slot.place.end() {
            let next = at.saturating_add(super::STEP).min(slot.place.end());
            debt = debt.merge(self.watch_frames(Gfn::new(at), Gfn::new(next), noted));
            at = next;
            process::cond_resched();
        }
        self.pay(debt);
    }
}

/// Sets the bits of pages of any slots; most are of the same slot as the one before.
struct Bits<'a> {
    set: &'a SlotSet,
    last: Option<&'a MemSlot>,
}

impl Bits<'_> {
    fn set(&mut self, gfn: Gfn) {
        let same = self.last.filter(|slot| slot.place.contains(gfn));
        if let Some(slot) = same.or_else(|| self.set.find(gfn).map(|slot| &**slot)) {
            slot.set_bit(gfn);
            self.last = Some(slot);
        }
    }
}

/// Sees to it that the next write is seen to pages whose bits were taken.
struct Protect<'a, A: Arch> {
    memory: &'a Memory<A>,
    slot: &'a MemSlot,
    /// The processor is to note it.
    noted: bool,
    debt: FlushDebt,
}

impl<A: Arch> Protect<'_, A> {
    /// The pages of the bitmap's word `index` that have a bit in `bits`.
    fn word(&mut self, index: usize, bits: u64) {
        if index % BATCH == 0 {
            process::cond_resched();
        }
        if bits != 0 {
            self.pages((index as u64).saturating_mul(WORD), bits);
        }
    }

    /// The pages from `first` of the slot on that have a bit in `bits`.
    fn pages(&mut self, first: u64, bits: u64) {
        let base = first.saturating_add(self.slot.place.first.raw());
        let mut left = bits;
        // Runs of set bits.
        while left != 0 {
            let first = left.trailing_zeros();
            let run = (!(left >> first)).trailing_zeros();
            let start = base.saturating_add(u64::from(first));
            let end = start.saturating_add(u64::from(run));
            let owed = self.memory.watch_frames(Gfn::new(start), Gfn::new(end), self.noted);
            self.debt = self.debt.merge(owed);
            let done = first.saturating_add(run);
            left = if done >= 64 { 0 } else { left >> done << done };
        }
    }
}

/// The slot that a request names, and its log.
fn logged(settings: &Settings, id: u16) -> Result<(Arc<MemSlot>, Arc<DirtyBitmap>)> {
    let slot = settings.numbers.get(id).cloned().ok_or(ENOENT)?;
    match slot.log.clone() {
        Some(Log::Bitmap(log)) => Ok((slot, log)),
        Some(Log::Ring) | None => Err(ENOENT),
    }
}

/// Copies a bitmap out, its bytes in order of pages.
fn write_words(address: usize, words: &[u64]) -> Result {
    if cfg!(target_endian = "little") {
        return user::write_words(address, words);
    }
    for (index, word) in words.iter().enumerate() {
        let at = address.wrapping_add(index.saturating_mul(8));
        user::write(at, &word.to_le())?;
    }
    Ok(())
}
