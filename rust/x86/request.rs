// SPDX-License-Identifier: GPL-2.0
//! What others, or a vCPU itself, ask of an x86 vCPU ([`kvm_core::request`]).

use kvm_core::request::Request;

/// Tell the guest the time anew.
pub(crate) const CLOCK_UPDATE: Request = Request::of_arch(6);
/// Find out anew whose EOIs others wait for.
pub(crate) const SCAN_EOI: Request = Request::of_arch(0);
/// Tell userspace, which has the IOAPIC, of an EOI.
pub(crate) const EOI_EXIT: Request = Request::of_arch(1);
/// Tell userspace of an access to the task priority.
pub(crate) const TPR_EXIT: Request = Request::of_arch(7);
/// Build the map of local APICs: the last time there was no memory for it.
pub(crate) const APIC_MAP: Request = Request::of_arch(2);
/// Do what INIT and start-up messages say, which were taken from the mailbox for another
/// reason.
pub(crate) const START: Request = Request::of_arch(8);
/// Say whether the RTC's interrupt waits in the local APIC.
pub(crate) const RTC_STATUS: Request = Request::of_arch(3);
/// A page came that the guest does without, or it can be told of one.
pub(crate) const PAGE_CAME: Request = Request::of_arch(10);
/// The guest may access other MSRs.
pub(crate) const MSR_FILTER: Request = Request::of_arch(9);
/// Some quirks are off now.
pub(crate) const QUIRKS: Request = Request::of_arch(12);
/// The 8254's host timer went off.
pub(crate) const PIT_TICK: Request = Request::of_arch(4);
/// Send the IOAPIC's interrupts that were held back.
pub(crate) const IOAPIC_RETRY: Request = Request::of_arch(5);
/// The thread was off its CPU: a guest that spins is taken for one that doesn't yet.
pub(crate) const PAUSE_WINDOW: Request = Request::of_arch(11);
