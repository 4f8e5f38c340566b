// SPDX-License-Identifier: GPL-2.0
//! What a case is.

use std::fmt;

use anyhow::{Context, Result};

use crate::module;

/// One test case.
pub(crate) struct Case {
    /// `issue/words`; the machine's name is put between them in reports.
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
    /// The test.
    pub(crate) body: fn() -> Result<Outcome>,
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
        Self { name, machines, long: false, smp: 2, own_root: false, karg: None, body }
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

    /// Runs the case between two states without KVM modules.
    pub(crate) fn run(&self) -> Result<Outcome> {
        module::unload_all().context("before the case")?;
        let result = (self.body)();
        let unloaded = module::unload_all().context("after the case");
        let outcome = result?;
        unloaded?;
        Ok(outcome)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.name.split('/').next().unwrap_or(self.name);
        write!(
            f,
            "{} machines={} group={group} long={} smp={}{}",
            self.name,
            self.machines.join(","),
            if self.long { "yes" } else { "no" },
            self.smp,
            if self.own_root { " root=own" } else { "" }
        )?;
        match self.karg {
            Some(karg) => write!(f, " kargs={karg}"),
            None => Ok(()),
        }
    }
}
