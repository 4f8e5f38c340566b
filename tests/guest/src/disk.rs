// SPDX-License-Identifier: GPL-2.0
//! A file system on the first virtio disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest_load::Stream;
use nix::mount::{MsFlags, mount, umount};
use proto::Fields;

use crate::commands::Arguments;

const DEVICE: &str = "/dev/vda";
const MOUNT: &str = "/disk";

/// How long the device may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Files that share the bytes.
const FILES: u64 = 8;

/// `disk-write SEED KIB`: writes files, syncs, and leaves the file system mounted: a reboot has to find
/// everything all the same.
pub(crate) fn write(words: &mut Arguments<'_>) -> Result<Fields> {
    let (seed, kib) = arguments(words)?;
    mounted()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    for number in 0..FILES {
        let path = path(number);
        let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        let mut stream = Stream::new(seed + number);
        let mut left = kib * 1024 / FILES;
        while left > 0 {
            let count = buffer.len().min(usize::try_from(left)?);
            stream.fill(&mut buffer[..count]);
            file.write_all(&buffer[..count]).context("writing")?;
            left -= count as u64;
            total += count;
        }
        if number % 2 == 0 {
            file.sync_all().context("syncing a file")?;
        }
    }
    nix::unistd::sync();
    Ok(Fields::new().with("bytes", total))
}

/// `disk-read SEED KIB`: compares what `disk-write` left, removes it, and unmounts.
pub(crate) fn read(words: &mut Arguments<'_>) -> Result<Fields> {
    let (seed, kib) = arguments(words)?;
    mounted()?;
    // What is still in memory proves nothing.
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    let mut total = 0;
    for number in 0..FILES {
        let path = path(number);
        let mut have = Vec::new();
        let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        file.read_to_end(&mut have).context("reading")?;
        let mut want = vec![0; usize::try_from(kib * 1024 / FILES)?];
        Stream::new(seed + number).fill(&mut want);
        ensure!(have.len() == want.len(), "{}: {} bytes", path.display(), have.len());
        if let Some(at) = (0..have.len()).find(|at| have[*at] != want[*at]) {
            bail!("{}: byte {at} is {:#x}, not {:#x}", path.display(), have[at], want[at]);
        }
        total += have.len();
        fs::remove_file(&path).context("removing a file")?;
    }
    umount(MOUNT).context("unmounting")?;
    Ok(Fields::new().with("bytes", total))
}

fn arguments(words: &mut Arguments<'_>) -> Result<(u64, u64)> {
    Ok((words.next("seed")?, words.next("number of KiB")?))
}

fn path(number: u64) -> PathBuf {
    Path::new(MOUNT).join(format!("file{number}"))
}

/// Mounts the file system unless that was done.
fn mounted() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
    if mounts.lines().any(|line| line.starts_with(DEVICE)) {
        return Ok(());
    }
    let start = Instant::now();
    while !Path::new(DEVICE).exists() {
        ensure!(start.elapsed() < PATIENCE, "there is no {DEVICE}");
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::create_dir_all(MOUNT).context("making the mount point")?;
    mount(Some(DEVICE), MOUNT, Some("ext4"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {DEVICE}"))
}
