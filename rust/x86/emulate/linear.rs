// SPDX-License-Identifier: GPL-2.0
//! Guest memory by linear address, as the emulator accesses it.

use super::cpu::Processor;
use crate::{
    control::Control,
    exit::debug,
    registers,
    state::Cx,
    vendor::{Vendor, X86},
};
use kernel::prelude::*;
use kvm_core::memory::{Guest, Kind, Memory, Path};
use kvm_emulate::{
    io::{Fragment, FragmentKind, Next as Answer, FRAGMENT_BYTES},
    Access, Exception, Stop,
};
use kvm_paging::{
    addr::Gpa,
    guest::{
        fault::Failed,
        mode::{self, Paging, Tables},
        walk,
    },
};
use x86_defs::{Cr0, Cr4, Efer, PageFaultCode, Rflags};

/// Bytes of a guest page.
const PAGE: u64 = 0x1000;

/// The paging mode of a vCPU.
pub(crate) fn paging<V: Vendor>(cx: &Cx<'_, V>) -> Paging {
    let state = &*cx.state;
    let control = &state.control;
    let (cr0, cr4, efer) = (control.cr0(), control.cr4(), control.efer());
    let tables = if !cr0.contains(Cr0::PG) {
        Tables::None
    } else if efer.contains(Efer::LMA) {
        if cr4.contains(Cr4::LA57) {
            Tables::Long5
        } else {
            Tables::Long4
        }
    } else if cr4.contains(Cr4::PAE) {
        Tables::Pae { pointers: registers::pdptrs(cx) }
    } else {
        Tables::Legacy { large: cr4.contains(Cr4::PSE) }
    };
    Paging {
        tables,
        cr3: control.cr3(),
        write_protect: cr0.contains(Cr0::WP),
        no_execute: efer.contains(Efer::NXE),
        smep: cr4.contains(Cr4::SMEP),
        smap: cr4.contains(Cr4::SMAP),
        user_keys: cr4.contains(Cr4::PKE).then(|| state.pkru()),
        physical_bits: state.physical_bits(),
        huge_pages: true,
    }
}

/// Where a linear address leads, for the guest's kernel.
pub(super) fn physical<V: Vendor>(cx: &Cx<'_, V>, linear: u64) -> Option<u64> {
    let access = mode::Access { write: false, fetch: false, user: false, smap_override: true };
    let paging = paging(cx);
    if matches!(paging.tables, Tables::None) && linear > u32::MAX.into() {
        // No instruction makes such an address.
        return None;
    }
    let guest = cx.vm.memory_of(cx.state.smm.is_active()).guest().by(cx.vcpu.index());
    walk::translate(&paging, &mut Path::new(&guest), linear, access)
        .ok()
        .map(|translation| translation.gpa.raw())
}

/// Parts of an access, split at page boundaries: linear address, and range of the
/// buffer. At most two.
fn parts(linear: u64, len: usize) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let room = PAGE.wrapping_sub(linear & PAGE.wrapping_sub(1)) as usize;
    let first = len.min(room);
    let second = (first < len).then(|| (linear.wrapping_add(first as u64), first..len));
    Iterator::chain(core::iter::once((linear, 0..first)), second)
}

/// Bytes of the next fragment of an access: as much as an exit can carry.
fn fragment_len(len: usize) -> usize {
    len.min(FRAGMENT_BYTES)
}

fn to_u64(bytes: &[u8]) -> u64 {
    let mut data = [0; 8];
    data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(data)
}

impl<V: Vendor> Processor<'_, '_, V> {
    /// The memory of the address space that the vCPU is in.
    pub(super) fn memory(&self) -> &Memory<X86<V>> {
        self.cx.vm.memory_of(self.cx.state.smm.is_active())
    }

    /// What the vCPU accesses it through.
    pub(super) fn guest(&self) -> Guest<'_> {
        self.memory().guest().by(self.cx.vcpu.index())
    }

    /// The same in any context, to read only.
    #[inline]
    pub(super) fn guest_atomic(&self) -> Guest<'_> {
        self.memory().guest_atomic()
    }

    /// Translates for an access; #PF if the guest's tables forbid it.
    pub(super) fn translate(
        &mut self,
        linear: u64,
        write: bool,
        fetch: bool,
        system: bool,
    ) -> Result<Gpa, Stop> {
        if let Some(gpa) = self.touched.filter(|_| !fetch && !system) {
            if gpa.page_offset() == linear & PAGE.wrapping_sub(1) {
                return Ok(gpa);
            }
        }
        let state = &*self.cx.state;
        let user = !system && state.control.cpl() == 3;
        let access = mode::Access {
            write,
            fetch,
            user,
            smap_override: !system && state.control.rflags().contains(Rflags::AC),
        };
        let paging = paging(self.cx);
        let guest = self.guest();
        match walk::translate(&paging, &mut Path::new(&guest), linear, access) {
            Ok(translation) => Ok(translation.gpa),
            Err(Failed::Guest(fault)) => {
                let code = PageFaultCode::from_bits_truncate(fault.bits());
                Err(Stop::Fault(Exception::page_fault(code, linear)))
            }
            // The guest's tables lie in nothing.
            Err(Failed::Memory(_)) => Err(Stop::Unsupported),
        }
    }

    /// Reads memory or a device.
    pub(super) fn read_linear(
        &mut self,
        linear: u64,
        buf: &mut [u8],
        access: Access,
    ) -> Result<(), Stop> {
        for (at, range) in parts(linear, buf.len()) {
            let gpa = self.translate(at, access.write_intent, false, access.system)?;
            let part = buf.get_mut(range).ok_or(Stop::Unsupported)?;
            self.read_physical(gpa, part)?;
        }
        Ok(())
    }

    /// Fetches code within one page.
    pub(super) fn fetch_linear(&mut self, linear: u64, buf: &mut [u8]) -> Result<(), Stop> {
        let gpa = self.translate(linear, false, true, false)?;
        self.cx
            .vm
            .memory_of(self.cx.state.smm.is_active())
            .read(gpa, buf)
            .map_err(|_| Stop::Unsupported)
    }

    /// The next words of code, if they lie in one page and are there; in any context that `guest`
    /// is for.
    pub(super) fn fetch_words<const N: usize>(&self, guest: &Guest<'_>) -> Option<[u64; N]> {
        const WORD: u64 = 8;
        let control = &self.cx.state.control;
        control.expect_fetch();
        let is_pae = control.cr4().contains(Cr4::PAE) && !control.efer().contains(Efer::LMA);
        if is_pae && !guest.may_wait() {
            // Their pointers may have to be read first.
            return None;
        }
        let linear = debug::linear_rip(control);
        let size = WORD.wrapping_mul(N as u64);
        if linear & PAGE.wrapping_sub(1) > PAGE.wrapping_sub(size) {
            return None;
        }
        let user = control.cpl() == 3;
        let access = mode::Access { write: false, fetch: true, user, smap_override: false };
        let mut path = Path::new(guest);
        let translation = walk::translate(&paging(self.cx), &mut path, linear, access).ok()?;
        let mut at = translation.gpa.raw();
        let mut words = [0; N];
        for word in &mut words {
            *word = path.word(Gpa::new(at)).ok()?;
            at = at.wrapping_add(WORD);
        }
        Some(words)
    }

    fn read_physical(&mut self, gpa: Gpa, buf: &mut [u8]) -> Result<(), Stop> {
        let memory = self.cx.vm.memory_of(self.cx.state.smm.is_active());
        let is_memory = memory.kind(gpa) != Kind::Device && !self.is_apic_page(gpa);
        // A slot may have gone since, or have nothing behind it: then userspace is asked.
        if is_memory && memory.read(gpa, buf).is_ok() {
            return Ok(());
        }
        let mut gpa = gpa.raw();
        let mut rest = buf;
        while !rest.is_empty() {
            let len = fragment_len(rest.len());
            let (now, later) = rest.split_at_mut_checked(len).ok_or(Stop::Unsupported)?;
            let data = self.device(FragmentKind::MmioRead, gpa, now.len(), 0)?;
            now.iter_mut().zip(data.to_le_bytes()).for_each(|(to, from)| *to = from);
            gpa = gpa.wrapping_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// Writes memory or a device; both pages are translated before anything is
    /// written.
    pub(super) fn write_linear(
        &mut self,
        linear: u64,
        data: &[u8],
        access: Access,
    ) -> Result<(), Stop> {
        let mut gpas = [Gpa::new(0); 2];
        for (slot, (at, _)) in gpas.iter_mut().zip(parts(linear, data.len())) {
            *slot = self.translate(at, true, false, access.system)?;
        }
        for (gpa, (_, range)) in gpas.into_iter().zip(parts(linear, data.len())) {
            let part = data.get(range).ok_or(Stop::Unsupported)?;
            self.write_physical(gpa, part)?;
        }
        Ok(())
    }

    fn write_physical(&mut self, gpa: Gpa, data: &[u8]) -> Result<(), Stop> {
        let memory = self.cx.vm.memory_of(self.cx.state.smm.is_active());
        let is_memory = memory.kind(gpa) == Kind::Memory && !self.is_apic_page(gpa);
        if is_memory && self.guest().write(gpa, data).is_ok() {
            return Ok(());
        }
        let mut gpa = gpa.raw();
        let mut rest = data;
        while !rest.is_empty() {
            let len = fragment_len(rest.len());
            let (now, later) = rest.split_at_checked(len).ok_or(Stop::Unsupported)?;
            self.device(FragmentKind::MmioWrite, gpa, now.len(), to_u64(now))?;
            gpa = gpa.wrapping_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// Compares and exchanges in memory. On a device it is a plain write.
    pub(super) fn exchange_linear(
        &mut self,
        linear: u64,
        old: &[u8],
        new: &[u8],
        access: Access,
    ) -> Result<bool, Stop> {
        let len = new.len();
        let gpa = self.translate(linear, true, false, access.system)?;
        let is_aligned = gpa.raw() & (len as u64).wrapping_sub(1) == 0;
        if !is_aligned
            || self.cx.vm.memory_of(self.cx.state.smm.is_active()).kind(gpa) != Kind::Memory
        {
            self.write_linear(linear, new, access)?;
            return Ok(true);
        }
        if len > 8 {
            return Err(Stop::Unsupported);
        }
        let guest = self.guest();
        let exchanged = guest.compare_exchange(gpa, len, to_u64(old), to_u64(new));
        exchanged.map_err(|_| Stop::Unsupported)
    }

    /// One access to a device: from the record, in the kernel, or by userspace.
    pub(super) fn device(
        &mut self,
        kind: FragmentKind,
        addr: u64,
        len: usize,
        data: u64,
    ) -> Result<u64, Stop> {
        let fragment = Fragment { kind, addr, len: len as u8, data };
        match self.cx.state.replay.next(fragment) {
            Answer::Done(data) => Ok(data),
            Answer::Full => Err(Stop::Unsupported),
            Answer::Exit => match self.in_kernel(&fragment, None) {
                Some(answer) => {
                    self.cx.state.replay.complete(answer);
                    // It counts as answered in this pass as well.
                    let _ = self.cx.state.replay.next(fragment);
                    Ok(answer)
                }
                None => Err(Stop::NeedsExit),
            },
        }
    }
}
