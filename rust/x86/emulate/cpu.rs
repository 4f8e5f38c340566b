// SPDX-License-Identifier: GPL-2.0
//! A vCPU as the emulator's processor.

use crate::{
    control::Control, cpuid, exit::debug, hypercall, msr, msr_filter, registers, regs,
    settings::Quirk, state::Cx, vendor::Vendor,
};
use kernel::prelude::*;
use kvm_core::io_bus::Space;
use kvm_emulate::{
    fetch::fetch,
    io::{Fragment, FragmentKind},
    Access, Cpu, Effect, Features, FpuWords, Hypercall, Stop, Table,
};
use kvm_paging::addr::Gpa;
use kvm_policy::msr::Refusal;
use kvm_sys::{
    irq::IrqOff,
    trace::{kvm_mmio, Mmio},
    x86::trace::kvm_cr,
};
use x86_defs::{Cr0, Cr4, Efer, Mode, Rflags, SegReg, Segment, TableReg};

/// What is to be done after the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// It was HLT.
    Halt,
    /// It lowered CR8, which userspace has to know of.
    LowerPriority,
}

/// The vCPU, for one instruction.
pub(super) struct Processor<'c, 'a, V: Vendor> {
    pub(super) cx: &'c mut Cx<'a, V>,
    /// Where the processor found that the instruction's one access leads.
    pub(super) touched: Option<Gpa>,
    after: After,
}

impl<'c, 'a, V: Vendor> Processor<'c, 'a, V> {
    pub(super) fn new(cx: &'c mut Cx<'a, V>) -> Self {
        Self::with_touched(cx, None)
    }

    /// For an instruction whose one access is known to lead to `touched`.
    pub(super) fn with_touched(cx: &'c mut Cx<'a, V>, touched: Option<Gpa>) -> Self {
        Self { cx, touched, after: After::Nothing }
    }

    pub(super) fn after(&self) -> After {
        self.after
    }

    /// Whether the local APIC's registers are at this address.
    pub(super) fn is_apic_page(&self, gpa: Gpa) -> bool {
        let page = gpa.raw() & !0xfff;
        let hole = self.cx.vm.arch().settings.has_quirk(Quirk::LapicMmioHole);
        self.cx
            .state
            .apic
            .as_ref()
            .is_some_and(|apic| apic.base().address() == page && (hole || apic.has_mmio()))
    }

    /// What a refused access to an MSR comes to: userspace may want to answer it.
    fn refused_msr(&mut self, index: u32, written: Option<u64>, refusal: Refusal) -> Stop {
        match msr_filter::ask(self.cx, index, written, refusal) {
            Some(Ok(_)) => Stop::NeedsExit,
            Some(Err(_)) => Stop::Unsupported,
            None => Stop::GP0,
        }
    }

    /// Makes the hypercall instruction at RIP the one that this processor has: then it
    /// exits cheaply, and works where the guest moves to. The guest executes it again.
    fn fix_hypercall(&mut self, own: Hypercall) -> Stop {
        if !self.cx.vm.arch().settings.has_quirk(Quirk::FixHypercallInsn) {
            return Stop::UD;
        }
        // They differ in the last byte (SDM vol. 2, VMCALL; APM vol. 3, VMMCALL), so that
        // no other vCPU ever sees half of the change.
        let last = match own {
            Hypercall::Vmcall => 0xc1,
            Hypercall::Vmmcall => 0xd9,
        };
        let start = debug::linear_rip(&self.cx.state.control);
        let patched = fetch(self, &[]).and_then(|insn| {
            let at = start.wrapping_add(u64::from(insn.len).wrapping_sub(1));
            self.write_linear(at, &[last], Access::DATA)
        });
        patched.err().unwrap_or(Stop::Retry)
    }

    /// Serves an access by a device that the kernel has; `None` if userspace has
    /// to. Reads answer with the data. `off`: it is a read, and interrupts are off where spin
    /// locks may be taken.
    pub(super) fn in_kernel(&mut self, access: &Fragment, off: Option<&IrqOff>) -> Option<u64> {
        if self.is_apic_page(Gpa::new(access.addr)) {
            return Some(crate::apic::access(self.cx, access));
        }
        let vm = &*self.cx.vm;
        let len = usize::from(access.len);
        let space = match access.kind {
            FragmentKind::MmioRead | FragmentKind::MmioWrite => Space::Mmio,
            FragmentKind::PortIn | FragmentKind::PortOut => Space::Pio,
        };
        if access.kind.is_read() {
            let mut bytes = [0; 8];
            let part = bytes.get_mut(..len)?;
            let served = match off {
                Some(off) => vm.io().read_at_once(vm, space, access.addr, part, off),
                None => vm.io().read(vm, space, access.addr, part),
            };
            let data = u64::from_le_bytes(bytes);
            if served && space == Space::Mmio {
                kvm_mmio(access.addr, access.len, Mmio::Read(data));
            }
            served.then_some(data)
        } else {
            let bytes = access.data.to_le_bytes();
            let served = vm.io().write(vm, space, access.addr, bytes.get(..len)?);
            if served && space == Space::Mmio {
                kvm_mmio(access.addr, access.len, Mmio::Write(access.data));
            }
            served.then_some(access.data)
        }
    }
}

impl<V: Vendor> Cpu for Processor<'_, '_, V> {
    #[inline]
    fn gpr(&self, n: u8) -> u64 {
        self.cx.state.gprs.get(usize::from(n)).copied().unwrap_or(0)
    }

    #[inline]
    fn set_gpr(&mut self, n: u8, value: u64) {
        if let Some(gpr) = self.cx.state.gprs.get_mut(usize::from(n)) {
            *gpr = value;
        }
    }

    fn rip(&self) -> u64 {
        self.cx.state.control.rip()
    }

    fn set_rip(&mut self, value: u64) {
        self.cx.state.control.set_rip(value);
    }

    fn rflags(&self) -> Rflags {
        self.cx.state.control.rflags()
    }

    fn set_rflags(&mut self, value: Rflags) {
        self.cx.state.control.set_rflags(value);
    }

    fn segment(&self, reg: SegReg) -> Segment {
        self.cx.state.control.segment(reg)
    }

    fn set_segment(&mut self, reg: SegReg, segment: &Segment) {
        self.cx.state.control.set_segment(reg, segment);
    }

    fn table(&self, table: Table) -> TableReg {
        self.cx.state.control.table(table)
    }

    fn set_table(&mut self, table: Table, value: TableReg) {
        self.cx.state.control.set_table(table, value);
    }

    fn cpl(&self) -> u8 {
        self.cx.state.control.cpl()
    }

    fn set_cpl(&mut self, cpl: u8) {
        self.cx.state.control.set_cpl(cpl);
    }

    fn cr0(&self) -> Cr0 {
        self.cx.state.control.cr0()
    }

    fn cr4(&self) -> Cr4 {
        self.cx.state.control.cr4()
    }

    fn efer(&self) -> Efer {
        self.cx.state.control.efer()
    }

    fn mode(&self) -> Mode {
        if self.cx.state.control.is_64_bit_code() {
            return Mode::Long64;
        }
        Mode::of(self.cr0(), self.efer(), self.rflags(), &self.segment(SegReg::Cs))
    }

    fn features(&self) -> Features {
        cpuid::emulated_features(self.cx.state)
    }

    fn cr(&self, n: u8) -> u64 {
        registers::cr(self.cx.state, n)
    }

    fn set_cr(&mut self, n: u8, value: u64) -> Result<(), Stop> {
        kvm_cr(|| (1, n.into(), value));
        let old = regs::cr8(self.cx.state);
        registers::write_cr(self.cx, n, value)?;
        if n == 8 && self.cx.state.apic.is_none() && regs::cr8(self.cx.state) < old {
            self.after = After::LowerPriority;
        }
        Ok(())
    }

    fn dr(&self, n: u8) -> u64 {
        self.cx.state.debug.read(n)
    }

    fn set_dr(&mut self, n: u8, value: u64) -> Result<(), Stop> {
        let state = &mut *self.cx.state;
        state.debug.write(&mut state.control, n, value).map_err(|_| Stop::GP0)
    }

    fn xcr(&self, n: u32) -> Result<u64, Stop> {
        if n == 0 {
            Ok(self.cx.state.extended.xcr0())
        } else {
            Err(Stop::GP0)
        }
    }

    fn set_xcr(&mut self, n: u32, value: u64) -> Result<(), Stop> {
        registers::write_xcr(self.cx, n, value)
    }

    fn read(&mut self, linear: u64, buf: &mut [u8], access: Access) -> Result<(), Stop> {
        self.read_linear(linear, buf, access)
    }

    fn write(&mut self, linear: u64, data: &[u8], access: Access) -> Result<(), Stop> {
        self.write_linear(linear, data, access)
    }

    fn compare_exchange(
        &mut self,
        linear: u64,
        old: &[u8],
        new: &[u8],
        access: Access,
    ) -> Result<bool, Stop> {
        self.exchange_linear(linear, old, new, access)
    }

    fn fetch(&mut self, linear: u64, buf: &mut [u8]) -> Result<(), Stop> {
        self.fetch_linear(linear, buf)
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Stop> {
        self.device(FragmentKind::PortIn, port.into(), size.into(), 0).map(|data| data as u32)
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop> {
        self.device(FragmentKind::PortOut, port.into(), size.into(), value.into()).map(|_| ())
    }

    fn port_in_string(&mut self, port: u16, size: u8, most: u64) -> Result<u32, Stop> {
        self.string_in(port, size, most)
    }

    fn port_out_string(
        &mut self,
        port: u16,
        size: u8,
        linear: u64,
        most: u64,
    ) -> Result<u64, Stop> {
        self.string_out(port, size, linear, most)
    }

    fn read_msr(&mut self, index: u32) -> Result<u64, Stop> {
        msr::read(self.cx, index).map_err(|refusal| self.refused_msr(index, None, refusal))
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<(), Stop> {
        let written = msr::write(self.cx, index, value);
        written.map_err(|refusal| self.refused_msr(index, Some(value), refusal))
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4], Stop> {
        if self.cx.state.msrs.cpuid_faults() && self.cx.state.control.cpl() != 0 {
            return Err(Stop::GP0);
        }
        Ok(cpuid::answer(self.cx, leaf, subleaf))
    }

    fn tsc(&mut self) -> u64 {
        crate::tsc::guest_now(self.cx.state)
    }

    fn read_pmc(&mut self, _index: u32) -> Result<u64, Stop> {
        // The guest has no performance counters.
        Err(Stop::GP0)
    }

    fn effect(&mut self, effect: Effect) -> Result<(), Stop> {
        match effect {
            Effect::Halt => self.after = After::Halt,
            Effect::InvalidatePage(_) | Effect::InvalidatePcid { .. } => {
                self.cx.state.control.flush_guest_tlb();
            }
            Effect::UnblockNmi => self.cx.state.control.set_nmi_blocked(false),
            Effect::FpuInit => self.cx.state.fpu.init_x87(),
            Effect::FpuControl(word) => {
                // The executor made sure that no x87 exception is pending.
                let _ = self.cx.state.fpu.set_control(word);
            }
            // Caches are coherent, and waiting less than asked for is allowed.
            Effect::WriteBackCaches
            | Effect::FlushLine(_)
            | Effect::Pause
            | Effect::Monitor(_)
            | Effect::Mwait(..) => {}
        }
        Ok(())
    }

    fn hypercall(&mut self, call: Hypercall) -> Result<(), Stop> {
        let own = if V::AMD { Hypercall::Vmmcall } else { Hypercall::Vmcall };
        if call != own {
            return Err(self.fix_hypercall(own));
        }
        hypercall::call(self.cx);
        Ok(())
    }

    fn ymm(&mut self, n: u8) -> [u64; 4] {
        self.cx.state.fpu.ymm(n)
    }

    fn set_ymm(&mut self, n: u8, value: [u64; 4]) {
        self.cx.state.fpu.set_ymm(n, value);
    }

    fn set_xmm(&mut self, n: u8, value: [u64; 2]) {
        self.cx.state.fpu.set_xmm(n, value);
    }

    fn mm(&mut self, n: u8) -> u64 {
        self.cx.state.fpu.mm(n).unwrap_or(0)
    }

    fn set_mm(&mut self, n: u8, value: u64) {
        // As above.
        let _ = self.cx.state.fpu.set_mm(n, value);
    }

    fn fpu_words(&mut self) -> FpuWords {
        let (control, status) = self.cx.state.fpu.words();
        FpuWords { control, status }
    }

    fn iteration_done(&mut self) {
        self.cx.state.replay.clear();
        self.element_done();
    }
}
