// SPDX-License-Identifier: GPL-2.0
//! What a measurement is and how its figure comes about.

use std::arch::x86_64::_rdtsc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use micro::Skip;

/// Samples of each measurement.
pub(crate) const SAMPLES: usize = 40;

/// Whether exits go on forever.
static ENDLESS: AtomicBool = AtomicBool::new(false);

/// Lets the exits of a measurement go on until somebody ends this program.
pub(crate) fn make_endless() {
    ENDLESS.store(true, Ordering::Relaxed);
}

/// Whether they do.
pub(crate) fn is_endless() -> bool {
    ENDLESS.load(Ordering::Relaxed)
}

/// One measurement.
pub(crate) struct Bench {
    /// `group/words`
    pub(crate) name: &'static str,
    /// What one of it is.
    pub(crate) what: &'static str,
    /// Makes it.
    pub(crate) body: fn() -> Result<Figure>,
}

/// What a measurement came to.
pub(crate) struct Figure {
    unit: &'static str,
    least: f64,
    median: f64,
}

impl Figure {
    /// Instructions of one of the `count` times that something was done in each sample.
    pub(crate) fn instructions(samples: Vec<u64>, count: u64) -> Result<Self> {
        Self::new("instructions", samples, count)
    }

    /// The same of anything else than instructions.
    pub(crate) fn new(unit: &'static str, mut samples: Vec<u64>, count: u64) -> Result<Self> {
        samples.sort_unstable();
        ensure!(!samples.is_empty() && count > 0, "no samples");
        let of_one = |index: usize| samples[index] as f64 / count as f64;
        Ok(Self { unit, least: of_one(0), median: of_one(samples.len() / 2) })
    }

    /// With the median for the figure: the least is chance where threads or timers decide how it goes.
    pub(crate) fn typical(mut self) -> Self {
        self.least = self.median;
        self
    }

    /// Without what the same costs with nothing in it.
    pub(crate) fn less(mut self, empty: &Figure) -> Self {
        self.least -= empty.least;
        self.median -= empty.least;
        self
    }
}

/// Measures and prints; whether it could be measured or there is nothing to measure.
pub(crate) fn report(bench: &Bench) -> bool {
    let name = bench.name;
    match (bench.body)() {
        Ok(Figure { unit, least, median }) => {
            println!("measured {name} {unit} {least:.1} {median:.1}");
            true
        }
        Err(error) => {
            let text = format!("{error:#}").replace('\n', " / ");
            let skipped = error.is::<Skip>();
            println!("{} {name} {text}", if skipped { "skipped" } else { "failed" });
            skipped
        }
    }
}

/// The clock.
pub(crate) fn now() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets programs use it.
    unsafe { _rdtsc() }
}

/// Takes samples of `work` by the clock, after one that doesn't count.
pub(crate) fn sample(mut work: impl FnMut() -> Result<()>) -> Result<Vec<u64>> {
    work()?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = now();
        work()?;
        samples.push(now() - start);
    }
    Ok(samples)
}
