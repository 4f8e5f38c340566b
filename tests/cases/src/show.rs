// SPDX-License-Identifier: GPL-2.0
//! What /dev/kvm answers, as a table for people.

use std::fs;

use anyhow::{Context, Result};
use kvm_uapi::ioctl::{KVM_CHECK_EXTENSION, KVM_GET_API_VERSION, KVM_GET_VCPU_MMAP_SIZE};

use crate::device;

/// Capabilities that the ABI's crate knows, by name.
macro_rules! capabilities {
    ($($name:ident)*) => { [$((stringify!($name), kvm_uapi::cap::$name)),*] };
}

/// Prints the modules, the version of the ABI and the capabilities.
pub(crate) fn run() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading osrelease")?;
    println!("kernel   {}", release.trim());
    for line in fs::read_to_string("/proc/modules").context("reading /proc/modules")?.lines() {
        let mut words = line.split_whitespace();
        let (name, size) = (words.next().unwrap_or(""), words.next().unwrap_or("?"));
        if name.starts_with("kvm") {
            println!("module   {name}, {size} bytes");
        }
    }
    let kvm = device::open()?;
    let version = device::ioctl(&kvm, KVM_GET_API_VERSION, 0).context("KVM_GET_API_VERSION")?;
    let size = device::ioctl(&kvm, KVM_GET_VCPU_MMAP_SIZE, 0).context("KVM_GET_VCPU_MMAP_SIZE")?;
    println!("device   {}, API version {version}, {size} bytes to map of a vCPU", device::PATH);
    println!();
    println!("{:<40} {:>5}", "capability", "value");
    for (name, number) in kvm_uapi::for_each_capability!(capabilities) {
        let value = device::ioctl(&kvm, KVM_CHECK_EXTENSION, number.into())
            .with_context(|| format!("asking for {name}"))?;
        println!("{name:<40} {value:>5}");
    }
    Ok(())
}
