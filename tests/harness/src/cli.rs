// SPDX-License-Identifier: GPL-2.0
//! The command line. Every option can also come from the environment, where `make` puts it: a command
//! then survives whatever quotes it has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use proto::Root;

use crate::exec::{ModuleSet, Request};
use crate::kernel::Choice;
use crate::machine;

/// Prepares, boots, drives and tests the emulated machines.
#[derive(Parser)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Run the main job in a machine.
    Run(MachineArgs),
    /// An interactive root shell in a machine.
    Shell(MachineArgs),
    /// Run a command in a machine.
    Exec {
        #[command(flatten)]
        machine: MachineArgs,
        /// The command, for the machine's shell.
        #[arg(long, env = "KVM_CMD")]
        cmd: String,
        /// Files to put into the working directory, separated by blanks.
        #[arg(long, env = "KVM_FILES", default_value = "")]
        files: String,
        /// Seconds the command may take.
        #[arg(long, env = "KVM_TIMEOUT", default_value_t = 600)]
        timeout: u64,
    },
    /// Run the tests.
    Test {
        /// Part of the names of the tests to run, or `list`.
        #[arg(env = "KVM_T", default_value = "")]
        pattern: String,
        /// Also the slow ones and those on the debug kernel.
        #[arg(long)]
        long: bool,
        /// Which modules the tests inside the machines are for: the kernel's own make them a baseline.
        #[arg(long, env = "KVM_MODULES", default_value = "rust")]
        modules: ModuleSet,
    },
    /// Run the kernel's own tests of KVM.
    Kselftest(KselftestArgs),
    /// Measure what exits, faults and VMs cost.
    Bench(BenchArgs),
    /// Show which functions the instructions of an exit are executed in.
    Profile(BenchArgs),
    /// Look for mistakes with random input.
    Fuzz(FuzzArgs),
    /// Make what machines and tests need, ahead of time.
    Prepare {
        /// Only these setup steps and what they need, separated by commas.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Everything about the sources that needs no machine.
    Check,
    /// Build the documentation.
    Doc,
    /// Lines of each vendor beside those that are common.
    Stats,
    /// Remove what was built, and all that was prepared with `--all`.
    Clean {
        /// Also kernels and toolchains.
        #[arg(long)]
        all: bool,
    },
}

/// Which of the kernel's tests to run, and on what.
#[derive(Args)]
pub struct KselftestArgs {
    /// Words of which the names have one, or `list`.
    #[arg(env = "KVM_T", default_value = "")]
    pub pattern: String,
    /// The machine.
    #[arg(long, short, env = "KVM_M", default_value = "amd")]
    pub machine: String,
    /// rust, c, or both to compare them.
    #[arg(long, env = "KVM_MODULES", default_value = "rust")]
    pub modules: String,
}

/// What to measure, and on what.
#[derive(Args)]
pub struct BenchArgs {
    /// Parts of the names, separated by blanks.
    #[arg(env = "KVM_B", default_value = "")]
    pub pattern: String,
    /// The machine.
    #[arg(long, short, env = "KVM_M", default_value = "amd")]
    pub machine: String,
    /// rust, c, or both to compare them.
    #[arg(long, env = "KVM_MODULES", default_value = "both")]
    pub modules: String,
}

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct FuzzArgs {
    /// What gets random input.
    #[arg(env = "KVM_F", default_value = "ioctl")]
    pub target: FuzzTarget,
    /// How long, in seconds.
    #[arg(long, env = "KVM_S", default_value_t = 600)]
    pub seconds: u64,
    /// The first seed.
    #[arg(long, env = "KVM_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Threads that work at once; with one, a seed does the same each time.
    #[arg(long, env = "KVM_THREADS", default_value_t = 4)]
    pub threads: u32,
    /// How many seeds at most.
    #[arg(long, env = "KVM_SEEDS")]
    pub seeds: Option<u64>,
    /// Which kernel.
    #[arg(long, env = "KVM_KERNEL", default_value = "debug")]
    pub kernel: Choice,
    /// Which modules to load first.
    #[arg(long, env = "KVM_MODULES", default_value = "rust")]
    pub modules: ModuleSet,
}

/// What can be fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FuzzTarget {
    /// /dev/kvm, in machine amd.
    Ioctl,
    /// The instruction emulator, here.
    Emulate,
}

/// What a run needs to know of its machine.
#[derive(Args)]
pub struct MachineArgs {
    /// amd, intel or z.
    #[arg(long, short, env = "KVM_M", default_value = "amd")]
    pub machine: String,
    /// Which modules to load first.
    #[arg(long, env = "KVM_MODULES", default_value = "rust")]
    pub modules: ModuleSet,
    /// Which kernel.
    #[arg(long, env = "KVM_KERNEL", default_value = "stock")]
    pub kernel: Choice,
    /// Count virtual time in instructions: what is measured inside is exact and repeatable.
    #[arg(long, env = "KVM_ICOUNT", value_parser = flag, num_args = 0..=1, default_value = "0", default_missing_value = "1")]
    pub icount: bool,
    /// A root in memory in place of the one that `amd` shares, which does not live through suspend.
    #[arg(long)]
    pub own_root: bool,
    /// More words for the kernel's command line.
    #[arg(long, env = "KVM_KARGS", default_value = "", allow_hyphen_values = true)]
    pub kargs: String,
    /// Processors: 1, or for the main job 2, if not given.
    #[arg(long, env = "KVM_SMP", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: Option<u32>,
    /// Memory, in MiB or with a suffix M or G.
    #[arg(long, env = "KVM_MEM", value_parser = mebibytes)]
    pub mem: Option<u32>,
}

impl MachineArgs {
    /// The request these stand for, as far as they say.
    pub fn request(&self) -> Result<Request> {
        let mut request = Request::new(machine::by_name(&self.machine)?);
        request.modules = self.modules;
        request.kernel = self.kernel;
        request.icount = self.icount;
        request.smp = self.smp.unwrap_or(1);
        request.own_root = self.own_root;
        request.kargs.clone_from(&self.kargs);
        request.mem_mib = self.mem;
        Ok(request)
    }
}

impl Verb {
    /// The request of `run`, whose command is not set yet.
    pub fn main_job(machine: &MachineArgs) -> Result<Request> {
        let mut request = machine.request()?;
        // Guests on amd, where the root is shared and has QEMU.
        if let Root::Shared(_) = request.machine.root() {
            request.guests = true;
            request.smp = machine.smp.unwrap_or(2);
            request.mem_mib = machine.mem.or(Some(MAIN_JOB_MIB));
        }
        Ok(request)
    }

    /// The request of `exec`.
    pub fn exec(machine: &MachineArgs, cmd: &str, files: &str, timeout: u64) -> Result<Request> {
        let mut request = machine.request()?;
        request.cmd = Some(cmd.to_owned());
        request.timeout = Duration::from_secs(timeout);
        for file in files.split_whitespace() {
            request.files.push(host_path(file)?);
        }
        Ok(request)
    }
}

/// Memory of a machine with a guest in it.
const MAIN_JOB_MIB: u32 = 2048;

/// Where a path that the user wrote on the host lies inside the root.
fn host_path(path: &str) -> Result<PathBuf> {
    let base = std::env::var_os("KVM_CWD").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let path = base.join(path);
    let inside = PathBuf::from("/host").join(path.strip_prefix("/").unwrap_or(&path));
    std::fs::metadata(&inside).with_context(|| format!("file {}", path.display()))?;
    Ok(inside)
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "" | "0" | "n" | "no" => Ok(false),
        "1" | "y" | "yes" => Ok(true),
        _ => Err("say 0 or 1".into()),
    }
}

fn mebibytes(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.trim_end_matches(['B', 'b', 'i']) {
        t if t.ends_with(['G', 'g']) => (&t[..t.len() - 1], 1024),
        t if t.ends_with(['M', 'm']) => (&t[..t.len() - 1], 1),
        t => (t, 1),
    };
    let number: u32 = digits.parse().map_err(|_| "not an amount of memory".to_owned())?;
    number.checked_mul(unit).filter(|n| *n > 0).ok_or_else(|| "not an amount of memory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::mebibytes;

    #[test]
    fn memory_sizes() {
        assert_eq!(mebibytes("512"), Ok(512));
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert_eq!(mebibytes("768M"), Ok(768));
        assert_eq!(mebibytes("1GiB"), Ok(1024));
        assert!(mebibytes("many").is_err());
        assert!(mebibytes("0").is_err());
    }
}
