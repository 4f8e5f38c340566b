// SPDX-License-Identifier: GPL-2.0
//! What a processor's second-level paging offers.

use crate::level::Level;
use core::fmt;

/// Second-level paging of one processor type, found once when its vendor module
/// loads and never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagingCaps {
    /// Where tables start: [`Level::Table512G`] or [`Level::Table256T`].
    pub root: Level,
    /// Highest level that can map a page: [`Level::Page4K`] to
    /// [`Level::Page1G`].
    pub largest_page: Level,
    /// The processor keeps accessed and dirty bits in the tables.
    pub accessed_dirty: bool,
    /// The processor also notes the address of each page whose dirty bit it sets, where
    /// it can be looked up.
    pub dirty_log: bool,
}

impl fmt::Display for PagingCaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = match self.largest_page {
            Level::Page1G => "1 GiB",
            Level::Page2M => "2 MiB",
            _ => "4 KiB",
        };
        write!(f, "{} levels, pages up to {largest}", self.root.number())?;
        if self.accessed_dirty {
            f.write_str(", accessed/dirty bits")?;
        }
        if self.dirty_log {
            f.write_str(", log of modified pages")?;
        }
        Ok(())
    }
}
