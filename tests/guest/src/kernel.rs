// SPDX-License-Identifier: GPL-2.0
//! The guest's kernel from its user space: addresses, calls, the log; and code to step through.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, bail};
use proto::{Fields, hostlog};

use crate::commands::Arguments;

/// `symbol NAME`: its address in the kernel.
pub(crate) fn symbol(words: &mut Arguments<'_>) -> Result<Fields> {
    let name: String = words.next("name")?;
    let text = fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let address = words.next().unwrap_or("0");
        if words.nth(1) == Some(&name) {
            return Ok(Fields::new().with("address", format!("0x{address}")));
        }
    }
    bail!("the kernel has no symbol {name}")
}

/// `calls COUNT`: enters the kernel that often by getppid.
pub(crate) fn calls(words: &mut Arguments<'_>) -> Result<Fields> {
    let count: u64 = words.next("count")?;
    for _ in 0..count {
        let _ = nix::unistd::getppid();
    }
    Ok(Fields::new().with("count", count))
}

/// Fails if the kernel's log has a report of trouble, with its first lines.
pub(crate) fn log() -> Result<Fields> {
    let mut device = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .context("opening /dev/kmsg")?;
    let (mut text, mut count) = (String::new(), 0);
    let mut record = vec![0; 8192];
    loop {
        match device.read(&mut record) {
            Ok(length) => {
                let entry = String::from_utf8_lossy(&record[..length]);
                let message = entry.split_once(';').map_or("", |(_, message)| message);
                text.push_str(message.lines().next().unwrap_or_default());
                text.push('\n');
                count += 1;
            }
            // A record was overwritten before it was read: go on with the next.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("reading /dev/kmsg"),
        }
    }
    if let Some(report) = hostlog::reports(&text).first() {
        bail!("{}", report.lines().take(12).collect::<Vec<_>>().join(" / "));
    }
    Ok(Fields::new().with("records", count))
}

/// Addresses of the instructions that [`step`] executes, in order, and of the word it writes.
pub(crate) fn step_places() -> Result<Fields> {
    let places: Vec<String> = steps::places()?.iter().map(|place| format!("{place:#x}")).collect();
    let fields = Fields::new().with("places", places.join(","));
    Ok(fields.with("written", format!("{:#x}", steps::written()?)))
}

/// `step COUNT`: executes the instructions that often; what they computed the last time.
pub(crate) fn step(words: &mut Arguments<'_>) -> Result<Fields> {
    let count: u64 = words.next("count")?;
    let mut value = 0;
    for _ in 0..count {
        value = steps::execute()?;
    }
    Ok(Fields::new().with("value", value))
}

#[cfg(target_arch = "x86_64")]
mod steps {
    use std::arch::global_asm;
    use std::sync::atomic::AtomicU64;

    use anyhow::Result;

    /// What the fourth instruction writes to.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);

    // A jump, a call, a string instruction that stops three times, an instruction that leaves the guest
    // (CPUID), a write. The table holds the offset of each stop.
    global_asm!(
        ".globl guest_steps, guest_step_offsets",
        "guest_steps:",
        "20: mov eax, 5",
        "21: jmp 23f",
        "22: ud2",
        "23: add eax, 7",
        "24: mov [rip + {written}], rax",
        "25: call 31f",
        "26: push rbx",
        "27: cpuid",
        "28: pop rbx",
        "29: mov rax, [rip + {written}]",
        "30: ret",
        "31: lea rdi, [rsp - 64]",
        "32: mov ecx, 3",
        "33: rep stosb",
        "34: xor eax, eax",
        "35: ret",
        ".balign 4",
        "guest_step_offsets:",
        ".long 20b - guest_steps, 21b - guest_steps, 23b - guest_steps, 24b - guest_steps",
        ".long 25b - guest_steps, 31b - guest_steps, 32b - guest_steps, 33b - guest_steps",
        ".long 33b - guest_steps, 33b - guest_steps, 34b - guest_steps, 35b - guest_steps",
        ".long 26b - guest_steps, 27b - guest_steps, 28b - guest_steps, 29b - guest_steps",
        ".long 30b - guest_steps",
        written = sym WRITTEN,
    );

    const STOPS: usize = 17;

    unsafe extern "C" {
        /// Clobbers what a C function may.
        fn guest_steps() -> u64;
        static guest_step_offsets: [u32; STOPS];
    }

    pub(super) fn places() -> Result<Vec<usize>> {
        let start = (guest_steps as *const ()).addr();
        // SAFETY: the table has that many entries, and nobody writes to it.
        let offsets = unsafe { guest_step_offsets };
        Ok(offsets.iter().map(|offset| start + *offset as usize).collect())
    }

    pub(super) fn written() -> Result<usize> {
        Ok((&raw const WRITTEN).addr())
    }

    pub(super) fn execute() -> Result<u64> {
        // SAFETY: the routine keeps to the C calling convention and writes to `WRITTEN` and below its stack.
        Ok(unsafe { guest_steps() })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod steps {
    use anyhow::{Result, bail};

    pub(super) fn places() -> Result<Vec<usize>> {
        bail!("there is no code to step through for this processor")
    }

    pub(super) fn written() -> Result<usize> {
        bail!("there is no code to step through for this processor")
    }

    pub(super) fn execute() -> Result<u64> {
        bail!("there is no code to step through for this processor")
    }
}
