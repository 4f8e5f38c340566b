// SPDX-License-Identifier: GPL-2.0
//! Whether entries flush the L1 data cache: the parameter `vmentry_l1d_flush`, on processors
//! with L1 terminal fault.

use crate::{global, setup::Vmx};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use kvm_sys::{
    irq::IrqOff,
    module_param::Text,
    preempt::{Pinned, PreemptOff},
    x86::l1d::{self, Flush},
};
use kvm_x86::state::Cx;
use vmx_arch::exit::Exit;

pub(crate) use l1d::is_flushing;

/// The parameter.
pub(crate) struct VmentryL1dFlush;

kvm_sys::text_param! {
    VmentryL1dFlush, "vmentry_l1d_flush", 0o644,
        "flush the L1 data cache before guests run: auto, never, cond or always"
}

/// What was asked for before the module knew the processor.
static ASKED: Atomic<u32> = Atomic::new(Flush::Auto as u32);

const fn word(flush: Flush) -> &'static str {
    match flush {
        Flush::Auto => "auto",
        Flush::Never => "never",
        Flush::Cond => "cond",
        Flush::Always => "always",
        Flush::EptDisabled => "EPT disabled",
        Flush::NotRequired => "not required",
    }
}

impl Text for VmentryL1dFlush {
    fn set(text: &[u8]) -> Result {
        let choices = [Flush::Auto, Flush::Never, Flush::Cond, Flush::Always];
        let flush = choices
            .into_iter()
            .find(|flush| word(*flush).as_bytes() == text.trim_ascii_end())
            .ok_or(EINVAL)?;
        if l1d::now() == Flush::Auto {
            ASKED.store(flush as u32, Relaxed);
        } else {
            choose(flush);
        }
        Ok(())
    }

    fn get() -> &'static str {
        word(l1d::now())
    }
}

/// Does what was asked for as far as that has to be.
fn choose(asked: Flush) {
    let (by_kernel, is_forced) = l1d::wanted_by_kernel();
    l1d::set(match asked {
        _ if !l1d::is_host_affected() => Flush::NotRequired,
        _ if is_forced => by_kernel,
        Flush::Auto => by_kernel,
        asked => asked,
    });
}

/// It is decided; the kernel knows nothing of it once this is dropped.
pub(crate) struct Decided;

impl Decided {
    /// Decides.
    pub(crate) fn new() -> Self {
        let asked = ASKED.load(Relaxed);
        choose(Flush::ALL.into_iter().find(|flush| *flush as u32 == asked).unwrap_or(Flush::Auto));
        Self
    }
}

impl Drop for Decided {
    fn drop(&mut self) {
        l1d::set(Flush::Auto);
    }
}

/// Before an entry: flushes if that has to be; whether it did.
#[cold]
pub(crate) fn before_entry(off: &IrqOff) -> bool {
    let filled = l1d::take_filled(off);
    let flushes = filled || l1d::now() == Flush::Always;
    if let (true, Ok(global)) = (flushes, global::get()) {
        global.flusher.flush(off);
    }
    flushes
}

/// The vCPU came to this CPU, or leaves it.
#[cold]
pub(crate) fn moved(cpu: Pinned<'_>) {
    l1d::filled(cpu);
}

/// An exit is to be handled between exit and entry by what may wake others or read the guest's
/// code.
#[cold]
pub(crate) fn reached_out() {
    l1d::filled(PreemptOff::new().pinned());
}

/// An exit is to be handled: by what brings data of others into the cache, unless it is one of
/// those that hardly touch anything.
#[cold]
pub(crate) fn exited(cx: &mut Cx<'_, Vmx>, exit: Exit) {
    let flushed = cx.state.control.take_flushed();
    cx.vcpu.stats().arch.l1d_flush.add(flushed);
    let is_narrow = matches!(
        exit,
        Exit::Interrupt
            | Exit::Cpuid
            | Exit::Rdmsr
            | Exit::Wrmsr
            | Exit::Hlt
            | Exit::InterruptWindow
            | Exit::NmiWindow
            | Exit::PreemptionTimer
            | Exit::TprBelowThreshold
            | Exit::Pause
            | Exit::Vmcall
    );
    if !is_narrow {
        l1d::filled(PreemptOff::new().pinned());
    }
}
