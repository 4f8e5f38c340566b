// SPDX-License-Identifier: GPL-2.0
//! Where a guest stands that doesn't answer any more.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use super::qmp::Argument::{Number, Text};
use super::qmp::Qmp;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Registers that tell what a processor is at.
const REGISTERS: &[&str] =
    if cfg!(target_arch = "s390x") { &["PSW"] } else { &["RIP", "EIP", "RFL", "CR0", "HLT"] };

/// What the vCPUs and QEMU's threads do, on one line: two looks tell apart who stands still and who runs
/// in circles. Whatever can't be had is left out.
pub(super) fn report(pid: u32, qmp: &mut Qmp, vcpus: u32) -> String {
    let first = counters();
    let looks = [(); 2].map(|()| {
        let look = [registers(qmp, vcpus), threads(pid)].join("; ");
        thread::sleep(PAUSE);
        look
    });
    format!("{}; then: {}; counted meanwhile: {}", looks[0], looks[1], grown(&first, &counters()))
}

fn registers(qmp: &mut Qmp, vcpus: u32) -> String {
    let of = |cpu: u32| {
        let arguments =
            [("command-line", Text("info registers")), ("cpu-index", Number(u64::from(cpu)))];
        let Ok(answer) = qmp.execute_with("human-monitor-command", &arguments) else {
            return format!("CPU {cpu}: no answer");
        };
        let text = answer.text().replace(" =", "=");
        let words = text
            .split_whitespace()
            .filter(|word| word.split_once('=').is_some_and(|(name, _)| REGISTERS.contains(&name)));
        format!("CPU {cpu}: {}", words.collect::<Vec<_>>().join(" "))
    };
    (0..vcpus).map(of).collect::<Vec<_>>().join(", ")
}

/// Name, state and place in the kernel of each thread.
fn threads(pid: u32) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return String::new() };
    let one = |task: std::io::Result<fs::DirEntry>| {
        let path = task.ok()?.path();
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let stack = read("stack");
        let stack = stack.lines().filter_map(|line| line.split_whitespace().nth(1));
        let stack = stack.take(4).collect::<Vec<_>>().join(" < ");
        Some(format!("{} {state} {stack}", read("comm").trim()))
    };
    tasks.filter_map(one).collect::<Vec<_>>().join(", ")
}

/// The modules' counters of all VMs.
fn counters() -> BTreeMap<String, u64> {
    let Ok(files) = fs::read_dir("/sys/kernel/debug/kvm") else { return BTreeMap::new() };
    let one = |file: std::io::Result<fs::DirEntry>| {
        let file = file.ok()?;
        let value = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
        Some((file.file_name().to_string_lossy().into_owned(), value))
    };
    files.filter_map(one).collect()
}

fn grown(first: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>) -> String {
    let one = |(name, value): (&String, &u64)| {
        let growth = value.saturating_sub(first.get(name).copied().unwrap_or_default());
        (growth > 0).then(|| format!("{name} {growth}"))
    };
    let all: Vec<String> = then.iter().filter_map(one).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}
