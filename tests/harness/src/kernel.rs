// SPDX-License-Identifier: GPL-2.0
//! The kernels that machines boot and modules are built for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::machine::{Arch, Machine};

/// Which kernel, as the user says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Choice {
    /// Debian's own on x86, a self-built one on s390.
    #[default]
    Stock,
    /// A self-built x86 one with sanitizers and lock checking.
    Debug,
}

impl Choice {
    /// What this kernel needs on its command line, on every machine.
    pub fn cmdline(self) -> &'static str {
        match self {
            Choice::Stock => "",
            // Freed pages are filled with a pattern that is checked before they are used again. A
            // busy host makes it slow, which is no stall.
            Choice::Debug => "page_poison=on rcupdate.rcu_cpu_stall_timeout=300",
        }
    }

    /// How much longer than the usual one it may take to boot.
    pub fn slowness(self) -> u32 {
        match self {
            Choice::Stock => 1,
            Choice::Debug => 4,
        }
    }
}

/// A kernel that was prepared.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `stock`, `z` or `debug`: the name of its directory and, with `-kernel`, of its setup step.
    pub name: &'static str,
    /// The compressed image a boot loader takes.
    pub image: PathBuf,
    /// The same kernel as an ELF file (x86 only).
    pub uncompressed: PathBuf,
    /// Where `modules.dep` lies.
    pub modules: PathBuf,
    /// What goes to `KDIR=`.
    pub build: PathBuf,
}

/// The name of the kernel that `machine` boots for `choice`.
pub fn name(machine: &dyn Machine, choice: Choice) -> Result<&'static str> {
    match (machine.arch(), choice) {
        (Arch::X86, Choice::Stock) => Ok("stock"),
        (Arch::X86, Choice::Debug) => Ok("debug"),
        (Arch::S390, Choice::Stock) => Ok("z"),
        (Arch::S390, Choice::Debug) => bail!("there is no debug kernel for z"),
    }
}

/// The setup step that makes the kernel called `name`.
pub fn step(name: &str) -> &'static str {
    match name {
        "z" => "z-kernel",
        "debug" => "debug-kernel",
        _ => "stock-kernel",
    }
}

/// The kernel called `name`, which must have been prepared.
pub fn find(cache: &Cache, name: &'static str) -> Result<Kernel> {
    let build = cache.kernel(name);
    if name == "stock" {
        let release = stock_release(cache)?;
        let modules = cache.root().join("usr/lib/modules").join(&release);
        return Ok(Kernel {
            name,
            image: modules.join("vmlinuz"),
            uncompressed: build.join("vmlinux"),
            modules,
            build,
        });
    }
    let arch = if name == "z" { "s390" } else { "x86" };
    Ok(Kernel {
        name,
        image: build.join(format!("arch/{arch}/boot/bzImage")),
        uncompressed: build.join("vmlinux"),
        modules: installed_modules(&build.join("install/lib/modules")),
        build,
    })
}

/// The release of Debian's kernel that was installed, as `uname -r` says it.
pub fn stock_release(cache: &Cache) -> Result<String> {
    note(cache, "kernel/stock-release")
}

/// The series of that kernel, `7.3`.
pub fn stock_series(cache: &Cache) -> Result<String> {
    note(cache, "kernel/stock-series")
}

fn note(cache: &Cache, below: &str) -> Result<String> {
    let path = cache.path(below);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The only directory below `dir`, where a self-built kernel installed its modules.
fn installed_modules(dir: &Path) -> PathBuf {
    let first = fs::read_dir(dir).ok().and_then(|mut list| list.next());
    first.and_then(Result::ok).map_or_else(|| dir.to_owned(), |entry| entry.path())
}

impl Kernel {
    /// The files to load for `names`, dependencies first, each once. A name that is built into the
    /// kernel needs no file.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let path = self.modules.join("modules.dep");
        let table =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let builtin = fs::read_to_string(self.modules.join("modules.builtin")).unwrap_or_default();
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let line = table.lines().find(|line| {
                line.split(':').next().is_some_and(|file| module_name(file) == underscored(name))
            });
            let Some((file, needs)) = line.and_then(|line| line.split_once(':')) else {
                if builtin.lines().any(|file| module_name(file) == underscored(name)) {
                    continue;
                }
                bail!("kernel {} has no module {name}", self.name);
            };
            // modules.dep lists what is needed first last.
            for file in needs.split_whitespace().rev().chain([file]) {
                let file = self.modules.join(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The name of the module in `path`: no directory, no suffixes, underscores for dashes.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscored(file.split('.').next().unwrap_or(file))
}

/// The module at `path`, unpacked.
pub fn module_bytes(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let out = Command::new("xz").arg("-dc").arg(path).output().context("running xz")?;
    ensure!(out.status.success(), "cannot unpack {}", path.display());
    Ok(out.stdout)
}

/// The file name of the module at `path`, once it is unpacked.
pub fn module_file(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".xz").to_owned()
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}
