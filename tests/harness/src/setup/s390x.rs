// SPDX-License-Identifier: GPL-2.0
//! What programs for inside the `z` machine need: Rust's standard library for s390x (of the same
//! release as the root's rustc) and a static busybox.
//!
//! The packages come from the mirror's s390x index, in an apt state of its own so that the root stays
//! amd64 only. Where that index cannot be verified (mirrors that filter by architecture exist), known
//! files with known checksums are taken instead.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{packages, replace_dir, unpack_all};
use crate::step::{Place, Step, Work};

/// Known good files: path in the mirror and checksum.
const KNOWN: &[(&str, &str)] = &[
    (
        "pool/main/b/busybox/busybox-static_1.37.0-6+b9_s390x.deb",
        "6e6d4257dd06c7a07aa88f207cc0e8b6d1a2e06f7f118d528af31b2169b51978",
    ),
    (
        "pool/main/r/rustc/libstd-rust-dev_1.85.1+dfsg1-1+deb13u1_s390x.deb",
        "8a00187e108222d651fcc6573132aa03c0cf08fe49636e523af4649daa164266",
    ),
];

/// Makes `toolchain/s390x` and lets the root's rustc find it.
pub(super) fn step() -> Step {
    Step {
        name: "s390x",
        about: "fetching what s390x programs need",
        needs: &["packages"],
        heavy: false,
        recipe,
        run,
    }
}

fn recipe(_place: &Place) -> Result<String> {
    Ok(format!("2 {KNOWN:?}"))
}

fn run(work: &Work<'_>) -> Result<()> {
    let debs = work.place.cache.dir("toolchain/s390x.debs")?;
    if let Err(error) = from_index(work, &debs) {
        work.note("the mirror's s390x index is unusable, taking known files");
        from_pool(work, &debs).with_context(|| format!("and before that: {error:#}"))?;
    }
    let new = work.cache("toolchain/s390x.new");
    let last = work.cache("toolchain/s390x");
    unpack_all(work, &debs, &new)?;
    replace_dir(&new, &last)?;
    link_library(&last)
}

/// Downloads the packages as the index of the mirror has them.
fn from_index(work: &Work<'_>, debs: &Path) -> Result<()> {
    let state = work.place.cache.dir("toolchain/s390x.apt/lists/partial")?;
    let state = state.parent().and_then(Path::parent).context("apt's state")?.to_owned();
    let lines: Vec<String> =
        sources()?.iter().map(|(uri, suite)| format!("deb {uri} {suite} main\n")).collect();
    fs::write(state.join("sources.list"), lines.concat()).context("writing the sources")?;
    let apt = || {
        let mut apt = packages::apt();
        for (option, value) in [
            ("Dir::State::lists", state.join("lists").display().to_string()),
            ("Dir::Etc::sourcelist", state.join("sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("APT::Architecture", "s390x".into()),
            ("APT::Architectures", "s390x".into()),
            ("APT::Sandbox::User", "root".into()),
        ] {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        apt
    };
    work.run(apt().args(["update", "--error-on=any"]))?;
    let library = format!("libstd-rust-dev={}", installed_version("libstd-rust-dev")?);
    work.run(apt().args(["download", "busybox-static", &library]).current_dir(debs))
}

/// Downloads the known files.
fn from_pool(work: &Work<'_>, debs: &Path) -> Result<()> {
    let sources = sources()?;
    let (uri, _) = sources.first().context("the root has no package sources")?;
    let version = installed_version("libstd-rust-dev")?;
    for (path, checksum) in KNOWN {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.starts_with("libstd") && !name.contains(&version) {
            bail!("the root's rustc is {version}, and the known s390x library is {name}");
        }
        let mut helper = Command::new("/usr/lib/apt/apt-helper");
        helper.args(["-o", "APT::Sandbox::User=root", "download-file"]);
        helper.arg(format!("{}/{path}", uri.trim_end_matches('/')));
        helper.arg(debs.join(name)).arg(format!("SHA256:{checksum}"));
        work.run(&mut helper)?;
    }
    Ok(())
}

/// URI and suite of the root's package sources, without backports.
fn sources() -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir("/etc/apt/sources.list.d").context("reading the package sources")? {
        let path = entry.context("reading the package sources")?.path();
        let text = fs::read_to_string(&path).context("reading the package sources")?;
        for line in text.lines() {
            if let ["deb", uri, suite, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
                if !suite.ends_with("-backports") {
                    sources.push((uri.to_owned(), suite.to_owned()));
                }
            }
        }
    }
    Ok(sources)
}

fn installed_version(package: &str) -> Result<String> {
    let out = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
    let out = out.context("running dpkg-query")?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Lets the root's rustc find the library in `dir`.
fn link_library(dir: &Path) -> Result<()> {
    let name = "s390x-unknown-linux-gnu";
    let link = Path::new("/usr/lib/rustlib").join(name);
    if link.is_symlink() {
        fs::remove_file(&link).context("removing the old link to the library")?;
    } else if link.is_dir() {
        fs::remove_dir_all(&link).context("removing the old library")?;
    }
    symlink(dir.join("usr/lib/rustlib").join(name), &link).context("linking the library")
}
