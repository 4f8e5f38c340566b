// SPDX-License-Identifier: GPL-2.0
//! A whole Debian as guest, with systemd, as its installer would leave it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::checks::NIC;
use super::linux::asset;
use super::vmm::{END, Options, Vmm};

/// How long it may take to the login prompt.
const BOOT: Duration = Duration::from_secs(1200);

/// How long a command may take.
const ANSWER: Duration = Duration::from_secs(300);

/// What stands before and after what a command prints. Their own echo looks different.
const MARK: &str = "@answer@";

/// Boots to the login prompt, logs in, looks around, and powers off.
pub(crate) fn debian() -> Result<()> {
    let image = asset("GUEST_DEBIAN")?;
    let mut options = Options::default()
        .with(&format!("-kernel {} -initrd {image}.initrd", asset("GUEST_KERNEL")?))
        .with(&format!("-drive if=virtio,format=raw,snapshot=on,file={image} {NIC}"))
        .with_word("-append")
        .with_word("root=/dev/vda console=ttyS0");
    options.memory = "1G".into();
    let mut vmm = Vmm::start(&options)?;
    session(&mut vmm).map_err(|error| vmm.explain(error))
}

fn session(vmm: &mut Vmm) -> Result<()> {
    vmm.console.expect_prompt("login:", BOOT)?;
    vmm.console.type_line("root")?;
    vmm.console.expect_prompt("Password:", ANSWER)?;
    vmm.console.type_line("debian")?;
    vmm.console.expect_prompt("#", ANSWER)?;
    let state = ask(vmm, "systemctl is-system-running --wait")?;
    ensure!(state == "running", "systemd says '{state}': {}", ask(vmm, "systemctl --failed")?);
    let kind = ask(vmm, "systemd-detect-virt")?;
    ensure!(kind == "kvm", "systemd sees '{kind}'");
    let cpus = ask(vmm, "nproc")?;
    ensure!(cpus == "2", "{cpus} processors");
    let addresses = ask(vmm, "ip -brief address show up")?;
    ensure!(addresses.contains("10.0.2.15"), "the network has '{addresses}'");
    let sum = ask(vmm, "seq 100000 | sha256sum")?;
    let want = "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f";
    ensure!(sum.starts_with(want), "a checksum is {sum}");
    vmm.console.type_line("poweroff")?;
    vmm.wait(ANSWER + END).context("powering off")
}

/// What a shell command prints, on one line.
fn ask(vmm: &mut Vmm, command: &str) -> Result<String> {
    vmm.console.type_line(&format!("echo \"{MARK:.7}\"\"@$({command} 2>&1 | tr '\\n' ' ')\""))?;
    let line = vmm.console.expect(MARK, ANSWER)?;
    let (_, answer) = line.split_once(MARK).unwrap_or_default();
    Ok(answer.trim().to_owned())
}
