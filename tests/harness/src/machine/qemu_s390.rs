// SPDX-License-Identifier: GPL-2.0
//! The `z-tcg` machine: QEMU's own s390x emulation, which has no SIE. It boots the kernel of `z` and shows
//! what the modules do on a machine that can't run guests.
//!
//! Console and channel are one line, SCLP's full-screen terminal: the kernel has no driver for virtio on
//! channels. It prints there until it is up; what it logs later PID 1 sends at the end.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use proto::Root;

use super::qemu::{CHANNEL_FD, Emulator, linux, start};
use super::{Arch, BootSpec, Machine, Running};

/// The `z-tcg` machine.
pub(super) struct QemuS390;

impl Machine for QemuS390 {
    fn name(&self) -> &'static str {
        "z-tcg"
    }

    fn arch(&self) -> Arch {
        Arch::S390
    }

    fn root(&self) -> Root {
        Root::Initramfs
    }

    fn cmdline(&self) -> String {
        // Text between the bytes of a frame would spoil it: the first console alone prints, and goes when
        // the second comes, which leads nowhere. A panic ends the emulator.
        "earlyprintk console=ttynull panic=-1 cryptomgr.notests".into()
    }

    fn channel(&self) -> &'static str {
        "/dev/ttysclp0"
    }

    fn c_modules(&self) -> &'static [&'static str] {
        &["kvm"]
    }

    fn rust_modules(&self) -> &'static [&'static str] {
        &["kvm.ko", "kvm-s390.ko"]
    }

    fn needs(&self) -> &'static [&'static str] {
        &["s390x", "qemu-s390x"]
    }

    fn boot(&self, spec: &BootSpec) -> Result<Running> {
        ensure!(!spec.icount, "machine 'z-tcg' isn't for measuring: leave ICOUNT out");
        // What else comes over the channel is the console's; the session keeps it.
        let console = spec.dir.join("console.log");
        File::create(&console).context("making the console log")?;
        start(&EMULATOR, &arguments(spec), &spec.dir, console)
    }
}

const EMULATOR: Emulator = Emulator { program: "qemu-system-s390x", stack: "r15", tells: |_| true };

fn arguments(spec: &BootSpec) -> Vec<String> {
    let text = format!(
        "-nodefaults -no-user-config -display none -monitor none \
         -machine s390-ccw-virtio -accel tcg -cpu max -smp {} -m {} \
         -chardev socket,id=chan,fd={CHANNEL_FD} -device sclpconsole,chardev=chan",
        spec.smp, spec.mem_mib,
    );
    let mut arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    arguments.extend(linux(spec));
    arguments
}
