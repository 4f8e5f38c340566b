// SPDX-License-Identifier: GPL-2.0
//! Work that goes on while the host does something to the guest: every processor computes, memory is
//! written and read back, and the clock is watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest_load::Stream;
use proto::Fields;

use crate::commands::{Arguments, State};
use crate::cpu;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(2);

/// Running threads.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    computing: Vec<JoinHandle<Result<u64>>>,
    writing: JoinHandle<Result<u64>>,
    watching: JoinHandle<Result<Duration>>,
}

impl Background {
    /// `start SEED MIB`
    pub(crate) fn start(state: &mut State, words: &mut Arguments<'_>) -> Result<Fields> {
        ensure!(state.background.is_none(), "that was done already");
        let seed: u64 = words.next("seed")?;
        let mib: usize = words.next("number of MiB")?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = || stop.clone();
        let cpus = cpu::online()?.len() as u64;
        let computing = (0..cpus).map(|number| {
            let stop = flag();
            thread::spawn(move || compute(&stop, seed + number))
        });
        let computing = computing.collect();
        let (for_writing, for_watching) = (flag(), flag());
        state.background = Some(Background {
            stop,
            computing,
            writing: thread::spawn(move || write(&for_writing, seed, mib)),
            watching: thread::spawn(move || watch(&for_watching)),
        });
        Ok(Fields::new())
    }

    /// `stop`: ends it and tells how much was done; fails if anything was wrong.
    pub(crate) fn stop(state: &mut State) -> Result<Fields> {
        let work = state.background.take().context("nothing was started")?;
        work.stop.store(true, Ordering::Relaxed);
        let mut rounds = 0;
        for thread in work.computing {
            rounds += join(thread)?;
        }
        let passes = join(work.writing)?;
        let gap = join(work.watching)?;
        Ok(Fields::new()
            .with("rounds", rounds)
            .with("passes", passes)
            .with("longest_gap_us", gap.as_micros()))
    }
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread panicked"),
    }
}

/// The same work again and again must give the same result; how often it did.
fn compute(stop: &AtomicBool, seed: u64) -> Result<u64> {
    let want = guest_load::digest(seed, 1);
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let have = guest_load::digest(seed, 1);
        ensure!(have == want, "round {rounds} with seed {seed}: {have}, not {want}");
        rounds += 1;
    }
    Ok(rounds)
}

/// Writes a word to every page, other words each time, and reads them back; how often.
fn write(stop: &AtomicBool, seed: u64, mib: usize) -> Result<u64> {
    const WORDS: usize = 4096 / 8;
    let mut memory = vec![0_u64; mib * 1024 * 1024 / 8];
    let mut passes = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = Stream::new(seed + passes);
        for page in memory.chunks_exact_mut(WORDS) {
            page[WORDS - 1] = stream.word();
        }
        let mut stream = Stream::new(seed + passes);
        for (number, page) in memory.chunks_exact(WORDS).enumerate() {
            ensure!(page[WORDS - 1] == stream.word(), "page {number} changed in pass {passes}");
        }
        passes += 1;
        thread::sleep(TICK);
    }
    Ok(passes)
}

/// Time must not go back; the longest time between two looks.
fn watch(stop: &AtomicBool) -> Result<Duration> {
    let clock =
        || nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let mut longest = Duration::ZERO;
    let mut before = clock().context("reading the clock")?;
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let now = clock().context("reading the clock")?;
        let at = start.elapsed();
        let step = now
            .checked_sub(before)
            .with_context(|| format!("after {at:?} time went back by {:?}", before - now))?;
        longest = longest.max(step);
        before = now;
    }
    Ok(longest)
}
