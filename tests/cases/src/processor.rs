// SPDX-License-Identifier: GPL-2.0
//! The processors of the machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

const EFER: u32 = 0xc000_0080;
const EFER_SVME: u64 = 1 << 12;

/// Whose virtualization the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// AMD SVM.
    Amd,
    /// Intel VMX.
    Intel,
    /// IBM Z.
    Z,
}

impl Processor {
    /// What this machine has, by its vendor: the feature itself may be turned off.
    pub(crate) fn current() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        for (word, processor) in
            [("AuthenticAMD", Self::Amd), ("GenuineIntel", Self::Intel), ("IBM/S390", Self::Z)]
        {
            if info.contains(word) {
                return Ok(processor);
            }
        }
        bail!("/proc/cpuinfo names no known vendor")
    }

    /// File stem of the vendor module that fits.
    pub(crate) fn vendor_module(self) -> &'static str {
        match self {
            Self::Amd => "kvm-amd",
            Self::Intel => "kvm-intel",
            Self::Z => "kvm-s390",
        }
    }
}

/// Whether the processor is QEMU's software one. It leaves some checks out that others make.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_tcg() -> Result<bool> {
    let info = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    Ok(info.contains("QEMU TCG"))
}

/// Takes a CPU down or brings it up.
pub(crate) fn set_online(cpu: u32, online: bool) -> Result<()> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    fs::write(&path, if online { "1" } else { "0" }).with_context(|| format!("writing {path}"))
}

/// Number of CPUs that are online.
pub(crate) fn online() -> Result<usize> {
    let info = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    Ok(info.lines().filter(|line| is_processor_line(line)).count())
}

/// x86 has `processor : 0`, s390 `processor 0: version = …`.
fn is_processor_line(line: &str) -> bool {
    line.strip_prefix("processor").is_some_and(|rest| {
        rest.starts_with(['\t', ' ']) && rest.contains(':') && !rest.contains("s ")
    })
}

/// Whether SVM is on on a CPU, read from its EFER; `None` where that can't be seen.
pub(crate) fn svm_is_on(cpu: u32) -> Result<Option<bool>> {
    if Processor::current()? != Processor::Amd {
        return Ok(None);
    }
    Ok(host_msr(cpu, EFER)?.map(|efer| efer & EFER_SVME != 0))
}

/// Reads an MSR of a CPU; `None` where that can't be seen.
pub(crate) fn host_msr(cpu: u32, index: u32) -> Result<Option<u64>> {
    let path = format!("/dev/cpu/{cpu}/msr");
    if !std::path::Path::new(&path).exists() {
        // Its exit status says nothing: the driver may be built in.
        let _ = Command::new("modprobe").arg("msr").status();
    }
    let Ok(file) = File::open(&path) else { return Ok(None) };
    let mut value = [0; 8];
    file.read_exact_at(&mut value, index.into())
        .with_context(|| format!("reading MSR {index:x} from {path}"))?;
    Ok(Some(u64::from_le_bytes(value)))
}
