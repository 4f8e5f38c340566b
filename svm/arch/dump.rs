// SPDX-License-Identifier: GPL-2.0
//! A control block in words, for whoever looks for what the processor refuses of it.

use crate::vmcb::{Save, Segment, Vmcb};

/// Names and values of some fields of a structure.
macro_rules! named {
    ($from:expr, $($field:ident)*) => {
        [$((stringify!($field), u64::from($from.$field))),*].into_iter()
    };
}

impl Vmcb {
    /// Fields by name, but for events and segment registers.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let (control, save) = (&self.control, &self.save);
        let intercepts = control.intercepts.into_iter().map(|word| ("intercepts", word.into()));
        let events = [
            ("exit_int_info", control.exit_int_info.bits()),
            ("event_injection", control.event_injection.bits()),
        ];
        intercepts
            .chain(events)
            .chain(named!(control, pause_filter_threshold pause_filter_count iopm_base msrpm_base
                tsc_offset asid tlb_control virtual_interrupts interrupt_shadow exit_code
                exit_info_1 exit_info_2 nested_control nested_cr3 virtual_extensions clean next_rip))
            .chain(named!(save, cpl efer cr0 cr2 cr3 cr4 dr6 dr7 rflags rip rsp rax star lstar
                cstar sfmask kernel_gs_base sysenter_cs sysenter_esp sysenter_eip pat
                debug_control))
    }
}

impl Save {
    /// Segment registers by name.
    pub fn segments(&self) -> [(&'static str, Segment); 10] {
        [
            ("es", self.es),
            ("cs", self.cs),
            ("ss", self.ss),
            ("ds", self.ds),
            ("fs", self.fs),
            ("gs", self.gs),
            ("gdtr", self.gdtr),
            ("ldtr", self.ldtr),
            ("idtr", self.idtr),
            ("tr", self.tr),
        ]
    }
}
