// SPDX-License-Identifier: GPL-2.0
//! Guests that go wrong: how it ends is documented, and the machine's kernel has nothing to say about it.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use guest_load::Stream;

use super::bare::{Code, Floppy, UP};
use super::linux::{Image, Linux, options};
use super::vmm::{END, Vmm};

/// How long a boot sector may take to say that it is up.
const UP_LIMIT: Duration = Duration::from_secs(120);

/// Three faults in a row are a reset, for a boot sector and for a kernel that resets that way.
pub(crate) fn triple_fault() -> Result<()> {
    let floppy = Floppy::new("triple.img", Code::TripleFault, &[])?;
    let mut vmm = Vmm::start(&floppy.options().with("-no-reboot"))?;
    vmm.console.expect(UP, UP_LIMIT)?;
    expect_reset(&mut vmm)?;

    // QEMU's answer to a reset is to start over.
    let mut vmm = Vmm::start(&floppy.options())?;
    for _ in 0..3 {
        vmm.console.expect(UP, UP_LIMIT)?;
    }
    vmm.quit()?;

    let options = options(Image::Elf, "quiet reboot=triple,force")?.with("-no-reboot");
    let mut guest = Linux::boot(&options)?;
    guest.begin("reboot")?;
    expect_reset(&mut guest.vmm)?;
    Ok(())
}

fn expect_reset(vmm: &mut Vmm) -> Result<()> {
    let data = vmm.qmp.event("SHUTDOWN", END)?;
    ensure!(data.field("reason").text() == "guest-reset", "the guest ended by {data}");
    vmm.wait(END)
}

/// A jump to where nothing is can't be emulated: QEMU says so with the registers, and the guest stays stopped.
/// A jump to noise ends somehow, and the next guest runs all the same.
pub(crate) fn garbage() -> Result<()> {
    nowhere()?;
    for seed in 0..12 {
        noise(seed).with_context(|| format!("noise with seed {seed}"))?;
    }
    let floppy = Floppy::new("ticks.img", Code::Ticks, &[])?;
    let mut vmm = Vmm::start(&floppy.options())?;
    vmm.console.expect(super::bare::DONE, UP_LIMIT).map_err(|error| vmm.explain(error))?;
    vmm.quit()?;
    Ok(())
}

fn nowhere() -> Result<()> {
    let floppy = Floppy::new("nowhere.img", Code::Nowhere, &[])?;
    let mut vmm = Vmm::start(&floppy.options())?;
    vmm.console.expect(UP, UP_LIMIT)?;
    let stopped = vmm.qmp.await_status("internal-error", END);
    stopped.map_err(|error| vmm.explain(error))?;
    let words = vmm.words();
    for text in ["KVM internal error. Suberror: 1", "EIP=d0000000", "CS =0008"] {
        ensure!(words.contains(text), "'{text}' is missing in what QEMU says: {words}");
    }
    vmm.quit()
}

/// Random bytes as code, in real mode. Whatever they do, QEMU can be told to quit, unless they reset the guest.
fn noise(seed: u64) -> Result<()> {
    let mut bytes = [0; 400];
    Stream::new(seed).fill(&mut bytes);
    let floppy = Floppy::new("noise.img", Code::Follow, &bytes)?;
    let mut vmm = Vmm::start(&floppy.options().with("-no-reboot"))?;
    vmm.console.expect(UP, UP_LIMIT)?;
    thread::sleep(Duration::from_millis(300));
    if vmm.ended()?.is_none() {
        // It may be ending just now.
        let _ = vmm.qmp.execute("quit");
    }
    vmm.wait(END)
}
