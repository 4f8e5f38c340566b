// SPDX-License-Identifier: GPL-2.0
//! `ground/MACHINE/power-off`: a machine goes down while guests run. The kernel turns virtualization off
//! under them then, and nothing of that is to be in its log.

use anyhow::{Result, ensure};

use super::cases::Output;
use super::{Job, harness};
use crate::exec::{self, ModuleSet, Request};
use crate::step::Place;
use crate::{build, machine};

const MACHINES: &[&str] = &["amd", "intel"];

/// Ends well if the guests were running a while later still. What they say doesn't go to the command's
/// output, which would be waited for.
const COMMAND: &str =
    "./cases --endless > /tmp/endless 2>&1 & sleep 3; cat /tmp/endless; kill -0 $!";

/// A job for each machine.
pub(super) fn jobs(place: &Place, modules: ModuleSet) -> Vec<Job> {
    let job = |name: &&'static str| {
        let name = *name;
        let test = Box::new(move |place: &Place| power_off(place, name, modules));
        harness::job(place, format!("ground/{name}/power-off"), test)
    };
    MACHINES.iter().map(job).collect()
}

fn power_off(place: &Place, name: &str, modules: ModuleSet) -> Result<()> {
    let mut request = Request::new(machine::by_name(name)?);
    request.modules = modules;
    request.smp = 2;
    request.files = vec![build::program(place, request.machine.arch(), "cases")?];
    request.cmd = Some(COMMAND.into());
    let mut output = Output::default();
    let outcome = exec::run(place, &request, &mut output)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if let Some(trouble) = outcome.trouble {
        anyhow::bail!("{said}{trouble}");
    }
    ensure!(outcome.status == 0 && said == "guests run\n", "{said}status {}", outcome.status);
    Ok(())
}
