// SPDX-License-Identifier: GPL-2.0
//! What a new VMCS begins with.

use super::{VmxControl, CR0_OWNED, EXCEPTIONS};
use crate::{params, vpid::Vpid};
use kvm_x86::settings::{no_exit, Settings};
use vmx_arch::{
    control::{Pin, Primary, Secondary},
    field::Slot,
};
use vmx_hw::LOG_ENTRIES;
use x86_defs::Cr0;

impl VmxControl {
    /// Fields that control what the guest may do.
    pub(super) fn set_up(&mut self, settings: &Settings) {
        let global = self.global;
        let config = &global.config;
        let vpid = self.vpid.as_ref().map_or(0, Vpid::number);
        // A vCPU for which no identifier was left begins with an empty TLB each time.
        let without = if vpid == 0 { Secondary::VPID.bits() } else { 0 };
        let mut secondary = config.secondary & !without;
        let mut primary = config.primary;
        for (what, exits) in
            [(no_exit::HLT, Primary::HLT), (no_exit::MWAIT, Primary::MWAIT.union(Primary::MONITOR))]
        {
            if settings.lets_through(what) {
                primary &= !exits.bits();
            }
        }
        if self.apic_page.is_none() {
            secondary &= !Secondary::VIRTUALIZE_APIC.bits();
        }
        if settings.lets_through(no_exit::PAUSE) {
            secondary &= !Secondary::PAUSE_LOOP.bits();
        }
        // In MWAIT a processor may sleep so deeply that the timer stands still.
        self.has_timer =
            config.has_pin(Pin::PREEMPTION_TIMER) && !settings.lets_through(no_exit::MWAIT);
        let timer = if self.has_timer { 0 } else { Pin::PREEMPTION_TIMER.bits() };
        if self.has_timer {
            self.fields.set(Slot::TimerValue, u32::MAX.into());
        }
        let secondary = secondary;
        let virtual_apic = self.virtual_apic.physical();
        let apic_page = self.apic_page.unwrap_or(0);
        let fields = &mut self.fields;
        for (slot, value) in [
            (Slot::Pin, (config.pin & !timer).into()),
            (Slot::Primary, primary.into()),
            (Slot::Secondary, secondary.into()),
            (Slot::ExitControls, config.exit.into()),
            (Slot::EntryControls, config.entry.into()),
            (Slot::ExceptionBitmap, EXCEPTIONS),
            (Slot::PageFaultMask, 0),
            (Slot::PageFaultMatch, 0),
            (Slot::Cr3Targets, 0),
            (Slot::ExitStoreCount, 0),
            (Slot::ExitLoadCount, 0),
            (Slot::EntryLoadCount, 0),
            (Slot::EntryInfo, 0),
            (Slot::TscOffset, 0),
            (Slot::MsrBitmap, self.msr_bitmap.physical()),
            (Slot::EptPointer, self.ept_pointer),
            (Slot::LinkPointer, u64::MAX),
            (Slot::Cr0Mask, (!CR0_OWNED).bits() | !Cr0::all().bits()),
            (Slot::Cr4Mask, u64::MAX),
        ] {
            fields.set(slot, value);
        }
        if config.has_primary(Primary::TPR_SHADOW) {
            fields.set(Slot::VirtualApic, virtual_apic);
            fields.set(Slot::TprThreshold, 0);
        }
        let log = self.log.as_ref().map_or(0, |log| log.physical());
        for (control, slot, value) in [
            (Secondary::VPID, Slot::Vpid, vpid.into()),
            (Secondary::VIRTUALIZE_APIC, Slot::ApicAccess, apic_page),
            (Secondary::PAUSE_LOOP, Slot::PleGap, params::PLE_GAP.get().into()),
            (Secondary::PAUSE_LOOP, Slot::PleWindow, params::PLE_WINDOW.get().into()),
            (Secondary::XSAVES, Slot::XssExits, 0),
            (Secondary::ENCLS, Slot::EnclsExits, u64::MAX),
            (Secondary::PML, Slot::PmlAddress, log),
            (Secondary::PML, Slot::PmlIndex, (LOG_ENTRIES - 1).into()),
        ] {
            if secondary & control.bits() != 0 {
                fields.set(slot, value);
            }
        }
    }

    /// Guest state that nobody sets later on.
    pub(super) fn set_up_guest(&mut self) {
        for slot in [
            Slot::Activity,
            Slot::Interruptibility,
            Slot::PendingDebug,
            Slot::DebugCtl,
            Slot::SysenterCs,
            Slot::SysenterEsp,
            Slot::SysenterEip,
            Slot::Pdpte0,
            Slot::Pdpte1,
            Slot::Pdpte2,
            Slot::Pdpte3,
        ] {
            self.fields.set(slot, 0);
        }
    }
}
