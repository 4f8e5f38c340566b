// SPDX-License-Identifier: GPL-2.0
//! How long a vCPU may spin before it exits.
//!
//! A guest that spins waits for a lock, and whoever has the lock may be waiting for a
//! CPU. An exit that finds nobody to give the CPU to was for nothing, so each makes the
//! next one rarer; once the vCPU was off its CPU, the window is as it was.

/// The window at first, and how it changes. In what the processor counts: cycles or
/// PAUSEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseWindows {
    /// The window of a vCPU that didn't spin.
    pub first: u32,
    /// What an exit multiplies the window by, or, where `first` isn't larger than this,
    /// adds to it. 0: back to `first`.
    pub grow: u32,
    /// What being off the CPU divides it by, or, as above, takes from it. 0: back to
    /// `first`.
    pub shrink: u32,
    /// What an exit makes of it at most.
    pub max: u32,
}

impl PauseWindows {
    /// The window after an exit.
    pub const fn grown(&self, window: u32) -> u32 {
        if self.grow == 0 {
            return self.first;
        }
        let grown = if self.grow < self.first {
            window.saturating_mul(self.grow)
        } else {
            window.saturating_add(self.grow)
        };
        if grown < self.max {
            grown
        } else {
            self.max
        }
    }

    /// The window after the vCPU was off its CPU.
    pub const fn shrunk(&self, window: u32) -> u32 {
        let shrunk = match window.checked_div(self.shrink) {
            None => self.first,
            Some(part) if self.shrink < self.first => part,
            Some(_) => window.saturating_sub(self.shrink),
        };
        if shrunk > self.first {
            shrunk
        } else {
            self.first
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: PauseWindows = PauseWindows { first: 4096, grow: 2, shrink: 0, max: u32::MAX };

    #[test]
    fn an_exit_doubles_and_a_break_starts_anew() {
        assert_eq!(DEFAULT.grown(4096), 8192);
        assert_eq!(DEFAULT.grown(1 << 31), u32::MAX);
        assert_eq!(DEFAULT.grown(u32::MAX), u32::MAX);
        assert_eq!(DEFAULT.shrunk(1 << 20), 4096);
        assert_eq!(DEFAULT.shrunk(4096), 4096);
    }

    #[test]
    fn small_factors_multiply_and_large_ones_add() {
        let add = PauseWindows { grow: 5000, shrink: 5000, ..DEFAULT };
        assert_eq!(add.grown(4096), 9096);
        assert_eq!(add.shrunk(14096), 9096);
        assert_eq!(add.shrunk(4096), 4096);
        let halve = PauseWindows { shrink: 2, ..DEFAULT };
        assert_eq!(halve.shrunk(32768), 16384);
        assert_eq!(halve.shrunk(5000), 4096);
    }

    #[test]
    fn a_window_can_be_kept() {
        let fixed = PauseWindows { grow: 0, ..DEFAULT };
        assert_eq!(fixed.grown(4096), 4096);
        assert_eq!(PauseWindows { grow: 1, ..DEFAULT }.grown(4096), 4096);
        assert_eq!(PauseWindows { max: 10_000, ..DEFAULT }.grown(8192), 10_000);
    }

    #[test]
    fn no_window_at_all_grows_by_steps() {
        let none = PauseWindows { first: 0, ..DEFAULT };
        assert_eq!(none.grown(0), 2);
        assert_eq!(none.grown(2), 4);
        assert_eq!(none.shrunk(4), 0);
    }
}
