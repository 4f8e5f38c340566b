// SPDX-License-Identifier: GPL-2.0
//! IBM Z processors: what the machine has, and the host's state around a guest.
//!
//! - [`table`]: pages that hold DAT tables.
//! - [`registers`]: the guest's floating-point and access registers.
//! - [`clock`]: the time-of-day clock.
//! - [`key`]: storage keys of pages.

pub mod clock;
pub mod key;
pub mod registers;
pub mod table;

use crate::bindings as own;
use kvm_paging::addr::Hva;

/// Whether the machine has the interpretive-execution facility with format-2
/// state descriptions, the only ones in use since z/Architecture.
pub fn has_sie() -> bool {
    // SAFETY: `sclp` is filled at boot and never changes afterwards.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_sief2() != 0 }
}

/// Highest absolute address that a guest can have; `None` if the machine names no
/// limit.
pub fn highest_address() -> Option<u64> {
    // SAFETY: As above.
    let limit = unsafe { (*core::ptr::addr_of!(own::sclp)).hamax } as u64;
    (limit != 0 && limit != u64::MAX).then_some(limit)
}

/// The facilities of the machine as STORE FACILITY LIST EXTENDED has them, bit 0
/// first.
pub fn facilities() -> [u64; 16] {
    // SAFETY: The list is filled at boot and never changes afterwards.
    unsafe { kernel::bindings::stfle_fac_list }
}

/// Whether an interruption for protection says reliably what it was about
/// (enhanced suppression on protection), and the host's own tables interrupt the
/// host.
pub fn tells_protection() -> bool {
    // SAFETY: No preconditions.
    unsafe { kvm_helper_machine_has_esop() }
}

/// Whether events can be recorded for the host while a guest runs (guest-PER
/// enhancement).
pub fn records_for_host() -> bool {
    // SAFETY: As for `has_sie`.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_gpere() != 0 }
}

/// Whether the interlock of IPTE in a system control area counts its holders
/// (SIE-interlock facility).
pub fn counts_interlock() -> bool {
    // SAFETY: As for `has_sie`.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_siif() != 0 }
}

/// Whether there are extended system control areas.
pub fn has_extended_control_areas() -> bool {
    // SAFETY: As for `has_sie`.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_esca() != 0 }
}

/// Whether SIE knows system control areas by 64 bits; else they have to be below 2 GiB.
pub fn knows_control_areas_above() -> bool {
    // SAFETY: As for `has_sie`.
    unsafe { (*core::ptr::addr_of!(own::sclp)).has_64bscao() != 0 }
}

/// How much of each word of the facility list is up to a hypervisor; two bits for
/// a word.
pub fn managed_facilities() -> u32 {
    // SAFETY: As for `has_sie`.
    unsafe { (*core::ptr::addr_of!(own::sclp)).hmfai }
}

/// What STORE CPU ID says.
pub fn cpu_id() -> u64 {
    let mut id = 0_u64;
    // SAFETY: STIDP writes eight bytes at the address.
    unsafe { core::arch::asm!("stidp 0({})", in(reg_addr) &raw mut id, options(nostack)) };
    id
}

/// Bytes of [`subfunctions`].
pub const SUBFUNCTIONS: usize = 336;

/// Which functions instructions have that have several, in the order of
/// `struct kvm_s390_vm_cpu_subfunc`. Zeroes for instructions that the machine lacks.
pub fn subfunctions() -> [u8; SUBFUNCTIONS] {
    let mut all = [0; SUBFUNCTIONS];
    // SAFETY: The helper's structure has this size and consists of bytes.
    unsafe { kvm_helper_subfunctions(all.as_mut_ptr()) };
    all
}

/// Fills bytes with what nobody can guess.
pub fn random(bytes: &mut [u8]) {
    // SAFETY: So many bytes are writable.
    unsafe { kvm_helper_random(bytes.as_mut_ptr(), bytes.len()) };
}

/// Lets the pages from `start` on, so many bytes, of the current process go: when they
/// are touched next, they are as new. In a thread that has memory; may sleep.
pub fn discard(start: Hva, bytes: u64) {
    let end = start.raw().saturating_add(bytes);
    // SAFETY: The thread has memory, as the contract says; any range will do.
    unsafe { kvm_helper_discard(start.raw(), end) };
}

/// STORE SYSTEM INFORMATION; whether there is such information.
pub fn store_system_information(
    function: u8,
    selector_1: u8,
    selector_2: u16,
    block: &mut [u8; 4096],
) -> bool {
    // SAFETY: The block is as large as the answer; the helper doesn't ask for its
    // alignment.
    unsafe {
        kvm_helper_stsi(
            block.as_mut_ptr().cast(),
            function.into(),
            selector_1.into(),
            selector_2.into(),
        ) == 0
    }
}

/// Why the host refused an access of the guest that just came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFault {
    /// The program-interruption code.
    pub code: u16,
    /// The translation-exception identification.
    pub teid: u64,
}

impl HostFault {
    /// First byte of the page of the guest that wasn't there.
    pub fn page(self) -> u64 {
        self.teid & !0xfff
    }

    /// The access was a store, as far as the machine says so: protection hits
    /// stores alone, and bits 52 and 53 of the identification tell the others
    /// (access-exception-fetch/store-indication facility).
    pub fn is_write(self) -> bool {
        const PROTECTION: u16 = 4;
        const STORE: u64 = 1;
        self.code == PROTECTION || self.teid >> 10 & 3 == STORE
    }
}

/// Takes note of the last fault of a guest of the current thread, and forgets it.
#[inline]
pub fn take_host_fault() -> Option<HostFault> {
    let mut teid = 0;
    // SAFETY: `teid` is writable.
    let code = unsafe { kvm_helper_take_guest_fault(&mut teid) };
    (code != 0).then_some(HostFault { code: code & 0x7f, teid })
}

extern "C" {
    fn kvm_helper_discard(start: u64, end: u64);
    fn kvm_helper_machine_has_esop() -> bool;
    fn kvm_helper_random(bytes: *mut u8, size: usize);
    fn kvm_helper_stsi(block: *mut kernel::ffi::c_void, fc: i32, sel1: i32, sel2: i32) -> i32;
    fn kvm_helper_subfunctions(all: *mut u8);
    fn kvm_helper_take_guest_fault(teid: *mut u64) -> u16;
}
