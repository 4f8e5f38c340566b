// SPDX-License-Identifier: GPL-2.0
//! What a case is.

use std::fmt;

use anyhow::{Context, Result, bail};

#[cfg(target_arch = "x86_64")]
use crate::capability;
use crate::module;
pub(crate) use micro::Skip;

/// One test case.
pub(crate) struct Case {
    /// `issue/words`, and the machine's name is put between them in reports; or `words`, and it is put in
    /// front.
    pub(crate) name: &'static str,
    /// Machines it makes sense on.
    pub(crate) machines: &'static [&'static str],
    /// Takes longer than CI has.
    pub(crate) long: bool,
    /// Processors it needs.
    pub(crate) smp: u32,
    /// The root file system must not come from the host: it may go away for a while.
    pub(crate) own_root: bool,
    /// A word for the kernel's command line.
    pub(crate) karg: Option<&'static str>,
    /// It starts VMMs.
    pub(crate) vmm: Option<Vmm>,
    /// Makes sense on the debug kernel as well.
    pub(crate) debug: bool,
    /// The test.
    pub(crate) body: Body,
}

/// What a case that starts VMMs wants.
#[derive(Clone, Copy)]
pub(crate) struct Vmm {
    /// Cases of one group may share a boot.
    pub(crate) group: &'static str,
    /// Memory of the machine, in MiB.
    pub(crate) mem_mib: u32,
    /// A setup step that installs what it needs beside QEMU.
    pub(crate) step: Option<&'static str>,
}

/// What a case does, and with what.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// Starts and ends without KVM modules: it loads them itself.
    Unloaded(fn() -> Result<Outcome>),
    /// Uses modules that are loaded.
    Loaded(fn() -> Result<()>),
}

/// How a case ended that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It held.
    Passed,
    /// This machine can't show it, for this reason.
    Skipped(String),
}

impl Case {
    /// A case of two processors that is quick enough for CI.
    pub(crate) const fn new(
        name: &'static str,
        machines: &'static [&'static str],
        body: fn() -> Result<Outcome>,
    ) -> Self {
        Self::with_body(name, machines, Body::Unloaded(body))
    }

    /// A case that runs guests, on both x86 machines.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn guest(name: &'static str, body: fn() -> Result<()>) -> Self {
        Self::loaded(name, &["amd", "intel"], body)
    }

    /// A case that starts VMMs, which need files of guests and modules that can run them.
    pub(crate) const fn vmm(
        name: &'static str,
        machines: &'static [&'static str],
        vmm: Vmm,
        body: fn() -> Result<()>,
    ) -> Self {
        let mut case = Self::loaded(name, machines, body);
        case.vmm = Some(vmm);
        case
    }

    /// A case that uses modules that are loaded, whosever they are.
    pub(crate) const fn loaded(
        name: &'static str,
        machines: &'static [&'static str],
        body: fn() -> Result<()>,
    ) -> Self {
        Self::with_body(name, machines, Body::Loaded(body))
    }

    const fn with_body(name: &'static str, machines: &'static [&'static str], body: Body) -> Self {
        Self {
            name,
            machines,
            long: false,
            smp: 2,
            own_root: false,
            karg: None,
            vmm: None,
            debug: true,
            body,
        }
    }

    /// The same case, but not in CI.
    pub(crate) const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    /// The same case, but not on the debug kernel: it is about time, of which that takes as much as it
    /// likes.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "no such case there"))]
    pub(crate) const fn timed(mut self) -> Self {
        self.debug = false;
        self
    }

    /// The same case in a root file system of the machine's own.
    pub(crate) const fn in_own_root(mut self) -> Self {
        self.own_root = true;
        self
    }

    /// The same case in a boot with `karg` on the kernel's command line, on one processor.
    pub(crate) const fn with_karg(mut self, karg: &'static str) -> Self {
        self.karg = Some(karg);
        self.smp = 1;
        self
    }

    /// Runs the case. Modules that are `loaded` already stay as they are.
    pub(crate) fn run(&self, loaded: bool) -> Result<Outcome> {
        match self.body {
            Body::Unloaded(_) if loaded => bail!("this case loads the project's modules itself"),
            Body::Unloaded(body) => {
                module::unload_all().context("before the case")?;
                let result = body();
                let unloaded = module::unload_all().context("after the case");
                let outcome = result?;
                unloaded?;
                Ok(outcome)
            }
            Body::Loaded(body) => {
                if !loaded && !module::is_loaded(module::CORE) {
                    module::load_all().context("before the case")?;
                }
                if let Some(obstacle) = self.obstacle()? {
                    return Ok(Outcome::Skipped(obstacle));
                }
                let result = body().map_err(|error| error.downcast::<Skip>());
                let unused = module::wait_unused();
                match result {
                    Err(Ok(Skip(reason))) => Ok(Outcome::Skipped(reason)),
                    Err(Err(error)) => Err(error),
                    Ok(()) => unused.map(|()| Outcome::Passed),
                }
            }
        }
    }

    /// Why the case can't be run on the modules that are loaded.
    #[cfg(target_arch = "x86_64")]
    fn obstacle(&self) -> Result<Option<String>> {
        if self.vmm.is_some() { capability::vmm_obstacle() } else { Ok(None) }
    }

    /// The VMM is the cases' own, and asks itself.
    #[cfg(not(target_arch = "x86_64"))]
    fn obstacle(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Cases of equal groups, machines and boots may share a boot: those before the first `/` of the
    /// name, or for guests before the second `-`.
    fn group(&self) -> &str {
        if let Some(vmm) = &self.vmm {
            return vmm.group;
        }
        match self.body {
            Body::Unloaded(_) => self.name.split('/').next().unwrap_or(self.name),
            Body::Loaded(_) => {
                let end = self.name.match_indices('-').nth(1).map_or(self.name.len(), |(at, _)| at);
                self.name.get(..end).unwrap_or(self.name)
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group();
        write!(
            f,
            "{} machines={} group={group} long={} debug={} smp={}{}",
            self.name,
            self.machines.join(","),
            if self.long { "yes" } else { "no" },
            if self.debug { "yes" } else { "no" },
            self.smp,
            if self.own_root { " root=own" } else { "" }
        )?;
        if let Some(vmm) = &self.vmm {
            write!(f, " guests=yes mem={}", vmm.mem_mib)?;
            if let Some(step) = vmm.step {
                write!(f, " steps={step}")?;
            }
        }
        match self.karg {
            Some(karg) => write!(f, " kargs={karg}"),
            None => Ok(()),
        }
    }
}

/// Fails the case unless two values are equal, and shows both.
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        check_eq!($left, $right, "{}", stringify!($left))
    };
    ($left:expr, $right:expr, $($what:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if *left != *right {
            anyhow::bail!("{}: {left:x?} instead of {right:x?}", format_args!($($what)+));
        }
    }};
}

pub(crate) use check_eq;
