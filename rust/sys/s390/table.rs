// SPDX-License-Identifier: GPL-2.0
//! Pages that hold DAT tables: one for a page table and its status entries, four
//! for a segment or region table.
//!
//! Processors may remember an entry that is valid, so it is replaced by COMPARE
//! AND SWAP AND PURGE, after which none does (Principles of Operation,
//! "Modification of Translation Tables"). Invalid entries are just written.

use crate::table_page::{InMemory, TableMemory};
use core::{
    arch::asm,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};
use kernel::{error::Result, ffi::c_void, prelude::*, sync::rcu};
use kvm_paging::{
    addr::{Pfn, PAGE_SHIFT},
    entry::Entry,
    format::{dat::Dat, Format},
    level::{Geometry, Level},
    tables,
};

/// A handle on one table. It says where the table is, not that it lives: see
/// [`kvm_paging::tables::Tables`] for how long it may be used.
///
/// # Invariants
///
/// `start` points to memory in the kernel's direct mapping that was allocated for
/// a table with `mask` plus one entries, a power of two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DatTable {
    start: NonNull<AtomicU64>,
    mask: usize,
}

// SAFETY: A handle is an address; the entries are atomics.
unsafe impl Send for DatTable {}
// SAFETY: As above.
unsafe impl Sync for DatTable {}

/// Index of the last entry of a table of `level`.
const fn mask_of(level: Level) -> usize {
    Geometry::DAT.entries(level).wrapping_sub(1)
}

/// log2 of the pages of a table with this last index.
const fn order_of(mask: usize) -> u32 {
    if mask == mask_of(Level::Page4K) {
        0
    } else {
        2
    }
}

impl DatTable {
    /// Allocates an empty table, charged to the current memory cgroup. May sleep.
    fn allocate(level: Level) -> Result<Self> {
        let mask = mask_of(level);
        // SAFETY: No preconditions.
        let start = unsafe { kvm_helper_dat_table_alloc(order_of(mask)) };
        let start = NonNull::new(start.cast::<u64>()).ok_or(ENOMEM)?;
        // 512 words a page.
        let words = 512_usize.wrapping_shl(order_of(mask));
        for index in 0..words {
            // What follows the entries of a page table is their status.
            let value = if index <= mask { Dat::EMPTY.0 } else { 0 };
            // SAFETY: So many words were allocated, and nobody else has them.
            unsafe { start.add(index).write(value) };
        }
        // INVARIANT: just allocated; such addresses are in the direct mapping.
        Ok(Self { start: start.cast(), mask })
    }

    /// Frees a table that no other CPU can have seen.
    fn free(self) {
        // SAFETY: By the type invariant the memory was allocated for a table; the
        // callers own it and drop the handle.
        unsafe { kvm_helper_dat_table_free(self.start.as_ptr().cast(), order_of(self.mask)) };
    }

    #[inline]
    fn entry(&self, index: usize) -> &AtomicU64 {
        // SAFETY: By the type invariant the pointer is good as long as the table
        // may be used, which `Tables` asks of its callers; the mask keeps the
        // index inside.
        unsafe { self.start.add(index & self.mask).as_ref() }
    }
}

/// Replaces `old` by `new` and lets all processors forget translations that were
/// made with it; what was there.
#[inline]
fn compare_and_swap_and_purge(entry: &AtomicU64, old: u64, new: u64) -> u64 {
    /// In the address operand: purge TLBs.
    const PURGE_TLB: usize = 1;
    let found;
    // SAFETY: The address is that of an entry. The instruction changes it
    // atomically and serializes; the condition code says no more than `found`.
    unsafe {
        asm!(
            "cspg 2, 4",
            inout("r2") old => found,
            in("r3") new,
            in("r4") entry.as_ptr() as usize | PURGE_TLB,
            options(nostack),
        );
    }
    found
}

/// The pages of the machine as memory for tables.
///
/// # Invariants
///
/// `base` is what the direct mapping adds to a physical address.
#[derive(Clone, Copy)]
pub struct DatTables {
    base: u64,
}

impl tables::Tables for DatTables {
    type Table = DatTable;

    #[inline]
    fn read(&self, table: DatTable, index: usize) -> Entry {
        Entry(table.entry(index).load(Ordering::Acquire))
    }

    #[inline]
    fn compare_exchange(
        &self,
        table: DatTable,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry> {
        let entry = table.entry(index);
        if Dat::may_be_cached(old) {
            let found = compare_and_swap_and_purge(entry, old.0, new.0);
            return if found == old.0 { Ok(()) } else { Err(Entry(found)) };
        }
        entry
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Entry)
    }

    #[inline]
    fn swap(&self, table: DatTable, index: usize, new: Entry) -> Entry {
        Entry(table.entry(index).swap(new.0, Ordering::AcqRel))
    }

    #[inline]
    fn frame(&self, table: DatTable) -> Pfn {
        Pfn::new((table.start.as_ptr() as u64).wrapping_sub(self.base) >> PAGE_SHIFT)
    }

    #[inline]
    fn at(&self, frame: Pfn, level: Level) -> DatTable {
        let address = (frame.raw() << PAGE_SHIFT).wrapping_add(self.base);
        // INVARIANT: by the contract of the trait, which kvm_paging keeps, the
        // frame is one that `frame()` named for a table of this level.
        // SAFETY: No table of the direct mapping is at address 0.
        let start = unsafe { NonNull::new_unchecked(address as *mut AtomicU64) };
        DatTable { start, mask: mask_of(level) }
    }
}

/// The table at the top, a region-second table. It lives as long as this value.
pub struct RootTable {
    table: DatTable,
    memory: DatTables,
}

impl Drop for RootTable {
    fn drop(&mut self) {
        // No processor and no walker uses it any more: they borrowed it from the
        // owner of this value.
        self.table.free();
    }
}

/// Tables allocated in advance.
#[derive(Default)]
pub struct SpareTables {
    page: Option<DatTable>,
    upper: [Option<DatTable>; 2],
}

impl tables::Spare<DatTable> for SpareTables {
    fn take(&mut self, level: Level) -> Option<DatTable> {
        match level {
            Level::Page4K => self.page.take(),
            _ => self.upper.iter_mut().find_map(Option::take),
        }
    }

    fn put_back(&mut self, table: DatTable) {
        for index in 0..=table.mask {
            table.entry(index).store(Dat::EMPTY.0, Ordering::Relaxed);
        }
        let place = if table.mask == mask_of(Level::Page4K) {
            Some(&mut self.page).filter(|place| place.is_none())
        } else {
            self.upper.iter_mut().find(|place| place.is_none())
        };
        match place {
            Some(place) => *place = Some(table),
            None => table.free(),
        }
    }
}

impl Drop for SpareTables {
    fn drop(&mut self) {
        self.page.take().into_iter().for_each(DatTable::free);
        self.upper.iter_mut().filter_map(Option::take).for_each(DatTable::free);
    }
}

impl TableMemory for DatTables {
    type Root = RootTable;
    type Spare = SpareTables;

    fn new_root() -> Result<RootTable> {
        let table = DatTable::allocate(Level::Table512G)?;
        let address = table.start.as_ptr() as u64;
        // SAFETY: By the type invariant the address is in the direct mapping.
        let frame = unsafe { kvm_helper_table_frame(table.start.as_ptr().cast()) };
        // INVARIANT: the same for all memory that can hold a table.
        let memory = Self { base: address.wrapping_sub(frame << PAGE_SHIFT) };
        Ok(RootTable { table, memory })
    }

    fn address(root: &RootTable) -> u64 {
        tables::Tables::frame(&root.memory, root.table).raw() << PAGE_SHIFT
    }

    #[inline]
    fn table(root: &RootTable) -> DatTable {
        root.table
    }

    #[inline]
    fn of(root: &RootTable) -> &Self {
        &root.memory
    }

    #[inline]
    fn top_up(spare: &mut SpareTables) -> Result {
        if spare.page.is_none() {
            spare.page = Some(DatTable::allocate(Level::Page4K)?);
        }
        for place in &mut spare.upper {
            if place.is_none() {
                *place = Some(DatTable::allocate(Level::Page2M)?);
            }
        }
        Ok(())
    }

    fn retire(table: DatTable, _reader: &rcu::Guard) {
        let start = table.start.as_ptr().cast();
        if order_of(table.mask) == 0 {
            // SAFETY: As in `DatTable::free`, after a grace period. The caller is
            // the one who cut the table off.
            unsafe { kvm_helper_table_free_rcu(start) };
        } else {
            // SAFETY: As above.
            unsafe { kvm_helper_dat_upper_free_rcu(start) };
        }
    }
}

impl InMemory for Dat {
    type Memory = DatTables;
}

extern "C" {
    fn kvm_helper_dat_table_alloc(order: u32) -> *mut c_void;
    fn kvm_helper_dat_table_free(table: *mut c_void, order: u32);
    fn kvm_helper_dat_upper_free_rcu(table: *mut c_void);
    fn kvm_helper_table_free_rcu(table: *mut c_void);
    fn kvm_helper_table_frame(table: *mut c_void) -> u64;
}
