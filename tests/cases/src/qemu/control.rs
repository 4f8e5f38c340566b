// SPDX-License-Identifier: GPL-2.0
//! What QEMU's monitor does to a running guest.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest_load::{GENERAL, VECTORS, pattern};

use super::checks::{self, NIC, SEED};
use super::linux::{Image, Linux, options};
use super::qmp::Argument::{Number, Text};

/// Stop and go on, again and again, under load.
pub(crate) fn pause() -> Result<()> {
    const TIMES: u32 = 10;
    const STOPPED: Duration = Duration::from_millis(400);
    let mut guest = Linux::boot(&options(Image::Elf, "quiet")?)?;
    guest.ask(&format!("start {SEED} 8"))?;
    for _ in 0..TIMES {
        guest.vmm.qmp.execute("stop")?;
        guest.vmm.qmp.await_status("paused", Duration::ZERO)?;
        let before = cpu_time(guest.vmm.pid())?;
        thread::sleep(STOPPED);
        let used = cpu_time(guest.vmm.pid())?.saturating_sub(before);
        ensure!(used < STOPPED / 2, "a stopped guest used {used:?} of {STOPPED:?}");
        guest.vmm.qmp.execute("cont")?;
        thread::sleep(Duration::from_millis(200));
    }
    // The clock of a stopped guest stands still: there is no gap as long as a stop.
    let report = guest.ask("stop")?;
    ensure!(checks::number(&report, "rounds")? > 0, "nothing was computed");
    checks::load(&mut guest, 2)?;
    checks::clock(&mut guest)?;
    guest.power_off()?;
    Ok(())
}

/// `info registers` tells what the guest put there, and reading them changes nothing.
pub(crate) fn registers() -> Result<()> {
    const TRIES: u32 = 50;
    let mut guest = Linux::boot(&options(Image::Elf, "quiet")?)?;
    let fields = guest.ask("block")?;
    let (low, high) = (checks::number(&fields, "low")?, checks::number(&fields, "high")?);
    // Now and then the processor is in the kernel, for a timer interrupt.
    for _ in 0..TRIES {
        guest.vmm.qmp.execute("stop")?;
        for cpu in 0..2 {
            let arguments = [("command-line", Text("info registers")), ("cpu-index", Number(cpu))];
            let answer = guest.vmm.qmp.execute_with("human-monitor-command", &arguments)?;
            let text = answer.text();
            let registers = general(text);
            let rip = registers.get("RIP").copied().context("no RIP in 'info registers'")?;
            if !(low..high).contains(&rip) {
                continue;
            }
            compare(&registers, text)?;
            guest.vmm.qmp.execute("cont")?;
            guest.ask("release")?;
            guest.power_off()?;
            return Ok(());
        }
        guest.vmm.qmp.execute("cont")?;
        thread::sleep(Duration::from_millis(30));
    }
    bail!("no processor was found between {low:#x} and {high:#x}")
}

/// The general registers: `NAME=HEX` words, some with a blank before the sign.
fn general(text: &str) -> BTreeMap<String, u64> {
    let text = text.replace(" =", "=");
    let words = text.split_whitespace().filter_map(|word| word.split_once('='));
    words
        .filter_map(|(name, hex)| Some((name.into(), u64::from_str_radix(hex, 16).ok()?)))
        .collect()
}

/// The lower halves of a vector register, the low one first. QEMU shows as much of it as the guest uses, as
/// `XMM00=HEX HEX` or with more words and another letter, the highest first.
fn vector(text: &str, index: usize) -> Option<[u64; 2]> {
    let (_, rest) = text.split_once(&format!("MM{index:02}="))?;
    let words = rest.split_whitespace().map_while(|word| u64::from_str_radix(word, 16).ok());
    let words: Vec<u64> = words.collect();
    match words[..] {
        [.., high, low] => Some([low, high]),
        _ => None,
    }
}

fn compare(registers: &BTreeMap<String, u64>, text: &str) -> Result<()> {
    for (index, name) in GENERAL.iter().enumerate() {
        let have = registers.get(*name).copied();
        let have = have.with_context(|| format!("no {name} in 'info registers'"))?;
        let want = pattern(index as u64);
        ensure!(have == want, "QEMU says {name}={have:#x}, the guest put {want:#x} there");
    }
    for index in 0..VECTORS {
        let have = vector(text, index);
        let have =
            have.with_context(|| format!("no vector {index} in 'info registers': {text}"))?;
        let want = pattern(index as u64);
        ensure!(
            have == [want; 2],
            "QEMU says XMM{index} is {have:#x?}, the guest put {want:#x} there twice"
        );
    }
    Ok(())
}

/// A guest that does nothing leaves the machine alone, and wakes at once when something comes for it.
pub(crate) fn idle() -> Result<()> {
    const WATCHED: Duration = Duration::from_secs(8);
    let mut guest = Linux::boot(&options(Image::Elf, "quiet")?.with(NIC))?;
    thread::sleep(Duration::from_secs(3));
    let before = (cpu_time(guest.vmm.pid())?, machine_busy()?);
    thread::sleep(WATCHED);
    let used = cpu_time(guest.vmm.pid())?.saturating_sub(before.0);
    let busy = machine_busy()?.saturating_sub(before.1);
    // An emulated machine is slow: what a real one does in a thousandth takes a tenth here.
    ensure!(used < WATCHED / 4, "QEMU used {used:?} in {WATCHED:?} with an idle guest");
    ensure!(busy < WATCHED / 2, "the processors were busy for {busy:?} of {WATCHED:?}");

    let (port, server) = checks::serve(round_trips)?;
    let report = guest.ask(&format!("echo {port}"))?;
    let typical = checks::join(server)?;
    ensure!(checks::number(&report, "bytes")? == ROUND_TRIPS, "a byte was lost");
    ensure!(typical < Duration::from_millis(200), "a round trip takes {typical:?}");
    guest.power_off()?;
    Ok(())
}

const ROUND_TRIPS: u64 = 50;

/// Sends a byte and waits for it to come back, with a pause for the guest to fall asleep in; the median.
fn round_trips(mut socket: TcpStream) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..ROUND_TRIPS {
        thread::sleep(Duration::from_millis(20));
        let mut byte = [u8::try_from(number)?];
        let start = Instant::now();
        socket.write_all(&byte).context("sending")?;
        socket.read_exact(&mut byte).context("receiving")?;
        times.push(start.elapsed());
        ensure!(u64::from(byte[0]) == number, "byte {number} came back as {}", byte[0]);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// What a process has used of the processors.
fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // After the name in parentheses; user and system time are the 14th and 15th field.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|w| w.parse::<u64>().ok()).sum();
    Ok(ticks_to_time(ticks))
}

/// For how long a processor of the machine was not idle, on average over all of them.
fn machine_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|w| w.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat begins with '{line}'");
    // User, nice, system, (idle, waiting,) interrupts, soft interrupts, stolen.
    let busy: u64 = ticks[..3].iter().chain(&ticks[5..8]).sum();
    let cpus = text.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1);
    Ok(ticks_to_time(busy / cpus.max(1) as u64))
}

/// /proc counts in hundredths of a second.
fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}
