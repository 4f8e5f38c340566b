// SPDX-License-Identifier: GPL-2.0
//! Runs jobs beside each other, a few at a time, and lets tests wait for their verdicts.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::{Verdict, Verdicts, Work};

/// Jobs at a time: an emulated machine keeps about one processor busy.
const AT_ONCE: usize = 2;

/// Jobs that wait for their turn.
#[derive(Default)]
pub(super) struct Pool {
    queue: VecDeque<(Vec<String>, Work, Results)>,
}

/// The verdicts of a job, sooner or later.
#[derive(Clone, Default)]
pub(super) struct Results {
    shared: Arc<(Mutex<Option<Verdicts>>, Condvar)>,
}

impl Pool {
    /// Adds a job that gives verdicts for `names`.
    pub(super) fn add(&mut self, names: Vec<String>, work: Work) -> Results {
        let results = Results::default();
        self.queue.push_back((names, work, results.clone()));
        results
    }

    /// Starts the work.
    pub(super) fn start(self) {
        let queue = Arc::new(Mutex::new(self.queue));
        for _ in 0..AT_ONCE {
            let queue = queue.clone();
            thread::spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((names, work, results)) = next else { break };
                    results.set(work(&names));
                }
            });
        }
    }
}

impl Results {
    fn set(&self, verdicts: Verdicts) {
        let (lock, changed) = &*self.shared;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdicts);
        changed.notify_all();
    }

    /// The verdict number `index`; waits until there is one.
    pub(super) fn get(&self, index: usize) -> Verdict {
        let (lock, changed) = &*self.shared;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(verdicts) = &*guard {
                let missing = || Verdict::Failed("the job gave no verdict".into());
                return verdicts.get(index).cloned().unwrap_or_else(missing);
            }
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
