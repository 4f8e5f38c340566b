// SPDX-License-Identifier: GPL-2.0
//! Real pages that hold second-level tables.
//!
//! [`TablePages`] are for tables of 512 entries, one page each; [`crate::s390`] has
//! those of its own. What a format's tables lie in says [`InMemory`].
//!
//! Entries are read and changed by many CPUs and by the processors' own walkers,
//! so every access is atomic. Nobody else touches these pages, which is why the
//! atomics of `core` will do: they are instructions, where the `kernel` crate's
//! are calls, and a walk makes five of them.
//!
//! A table that was cut off may still be read by walkers on other CPUs. It is
//! freed after an RCU grace period; see [`TableMemory::retire`].

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};
use kernel::{bindings, error::Result, prelude::*, sync::rcu};
use kvm_paging::{
    addr::{Pfn, PAGE_SHIFT},
    entry::Entry,
    level::{Geometry, Level},
    tables,
};

/// Memory of this machine for tables of one geometry.
pub trait TableMemory: tables::Tables<Table: Send + Sync> + Send + Sync + Sized + 'static {
    /// The table at the top. It lives as long as this value.
    type Root: Send + Sync;

    /// Tables allocated in advance, while sleeping is allowed: as many as one fault
    /// can need.
    type Spare: tables::Spare<Self::Table> + Default + Send;

    /// Allocates an empty table for the top. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new_root() -> Result<Self::Root>;

    /// Its physical address.
    fn address(root: &Self::Root) -> u64;

    /// Its handle.
    fn table(root: &Self::Root) -> Self::Table;

    /// The memory that the tables below it are in.
    fn of(root: &Self::Root) -> &Self;

    /// Fills a reserve up. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn top_up(spare: &mut Self::Spare) -> Result;

    /// Frees a table that was cut off, once every section that holds `reader` or
    /// anything like it is over. The flush that makes the processors forget the
    /// table has to be done before `reader` ends, so that it comes first.
    ///
    /// The table must have been cut off by the caller alone: for a table that is
    /// retired once, [`kvm_paging::zap`] sees to that.
    fn retire(table: Self::Table, reader: &rcu::Guard);
}

/// A format whose tables this machine has memory for.
pub trait InMemory {
    /// That memory.
    type Memory: TableMemory;
}

impl InMemory for kvm_paging::format::npt::Npt {
    type Memory = TablePages;
}

impl InMemory for kvm_paging::format::ept::Ept {
    type Memory = TablePages;
}

/// Entries of a table.
const ENTRIES: usize = Geometry::X86.entries(Level::Page4K);

/// A handle on one table. It says where the table is, not that it lives: see
/// [`kvm_paging::tables::Tables`] for how long it may be used.
///
/// # Invariants
///
/// Points to a page, in the kernel's direct mapping, that was allocated for a
/// table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TablePage(NonNull<[AtomicU64; ENTRIES]>);

// SAFETY: A handle is an address; the entries are atomics.
unsafe impl Send for TablePage {}
// SAFETY: As above.
unsafe impl Sync for TablePage {}

impl TablePage {
    /// Allocates an empty table, charged to the current memory cgroup. May sleep.
    fn allocate() -> Result<Self> {
        // SAFETY: No preconditions.
        let page = unsafe { kvm_helper_table_alloc() };
        // INVARIANT: just allocated; `get_zeroed_page()` gives such addresses.
        NonNull::new(page.cast()).map(Self).ok_or(ENOMEM)
    }

    /// Frees a table that no other CPU can have seen.
    fn free(self) {
        // SAFETY: By the type invariant the page was allocated for a table; the
        // callers own it and drop the handle.
        unsafe { kvm_helper_table_free(self.0.as_ptr().cast()) };
    }

    /// It becomes part of a tree of tables, or ceases to be: what `SecPageTables` in
    /// /proc/meminfo and `sec_pagetables` of memory cgroups count.
    fn account(self, is_part: bool) {
        // SAFETY: By the type invariant it is a page; the callers own it.
        unsafe { kvm_helper_table_account(self.0.as_ptr().cast(), if is_part { 1 } else { -1 }) };
    }

    #[inline]
    fn entry(&self, index: usize) -> &AtomicU64 {
        // SAFETY: By the type invariant the pointer is good as long as the table
        // may be used, which `Tables` asks of its callers; the mask keeps the
        // index inside.
        unsafe { self.0.as_ref().get_unchecked(index & (ENTRIES - 1)) }
    }
}

/// Waits until every retired table is freed. For the end of the module that holds
/// the code which frees them.
pub fn wait_for_retired() {
    rcu::rcu_barrier();
}

/// The pages of the machine as memory for tables.
///
/// # Invariants
///
/// `base` is what the direct mapping adds to a physical address.
#[derive(Clone, Copy)]
pub struct TablePages {
    base: u64,
}

impl TablePages {
    fn new(sample: TablePage) -> Self {
        let address = sample.0.as_ptr() as u64;
        // SAFETY: By the type invariant the address is in the direct mapping.
        let frame = unsafe { kvm_helper_table_frame(sample.0.as_ptr().cast()) };
        // INVARIANT: the same for every page that can be a table.
        Self { base: address.wrapping_sub(frame << PAGE_SHIFT) }
    }
}

impl tables::Tables for TablePages {
    type Table = TablePage;

    #[inline]
    fn read(&self, table: TablePage, index: usize) -> Entry {
        Entry(table.entry(index).load(Ordering::Acquire))
    }

    #[inline]
    fn compare_exchange(
        &self,
        table: TablePage,
        index: usize,
        old: Entry,
        new: Entry,
    ) -> Result<(), Entry> {
        table
            .entry(index)
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Entry)
    }

    #[inline]
    fn swap(&self, table: TablePage, index: usize, new: Entry) -> Entry {
        Entry(table.entry(index).swap(new.0, Ordering::AcqRel))
    }

    #[inline]
    fn frame(&self, table: TablePage) -> Pfn {
        Pfn::new((table.0.as_ptr() as u64).wrapping_sub(self.base) >> PAGE_SHIFT)
    }

    #[inline]
    fn at(&self, frame: Pfn, _level: Level) -> TablePage {
        let address = (frame.raw() << PAGE_SHIFT).wrapping_add(self.base);
        // INVARIANT: by the contract of the trait, which kvm_paging keeps, the
        // frame is one that `frame()` named.
        // SAFETY: No page of the direct mapping is at address 0.
        TablePage(unsafe { NonNull::new_unchecked(address as *mut [AtomicU64; ENTRIES]) })
    }
}

impl TableMemory for TablePages {
    type Root = RootTable;
    type Spare = SpareTables;

    fn new_root() -> Result<RootTable> {
        let table = TablePage::allocate()?;
        Ok(RootTable { table, pages: Self::new(table) })
    }

    fn address(root: &RootTable) -> u64 {
        tables::Tables::frame(&root.pages, root.table).raw() << PAGE_SHIFT
    }

    #[inline]
    fn table(root: &RootTable) -> TablePage {
        root.table
    }

    #[inline]
    fn of(root: &RootTable) -> &Self {
        &root.pages
    }

    #[inline]
    fn top_up(spare: &mut SpareTables) -> Result {
        spare.top_up()
    }

    fn retire(table: TablePage, _reader: &rcu::Guard) {
        table.account(false);
        // SAFETY: As in `TablePage::free`, after a grace period. The caller is the
        // one who cut the table off.
        unsafe { kvm_helper_table_free_rcu(table.0.as_ptr().cast()) };
    }
}

/// The table at the top. It lives as long as this value.
pub struct RootTable {
    table: TablePage,
    pages: TablePages,
}

impl Drop for RootTable {
    fn drop(&mut self) {
        // No processor and no walker uses it any more: they borrowed it from the
        // owner of this value.
        self.table.free();
    }
}

/// Tables allocated in advance, while sleeping is allowed: as many as one fault
/// can need.
#[derive(Default)]
pub struct SpareTables {
    tables: [Option<TablePage>; Self::MOST],
}

impl SpareTables {
    /// Below a root of five levels, a 4 KiB page needs this many tables.
    const MOST: usize = 4;

    #[inline]
    fn top_up(&mut self) -> Result {
        for table in &mut self.tables {
            if table.is_none() {
                *table = Some(TablePage::allocate()?);
            }
        }
        Ok(())
    }
}

impl tables::Spare<TablePage> for SpareTables {
    fn take(&mut self, _level: Level) -> Option<TablePage> {
        let table = self.tables.iter_mut().find_map(Option::take)?;
        table.account(true);
        Some(table)
    }

    fn put_back(&mut self, table: TablePage) {
        table.account(false);
        for index in 0..ENTRIES {
            table.entry(index).store(0, Ordering::Relaxed);
        }
        match self.tables.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(table),
            None => table.free(),
        }
    }
}

impl Drop for SpareTables {
    fn drop(&mut self) {
        for table in self.tables.iter_mut().filter_map(Option::take) {
            table.free();
        }
    }
}

extern "C" {
    fn kvm_helper_table_account(table: *mut kernel::ffi::c_void, count: kernel::ffi::c_int);
    fn kvm_helper_table_alloc() -> *mut kernel::ffi::c_void;
    fn kvm_helper_table_free(table: *mut kernel::ffi::c_void);
    fn kvm_helper_table_free_rcu(table: *mut kernel::ffi::c_void);
    fn kvm_helper_table_frame(table: *mut kernel::ffi::c_void) -> u64;
}

// `ENTRIES` entries fill a page, and an empty one is zero.
static_assertions::const_assert_eq!(
    core::mem::size_of::<[AtomicU64; ENTRIES]>(),
    bindings::PAGE_SIZE
);
