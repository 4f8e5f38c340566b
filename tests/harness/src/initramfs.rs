// SPDX-License-Identifier: GPL-2.0
//! The initramfs of a run: PID 1, the job with its files, and on machines that share no root also a
//! small userland.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::NewcBuilder;
use cpio::newc::trailer;

use crate::kernel;

/// File kinds and permissions as a cpio header has them.
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;
const CHAR_DEVICE: u32 = 0o020_600;

/// A cpio archive being written.
pub struct Archive {
    out: BufWriter<File>,
    made: Vec<String>,
    inode: u32,
}

impl Archive {
    /// A new archive with the console's device node, which PID 1's standard streams need.
    pub fn create(path: &Path) -> Result<Archive> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        let mut archive = Archive { out: BufWriter::new(file), made: Vec::new(), inode: 0 };
        archive.parents("/dev/console")?;
        let builder = archive.entry("/dev/console", CHAR_DEVICE);
        archive.write(builder.rdev_major(5).rdev_minor(1), &[])?;
        Ok(archive)
    }

    /// Adds `bytes` as the file `path` with permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.made.push(path.to_owned());
        let builder = self.entry(path, REGULAR | (mode & 0o7777));
        self.write(builder, bytes)
    }

    /// Whether the file `path` was added.
    pub fn has(&self, path: &str) -> bool {
        self.made.iter().any(|made| made == path)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.parents(path)?;
        let builder = self.entry(path, LINK);
        self.write(builder, target.as_bytes())
    }

    /// Adds an empty directory.
    pub fn dir(&mut self, path: &str) -> Result<()> {
        self.parents(&format!("{path}/x"))
    }

    /// Adds the file or directory `from` of this side as `path`, with its permissions.
    pub fn copy(&mut self, from: &Path, path: &str) -> Result<()> {
        let context = || format!("reading {}", from.display());
        let meta = fs::metadata(from).with_context(context)?;
        if meta.is_dir() {
            self.dir(path)?;
            for entry in fs::read_dir(from).with_context(context)? {
                let entry = entry.with_context(context)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                self.copy(&entry.path(), &format!("{path}/{name}"))?;
            }
            return Ok(());
        }
        let bytes = fs::read(from).with_context(context)?;
        self.file(path, meta.permissions().mode(), &bytes)
    }

    /// Adds the kernel module `from`, unpacked, as `path`.
    pub fn module(&mut self, from: &Path, path: &str) -> Result<()> {
        let bytes = kernel::module_bytes(from)?;
        self.file(path, 0o644, &bytes)
    }

    /// Writes the end of the archive.
    pub fn finish(self) -> Result<()> {
        let mut out = trailer(self.out).context("ending the initramfs")?;
        out.flush().context("writing the initramfs")
    }

    /// Adds the directories above `path` that are not there yet.
    fn parents(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/').skip(1) {
            let dir = path[..at].to_owned();
            if !self.made.contains(&dir) {
                let builder = self.entry(&dir, DIRECTORY);
                self.write(builder, &[])?;
                self.made.push(dir);
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32) -> NewcBuilder {
        self.inode += 1;
        NewcBuilder::new(path.trim_start_matches('/')).ino(self.inode).mode(mode).nlink(1)
    }

    fn write(&mut self, builder: NewcBuilder, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len()).context("a file too large for an initramfs")?;
        let mut writer = builder.write(&mut self.out, size);
        writer.write_all(bytes).context("writing the initramfs")?;
        writer.finish().context("writing the initramfs")?;
        Ok(())
    }
}
