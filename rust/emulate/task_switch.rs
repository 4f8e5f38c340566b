// SPDX-License-Identifier: GPL-2.0
//! The hardware task switch, 16- and 32-bit.
//!
//! Intel SDM volume 3 section 8.3. Both vendors' processors leave it to the
//! hypervisor. What fails before the new state is loaded is a fault of the old
//! task; later faults are those of the new task, whose registers are in place.

use crate::cpu::{Access, Cpu};
use crate::decode::Insn;
use crate::exec::{Exec, LoadKind};
use crate::fault::{Completed, Stop};
use x86_defs::tss::{tss16, tss32};
use x86_defs::{Cr0, Descriptor, Dr7, Mode, Rflags, SegReg, Segment, Selector, SystemType, Vector};

/// What caused a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSwitchSource {
    /// CALL to a TSS or task gate: nests.
    Call,
    /// JMP.
    Jump,
    /// IRET with NT.
    Iret,
    /// An interrupt or exception through a task gate: nests.
    Gate,
}

/// A task switch that hardware left to us.
#[derive(Clone, Copy, Debug)]
pub struct TaskSwitch {
    /// Selector of the new TSS.
    pub selector: u16,
    /// Cause.
    pub source: TaskSwitchSource,
    /// Error code to push on the new stack.
    pub error_code: Option<u32>,
    /// RIP that the old task resumes at.
    pub next_rip: u64,
}

/// Performs a task switch; gate privilege was checked by the processor.
///
/// # Errors
///
/// See [`Stop`]; faults are #TS, #NP, #SS, #GP or #PF.
pub fn task_switch<C: Cpu>(cpu: &mut C, request: &TaskSwitch) -> Result<Completed, Stop> {
    let insn = Insn::empty();
    let mode = cpu.mode();
    let mut exec =
        Exec { cpu, insn: &insn, mode, next: request.next_rip, done: Completed::default() };
    switch(&mut exec, Selector(request.selector), request.source, request.error_code)?;
    Ok(exec.done)
}

/// Registers of a task as its TSS holds them.
#[derive(Clone, Copy, Default)]
struct Image {
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    gprs: [u64; 8],
    /// ES, CS, SS, DS, FS, GS.
    segs: [u16; 6],
    ldt: u16,
    trap: bool,
}

const SIZE: usize = tss32::SIZE as usize;

struct Bytes([u8; SIZE]);

impl Bytes {
    fn u16(&self, at: u16) -> u16 {
        let at = usize::from(at);
        let low = self.0.get(at).copied().unwrap_or(0);
        let high = self.0.get(at.wrapping_add(1)).copied().unwrap_or(0);
        u16::from_le_bytes([low, high])
    }

    fn u32(&self, at: u16) -> u64 {
        u64::from(self.u16(at)) | u64::from(self.u16(at.wrapping_add(2))) << 16
    }

    fn put(&mut self, at: u16, size: u8, value: u64) {
        let at = usize::from(at);
        let end = at.wrapping_add(usize::from(size));
        if let Some(slots) = self.0.get_mut(at..end) {
            for (slot, byte) in slots.iter_mut().zip(value.to_le_bytes()) {
                *slot = byte;
            }
        }
    }
}

/// Offset of element `n` of an array in a TSS.
fn element(base: u16, n: usize, stride: u16) -> u16 {
    base.wrapping_add((n as u16).wrapping_mul(stride))
}

impl Image {
    fn parse(raw: &Bytes, wide: bool) -> Self {
        let mut image = Self::default();
        if wide {
            image.cr3 = Some(raw.u32(tss32::CR3));
            image.ip = raw.u32(tss32::EIP);
            image.flags = raw.u32(tss32::EFLAGS);
            for (n, gpr) in image.gprs.iter_mut().enumerate() {
                *gpr = raw.u32(element(tss32::EAX, n, 4));
            }
            for (n, seg) in image.segs.iter_mut().enumerate() {
                *seg = raw.u16(element(tss32::ES, n, 4));
            }
            image.ldt = raw.u16(tss32::LDT);
            image.trap = raw.u16(tss32::T) & 1 != 0;
            return image;
        }
        image.ip = u64::from(raw.u16(tss16::IP));
        image.flags = u64::from(raw.u16(tss16::FLAGS));
        for (n, gpr) in image.gprs.iter_mut().enumerate() {
            *gpr = u64::from(raw.u16(element(tss16::AX, n, 2)));
        }
        for (n, seg) in image.segs.iter_mut().take(4).enumerate() {
            *seg = raw.u16(element(tss16::ES, n, 2));
        }
        image.ldt = raw.u16(tss16::LDT);
        image
    }
}

/// The switch itself, within an instruction or for an exit.
pub(crate) fn switch<C: Cpu>(
    x: &mut Exec<'_, C>,
    sel: Selector,
    source: TaskSwitchSource,
    error_code: Option<u32>,
) -> Result<(), Stop> {
    let old_tr = x.cpu.segment(SegReg::Tr);
    let nested = matches!(source, TaskSwitchSource::Call | TaskSwitchSource::Gate);
    let (mut found, wide) = new_tss(x, sel, source)?;
    let new_tr = found.desc.to_segment(sel, 0);
    let mut raw = Bytes([0; SIZE]);
    let len = usize::from(if wide { tss32::SIZE } else { tss16::SIZE });
    let image = raw.0.get_mut(..len).ok_or(Stop::Unsupported)?;
    let mut at = new_tr.base;
    for chunk in image.chunks_mut(32) {
        x.cpu.read(at, chunk, Access::SYSTEM)?;
        at = at.wrapping_add(chunk.len() as u64);
    }
    save(x, &old_tr, source)?;
    if nested {
        x.write_linear(new_tr.base, 2, u64::from(old_tr.selector), Access::SYSTEM)?;
    } else {
        clear_busy(x, Selector(old_tr.selector))?;
    }
    if source != TaskSwitchSource::Iret {
        x.set_descriptor_bits(&mut found, Descriptor::BUSY)?;
    }
    let mut image = Image::parse(&raw, wide);
    if nested {
        image.flags |= Rflags::NT.bits();
    }
    let mut tr = found.desc.to_segment(sel, 0);
    tr.typ |= 2;
    x.cpu.set_segment(SegReg::Tr, &tr);
    load(x, &image, wide)?;
    if let Some(code) = error_code {
        x.push_error_code(if wide { 4 } else { 2 }, code)?;
    }
    x.done.task_trap = image.trap;
    Ok(())
}

/// Finds and checks the new TSS; whether it is 32-bit.
fn new_tss<C: Cpu>(
    x: &mut Exec<'_, C>,
    sel: Selector,
    source: TaskSwitchSource,
) -> Result<(crate::exec::Found, bool), Stop> {
    let vector = if source == TaskSwitchSource::Iret { Vector::Ts } else { Vector::Gp };
    let fault = Stop::sel(vector, sel.error_code());
    if sel.is_null() || sel.is_local() || x.long_active() {
        return Err(fault);
    }
    let found = x.descriptor(sel, vector)?;
    let busy_expected = source == TaskSwitchSource::Iret;
    let wide = match (found.desc.s(), found.desc.system_type()) {
        (false, SystemType::Tss32) if !busy_expected => true,
        (false, SystemType::Tss32Busy) if busy_expected => true,
        (false, SystemType::Tss16) if !busy_expected => false,
        (false, SystemType::Tss16Busy) if busy_expected => false,
        _ => return Err(fault),
    };
    if !found.desc.present() {
        return Err(Stop::sel(Vector::Np, sel.error_code()));
    }
    let need = if wide { tss32::SIZE } else { tss16::SIZE };
    if found.desc.limit() < u32::from(need).wrapping_sub(1) {
        return Err(Stop::sel(Vector::Ts, sel.error_code()));
    }
    Ok((found, wide))
}

/// Writes the current registers to the current TSS.
fn save<C: Cpu>(x: &mut Exec<'_, C>, tr: &Segment, source: TaskSwitchSource) -> Result<(), Stop> {
    let wide = tr.typ & 8 != 0;
    let mut flags = x.cpu.rflags();
    if source == TaskSwitchSource::Iret {
        flags.remove(Rflags::NT);
    }
    let mut raw = Bytes([0; SIZE]);
    let (size, stride, ip, at_flags, gprs, segs, end) = if wide {
        (4u8, 4u16, tss32::EIP, tss32::EFLAGS, tss32::EAX, tss32::ES, tss32::LDT)
    } else {
        (2, 2, tss16::IP, tss16::FLAGS, tss16::AX, tss16::ES, tss16::LDT)
    };
    raw.put(ip, size, x.next);
    raw.put(at_flags, size, flags.bits());
    for n in 0..8u8 {
        raw.put(element(gprs, usize::from(n), stride), size, x.cpu.gpr(n));
    }
    let count = if wide { 6 } else { 4 };
    for (n, reg) in SegReg::USER.into_iter().take(count).enumerate() {
        raw.put(element(segs, n, stride), size, u64::from(x.cpu.segment(reg).selector));
    }
    let range = usize::from(ip)..usize::from(end);
    let data = raw.0.get(range).ok_or(Stop::Unsupported)?;
    let (first, rest) = data.split_at_checked(32).unwrap_or((data, &[]));
    let at = tr.base.wrapping_add(u64::from(ip));
    x.cpu.write(at, first, Access::SYSTEM)?;
    if rest.is_empty() {
        return Ok(());
    }
    x.cpu.write(at.wrapping_add(32), rest, Access::SYSTEM)
}

/// The outgoing task of JMP and IRET is no longer busy.
fn clear_busy<C: Cpu>(x: &mut Exec<'_, C>, sel: Selector) -> Result<(), Stop> {
    let found = x.descriptor(sel, Vector::Ts)?;
    let old = found.desc.0;
    if !x.exchange_linear(found.addr, 8, old, old & !Descriptor::BUSY, Access::SYSTEM)? {
        return Err(Stop::Retry);
    }
    Ok(())
}

/// Loads the new task's registers, then its descriptors.
fn load<C: Cpu>(x: &mut Exec<'_, C>, image: &Image, wide: bool) -> Result<(), Stop> {
    if let (Some(cr3), true) = (image.cr3, x.cpu.cr0().contains(Cr0::PG)) {
        x.cpu.load_task_cr3(cr3)?;
    }
    let cr0 = x.cpu.cr(0) | Cr0::TS.bits();
    x.cpu.set_cr(0, cr0)?;
    let dr7 = Dr7::from_bits_retain(x.cpu.dr(7));
    if dr7.intersects(Dr7::LOCAL) {
        x.cpu.set_dr(7, dr7.difference(Dr7::LOCAL).bits())?;
    }
    let flags = Rflags::from_bits_retain(image.flags & 0x3f_7fd5) | Rflags::FIXED;
    let old_flags = x.cpu.rflags();
    let flags =
        if wide { flags } else { Rflags::from_bits_retain(old_flags.bits() & 0x3d_0000) | flags };
    x.next = image.ip;
    x.cpu.set_rip(image.ip);
    for (n, gpr) in (0..8u8).zip(image.gprs) {
        x.set_reg(n, if wide { 4 } else { 2 }, gpr);
    }
    // Selectors first: a fault from here on is the new task's.
    for (reg, selector) in SegReg::USER.into_iter().zip(image.segs) {
        let seg = Segment { selector, ..Segment::null(selector) };
        x.cpu.set_segment(reg, &seg);
    }
    let vm86 = flags.contains(Rflags::VM);
    x.cpu.set_rflags(flags);
    let [_, cs, ..] = image.segs;
    let cpl = if vm86 { 3 } else { Selector(cs).rpl() };
    x.cpu.set_cpl(cpl);
    let ldt = x.ldt_segment(Selector(image.ldt), LoadKind::Task)?;
    x.cpu.set_segment(SegReg::Ldtr, &ldt);
    x.mode = if vm86 { Mode::Vm86 } else { Mode::Prot32 };
    load_segments(x, image, cpl, vm86)
}

fn load_segments<C: Cpu>(
    x: &mut Exec<'_, C>,
    image: &Image,
    cpl: u8,
    vm86: bool,
) -> Result<(), Stop> {
    let code = SegReg::USER.into_iter().zip(image.segs);
    for (reg, selector) in code {
        let sel = Selector(selector);
        let seg = match reg {
            SegReg::Cs if !vm86 => x.task_code(sel)?,
            _ => x.data_segment(reg, sel, cpl, LoadKind::Task)?,
        };
        x.cpu.set_segment(reg, &seg);
    }
    let ip = x.next;
    if ip > u64::from(x.cpu.segment(SegReg::Cs).limit) {
        return Err(Stop::GP0);
    }
    Ok(())
}

impl<C: Cpu> Exec<'_, C> {
    /// CS of a new task.
    fn task_code(&mut self, sel: Selector) -> Result<Segment, Stop> {
        let fault = Stop::sel(Vector::Ts, sel.error_code());
        if sel.is_null() {
            return Err(fault);
        }
        let mut found = self.descriptor(sel, Vector::Ts)?;
        let seg = found.desc.to_segment(sel, 0);
        let privilege =
            if seg.is_conforming() { seg.dpl <= sel.rpl() } else { seg.dpl == sel.rpl() };
        if !seg.is_code() || !privilege {
            return Err(fault);
        }
        if !seg.present {
            return Err(Stop::sel(Vector::Np, sel.error_code()));
        }
        self.set_descriptor_bits(&mut found, Descriptor::ACCESSED)?;
        Ok(found.desc.to_segment(sel, 0))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::fake::FakeCpu;

    fn cpu() -> FakeCpu {
        let mut cpu = FakeCpu::new(Mode::Prot32);
        cpu.map(0, 0x10000, true);
        cpu.gdt = x86_defs::TableReg { base: 0x1000, limit: 0x7f };
        let tss = |base: u64| 0x0000_8900_0000_0067u64 | base << 16;
        let gdt = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            tss(0x3000) | Descriptor::BUSY,
            tss(0x4000),
        ];
        for (n, desc) in gdt.into_iter().enumerate() {
            cpu.poke(0x1000 + 8 * n as u64, &desc.to_le_bytes());
        }
        let tr = Descriptor(gdt[3]).to_segment(Selector(0x18), 0);
        cpu.set_seg(SegReg::Tr, tr);
        // The new task.
        for (at, value) in [
            (tss32::EIP, 0x1234u32),
            (tss32::EFLAGS, 0x46),
            (tss32::EAX + 16, 0x8000),
            (tss32::EAX, 7),
        ] {
            cpu.poke(0x4000 + u64::from(at), &value.to_le_bytes());
        }
        for n in 0..6u64 {
            cpu.poke(0x4000 + u64::from(tss32::ES) + 4 * n, &[if n == 1 { 8 } else { 0x10 }]);
        }
        cpu.gprs[3] = 0xabcd;
        cpu.rip = 0x100;
        cpu
    }

    #[test]
    fn call_nests_and_iret_returns() {
        let mut cpu = cpu();
        cpu.run(&[0x9a, 0, 0, 0, 0, 0x20, 0]).unwrap();
        assert_eq!((cpu.rip, cpu.gprs[0], cpu.gprs[4]), (0x1234, 7, 0x8000));
        assert!(cpu.rflags.contains(Rflags::NT | Rflags::ZF));
        assert_eq!(cpu.peek(0x4000, 2), 0x18);
        assert_eq!(cpu.peek(0x3000 + u64::from(tss32::EIP), 4), 0x107);
        assert_eq!(cpu.peek(0x3000 + u64::from(tss32::EAX) + 12, 4), 0xabcd);
        assert_eq!(cpu.peek(0x1025, 1), 0x8b);
        assert_eq!((cpu.seg(SegReg::Tr).selector, cpu.seg(SegReg::Tr).typ), (0x20, 11));
        assert!(cpu.cr0.contains(Cr0::TS));
        cpu.run(&[0xcf]).unwrap();
        assert_eq!((cpu.rip, cpu.gprs[3], cpu.seg(SegReg::Tr).selector), (0x107, 0xabcd, 0x18));
        assert_eq!((cpu.peek(0x1025, 1), cpu.peek(0x101d, 1)), (0x89, 0x8b));
        assert!(!cpu.rflags.contains(Rflags::NT));
    }

    #[test]
    fn error_code_goes_to_the_new_stack() {
        let mut cpu = cpu();
        let request = TaskSwitch {
            selector: 0x20,
            source: TaskSwitchSource::Gate,
            error_code: Some(0x55),
            next_rip: 0x100,
        };
        task_switch(&mut cpu, &request).unwrap();
        assert_eq!((cpu.gprs[4], cpu.peek(0x7ffc, 4)), (0x7ffc, 0x55));
    }

    #[test]
    fn a_short_or_absent_tss_faults_in_the_old_task() {
        let mut cpu = cpu();
        cpu.poke(0x1020, &[0x66]);
        assert_eq!(cpu.run(&[0xea, 0, 0, 0, 0, 0x20, 0]), Err(Stop::sel(Vector::Ts, 0x20)));
        cpu.poke(0x1025, &[0x09]);
        assert_eq!(cpu.run(&[0xea, 0, 0, 0, 0, 0x20, 0]), Err(Stop::sel(Vector::Np, 0x20)));
        assert_eq!(cpu.rip, 0x100);
    }
}
