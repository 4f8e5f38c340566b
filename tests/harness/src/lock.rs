// SPDX-License-Identifier: GPL-2.0
//! Locks on parts of the cache, so that two commands do not make the same thing at once.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::cache::Cache;

/// A lock, held until dropped (or until the process ends).
pub struct Lock {
    _flock: Flock<File>,
}

impl Lock {
    /// Takes the lock called `name`, and says so if that means waiting.
    pub fn take(cache: &Cache, name: &str) -> Result<Lock> {
        let path = cache.dir("locks")?.join(name);
        let open = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()))
        };
        if let Ok(flock) = Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
            return Ok(Lock { _flock: flock });
        }
        eprintln!("another command holds the cache's '{name}' lock, waiting for it");
        let flock = Flock::lock(open()?, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("locking {}", path.display()))?;
        Ok(Lock { _flock: flock })
    }
}
