// SPDX-License-Identifier: GPL-2.0
//! Counters of VMs and vCPUs, and how userspace reads them (`KVM_GET_STATS_FD`,
//! `Documentation/virt/kvm/api.rst` 4.133).
//!
//! A set of statistics is a structure of [`Cell`]s that [`statistics!`](crate::statistics)
//! declares,
//! with names and kinds for userspace. Counting costs one addition to memory.

use core::{
    ffi::CStr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// One number. Anybody may read it at any time.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to a cell that one thread at a time counts; no locked instruction.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Adds to a cell that several threads count at once.
    #[inline]
    pub fn add_shared(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Subtracts from a cell that several threads count at once.
    #[inline]
    pub fn sub_shared(&self, count: u64) {
        self.0.fetch_sub(count, Relaxed);
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Raises it to `value` if it is less.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }

    /// Its value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Buckets of a [`Histogram`].
const BUCKETS: usize = 32;

/// How often a number was in [2^(n-1), 2^n), for each n; the last bucket takes
/// all larger ones. One thread at a time records.
#[derive(Debug)]
pub struct Histogram([Cell; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Nothing recorded.
    pub const fn new() -> Self {
        Self([const { Cell::new() }; BUCKETS])
    }

    /// Counts a number.
    pub fn record(&self, value: u64) {
        let bucket = u64::BITS.saturating_sub(value.leading_zeros()) as usize;
        if let Some(cell) = self.0.get(bucket).or(self.0.last()) {
            cell.add(1);
        }
    }
}

/// A statistic as the cells that hold it.
pub trait Cells {
    /// Number of cells.
    const COUNT: usize;
    /// The cells.
    fn cells(&self) -> &[Cell];
}

impl Cells for Cell {
    const COUNT: usize = 1;
    fn cells(&self) -> &[Cell] {
        core::slice::from_ref(self)
    }
}

impl Cells for Histogram {
    const COUNT: usize = BUCKETS;
    fn cells(&self) -> &[Cell] {
        &self.0
    }
}

/// What the numbers of a statistic mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows.
    Counter,
    /// What is now.
    Gauge,
    /// The highest value so far.
    Peak,
    /// Whether something is so now.
    Flag,
    /// Time spent, in ns.
    Time,
    /// How often times of a magnitude were seen, in ns.
    TimeHistogram,
}

impl Kind {
    /// The word that describes it in the ABI: type, unit and base.
    pub const fn flags(self) -> u32 {
        const CUMULATIVE: u32 = 0;
        const INSTANT: u32 = 1;
        const PEAK: u32 = 2;
        const LOG_HISTOGRAM: u32 = 4;
        const SECONDS: u32 = 2 << 4;
        const BOOLEAN: u32 = 4 << 4;
        match self {
            Self::Counter => CUMULATIVE,
            Self::Gauge => INSTANT,
            Self::Peak => PEAK,
            Self::Flag => INSTANT | BOOLEAN,
            Self::Time => CUMULATIVE | SECONDS,
            Self::TimeHistogram => LOG_HISTOGRAM | SECONDS,
        }
    }

    /// Power of ten of the unit.
    pub const fn exponent(self) -> i16 {
        match self {
            Self::Time | Self::TimeHistogram => -9,
            _ => 0,
        }
    }

    /// Whether userspace may reset it.
    pub const fn is_resettable(self) -> bool {
        !matches!(self, Self::Gauge | Self::Flag)
    }
}

/// A statistic for userspace.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Its name, at most 47 bytes.
    pub name: &'static CStr,
    /// What it means.
    pub kind: Kind,
    /// Number of values.
    pub size: u16,
}

/// A set of statistics.
pub trait Statistics: Send + Sync + 'static {
    /// What is in it, in order.
    const LIST: &'static [Descriptor];
    /// All zero.
    const ZERO: Self;
    /// Shows the cells of each statistic, in the order of the list.
    fn visit<'a>(&'a self, show: &mut dyn FnMut(&'a [Cell]));
}

/// Declares a set of statistics:
///
/// ```
/// kvm_event::statistics! {
///     /// What happens in a tea house.
///     pub struct TeaHouse {
///         /// Cups that were brought.
///         cups: counter,
///         /// How long guests waited.
///         waiting: time_histogram,
///     }
/// }
/// let house = <TeaHouse as kvm_event::stats::Statistics>::ZERO;
/// house.cups.add(2);
/// assert_eq!(house.cups.get(), 2);
/// ```
///
/// Kinds are `counter`, `gauge`, `peak`, `flag`, `time` and `time_histogram`. The
/// fields' names are what userspace sees.
#[macro_export]
macro_rules! statistics {
    (
        $(#[$doc:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $kind:ident,)*
        }
    ) => {
        $(#[$doc])*
        $visibility struct $name {
            $($(#[$field_doc])* pub $field: $crate::statistics!(@cells $kind),)*
        }

        impl $crate::stats::Statistics for $name {
            const LIST: &'static [$crate::stats::Descriptor] = &[$({
                const NAME: &[u8] = concat!(stringify!($field), "\0").as_bytes();
                assert!(NAME.len() <= $crate::stats::NAME);
                $crate::stats::Descriptor {
                    name: match core::ffi::CStr::from_bytes_with_nul(NAME) {
                        Ok(name) => name,
                        // Nothing that names a field has a zero within.
                        Err(_) => c"",
                    },
                    kind: $crate::statistics!(@kind $kind),
                    size: <$crate::statistics!(@cells $kind) as $crate::stats::Cells>::COUNT as u16,
                }
            },)*];

            #[allow(clippy::declare_interior_mutable_const, reason = "a fresh one each time")]
            const ZERO: Self = Self { $($field: <$crate::statistics!(@cells $kind)>::new(),)* };

            fn visit<'a>(&'a self, _show: &mut dyn FnMut(&'a [$crate::stats::Cell])) {
                $(_show($crate::stats::Cells::cells(&self.$field));)*
            }
        }
    };
    (@cells time_histogram) => { $crate::stats::Histogram };
    (@cells $kind:ident) => { $crate::stats::Cell };
    (@kind counter) => { $crate::stats::Kind::Counter };
    (@kind gauge) => { $crate::stats::Kind::Gauge };
    (@kind peak) => { $crate::stats::Kind::Peak };
    (@kind flag) => { $crate::stats::Kind::Flag };
    (@kind time) => { $crate::stats::Kind::Time };
    (@kind time_histogram) => { $crate::stats::Kind::TimeHistogram };
}

/// Where the parts of a statistics file begin, in bytes: after a head of 24 bytes
/// comes the name, then the descriptors, then the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of statistics.
    pub count: u32,
    /// Offset of the name.
    pub name: u32,
    /// Offset of the descriptors.
    pub descriptors: u32,
    /// Offset of the values.
    pub values: u32,
}

/// Length of the names in a statistics file, the file's own and the statistics'.
pub const NAME: usize = 48;
/// Length of the head.
const HEAD: u32 = 24;
/// Length of a descriptor without its name, and with it.
const DESCRIPTOR: u32 = 16 + NAME as u32;

impl Layout {
    /// The layout for a number of statistics.
    pub const fn new(count: usize) -> Self {
        let count = count as u32;
        let descriptors = HEAD.saturating_add(NAME as u32);
        let values = descriptors.saturating_add(count.saturating_mul(DESCRIPTOR));
        Self { count, name: HEAD, descriptors, values }
    }

    /// The head.
    pub fn head(&self) -> [u8; HEAD as usize] {
        let words = [0, NAME as u32, self.count, self.name, self.descriptors, self.values];
        let mut head = [0; HEAD as usize];
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        head
    }
}

/// A name as the file has it: cut to 47 bytes, filled up with zeroes.
pub fn padded(name: &[u8]) -> [u8; NAME] {
    let mut padded = [0; NAME];
    for (place, byte) in padded.iter_mut().take(NAME.saturating_sub(1)).zip(name) {
        *place = *byte;
    }
    padded
}

impl Descriptor {
    /// The descriptor as the file has it. `offset` is where its values begin, in
    /// bytes from the first one.
    pub fn bytes(&self, offset: u32) -> [u8; DESCRIPTOR as usize] {
        let mut bytes = [0; DESCRIPTOR as usize];
        let mut rest = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            let all = core::mem::take(&mut rest);
            if let Some((place, after)) = all.split_at_mut_checked(part.len()) {
                place.copy_from_slice(part);
                rest = after;
            }
        };
        put(&self.kind.flags().to_ne_bytes());
        put(&self.kind.exponent().to_ne_bytes());
        put(&self.size.to_ne_bytes());
        put(&offset.to_ne_bytes());
        put(&0u32.to_ne_bytes());
        put(&padded(self.name.to_bytes()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    statistics! {
        struct Sample {
            one: counter,
            two: time_histogram,
            three: flag,
        }
    }

    statistics! { struct Empty {} }

    #[test]
    fn cells_in_order() {
        let sample = Sample::ZERO;
        sample.one.add(3);
        sample.three.set(1);
        sample.two.record(0);
        sample.two.record(5);
        sample.two.record(u64::MAX);
        let mut values = Vec::new();
        sample.visit(&mut |cells| values.extend(cells.iter().map(Cell::get)));
        assert_eq!(values.len(), 34);
        assert_eq!((values[0], values[33]), (3, 1));
        assert_eq!((values[1], values[4], values[32]), (1, 1, 1));
        assert_eq!(Sample::LIST.iter().map(|one| one.size).collect::<Vec<_>>(), [1, 32, 1]);
        let names: Vec<_> = Sample::LIST.iter().map(|one| one.name).collect();
        assert_eq!(names, [c"one", c"two", c"three"]);
        assert_eq!(Empty::LIST.len(), 0);
    }

    #[test]
    fn counting() {
        let cell = Cell::new();
        cell.add(u64::MAX);
        cell.add_shared(3);
        cell.sub_shared(1);
        assert_eq!(cell.get(), 1);
        cell.raise(7);
        cell.raise(5);
        assert_eq!(cell.get(), 7);
    }

    #[test]
    fn bytes_of_a_descriptor() {
        let [_, histogram, flag] = Sample::LIST else { panic!() };
        let bytes = histogram.bytes(8);
        assert_eq!(bytes[..4], 0x24u32.to_ne_bytes());
        assert_eq!(bytes[4..6], (-9i16).to_ne_bytes());
        assert_eq!(bytes[6..8], 32u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 8u32.to_ne_bytes());
        assert_eq!(bytes[12..16], [0; 4]);
        assert_eq!(bytes[16..20], *b"two\0");
        assert_eq!(flag.bytes(0)[..4], 0x41u32.to_ne_bytes());
        assert!(!flag.kind.is_resettable() && histogram.kind.is_resettable());
    }

    #[test]
    fn the_layout() {
        let layout = Layout::new(3);
        assert_eq!((layout.name, layout.descriptors, layout.values), (24, 72, 72 + 3 * 64));
        assert_eq!(layout.head()[4..12], [48u32.to_ne_bytes(), 3u32.to_ne_bytes()].concat()[..]);
    }

    #[test]
    fn long_names_end_with_zero() {
        assert_eq!(padded(&[b'x'; 60])[46..], [b'x', 0]);
    }
}
