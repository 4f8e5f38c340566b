// SPDX-License-Identifier: GPL-2.0
//! A debugger at QEMU's gdb stub: breakpoints, watchpoints, single steps.

use anyhow::{Context, Result, ensure};

use super::checks;
use super::linux::{Image, Linux, options};
use super::rsp::{Break, Rsp};
use crate::processor;

/// All of it, on a guest of two processors that still works afterwards.
pub(crate) fn gdb() -> Result<()> {
    let mut options = options(Image::Elf, "quiet")?;
    options.gdb = true;
    let mut guest = Linux::boot(&options)?;
    let function = checks::number(&guest.ask("symbol __x64_sys_getppid")?, "address")?;
    let fields = guest.ask("step-places")?;
    let written = checks::number(&fields, "written")?;
    let places: Vec<u64> = checks::value(&fields, "places")?
        .split(',')
        .map(|place| u64::from_str_radix(place.trim_start_matches("0x"), 16))
        .collect::<Result<_, _>>()
        .context("the places")?;

    let stream = guest.vmm.connect_gdb()?;
    let debugged = (|| {
        let mut gdb = Rsp::new(stream)?;
        breakpoints(&mut guest, &mut gdb, function)?;
        steps(&mut guest, &mut gdb, &places).context("single steps")?;
        watchpoint(&mut guest, &mut gdb, &places, written).context("a watchpoint")?;
        gdb.detach()
    })();
    debugged.map_err(|error| guest.vmm.explain(error))?;
    checks::load(&mut guest, 2)?;
    checks::clock(&mut guest)?;
    guest.power_off()?;
    Ok(())
}

/// A kernel function stops the guest each time it is called, with both kinds of breakpoint.
fn breakpoints(guest: &mut Linux, gdb: &mut Rsp, function: u64) -> Result<()> {
    const CALLS: u32 = 5;
    for kind in kinds()? {
        gdb.set(kind, function)?;
        gdb.start()?;
        guest.begin(&format!("calls {CALLS}"))?;
        for call in 0..CALLS {
            let thread = gdb.await_stop().with_context(|| format!("{kind:?}, call {call}"))?;
            let rip = gdb.rip(thread)?;
            ensure!(
                rip == function,
                "{kind:?}, call {call}: stopped at {rip:#x}, not {function:#x}"
            );
            if call + 1 == CALLS {
                gdb.clear(kind, function)?;
            } else {
                // Away from the breakpoint as debuggers do it.
                gdb.clear(kind, function)?;
                gdb.step(thread)?;
                gdb.set(kind, function)?;
            }
            gdb.start()?;
        }
        guest.finish("calls")?;
        gdb.interrupt()?;
    }
    Ok(())
}

/// QEMU's emulation of SVM doesn't let a breakpoint instruction leave the guest: the guest gets the
/// exception.
fn kinds() -> Result<Vec<Break>> {
    Ok(if processor::is_tcg()? {
        vec![Break::Hardware]
    } else {
        vec![Break::Software, Break::Hardware]
    })
}

/// Every single step ends where the code leads.
fn steps(guest: &mut Linux, gdb: &mut Rsp, places: &[u64]) -> Result<()> {
    let first = *places.first().context("no places")?;
    gdb.set(Break::Hardware, first)?;
    gdb.start()?;
    guest.begin("step 1")?;
    let thread = gdb.await_stop()?;
    gdb.clear(Break::Hardware, first)?;
    let mut before = first;
    for (number, want) in places.iter().enumerate() {
        let mut have = gdb.rip(thread)?;
        if have == before && have != *want && processor::is_tcg()? {
            // QEMU's emulation steps once more at the end of a repeated instruction.
            gdb.step(thread)?;
            have = gdb.rip(thread)?;
        }
        before = have;
        ensure!(have == *want, "before step {number} the guest is at {have:#x}, not {want:#x}");
        gdb.step(thread)?;
    }
    gdb.start()?;
    let report = guest.finish("step")?;
    ensure!(checks::number(&report, "value")? == 12, "the code computed something else");
    gdb.interrupt()?;
    Ok(())
}

/// A write stops the guest behind the instruction that did it.
fn watchpoint(guest: &mut Linux, gdb: &mut Rsp, places: &[u64], written: u64) -> Result<()> {
    const BEHIND_THE_WRITE: usize = 4;
    gdb.set(Break::Write, written)?;
    gdb.start()?;
    guest.begin("step 1")?;
    let thread = gdb.await_stop()?;
    let (have, want) = (gdb.rip(thread)?, places.get(BEHIND_THE_WRITE).copied().unwrap_or(0));
    ensure!(have == want, "stopped at {have:#x}, not at {want:#x} behind the write");
    let value = gdb.word(thread, written)?;
    ensure!(value == 12, "the guest wrote {value}");
    gdb.clear(Break::Write, written)?;
    gdb.start()?;
    guest.finish("step")?;
    gdb.interrupt()?;
    Ok(())
}
