// SPDX-License-Identifier: GPL-2.0
//! The cases on the x86 machines.

use std::time::Duration;

use anyhow::Result;

use crate::case::{Case, Vmm};

use super::linux::Image;
use super::{control, debian, debug, ends, kvm_ioctls, libvirt, matrix, migrate, robust, tools};

const AMD: &[&str] = &["amd"];
const INTEL: &[&str] = &["intel"];

/// The cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    case("qemu-linux-pc-1", "qemu-pc", || matrix::whole("pc", 1, Image::Elf)),
    case("qemu-linux-pc-2", "qemu-pc", || matrix::whole("pc", 2, Image::Compressed)),
    case("qemu-linux-pc-4", "qemu-pc", || matrix::whole("pc", 4, Image::Elf)).long(),
    case("qemu-linux-q35-1", "qemu-q35", || matrix::whole("q35", 1, Image::Elf)).long(),
    case("qemu-linux-q35-2", "qemu-q35", || matrix::whole("q35", 2, Image::Compressed)),
    case("qemu-linux-q35-4", "qemu-q35", || matrix::whole("q35", 4, Image::Elf)).long(),
    case("qemu-linux-split", "qemu-variants", || {
        matrix::variant(2, |options| options.accel = "kvm,kernel-irqchip=split".into())
    }),
    case("qemu-linux-qemu64", "qemu-variants", || {
        matrix::variant(2, |options| options.cpu = "qemu64".into())
    }),
    case("qemu-linux-hugetlbfs", "qemu-variants", matrix::hugetlbfs),
    case("qemu-linux-cpu-pm", "qemu-variants", || {
        matrix::variant(2, |options| {
            options.more.extend(["-overcommit", "cpu-pm=on"].map(str::to_owned))
        })
    }),
    on_intel("qemu-linux-boot", || matrix::boot(1)),
    on_intel("qemu-linux-1", || matrix::slow_whole(1)).long(),
    on_intel("qemu-linux-2", || matrix::slow_whole(2)).long(),
    on_intel("qemu-linux-2-split", || {
        matrix::slow_variant(2, |options| options.accel = "kvm,kernel-irqchip=split".into())
    })
    .long(),
    on_intel("qemu-linux-2-file", || migrate::file("cryptomgr.notests")).long(),
    case("qemu-linux-4g", "qemu-variants", matrix::four_gib),
    case("idle", "qemu-control", control::idle).timed(),
    case("pause", "qemu-control", control::pause),
    case("registers", "qemu-control", control::registers),
    case("gdb", "qemu-control", debug::gdb),
    case("triple-fault", "qemu-ends", ends::triple_fault),
    case("garbage", "qemu-ends", ends::garbage),
    case("migrate-socket", "qemu-migrate", migrate::socket),
    case("migrate-file", "qemu-migrate", || migrate::file("")),
    case("balloon", "qemu-robust", robust::balloon).long(),
    case("unplug", "qemu-robust", robust::unplug),
    kvm_ioctls_tests(),
    client("perf-kvm", tools::perf_kvm),
    client("kvm-stat", tools::kvm_stat),
    client("libvirt", libvirt::life),
    case("kill-few", "qemu-robust", || robust::kill(12, Duration::from_secs(8))).long(),
    case("debian", "qemu-debian", debian::debian).long(),
    case("kill-200", "qemu-kill", || robust::kill(200, Duration::from_secs(12))).long(),
    case("boots", "qemu-boots", || robust::boots(400)).long(),
    case("50-vms", "qemu-many", || robust::at_once(50)).long(),
    many_vms(),
];

const fn case(name: &'static str, group: &'static str, body: fn() -> Result<()>) -> Case {
    Case::vmm(name, AMD, Vmm { group, mem_mib: 2048, step: None }, body)
}

/// A case for programs that a step of its own installs.
const fn client(name: &'static str, body: fn() -> Result<()>) -> Case {
    let vmm = Vmm { group: "clients", mem_mib: 2048, step: Some("clients") };
    Case::vmm(name, AMD, vmm, body).long()
}

/// It fills the memory there is, four times over: of less there is enough.
const fn many_vms() -> Case {
    let vmm = Vmm { group: "qemu-full", mem_mib: 1024, step: None };
    Case::vmm("many-vms", AMD, vmm, robust::many).long()
}

/// They want as many processors as vCPUs.
const fn kvm_ioctls_tests() -> Case {
    let vmm = Vmm { group: "kvm-ioctls", mem_mib: 2048, step: Some("kvm-ioctls") };
    let mut case = Case::vmm("kvm-ioctls", AMD, vmm, kvm_ioctls::tests).long();
    case.smp = 4;
    case
}

/// A case of its own for the intel machine, which is slow.
const fn on_intel(name: &'static str, body: fn() -> Result<()>) -> Case {
    Case::vmm(name, INTEL, Vmm { group: name, mem_mib: 2048, step: None }, body)
}
