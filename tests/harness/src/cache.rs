// SPDX-License-Identifier: GPL-2.0
//! The cache directory: everything prepared, kept outside the tree.
//!
//! ```text
//! root/                the Debian root everything runs in (and that `amd` sees as its own)
//! src/linux/           kernel source
//! kernel/{stock,z,debug}/   O= directories of that source, fit as KDIR=
//! toolchain/           packages that cannot be installed beside the others, unpacked
//! target/              cargo's, a directory for each checkout
//! build/               module builds
//! stamps/ logs/ run/   what is whole, how it was made, what ran
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache directory.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache at `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Cache {
        Cache { dir: dir.into() }
    }

    /// A path below the cache directory.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.join(below)
    }

    /// The Debian root, as seen from inside itself.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The kernel source.
    pub fn source(&self) -> PathBuf {
        self.path("src/linux")
    }

    /// The `O=` directory of the kernel called `name` (`stock`, `z`, `debug`).
    pub fn kernel(&self, name: &str) -> PathBuf {
        self.path("kernel").join(name)
    }

    /// A directory below the cache, made if missing.
    pub fn dir(&self, below: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path(below);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}
