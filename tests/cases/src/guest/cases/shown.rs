// SPDX-License-Identifier: GPL-2.0
//! What debugfs shows of a vCPU.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::unistd::gettid;

use super::super::vcpu::Vcpu;
use super::*;

pub(super) const CASES: &[Case] =
    &[Case::guest("x86/micro-shown-vcpu", of_vcpu), Case::guest("x86/micro-shown-offset", offset)];

const DEBUGFS: &str = "/sys/kernel/debug/kvm";

/// The directory of a vCPU with this id.
fn directory(vm: &Vm, id: u32) -> Result<PathBuf> {
    if !Path::new(DEBUGFS).exists() {
        return Err(Skip("debugfs isn't mounted".into()).into());
    }
    let own = format!("{}-{}", std::process::id(), vm.file().as_raw_fd());
    Ok(Path::new(DEBUGFS).join(own).join(format!("vcpu{id}")))
}

fn number(directory: &Path, name: &str) -> Result<i64> {
    let path = directory.join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    text.trim_end().parse().with_context(|| format!("{}: {text:?}", path.display()))
}

fn has(directory: &Path, name: &str) -> bool {
    directory.join(name).exists()
}

/// Its thread, and how far ahead of deadlines its timer goes off, if the kernel has its local APIC.
fn of_vcpu() -> Result<()> {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(5)?;
    let shown = directory(&vm, 5)?;
    check_eq!(number(&shown, "pid")?, 0, "before it runs");
    check_eq!(number(&shown, "guest_mode")?, 0);
    ensure!(!has(&shown, "lapic_timer_advance_ns"), "a timer without a local APIC");
    vcpu.start(Mode::Long, guest!(64; "out 0x10, al"))?;
    vcpu.expect_out(0x10, &[0])?;
    check_eq!(number(&shown, "pid")?, i64::from(gettid().as_raw()), "the thread");
    ensure!(fs::write(shown.join("pid"), "0").is_err(), "the thread can be reset");
    check_eq!(number(&shown, "pid")?, i64::from(gettid().as_raw()), "the thread");

    let with_apic = Vm::new()?;
    with_apic.create_irqchip()?;
    let _vcpu = with_apic.vcpu(0)?;
    let lead = number(&directory(&with_apic, 0)?, "lapic_timer_advance_ns")?;
    ensure!((0..=5000).contains(&lead), "{lead} ns ahead");

    drop(vcpu);
    drop(vm);
    ensure!(!shown.exists(), "{} outlives its VM", shown.display());
    Ok(())
}

/// The offset of its TSC, negative ones with their sign, as it becomes another one.
fn offset() -> Result<()> {
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let shown = directory(&vm, 0)?;
    check_eq!(number(&shown, "tsc-offset")?, of(&vcpu)?, "at first");
    for offset in [-0x1234_5678_i64, 0, 0x4321] {
        let mut value = offset as u64;
        tsc::ask(&vcpu, request::SET_DEVICE_ATTR, 0, &mut value)?;
        check_eq!(number(&shown, "tsc-offset")?, offset);
    }
    ensure!(vcpu.set_msr(0x10, 1 << 40)?, "the TSC can't be set");
    check_eq!(number(&shown, "tsc-offset")?, of(&vcpu)?, "with another TSC");
    Ok(())
}

/// The offset as the vCPU's attribute has it.
fn of(vcpu: &Vcpu) -> Result<i64> {
    let mut value = 0;
    tsc::ask(vcpu, request::GET_DEVICE_ATTR, 0, &mut value)?;
    Ok(value as i64)
}
