// SPDX-License-Identifier: GPL-2.0
//! Register numbers and bits of the local APIC.
//!
//! A register's number is its MMIO offset divided by 16, which is also its
//! distance from MSR 0x800 in x2APIC mode (SDM vol. 3, tables 12-1 and 12-6).

/// Local APIC ID.
pub(crate) const ID: u8 = 0x02;
/// Version.
pub(crate) const VERSION: u8 = 0x03;
/// Task priority.
pub(crate) const TPR: u8 = 0x08;
/// Arbitration priority; reads zero, as on all processors since the Pentium 4.
pub(crate) const APR: u8 = 0x09;
/// Processor priority.
pub(crate) const PPR: u8 = 0x0a;
/// End of interrupt.
pub(crate) const EOI: u8 = 0x0b;
/// Remote read; reads zero.
pub(crate) const RRR: u8 = 0x0c;
/// Logical destination.
pub(crate) const LDR: u8 = 0x0d;
/// Destination format.
pub(crate) const DFR: u8 = 0x0e;
/// Spurious interrupt vector.
pub(crate) const SVR: u8 = 0x0f;
/// First of eight in-service registers.
pub(crate) const ISR: u8 = 0x10;
/// First of eight trigger mode registers.
pub(crate) const TMR: u8 = 0x18;
/// First of eight interrupt request registers.
pub(crate) const IRR: u8 = 0x20;
/// Last interrupt request register.
pub(crate) const IRR_LAST: u8 = 0x27;
/// Error status.
pub(crate) const ESR: u8 = 0x28;
/// LVT: corrected machine check.
pub(crate) const LVT_CMCI: u8 = 0x2f;
/// Interrupt command, low half; the whole of it in x2APIC mode.
pub(crate) const ICR: u8 = 0x30;
/// Interrupt command, high half; not in x2APIC mode.
pub(crate) const ICR2: u8 = 0x31;
/// LVT: timer.
pub(crate) const LVT_TIMER: u8 = 0x32;
/// LVT: error.
pub(crate) const LVT_ERROR: u8 = 0x37;
/// Timer initial count.
pub(crate) const TMICT: u8 = 0x38;
/// Timer current count.
pub(crate) const TMCCT: u8 = 0x39;
/// Timer divide configuration.
pub(crate) const TDCR: u8 = 0x3e;
/// Self IPI; x2APIC mode only.
pub(crate) const SELF_IPI: u8 = 0x3f;

/// First MSR of the x2APIC.
pub(crate) const MSR_BASE: u32 = 0x800;

/// Version of an integrated APIC.
pub(crate) const VERSION_NUMBER: u32 = 0x14;
/// Version register: EOI broadcast can be suppressed.
pub(crate) const VERSION_DIRECTED_EOI: u32 = 1 << 24;

/// SVR: the vector, the enable bit and the focus-checking bit.
pub(crate) const SVR_WRITABLE: u32 = 0x3ff;
/// SVR: software enable.
pub(crate) const SVR_ENABLE: u32 = 1 << 8;
/// SVR: suppress EOI broadcasts.
pub(crate) const SVR_DIRECTED_EOI: u32 = 1 << 12;

/// LVT: mask.
pub(crate) const LVT_MASKED: u32 = 1 << 16;
/// LVT: vector and mask, which every entry has.
pub(crate) const LVT_BASE: u32 = LVT_MASKED | 0xff;
/// LVT: delivery mode.
pub(crate) const LVT_DELIVERY: u32 = 7 << 8;
/// LVT of a pin: polarity and trigger mode.
pub(crate) const LVT_PIN: u32 = 1 << 13 | LVT_LEVEL;
/// LVT of a pin: level-triggered.
pub(crate) const LVT_LEVEL: u32 = 1 << 15;
/// LVT of the timer: periodic.
pub(crate) const LVT_PERIODIC: u32 = 1 << 17;
/// LVT of the timer: TSC deadline.
pub(crate) const LVT_TSC_DEADLINE: u32 = 1 << 18;

/// ICR: delivery status, always reads idle.
pub(crate) const ICR_BUSY: u64 = 1 << 12;
/// ICR: reserved in x2APIC mode (the delivery status is ignored, as Intel's
/// processors do).
pub(crate) const X2APIC_ICR_RESERVED: u64 = 0xfff0_0000 | 3 << 16 | 1 << 13;

/// LDR: writable in xAPIC mode.
pub(crate) const LDR_WRITABLE: u32 = 0xff00_0000;
/// DFR: bits that always read as one.
pub(crate) const DFR_FIXED: u32 = 0x0fff_ffff;
/// DFR: flat model.
pub(crate) const DFR_FLAT: u32 = 0xffff_ffff;
/// DFR: cluster model.
pub(crate) const DFR_CLUSTER: u32 = DFR_FIXED;

/// ESR: a vector below 16 was sent.
pub(crate) const ESR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
/// ESR: a vector below 16 was received, or stands in an LVT entry.
pub(crate) const ESR_RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
/// ESR: a reserved register was accessed.
pub(crate) const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;
