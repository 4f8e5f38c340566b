// SPDX-License-Identifier: GPL-2.0
//! `ground/MACHINE/power-off`: a machine goes down while guests run. The kernel turns virtualization off
//! under them then, and nothing of that is to be in its log.

use anyhow::{Result, ensure};

use super::{Job, Verdict};
use crate::exec::{self, ModuleSet, Request};
use crate::session::{Listener, Sender};
use crate::step::Place;
use crate::{build, machine};

const MACHINES: &[&str] = &["amd", "intel"];

/// Ends well if the guests were running a while later still. What they say doesn't go to the command's
/// output, which would be waited for.
const COMMAND: &str =
    "./cases --endless > /tmp/endless 2>&1 & sleep 3; cat /tmp/endless; kill -0 $!";

/// A job for each machine.
pub(super) fn jobs(place: &Place, modules: ModuleSet) -> Result<Vec<Job>> {
    let job = |name: &&'static str| {
        let (place, name) = (place.clone(), *name);
        Job {
            names: vec![format!("ground/{name}/power-off")],
            work: Box::new(move |_| {
                vec![match power_off(&place, name, modules) {
                    Ok(()) => Verdict::Passed,
                    Err(error) => Verdict::Failed(format!("{error:#}")),
                }]
            }),
        }
    };
    Ok(MACHINES.iter().map(job).collect())
}

fn power_off(place: &Place, name: &str, modules: ModuleSet) -> Result<()> {
    let mut request = Request::new(machine::by_name(name)?);
    request.modules = modules;
    request.smp = 2;
    request.files = vec![build::program(place, request.machine.arch(), "cases")?];
    request.cmd = Some(COMMAND.into());
    let mut said = Said::default();
    let outcome = exec::run(place, &request, &mut said)?;
    let said = String::from_utf8_lossy(&said.0);
    if let Some(trouble) = outcome.trouble {
        anyhow::bail!("{said}{trouble}");
    }
    ensure!(outcome.status == 0 && said == "guests run\n", "{said}status {}", outcome.status);
    Ok(())
}

/// All that the command wrote.
#[derive(Default)]
struct Said(Vec<u8>);

impl Listener for Said {
    fn up(&mut self, _tx: &Sender) {}

    fn stdout(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
}
