// SPDX-License-Identifier: GPL-2.0
//! L1 terminal fault: guests of processors that have the fault can read what is in the L1 data
//! cache, whoever put it there, so the cache is flushed before they run
//! (`Documentation/admin-guide/hw-vuln/l1tf.rst`).
//!
//! The kernel keeps what is done about it, for its file below
//! `/sys/devices/system/cpu/vulnerabilities`, and notes on each CPU when an interrupt
//! handler may have filled the cache; here is the rest.

use super::spec_ctrl;
use crate::{hw_pages::HwPages, irq::IrqOff, preempt::Pinned};
use kernel::{bindings, error::Result, ffi::c_uint, page::PAGE_SIZE};

/// What is done about the fault: `enum vmx_l1d_flush_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flush {
    /// Not decided yet.
    Auto = 0,
    /// Nothing.
    Never = 1,
    /// Before the entries behind which the cache may hold what others left.
    Cond = 2,
    /// Before each entry.
    Always = 3,
    /// Guests have no extended page tables.
    EptDisabled = 4,
    /// Nothing has to be done.
    NotRequired = 5,
}

impl Flush {
    /// All of them, by number.
    pub const ALL: [Self; 6] =
        [Self::Auto, Self::Never, Self::Cond, Self::Always, Self::EptDisabled, Self::NotRequired];
}

/// Whether this host's processor has the fault.
pub fn is_host_affected() -> bool {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_has_l1tf() }
}

/// What the kernel's command line wants (`l1tf=`, `mitigations=`), and whether nobody may want
/// less.
pub fn wanted_by_kernel() -> (Flush, bool) {
    // SAFETY: No preconditions.
    match unsafe { kvm_helper_l1tf_wanted() } {
        0 => (Flush::Never, false),
        1 => (Flush::Cond, false),
        2 => (Flush::Always, false),
        _ => (Flush::Always, true),
    }
}

/// What is done.
pub fn now() -> Flush {
    // SAFETY: No preconditions.
    let number = unsafe { kvm_helper_l1tf_now() };
    Flush::ALL.into_iter().find(|flush| *flush as u32 == number).unwrap_or(Flush::Never)
}

/// Does something else from now on. May sleep; one thread at a time.
pub fn set(flush: Flush) {
    let flushes = matches!(flush, Flush::Cond | Flush::Always);
    // SAFETY: Called by one thread at a time, which may sleep.
    unsafe { kvm_helper_l1tf_set(flush as u32, flushes) };
}

/// What [`is_flushing`] asks.
#[repr(C)]
struct Key {
    key: bindings::static_key_false,
}

#[allow(improper_ctypes, reason = "empty lock classes are within, by their address")]
extern "C" {
    static kvm_helper_l1d_flushes: Key;
}

/// Whether some entries flush: a no-op that the kernel patches.
#[inline(always)]
pub fn is_flushing() -> bool {
    // SAFETY: C defined it.
    unsafe { kernel::jump_label::static_branch_unlikely!(kvm_helper_l1d_flushes, Key, key) }
}

/// The cache of this CPU may hold what no guest is to see.
pub fn filled(_cpu: Pinned<'_>) {
    // SAFETY: Sets a byte of this CPU.
    unsafe { kvm_helper_l1d_filled() };
}

/// Whether it may, since it was asked last.
pub fn take_filled(_off: &IrqOff) -> bool {
    // SAFETY: Interrupts are off.
    unsafe { kvm_helper_l1d_take_filled() }
}

/// How the cache is flushed: by [`spec_ctrl::flush_l1d`], or by reading twice as much as it
/// holds, as processors don't replace the oldest lines first.
pub struct Flusher(Option<HwPages<PAGES>>);

/// 64 KiB; the processors concerned have 32 KiB of L1 data cache.
const PAGES: usize = 16;
const LINE: usize = 64;

impl Flusher {
    /// For this host.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        if !is_host_affected() || spec_ctrl::has_l1d_flush() {
            return Ok(Self(None));
        }
        let mut pages = HwPages::new()?;
        for (page, number) in pages.bytes().chunks_exact_mut(PAGE_SIZE).zip(1_u8..) {
            // All different, so that a host below has no reason to merge them.
            page.fill(number);
        }
        Ok(Self(Some(pages)))
    }

    /// Flushes this CPU's cache.
    pub fn flush(&self, _off: &IrqOff) {
        let Some(pages) = &self.0 else { return spec_ctrl::flush_l1d() };
        let start = pages.as_ptr().as_ptr();
        // The translations first, then what they lead to.
        for step in [PAGE_SIZE, LINE] {
            for offset in (0..PAGES * PAGE_SIZE).step_by(step) {
                // SAFETY: It is within the pages.
                unsafe { start.wrapping_add(offset).read_volatile() };
            }
        }
    }
}

extern "C" {
    fn kvm_helper_has_l1tf() -> bool;
    fn kvm_helper_l1tf_wanted() -> c_uint;
    fn kvm_helper_l1tf_now() -> c_uint;
    fn kvm_helper_l1tf_set(flush: c_uint, flushes: bool);
    fn kvm_helper_l1d_filled();
    fn kvm_helper_l1d_take_filled() -> bool;
}
