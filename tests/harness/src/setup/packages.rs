// SPDX-License-Identifier: GPL-2.0
//! Fills the Debian root with packages, among them the newest stock kernel of the wanted series.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{Place, Step, Work};

/// The kernel series the project is written for.
const SERIES: &str = "7.3";

/// From the release itself.
const PACKAGES: &[&str] = &[
    // Building kernels and modules.
    "make",
    "gcc",
    "libc6-dev",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "cpio",
    "kmod",
    "rsync",
    "xz-utils",
    "zstd",
    "pahole",
    "bindgen",
    "python3-minimal",
    "gcc-14-x86-64-linux-gnu",
    "rustc",
    "rust-src",
    "rust-clippy",
    "rustfmt",
    "cargo",
    // s390x.
    "gcc-s390x-linux-gnu",
    "libc6-dev-s390x-cross",
    "hercules",
    // The intel machine.
    "bochs",
    "bochs-term",
    "bochsbios",
    "vgabios",
    "grub-common",
    "grub-pc-bin",
    "xorriso",
    "mtools",
    // Inside the machines.
    "busybox-static",
];

/// From backports, apart from the kernel.
const BACKPORTS: &[&str] = &["qemu-system-x86"];

/// Names the root's packages.
pub(super) fn step() -> Step {
    Step {
        name: "packages",
        about: "installing packages in the Debian root",
        needs: &[],
        heavy: true,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("1 {SERIES} {PACKAGES:?} {BACKPORTS:?}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    work.run(apt().arg("update"))?;
    let kernel = newest_kernel()?;
    if kernel.series != SERIES {
        eprintln!("packages: the archive has no kernel {SERIES} any more, using {}", kernel.series);
    }
    eprintln!("packages: the stock kernel is {}", kernel.release);
    work.run(apt().args(["install", "-y", "--no-install-recommends"]).args(PACKAGES))?;
    work.run(
        apt()
            .args(["install", "-y", "--no-install-recommends", "-t", "trixie-backports"])
            .args(BACKPORTS)
            .args(&kernel.packages),
    )?;
    work.run(apt().arg("clean"))?;
    let dir = work.place.cache.dir("kernel")?;
    fs::write(dir.join("stock-release"), &kernel.release).context("noting the kernel release")?;
    fs::write(dir.join("stock-series"), &kernel.series).context("noting the kernel series")
}

/// apt-get that asks nothing and gives a slow mirror a second chance.
pub(super) fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // No boot loader will ever want an initrd from here.
        .env("INITRD", "No")
        .args(["-q", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]);
    command
}

/// A kernel that the archive has.
#[derive(Debug, PartialEq, Eq)]
struct Kernel {
    /// As `uname -r` says it.
    release: String,
    /// `7.3`.
    series: String,
    packages: Vec<String>,
}

fn newest_kernel() -> Result<Kernel> {
    let out = Command::new("apt-cache")
        .args(["pkgnames", "linux-"])
        .output()
        .context("running apt-cache")?;
    choose(&String::from_utf8_lossy(&out.stdout))
}

/// The newest kernel of the wanted series in the package list `names`, or else of the newest series
/// that also has its source there.
fn choose(names: &str) -> Result<Kernel> {
    let has = |name: &str| names.lines().any(|line| line == name);
    let newest = names
        .lines()
        .filter_map(|name| {
            let rest =
                name.strip_prefix("linux-binary-").or_else(|| name.strip_prefix("linux-image-"))?;
            let release = rest.strip_suffix("-amd64")?;
            let (version, flavour) = release.split_once('+')?;
            if flavour.contains('-') || !has(&format!("linux-source-{}", series(version)?)) {
                return None;
            }
            let numbers: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
            Some((series(version)? == SERIES, numbers, name, rest))
        })
        .max();
    let Some((_, numbers, binary, release)) = newest else {
        bail!(
            "the package lists have no Debian kernel with source: is trixie-backports among the sources?"
        );
    };
    let series = numbers.iter().take(2).map(u32::to_string).collect::<Vec<_>>().join(".");
    let mut packages = vec![
        binary.to_owned(),
        format!("linux-headers-{release}"),
        format!("linux-source-{series}"),
    ];
    let modules = format!("linux-modules-{release}");
    if has(&modules) {
        packages.push(modules);
    }
    Ok(Kernel { release: release.to_owned(), series, packages })
}

fn series(version: &str) -> Option<String> {
    let mut numbers = version.split('.');
    Some(format!("{}.{}", numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::choose;

    const OLD: &str =
        "linux-source-7.2\nlinux-binary-7.2.11+deb13-amd64\nlinux-binary-7.2.9+deb13-amd64\n";

    #[test]
    fn takes_the_newest_of_the_wanted_series() {
        let names = format!(
            "{OLD}linux-source-7.3\nlinux-binary-7.3.4+deb13-amd64\nlinux-binary-7.3.10+deb13-amd64\n\
             linux-modules-7.3.10+deb13-amd64\nlinux-binary-7.3.11+deb13-rt-amd64\n\
             linux-source-7.4\nlinux-binary-7.4.1+deb13-amd64\nlinux-binary-unsigned-7.3.12+deb13-amd64\n"
        );
        let kernel = choose(&names).unwrap();
        assert_eq!(kernel.release, "7.3.10+deb13-amd64");
        assert_eq!(kernel.series, "7.3");
        assert!(kernel.packages.contains(&"linux-modules-7.3.10+deb13-amd64".to_owned()));
        assert!(kernel.packages.contains(&"linux-source-7.3".to_owned()));
    }

    #[test]
    fn takes_the_newest_series_when_the_wanted_one_is_gone() {
        let names = format!(
            "{OLD}linux-source-7.4\nlinux-image-7.4.1+deb13-amd64\nlinux-image-7.5.1+deb13-amd64\n"
        );
        assert_eq!(choose(&names).unwrap().series, "7.4");
    }

    #[test]
    fn says_when_there_is_none() {
        assert!(choose("linux-libc-dev\n").is_err());
    }
}
