// SPDX-License-Identifier: GPL-2.0
//! The tables that map guest frames to host pages: what the memory of a VM needs
//! of them, and the kinds there are.
//!
//! [`TwoLevel`] is for processors with tables in memory; [`NoTables`] for an
//! architecture that has none yet.

use core::{
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{error::Result, prelude::*, sync::rcu};
use kvm_paging::{
    addr::{Gfn, Pfn},
    caps::PagingCaps,
    entry::{Access, Leaf, MemoryType},
    flush::FlushDebt,
    format::Format,
    level::{Geometry, Level},
    map::{Failed, Mapped, Sizes},
    space::Space,
    tables::Removed,
};
use kvm_sys::table_page::{InMemory, TableMemory};

/// Entries that are looked at before others get their turn.
const ZAP_BUDGET: usize = 1 << 17;

/// The entry that a frame has now, as far as a fault wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing, or less than the access needs.
    Lacking,
    /// The access is allowed, by a mapping of this level.
    Allowed(Level),
    /// Only write permission is lacking, at this level, and the host has nothing
    /// against it.
    Protected(Level),
    /// Marked as MMIO.
    Mmio,
}

/// Second-level tables of one VM. Everything here may be called by many threads
/// at once and doesn't sleep, unless it says so. What is said of sections and
/// flushes is the caller's to keep: `memory::fault` and `memory::notifier` do.
pub trait SecondLevel: Send + Sync + Sized + 'static {
    /// Whether there are any, so that memory is more than slots.
    const EXIST: bool;

    /// Tables that a vCPU has in reserve.
    type Spare: Default + Send;

    /// Empty tables. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; that of [`Paging::config`].
    fn new() -> Result<Self>;

    /// The sizes of tables.
    const GEOMETRY: Geometry = Geometry::X86;

    /// The root as a control block names it. Constant.
    fn root(&self) -> u64;

    /// First frame that a guest can't have, by its tables or its processor.
    fn frames(&self) -> u64;

    /// Highest level that can map a page.
    fn largest(&self) -> Level;

    /// How the format wants device memory mapped.
    fn device_memory(&self) -> MemoryType;

    /// How it wants ordinary memory mapped.
    fn ordinary_memory(&self) -> MemoryType {
        MemoryType::WriteBack
    }

    /// The guest's own memory types are to count from now on, where they can.
    fn follow_guest_types(&self) {}

    /// Whether they count.
    fn follows_guest_types(&self) -> bool {
        false
    }

    /// Fills a reserve up. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn top_up(spare: &mut Self::Spare) -> Result;

    /// Makes ready to map `gfn`, before the map section. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    fn prepare(&self, _gfn: Gfn) -> Result {
        Ok(())
    }

    /// What is there for an access to `gfn`.
    fn look(&self, gfn: Gfn, access: Access) -> Look;

    /// See [`Space::map`]; inside a map section.
    ///
    /// # Errors
    ///
    /// Those of [`Space::map`].
    fn map(
        &self,
        gfn: Gfn,
        level: Level,
        leaf: Leaf,
        spare: &mut Self::Spare,
        sizes: &mut Sizes,
    ) -> Result<(Mapped, FlushDebt), Failed>;

    /// See [`Space::map_mmio`]; inside a map section.
    ///
    /// # Errors
    ///
    /// Those of [`Space::map_mmio`].
    fn mark_mmio(&self, gfn: Gfn, spare: &mut Self::Spare) -> Result<(), Failed>;

    /// See [`Space::allow_write`]; inside a map section.
    fn allow_write(&self, gfn: Gfn, largest: Level) -> Option<Level>;

    /// Removes every mapping in a range, and tells `flush` before anything is
    /// reused. Stops after about a millisecond's work, and then says where to go
    /// on.
    fn zap(
        &self,
        first: Gfn,
        end: Gfn,
        sizes: &mut Sizes,
        flush: impl FnOnce(FlushDebt),
    ) -> Option<Gfn>;

    /// See [`Space::write_protect`].
    fn write_protect(&self, first: Gfn, end: Gfn) -> FlushDebt;

    /// Whether the processor notes writes to pages that are clean, so that
    /// [`Self::clean`] does what [`Self::write_protect`] does.
    fn has_dirty_log(&self) -> bool {
        false
    }

    /// See [`Space::clean`].
    fn clean(&self, first: Gfn, end: Gfn) -> FlushDebt {
        self.write_protect(first, end)
    }

    /// See [`Space::age`].
    fn age(&self, first: Gfn, end: Gfn) -> Option<bool>;

    /// See [`Space::is_young`].
    fn is_young(&self, first: Gfn, end: Gfn) -> bool;
}

/// What a machine keeps of each page of its memory beside the contents, and guests
/// have of theirs: protection keys, for example. `()`: nothing.
pub trait Tags: Sized + Send + Sync + 'static {
    /// Those of a new VM. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new() -> Result<Self>;

    /// Makes ready to map `gfn`, before the map section. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    fn prepare(&self, _gfn: Gfn) -> Result {
        Ok(())
    }

    /// Lets `map` map `gfn` to a page, in a map section, and gives the page the tags of
    /// the frame. `now` tells the page that is mapped.
    #[inline]
    fn map<R>(
        &self,
        _gfn: Gfn,
        _page: Pfn,
        _now: impl FnOnce() -> Option<Pfn>,
        map: impl FnOnce() -> R,
    ) -> R {
        map()
    }
}

impl Tags for () {
    fn new() -> Result<Self> {
        Ok(())
    }
}

/// What a vendor says of its tables.
pub trait Paging: 'static {
    /// Their bits.
    type Format: Format + InMemory + Send + Sync;

    /// What pages have besides; then all are mapped one by one, never in larger sizes.
    type Tags: Tags;

    /// How device memory is mapped: [`MemoryType::WriteBack`] where the host's and
    /// the guest's own types decide anyway.
    const DEVICE_MEMORY: MemoryType;

    /// How ordinary memory is mapped, unless the guest's own types are to count.
    const ORDINARY_MEMORY: MemoryType = MemoryType::WriteBack;

    /// The format and the geometry that this processor has. Called once for each
    /// VM.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it has none, which a loaded module rules out.
    fn config() -> Result<(Self::Format, PagingCaps)>;

    /// Bits of a guest physical address.
    fn physical_bits() -> u32;
}

/// The memory that a vendor's tables are in.
type MemoryOf<P> = <<P as Paging>::Format as InMemory>::Memory;

/// Tables of a vendor's format.
pub struct TwoLevel<P: Paging> {
    format: P::Format,
    caps: PagingCaps,
    frames: u64,
    tags: P::Tags,
    follows_guest_types: AtomicBool,
    root: <MemoryOf<P> as TableMemory>::Root,
    _paging: PhantomData<fn() -> P>,
}

impl<P: Paging> TwoLevel<P> {
    /// The tables as a space to walk. Walks need an RCU read-side section, which
    /// a map section is as well: it isn't preempted.
    #[inline]
    fn space(&self) -> Space<'_, P::Format, MemoryOf<P>> {
        let root = &self.root;
        Space::new(
            &self.format,
            MemoryOf::<P>::of(root),
            MemoryOf::<P>::table(root),
            self.caps.root,
        )
    }

    /// What pages have beside their contents.
    pub fn tags(&self) -> &P::Tags {
        &self.tags
    }

    /// The page that a frame is mapped to. It may be the host's again as soon as the
    /// caller's map section ends.
    pub fn page(&self, gfn: Gfn) -> Option<Pfn> {
        if gfn.raw() >= self.frames {
            return None;
        }
        let _reader = rcu::read_lock();
        let found = self.space().find(gfn);
        let leaf = self.format.as_leaf(found.entry, found.level)?;
        let inside = P::Format::GEOMETRY.frames(found.level).wrapping_sub(1);
        Some(Pfn::new(leaf.pfn.raw() | gfn.raw() & inside))
    }
}

impl<P: Paging> SecondLevel for TwoLevel<P> {
    const EXIST: bool = true;
    const GEOMETRY: Geometry = P::Format::GEOMETRY;
    type Spare = <MemoryOf<P> as TableMemory>::Spare;

    fn new() -> Result<Self> {
        let (format, caps) = P::config()?;
        let root = MemoryOf::<P>::new_root()?;
        let reach = P::Format::GEOMETRY.reach(caps.root);
        let bits = P::physical_bits().saturating_sub(kvm_paging::addr::PAGE_SHIFT);
        let frames = reach.min(1_u64.checked_shl(bits).unwrap_or(u64::MAX));
        Ok(Self {
            format,
            caps,
            frames,
            tags: P::Tags::new()?,
            follows_guest_types: AtomicBool::new(false),
            root,
            _paging: PhantomData,
        })
    }

    fn root(&self) -> u64 {
        self.format.root(MemoryOf::<P>::address(&self.root), self.caps.root)
    }

    fn frames(&self) -> u64 {
        self.frames
    }

    #[inline]
    fn largest(&self) -> Level {
        self.caps.largest_page
    }

    fn device_memory(&self) -> MemoryType {
        P::DEVICE_MEMORY
    }

    fn ordinary_memory(&self) -> MemoryType {
        if self.follows_guest_types() {
            MemoryType::WriteBack
        } else {
            P::ORDINARY_MEMORY
        }
    }

    fn follow_guest_types(&self) {
        self.follows_guest_types.store(true, Ordering::Relaxed);
    }

    fn follows_guest_types(&self) -> bool {
        self.follows_guest_types.load(Ordering::Relaxed)
    }

    #[inline]
    fn top_up(spare: &mut Self::Spare) -> Result {
        MemoryOf::<P>::top_up(spare)
    }

    #[inline]
    fn prepare(&self, gfn: Gfn) -> Result {
        self.tags.prepare(gfn)
    }

    #[inline]
    fn look(&self, gfn: Gfn, access: Access) -> Look {
        if gfn.raw() >= self.frames {
            return Look::Lacking;
        }
        let _reader = rcu::read_lock();
        let found = self.space().find(gfn);
        if let Some(leaf) = self.format.as_leaf(found.entry, found.level) {
            if leaf.access.contains(access) {
                return Look::Allowed(found.level);
            }
            let has_rest = leaf.access.contains(access.difference(Access::WRITE));
            if has_rest && leaf.may_write {
                return Look::Protected(found.level);
            }
        } else if self.format.as_mmio(found.entry).is_some() {
            return Look::Mmio;
        }
        Look::Lacking
    }

    #[inline]
    fn map(
        &self,
        gfn: Gfn,
        level: Level,
        leaf: Leaf,
        spare: &mut Self::Spare,
        sizes: &mut Sizes,
    ) -> Result<(Mapped, FlushDebt), Failed> {
        let map = || self.space().map(gfn, level, leaf, spare, sizes);
        self.tags.map(gfn, leaf.pfn, || self.page(gfn), map)
    }

    fn mark_mmio(&self, gfn: Gfn, spare: &mut Self::Spare) -> Result<(), Failed> {
        // Marks go when a slot comes, so they need no generation.
        self.space().map_mmio(gfn, 0, spare)
    }

    #[inline]
    fn allow_write(&self, gfn: Gfn, largest: Level) -> Option<Level> {
        self.space().allow_write(gfn, largest)
    }

    fn zap(
        &self,
        first: Gfn,
        end: Gfn,
        sizes: &mut Sizes,
        flush: impl FnOnce(FlushDebt),
    ) -> Option<Gfn> {
        let reader = rcu::read_lock();
        let mut retire = Retire::<MemoryOf<P>>::new(&reader, sizes);
        let (debt, next) =
            self.space().zap_some(first, end, Level::Page1G, ZAP_BUDGET, &mut retire);
        flush(debt);
        next
    }

    fn write_protect(&self, first: Gfn, end: Gfn) -> FlushDebt {
        let _reader = rcu::read_lock();
        self.space().write_protect(first, end)
    }

    fn has_dirty_log(&self) -> bool {
        self.caps.dirty_log
    }

    fn clean(&self, first: Gfn, end: Gfn) -> FlushDebt {
        let _reader = rcu::read_lock();
        self.space().clean(first, end)
    }

    fn age(&self, first: Gfn, end: Gfn) -> Option<bool> {
        let _reader = rcu::read_lock();
        self.space().age(first, end)
    }

    fn is_young(&self, first: Gfn, end: Gfn) -> bool {
        let _reader = rcu::read_lock();
        self.space().is_young(first, end)
    }
}

impl<P: Paging> Drop for TwoLevel<P> {
    fn drop(&mut self) {
        // No vCPU can run any more, so nothing is cached.
        let reader = rcu::read_lock();
        let mut sizes = Sizes::default();
        let mut retire = Retire::<MemoryOf<P>>::new(&reader, &mut sizes);
        let _ = self.space().zap_all(&mut retire);
    }
}

/// Frees tables that a zap cut off, after the section it runs in.
struct Retire<'a, M> {
    reader: &'a rcu::Guard,
    sizes: &'a mut Sizes,
    _memory: PhantomData<M>,
}

impl<'a, M> Retire<'a, M> {
    fn new(reader: &'a rcu::Guard, sizes: &'a mut Sizes) -> Self {
        Self { reader, sizes, _memory: PhantomData }
    }
}

impl<M: TableMemory> Removed<M::Table> for Retire<'_, M> {
    fn leaf(&mut self, _leaf: Leaf, level: Level, _dirty: bool) {
        // The host's page was marked dirty when it was mapped.
        self.sizes.add(level, -1);
    }

    fn table(&mut self, table: M::Table) {
        M::retire(table, self.reader);
    }
}

/// No second level: an architecture that can't run guests yet. Faults fail with
/// `EOPNOTSUPP`.
pub struct NoTables;

impl SecondLevel for NoTables {
    const EXIST: bool = false;
    type Spare = ();

    fn new() -> Result<Self> {
        Ok(Self)
    }

    fn root(&self) -> u64 {
        0
    }

    fn frames(&self) -> u64 {
        u64::MAX
    }

    fn largest(&self) -> Level {
        Level::Page4K
    }

    fn device_memory(&self) -> MemoryType {
        MemoryType::WriteBack
    }

    fn top_up((): &mut ()) -> Result {
        Err(EOPNOTSUPP)
    }

    fn look(&self, _gfn: Gfn, _access: Access) -> Look {
        Look::Lacking
    }

    fn map(
        &self,
        _gfn: Gfn,
        _level: Level,
        _leaf: Leaf,
        (): &mut (),
        _sizes: &mut Sizes,
    ) -> Result<(Mapped, FlushDebt), Failed> {
        Err(Failed::OutOfReach)
    }

    fn mark_mmio(&self, _gfn: Gfn, (): &mut ()) -> Result<(), Failed> {
        Err(Failed::OutOfReach)
    }

    fn allow_write(&self, _gfn: Gfn, _largest: Level) -> Option<Level> {
        None
    }

    fn zap(
        &self,
        _first: Gfn,
        _end: Gfn,
        _sizes: &mut Sizes,
        _flush: impl FnOnce(FlushDebt),
    ) -> Option<Gfn> {
        None
    }

    fn write_protect(&self, _first: Gfn, _end: Gfn) -> FlushDebt {
        FlushDebt::NONE
    }

    fn age(&self, _first: Gfn, _end: Gfn) -> Option<bool> {
        Some(false)
    }

    fn is_young(&self, _first: Gfn, _end: Gfn) -> bool {
        false
    }
}
