// SPDX-License-Identifier: GPL-2.0
//! What the root's package sources have beside the packages that the root can install: those of another
//! architecture, and source packages.
//!
//! Their lists lie in an apt state of their own, so that the root's stay as they are. Some mirrors have
//! the files and not the lists (or not all the files); then known files with known checksums are taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages;
use crate::step::Work;

/// An apt state of its own.
pub(super) struct Archive {
    dir: PathBuf,
    options: Vec<(&'static str, String)>,
}

/// A known file: its path in a mirror and its SHA-256.
pub(super) type Known = (&'static str, &'static str);

impl Archive {
    /// The lists that lines of `kind` (`deb`, `deb-src`) for the root's sources name, kept in the directory
    /// `name` of the cache.
    pub(super) fn new(work: &Work<'_>, name: &str, kind: &str) -> Result<Self> {
        let lists = work.place.cache.dir(format!("{name}/lists/partial"))?;
        let dir = lists.parent().and_then(Path::parent).context("apt's state")?.to_owned();
        let lines: Vec<String> =
            sources()?.iter().map(|(uri, suite)| format!("{kind} {uri} {suite} main\n")).collect();
        fs::write(dir.join("sources.list"), lines.concat()).context("writing the sources")?;
        Ok(Self { dir, options: Vec::new() })
    }

    /// With another of apt's options.
    pub(super) fn with(mut self, option: &'static str, value: &str) -> Self {
        self.options.push((option, value.to_owned()));
        self
    }

    /// apt-get on these lists.
    pub(super) fn apt(&self) -> Command {
        let mut apt = packages::apt();
        for (option, value) in [
            ("Dir::State::lists", self.dir.join("lists").display().to_string()),
            ("Dir::Etc::sourcelist", self.dir.join("sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            // apt downloads as an unprivileged user where that user may write; here only root may.
            ("APT::Sandbox::User", "root".into()),
        ] {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        for (option, value) in &self.options {
            apt.arg("-o").arg(format!("{option}={value}"));
        }
        apt
    }
}

/// Downloads known files to the directory `to`.
pub(super) fn from_pool(work: &Work<'_>, known: &[(&str, &str)], to: &Path) -> Result<()> {
    let sources = sources()?;
    let (uri, _) = sources.first().context("the root has no package sources")?;
    for (path, checksum) in known {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut helper = Command::new("/usr/lib/apt/apt-helper");
        helper.args(["-o", "APT::Sandbox::User=root", "download-file"]);
        helper.arg(format!("{}/{path}", uri.trim_end_matches('/')));
        helper.arg(to.join(name)).arg(format!("SHA256:{checksum}"));
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
    if sources.is_empty() {
        bail!("the root has no package sources");
    }
    Ok(sources)
}
