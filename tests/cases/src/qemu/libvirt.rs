// SPDX-License-Identifier: GPL-2.0
//! A guest in libvirt's hands.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bare::{Code, DONE, Floppy};
use super::tools::output;

/// The guest has no users to keep apart and no cgroups to be put into: it is in a machine for
/// tests. Compressed, a saved guest comes to QEMU by a pipe: a file, which is the usual of this
/// libvirt, the newer QEMU wants by its name.
const CONFIG: &str = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n\
    cgroup_controllers = []\nnamespaces = []\nremember_owner = 0\n\
    save_image_format = \"gzip\"\n";

const NAME: &str = "ticks";
const CONSOLE: &str = "/tmp/ticks.console";
const SAVED: &str = "/tmp/ticks.saved";
const LIMIT: Duration = Duration::from_secs(120);

fn domain(floppy: &Path) -> String {
    format!(
        "<domain type='kvm'><name>{NAME}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='fd'/></os>\
         <features><acpi/><apic/></features><cpu mode='host-passthrough'/>\
         <devices><disk type='file' device='floppy'><driver name='qemu' type='raw'/>\
         <source file='{}'/><target dev='fda' bus='fdc'/><readonly/></disk>\
         <serial type='file'><source path='{CONSOLE}'/></serial>\
         <memballoon model='none'/></devices></domain>",
        floppy.display()
    )
}

fn virsh(arguments: &[&str]) -> Result<String> {
    output("virsh", &[&["-q", "-c", "qemu:///system"], arguments].concat())
}

/// The domain has to be in this state.
fn expect_state(state: &str) -> Result<()> {
    let now = virsh(&["domstate", NAME])?;
    ensure!(now.trim() == state, "the domain is {} and not {state}", now.trim());
    Ok(())
}

/// The daemons, until this is dropped.
struct Daemons(Vec<Child>);

impl Daemons {
    fn start() -> Result<Self> {
        fs::create_dir_all("/etc/libvirt").context("/etc/libvirt")?;
        fs::write("/etc/libvirt/qemu.conf", CONFIG).context("qemu.conf")?;
        let mut daemons = Self(Vec::new());
        for daemon in ["virtlogd", "libvirtd"] {
            daemons.0.push(Command::new(daemon).spawn().context(daemon)?);
        }
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = virsh(&["version"]) {
            ensure!(Instant::now() < deadline, "libvirtd doesn't answer: {error:#}");
            thread::sleep(Duration::from_millis(200));
        }
        Ok(daemons)
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = virsh(&["destroy", NAME]);
        for daemon in self.0.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// libvirt finds the host fit, and defines, starts, pauses, saves, restores and ends a guest.
pub(crate) fn life() -> Result<()> {
    let daemons = Daemons::start()?;
    // It fails for what a machine for tests lacks (cgroups, an IOMMU); the device isn't among that.
    let report = output("sh", &["-c", "virt-host-validate qemu 2>&1 || true"])?;
    for check in ["hardware virtualization", "'/dev/kvm' exists", "'/dev/kvm' is accessible"] {
        let line = report.lines().find(|line| line.contains(check));
        ensure!(line.is_some_and(|line| line.contains("PASS")), "{check}: {report}");
    }
    let models = virsh(&["domcapabilities", "--virttype", "kvm", "--arch", "x86_64"])?;
    ensure!(models.contains("<mode name='host-passthrough' supported='yes'>"), "{models}");

    let floppy = Floppy::new("ticks.img", Code::Ticks, &[])?;
    let description = "/tmp/ticks.xml";
    fs::write(description, domain(floppy.path())).context("the domain's description")?;
    virsh(&["define", description])?;
    virsh(&["start", NAME])?;
    await_console(DONE)?;
    expect_state("running")?;
    virsh(&["suspend", NAME])?;
    expect_state("paused")?;
    virsh(&["resume", NAME])?;
    expect_state("running")?;
    // Migration to a file, and back.
    virsh(&["save", NAME, SAVED])?;
    expect_state("shut off")?;
    virsh(&["restore", SAVED])?;
    expect_state("running")?;
    // The same in one word, to a place of libvirt's.
    virsh(&["managedsave", NAME])?;
    virsh(&["start", NAME])?;
    expect_state("running")?;
    virsh(&["reset", NAME])?;
    virsh(&["destroy", NAME])?;
    expect_state("shut off")?;
    virsh(&["undefine", NAME])?;
    drop(daemons);
    Ok(())
}

fn await_console(words: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = fs::read(CONSOLE).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains(words) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the guest says only {said:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
