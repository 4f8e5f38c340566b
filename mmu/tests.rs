// SPDX-License-Identifier: GPL-2.0
//! The operations together: against a model, and against each other on several
//! threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::vec::Vec;

use proptest::prelude::*;

use crate::addr::{Gfn, Pfn};
use crate::entry::{Access, Leaf, MemoryType};
use crate::fake::{FakeRemoved, FakeSpare, FakeTables};
use crate::flush::FlushDebt;
use crate::format::{dat::Dat, ept::Ept, npt::Npt, Format};
use crate::level::Level;
use crate::map::{Failed, Mapped, Sizes};
use crate::space::Space;

const RWX: Access = Access::all();
/// Frames that the tests use: a bit more than two large pages at each end of a
/// 1 GiB border.
const FRAMES: u64 = 4 * 512;
const BASE: u64 = (1 << 18) - FRAMES / 2;

fn leaf(gfn: u64, access: Access) -> Leaf {
    // Any injective map will do, aligned as the frames are.
    Leaf {
        pfn: Pfn::new(gfn + (1 << 20)),
        access,
        may_write: true,
        memory_type: MemoryType::WriteBack,
    }
}

fn space<'a, F: Format>(format: &'a F, tables: &'a FakeTables) -> Space<'a, F, FakeTables> {
    let root = crate::tables::Spare::take(&mut FakeSpare(tables), Level::Table512G).unwrap();
    Space::new(format, tables, root, Level::Table512G)
}

/// What the tables say about a frame.
fn seen<F: Format>(space: &Space<'_, F, FakeTables>, gfn: u64) -> Option<(u64, Access)> {
    let found = space.find(Gfn::new(gfn));
    let leaf = space.format.as_leaf(found.entry, found.level)?;
    let offset = gfn - F::GEOMETRY.align(found.level, Gfn::new(gfn)).raw();
    Some((leaf.pfn.raw() + offset, leaf.access))
}

#[derive(Clone, Debug)]
enum Step {
    Map { gfn: u64, level: Level, write: bool },
    Zap { first: u64, count: u64 },
    Protect { first: u64, count: u64 },
    AllowWrite { gfn: u64 },
    CollectDirty { first: u64, count: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let frame = || (0..FRAMES).prop_map(|offset| BASE + offset);
    let range = || (frame(), 1..700_u64);
    let level = prop_oneof![2 => Just(Level::Page4K), 1 => Just(Level::Page2M)];
    prop_oneof![
        4 => (frame(), level, any::<bool>())
            .prop_map(|(gfn, level, write)| Step::Map { gfn, level, write }),
        1 => range().prop_map(|(first, count)| Step::Zap { first, count }),
        1 => range().prop_map(|(first, count)| Step::Protect { first, count }),
        1 => frame().prop_map(|gfn| Step::AllowWrite { gfn }),
        1 => range().prop_map(|(first, count)| Step::CollectDirty { first, count }),
    ]
}

/// Frame to (may write now, mapped by a block that starts here and has so many
/// frames).
#[derive(Default)]
struct Model(BTreeMap<u64, bool>, Sizes);

impl Model {
    /// The frames of the mapping that holds `gfn`, as the tables have it.
    fn block<F: Format>(space: &Space<'_, F, FakeTables>, gfn: u64) -> (u64, u64) {
        let found = space.find(Gfn::new(gfn));
        (F::GEOMETRY.align(found.level, Gfn::new(gfn)).raw(), F::GEOMETRY.frames(found.level))
    }
}

fn run_against_model<F: Format>(format: &F, steps: &[Step]) {
    let tables = FakeTables::new(format, 2000);
    let space = space(format, &tables);
    let mut model = Model::default();
    for step in steps {
        apply(&space, &tables, step, &mut model);
        for gfn in BASE..BASE + FRAMES {
            let expected = model.0.get(&gfn).map(|write| {
                let access = if *write { RWX } else { RWX - Access::WRITE };
                (gfn + (1 << 20), access)
            });
            assert_eq!(seen(&space, gfn), expected, "frame {gfn:#x} after {step:?}");
        }
    }
    let mut removed = FakeRemoved::new(&tables);
    let _ = space.zap_all(&mut removed);
    removed.count(&mut model.1);
    assert!(model.1.is_none(), "mappings that came and didn't go: {:?}", model.1);
    let frames: u64 = removed.leaves.iter().map(|(_, level, _)| F::GEOMETRY.frames(*level)).sum();
    assert_eq!(frames, model.0.len() as u64);
    assert_eq!(tables.in_use(), 1, "only the root is left");
}

fn apply<F: Format>(
    space: &Space<'_, F, FakeTables>,
    tables: &FakeTables,
    step: &Step,
    model: &mut Model,
) {
    match *step {
        Step::Map { gfn, level, write } => {
            let access = if write { RWX } else { RWX - Access::WRITE };
            let first = F::GEOMETRY.align(level, Gfn::new(gfn)).raw();
            let (_, debt) = space
                .map(
                    Gfn::new(gfn),
                    level,
                    leaf(first, access),
                    &mut FakeSpare(tables),
                    &mut model.1,
                )
                .unwrap();
            let (first, count) = Model::block(space, gfn);
            // Rights only grow, and only for the block that was mapped.
            for frame in first..first + count {
                let had = model.0.get(&frame).copied().unwrap_or(false);
                model.0.insert(frame, had || write);
            }
            // Nothing of what was mapped changed its meaning, but a split counts.
            assert!(debt
                .range()
                .is_none_or(|(_, count)| count == F::GEOMETRY.frames(Level::Page2M)));
        }
        Step::Zap { first, count } => {
            // Large pages go as a whole.
            let mut gone = Vec::new();
            for gfn in first..first + count {
                if seen(space, gfn).is_some() {
                    let (first, count) = Model::block(space, gfn);
                    gone.extend(first..first + count);
                }
            }
            let mut removed = FakeRemoved::new(tables);
            let (mut debt, mut next) = (FlushDebt::NONE, Some(Gfn::new(first)));
            while let Some(at) = next {
                let end = Gfn::new(first + count);
                let (owed, rest) = space.zap_some(at, end, Level::Page2M, 100, &mut removed);
                assert!(rest.is_none_or(|rest| rest > at && rest < end));
                (debt, next) = (debt.merge(owed), rest);
            }
            removed.count(&mut model.1);
            for gfn in &gone {
                model.0.remove(gfn);
                let (first, count) = debt.range().unwrap();
                assert!((first.raw()..first.raw() + count).contains(gfn), "not owed: {gfn:#x}");
            }
        }
        Step::Protect { first, count } => {
            let mut hit = Vec::new();
            for gfn in first..first + count {
                if seen(space, gfn).is_some() {
                    let (first, count) = Model::block(space, gfn);
                    hit.extend(first..first + count);
                }
            }
            let _ = space.write_protect(Gfn::new(first), Gfn::new(first + count));
            for gfn in hit {
                model.0.insert(gfn, false);
            }
        }
        Step::AllowWrite { gfn } => {
            let level = space.allow_write(Gfn::new(gfn), Level::Page1G);
            assert_eq!(level.is_some(), model.0.contains_key(&gfn));
            if level.is_some() {
                let (first, count) = Model::block(space, gfn);
                for frame in first..first + count {
                    model.0.insert(frame, true);
                }
            }
        }
        Step::CollectDirty { first, count } => {
            let mut reported = 0;
            let _ = space.collect_dirty(Gfn::new(first), Gfn::new(first + count), |_, n| {
                reported += n;
            });
            let mut again = 0;
            let _ = space.collect_dirty(Gfn::new(first), Gfn::new(first + count), |_, n| {
                again += n;
            });
            assert!(reported <= model.0.len() as u64);
            assert_eq!(again, 0, "dirty bits were cleared");
            let sample = space.format.leaf(Level::Page4K, leaf(0, RWX));
            if space.format.clear_dirty(sample).is_none() {
                // Without such bits the pages are protected.
                for gfn in first..first + count {
                    if seen(space, gfn).is_some() {
                        let (first, count) = Model::block(space, gfn);
                        model.0.extend((first..first + count).map(|frame| (frame, false)));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn npt_agrees_with_the_model(steps in prop::collection::vec(step(), 1..40)) {
        run_against_model(&Npt::new(48), &steps);
    }

    #[test]
    fn dat_agrees_with_the_model(steps in prop::collection::vec(step(), 1..40)) {
        run_against_model(&Dat, &steps);
    }

    #[test]
    fn ept_agrees_with_the_model(steps in prop::collection::vec(step(), 1..40)) {
        run_against_model(&Ept::new(true), &steps);
    }
}

#[test]
fn a_late_fault_is_spurious() {
    let format = Npt::new(48);
    let tables = FakeTables::new(&format, 16);
    let space = space(&format, &tables);
    let mut spare = FakeSpare(&tables);
    let gfn = Gfn::new(5);
    let first = space.map(gfn, Level::Page4K, leaf(5, RWX), &mut spare, &mut Sizes::default());
    assert_eq!(first, Ok((Mapped::New(Level::Page4K), FlushDebt::NONE)));
    let again =
        space.map(gfn, Level::Page4K, leaf(5, Access::READ), &mut spare, &mut Sizes::default());
    assert_eq!(again, Ok((Mapped::Spurious(Level::Page4K), FlushDebt::NONE)));
}

#[test]
fn a_new_page_behind_a_frame_owes_a_flush() {
    let format = Ept::new(true);
    let tables = FakeTables::new(&format, 16);
    let space = space(&format, &tables);
    let mut spare = FakeSpare(&tables);
    let gfn = Gfn::new(5);
    let _ = space.map(gfn, Level::Page4K, leaf(5, RWX), &mut spare, &mut Sizes::default());
    let other = Leaf { pfn: Pfn::new(77), ..leaf(5, RWX) };
    let (mapped, debt) =
        space.map(gfn, Level::Page4K, other, &mut spare, &mut Sizes::default()).unwrap();
    assert_eq!(mapped, Mapped::New(Level::Page4K));
    assert_eq!(debt.range(), Some((gfn, 1)));
}

#[test]
fn running_out_of_tables_or_space_is_an_error() {
    let format = Npt::new(48);
    let tables = FakeTables::new(&format, 3);
    let space = space(&format, &tables);
    let mut spare = FakeSpare(&tables);
    assert_eq!(
        space.map(Gfn::new(5), Level::Page4K, leaf(5, RWX), &mut spare, &mut Sizes::default()),
        Err(Failed::NoSpare)
    );
    assert_eq!(
        space.map(
            Gfn::new(1 << 36),
            Level::Page4K,
            leaf(0, RWX),
            &mut spare,
            &mut Sizes::default()
        ),
        Err(Failed::OutOfReach)
    );
    let mut removed = FakeRemoved::new(&tables);
    let _ = space.zap_all(&mut removed);
    assert_eq!(tables.in_use(), 1);
}

#[test]
fn mmio_marks_come_and_go() {
    let format = Ept::new(true);
    let tables = FakeTables::new(&format, 16);
    let space = space(&format, &tables);
    let mut spare = FakeSpare(&tables);
    let gfn = Gfn::new(0xfee00);
    assert_eq!(space.map_mmio(gfn, 7, &mut spare), Ok(()));
    assert_eq!(format.as_mmio(space.find(gfn).entry), Some(7));
    // A slot appears there: the page replaces the mark and owes nothing.
    let mapped =
        space.map(gfn, Level::Page4K, leaf(0xfee00, RWX), &mut spare, &mut Sizes::default());
    assert_eq!(mapped, Ok((Mapped::New(Level::Page4K), FlushDebt::NONE)));
    assert_eq!(space.map_mmio(gfn, 8, &mut spare), Err(Failed::Raced));
    let mut removed = FakeRemoved::new(&tables);
    let _ = space.zap(gfn, Gfn::new(gfn.raw() + 1), &mut removed);
    assert_eq!(space.find(gfn).entry, Ept::EMPTY);
}

#[test]
fn aging_needs_accessed_bits() {
    for (accessed_dirty, expected) in [(true, Some(true)), (false, None)] {
        let format = Ept::new(accessed_dirty);
        let tables = FakeTables::new(&format, 16);
        let space = space(&format, &tables);
        let range = (Gfn::new(0), Gfn::new(512));
        assert_eq!(space.age(range.0, range.1), Some(false));
        let mut spare = FakeSpare(&tables);
        let _ =
            space.map(Gfn::new(9), Level::Page4K, leaf(9, RWX), &mut spare, &mut Sizes::default());
        assert!(space.is_young(range.0, range.1));
        assert_eq!(space.age(range.0, range.1), expected);
        assert_eq!(space.is_young(range.0, range.1), !accessed_dirty);
    }
}

#[test]
fn small_pages_become_clean_and_large_ones_read_only() {
    let format = Ept::new(true);
    let tables = FakeTables::new(&format, 16);
    let space = space(&format, &tables);
    let (mut spare, mut sizes) = (FakeSpare(&tables), Sizes::default());
    let _ = space.map(Gfn::new(9), Level::Page4K, leaf(9, RWX), &mut spare, &mut sizes);
    let _ = space.map(Gfn::new(512), Level::Page2M, leaf(512, RWX), &mut spare, &mut sizes);
    let entry = |gfn| space.find(Gfn::new(gfn)).entry;
    assert!(format.is_dirty(entry(9)));
    let debt = space.clean(Gfn::new(0), Gfn::new(1024));
    assert!(debt.range().is_some_and(|(first, _)| first.raw() <= 9));
    assert_eq!(seen(&space, 9).unwrap().1, RWX);
    assert!(!format.is_dirty(entry(9)));
    assert_eq!(seen(&space, 600).unwrap().1, RWX - Access::WRITE);
    assert_eq!(space.clean(Gfn::new(0), Gfn::new(1024)), FlushDebt::NONE);
    // A fault that finds the page writable leaves it clean.
    let again = space.map(Gfn::new(9), Level::Page4K, leaf(9, RWX), &mut spare, &mut sizes);
    assert_eq!(again, Ok((Mapped::Spurious(Level::Page4K), FlushDebt::NONE)));
    assert!(!format.is_dirty(entry(9)));
}

/// Threads map and zap the same frames. Every leaf that went in comes out once,
/// every table is either reachable or retired once.
#[test]
fn nothing_is_lost_between_threads() {
    let format = Npt::new(48);
    let tables = FakeTables::new(&format, 60_000);
    let space = space(&format, &tables);
    // Tables and leaves in the way of each other: frames around a 1 GiB border.
    let mapped = AtomicI64::new(0);
    let zapped = AtomicI64::new(0);
    let seed = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut random =
                    seed.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..4_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let gfn = BASE + random % FRAMES;
                    if random >> 32 & 15 == 0 {
                        let mut removed = FakeRemoved::new(&tables);
                        let end = gfn + (random >> 40 & 1023);
                        let _ = space.zap(Gfn::new(gfn), Gfn::new(end), &mut removed);
                        zapped.fetch_add(removed.leaves.len() as i64, Ordering::Relaxed);
                    } else {
                        let result = space.map(
                            Gfn::new(gfn),
                            Level::Page4K,
                            leaf(gfn, RWX),
                            &mut FakeSpare(&tables),
                            &mut Sizes::default(),
                        );
                        match result {
                            Ok((Mapped::New(_), _)) => {
                                mapped.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(_) | Err(Failed::Raced) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    let mut removed = FakeRemoved::new(&tables);
    let _ = space.zap_all(&mut removed);
    zapped.fetch_add(removed.leaves.len() as i64, Ordering::Relaxed);
    assert!(mapped.load(Ordering::Relaxed) > 0);
    assert_eq!(mapped.load(Ordering::Relaxed), zapped.load(Ordering::Relaxed));
    assert_eq!(tables.in_use(), 1);
}
