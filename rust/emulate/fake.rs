// SPDX-License-Identifier: GPL-2.0
//! A processor in plain memory, for unit tests, the differential test and fuzzing.
//!
//! Memory is a list of [`Region`]s; anything else page-faults. Ranges listed
//! in [`FakeCpu::devices`] exit through [`Replay`], as do
//! ports, so that restarts can be tested.

extern crate std;

use crate::cpu::{Access, Cpu, Effect, Features, FpuWords, Hypercall, Table};
use crate::decode::{decode, DecodeError};
use crate::exec::execute;
use crate::fault::{Completed, Exception, Stop};
use crate::io::{Fragment, FragmentKind, Next, Replay};
use std::collections::BTreeMap;
use std::ops::Range;
use std::vec::Vec;
use x86_defs::{Cr0, Cr4, Efer, Mode, PageFaultCode, Rflags, SegReg, Segment, TableReg};

/// A piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Linear address of the first byte; page-aligned.
    pub base: u64,
    /// Contents.
    pub bytes: Vec<u8>,
    /// Whether it may be written.
    pub writable: bool,
}

/// The fake processor. Fields are public: a test sets what it needs.
#[derive(Clone, Debug)]
pub struct FakeCpu {
    /// General registers.
    pub gprs: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: Rflags,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segs: [Segment; 8],
    /// GDTR.
    pub gdt: TableReg,
    /// IDTR.
    pub idt: TableReg,
    /// CPL.
    pub cpl: u8,
    /// CR0.
    pub cr0: Cr0,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// CR8.
    pub cr8: u64,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR7.
    pub drs: [u64; 8],
    /// EFER.
    pub efer: Efer,
    /// Features.
    pub features: Features,
    /// YMM registers.
    pub ymm: [[u64; 4]; 16],
    /// MMX registers.
    pub mm: [u64; 8],
    /// x87 words.
    pub fpu: FpuWords,
    /// MSRs that exist.
    pub msrs: BTreeMap<u32, u64>,
    /// Memory.
    pub regions: Vec<Region>,
    /// Linear ranges that behave as device memory.
    pub devices: Vec<Range<u64>>,
    /// Fragments of the instruction under way.
    pub replay: Replay,
    /// Lowest and highest linear address touched (end exclusive) since the last reset.
    pub touched: Vec<Range<u64>>,
    /// Side effects in order.
    pub effects: Vec<Effect>,
    /// Hypercalls in order.
    pub hypercalls: Vec<Hypercall>,
    /// Iterations after which a repeated instruction breaks; 0 is never.
    pub break_after: u32,
    /// Let this many locked updates fail.
    pub contention: u32,
    iterations: u32,
}

impl FakeCpu {
    /// A processor in the given mode with flat segments and no memory. 64-bit and
    /// protected modes run at CPL 0.
    pub fn new(mode: Mode) -> Self {
        let flat = Segment { limit: u32::MAX, db: true, g: true, ..Segment::real(0x10, 0) };
        let data = Segment { base: 0, ..flat };
        let mut cpu = Self {
            gprs: [0; 16],
            rip: 0,
            rflags: Rflags::FIXED,
            segs: [data; 8],
            gdt: TableReg::default(),
            idt: TableReg::default(),
            cpl: 0,
            cr0: Cr0::ET,
            cr2: 0,
            cr3: 0,
            cr4: Cr4::OSFXSR | Cr4::OSXSAVE,
            cr8: 0,
            xcr0: 7,
            drs: [0; 8],
            efer: Efer::empty(),
            features: Features::all(true),
            ymm: [[0; 4]; 16],
            mm: [0; 8],
            fpu: FpuWords { control: 0x37f, status: 0 },
            msrs: BTreeMap::new(),
            regions: Vec::new(),
            devices: Vec::new(),
            replay: Replay::new(),
            touched: Vec::new(),
            effects: Vec::new(),
            hypercalls: Vec::new(),
            break_after: 0,
            contention: 0,
            iterations: 0,
        };
        cpu.set_mode(mode);
        cpu
    }

    fn set_mode(&mut self, mode: Mode) {
        match mode {
            Mode::Real | Mode::Vm86 => {
                let dpl = if mode == Mode::Vm86 { 3 } else { 0 };
                self.segs = [Segment::real(0, dpl); 8];
                if mode == Mode::Vm86 {
                    self.cr0 |= Cr0::PE;
                    self.rflags |= Rflags::VM;
                    self.cpl = 3;
                }
            }
            _ => {
                self.cr0 |= Cr0::PE;
                let long = mode.is_long();
                let code = Segment {
                    typ: 0xb,
                    l: long,
                    db: mode == Mode::Prot32,
                    selector: 8,
                    ..self.seg(SegReg::Ds)
                };
                self.set_seg(SegReg::Cs, code);
                if long {
                    self.efer |= Efer::LME | Efer::LMA;
                    self.cr0 |= Cr0::PG;
                    self.cr4 |= Cr4::PAE;
                }
            }
        }
        for reg in [SegReg::Ldtr, SegReg::Tr] {
            self.set_seg(reg, Segment::null(0));
        }
    }

    /// Decodes `bytes` in the current mode and executes them at RIP.
    ///
    /// # Errors
    ///
    /// What stopped decoding or execution.
    pub fn run(&mut self, bytes: &[u8]) -> Result<Completed, Stop> {
        let insn = decode(bytes, self.mode(), self.features).map_err(|e| match e {
            DecodeError::Undefined => Stop::UD,
            _ => Stop::Unsupported,
        })?;
        self.replay.rewind();
        let done = execute(self, &insn)?;
        self.replay.clear();
        Ok(done)
    }

    /// Adds memory.
    pub fn map(&mut self, base: u64, len: usize, writable: bool) -> &mut Self {
        self.regions.push(Region { base, bytes: std::vec![0; len], writable });
        self
    }

    /// Copies bytes to memory, whatever its protection.
    ///
    /// # Panics
    ///
    /// If the range isn't in one region.
    pub fn poke(&mut self, addr: u64, data: &[u8]) {
        #[expect(clippy::expect_used, reason = "a test that pokes elsewhere is wrong")]
        let slot = self.slice(addr, data.len()).expect("address is mapped");
        slot.copy_from_slice(data);
    }

    /// Reads a number from memory, 0 where nothing is mapped.
    pub fn peek(&mut self, addr: u64, size: usize) -> u64 {
        let Some(slot) = self.slice(addr, size) else { return 0 };
        slot.iter().rev().fold(0, |acc, b| acc << 8 | u64::from(*b))
    }

    /// A segment register.
    pub fn seg(&self, reg: SegReg) -> Segment {
        self.segs.get(reg as usize).copied().unwrap_or_default()
    }

    /// Sets a segment register without checks.
    pub fn set_seg(&mut self, reg: SegReg, seg: Segment) {
        if let Some(slot) = self.segs.get_mut(reg as usize) {
            *slot = seg;
        }
    }

    /// The bytes of a range that lies within one region.
    pub fn slice(&mut self, addr: u64, len: usize) -> Option<&mut [u8]> {
        self.regions.iter_mut().find_map(|r| {
            let start = usize::try_from(addr.checked_sub(r.base)?).ok()?;
            r.bytes.get_mut(start..start.checked_add(len)?)
        })
    }

    /// The fault of an access to `addr`, if it isn't allowed.
    fn check(&self, addr: u64, write: bool, access: Access) -> Result<(), Stop> {
        let region = self
            .regions
            .iter()
            .find(|r| addr.checked_sub(r.base).is_some_and(|o| o < r.bytes.len() as u64));
        let mut code = PageFaultCode::empty();
        code.set(PageFaultCode::WRITE, write);
        code.set(PageFaultCode::USER, self.cpl == 3 && !access.system);
        match region {
            Some(r) if r.writable || !write => return Ok(()),
            Some(_) => code |= PageFaultCode::PRESENT,
            None => {}
        }
        Err(Stop::Fault(Exception::page_fault(code, addr)))
    }

    /// Translates a whole range: every byte's page is checked.
    fn translate(
        &mut self,
        addr: u64,
        len: usize,
        write: bool,
        access: Access,
    ) -> Result<(), Stop> {
        self.touched.push(addr..addr.wrapping_add(len as u64));
        self.check(addr, write, access)?;
        let last = addr.wrapping_add((len as u64).saturating_sub(1));
        if last >> 12 != addr >> 12 {
            self.check(last & !0xfff, write, access)?;
        }
        Ok(())
    }

    fn byte(&mut self, addr: u64) -> Option<&mut u8> {
        self.slice(addr, 1).and_then(|s| s.first_mut())
    }

    fn is_device(&self, addr: u64) -> bool {
        self.devices.iter().any(|d| d.contains(&addr))
    }

    /// Passes an access through the replay cache in fragments of eight bytes.
    fn device(&mut self, kind: FragmentKind, addr: u64, data: &mut [u8]) -> Result<(), Stop> {
        let mut at = addr;
        for chunk in data.chunks_mut(8) {
            let value = chunk.iter().rev().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
            let fragment = Fragment { kind, addr: at, len: chunk.len() as u8, data: value };
            match self.replay.next(fragment) {
                Next::Done(value) if kind.is_read() => {
                    for (slot, byte) in chunk.iter_mut().zip(value.to_le_bytes()) {
                        *slot = byte;
                    }
                }
                Next::Done(_) => {}
                Next::Exit => return Err(Stop::NeedsExit),
                Next::Full => return Err(Stop::Unsupported),
            }
            at = at.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

impl Cpu for FakeCpu {
    fn gpr(&self, n: u8) -> u64 {
        self.gprs.get(usize::from(n)).copied().unwrap_or(0)
    }

    fn set_gpr(&mut self, n: u8, value: u64) {
        if let Some(slot) = self.gprs.get_mut(usize::from(n)) {
            *slot = value;
        }
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn set_rip(&mut self, value: u64) {
        self.rip = value;
    }

    fn rflags(&self) -> Rflags {
        self.rflags
    }

    fn set_rflags(&mut self, value: Rflags) {
        self.rflags = value;
    }

    fn segment(&self, reg: SegReg) -> Segment {
        self.seg(reg)
    }

    fn set_segment(&mut self, reg: SegReg, seg: &Segment) {
        self.set_seg(reg, *seg);
    }

    fn table(&self, table: Table) -> TableReg {
        match table {
            Table::Gdt => self.gdt,
            Table::Idt => self.idt,
        }
    }

    fn set_table(&mut self, table: Table, value: TableReg) {
        match table {
            Table::Gdt => self.gdt = value,
            Table::Idt => self.idt = value,
        }
    }

    fn cpl(&self) -> u8 {
        self.cpl
    }

    fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl;
    }

    fn cr0(&self) -> Cr0 {
        self.cr0
    }

    fn cr4(&self) -> Cr4 {
        self.cr4
    }

    fn efer(&self) -> Efer {
        self.efer
    }

    fn features(&self) -> Features {
        self.features
    }

    fn cr(&self, n: u8) -> u64 {
        match n {
            0 => self.cr0.bits(),
            2 => self.cr2,
            3 => self.cr3,
            4 => self.cr4.bits(),
            _ => self.cr8,
        }
    }

    fn set_cr(&mut self, n: u8, value: u64) -> Result<(), Stop> {
        match n {
            0 => self.cr0 = Cr0::from_bits_retain(value),
            2 => self.cr2 = value,
            3 => self.cr3 = value,
            4 => self.cr4 = Cr4::from_bits_retain(value),
            _ => self.cr8 = value,
        }
        Ok(())
    }

    fn dr(&self, n: u8) -> u64 {
        self.drs.get(usize::from(n)).copied().unwrap_or(0)
    }

    fn set_dr(&mut self, n: u8, value: u64) -> Result<(), Stop> {
        if let Some(slot) = self.drs.get_mut(usize::from(n)) {
            *slot = value;
        }
        Ok(())
    }

    fn xcr(&self, n: u32) -> Result<u64, Stop> {
        match n {
            0 => Ok(self.xcr0),
            _ => Err(Stop::GP0),
        }
    }

    fn set_xcr(&mut self, n: u32, value: u64) -> Result<(), Stop> {
        if n != 0 || value & 1 == 0 {
            return Err(Stop::GP0);
        }
        self.xcr0 = value;
        Ok(())
    }

    fn read(&mut self, linear: u64, buf: &mut [u8], access: Access) -> Result<(), Stop> {
        if self.is_device(linear) {
            return self.device(FragmentKind::MmioRead, linear, buf);
        }
        self.translate(linear, buf.len(), access.write_intent, access)?;
        if let Some(slice) = self.slice(linear, buf.len()) {
            buf.copy_from_slice(slice);
            return Ok(());
        }
        let mut at = linear;
        for out in buf {
            *out = self.byte(at).copied().unwrap_or(0);
            at = at.wrapping_add(1);
        }
        Ok(())
    }

    fn write(&mut self, linear: u64, data: &[u8], access: Access) -> Result<(), Stop> {
        if self.is_device(linear) {
            let mut copy = Vec::from(data);
            return self.device(FragmentKind::MmioWrite, linear, &mut copy);
        }
        self.translate(linear, data.len(), true, access)?;
        if let Some(slice) = self.slice(linear, data.len()) {
            slice.copy_from_slice(data);
            return Ok(());
        }
        let mut at = linear;
        for value in data {
            if let Some(slot) = self.byte(at) {
                *slot = *value;
            }
            at = at.wrapping_add(1);
        }
        Ok(())
    }

    fn compare_exchange(
        &mut self,
        linear: u64,
        old: &[u8],
        new: &[u8],
        access: Access,
    ) -> Result<bool, Stop> {
        if self.contention > 0 {
            self.contention = self.contention.saturating_sub(1);
            return Ok(false);
        }
        let mut now = [0u8; 16];
        let part = now.get_mut(..old.len()).ok_or(Stop::Unsupported)?;
        self.read(linear, part, Access { write_intent: true, ..access })?;
        if part != old {
            return Ok(false);
        }
        self.write(linear, new, access)?;
        Ok(true)
    }

    fn fetch(&mut self, linear: u64, buf: &mut [u8]) -> Result<(), Stop> {
        let result = self.read(linear, buf, Access::DATA);
        if let Err(Stop::Fault(Exception { payload: Some(addr), error_code: Some(code), .. })) =
            result
        {
            let code = PageFaultCode::from_bits_retain(code) | PageFaultCode::FETCH;
            return Err(Stop::Fault(Exception::page_fault(code, addr)));
        }
        result
    }

    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Stop> {
        let mut data = [0u8; 4];
        let part = data.get_mut(..usize::from(size)).ok_or(Stop::Unsupported)?;
        self.device(FragmentKind::PortIn, u64::from(port), part)?;
        Ok(u32::from_le_bytes(data))
    }

    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop> {
        let mut data = value.to_le_bytes();
        let part = data.get_mut(..usize::from(size)).ok_or(Stop::Unsupported)?;
        self.device(FragmentKind::PortOut, u64::from(port), part)
    }

    fn read_msr(&mut self, index: u32) -> Result<u64, Stop> {
        self.msrs.get(&index).copied().ok_or(Stop::GP0)
    }

    fn write_msr(&mut self, index: u32, value: u64) -> Result<(), Stop> {
        match self.msrs.get_mut(&index) {
            Some(slot) => {
                *slot = value;
                Ok(())
            }
            None => Err(Stop::GP0),
        }
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4], Stop> {
        Ok([leaf, subleaf, !leaf, !subleaf])
    }

    fn tsc(&mut self) -> u64 {
        0x1_2345_6789
    }

    fn read_pmc(&mut self, index: u32) -> Result<u64, Stop> {
        if index < 4 {
            Ok(u64::from(index))
        } else {
            Err(Stop::GP0)
        }
    }

    fn effect(&mut self, effect: Effect) -> Result<(), Stop> {
        self.effects.push(effect);
        Ok(())
    }

    fn hypercall(&mut self, call: Hypercall) -> Result<(), Stop> {
        self.hypercalls.push(call);
        Ok(())
    }

    fn ymm(&mut self, n: u8) -> [u64; 4] {
        self.ymm.get(usize::from(n)).copied().unwrap_or_default()
    }

    fn set_ymm(&mut self, n: u8, value: [u64; 4]) {
        if let Some(slot) = self.ymm.get_mut(usize::from(n)) {
            *slot = value;
        }
    }

    fn set_xmm(&mut self, n: u8, value: [u64; 2]) {
        let [low, high] = value;
        if let Some([a, b, ..]) = self.ymm.get_mut(usize::from(n)) {
            (*a, *b) = (low, high);
        }
    }

    fn mm(&mut self, n: u8) -> u64 {
        self.mm.get(usize::from(n)).copied().unwrap_or(0)
    }

    fn set_mm(&mut self, n: u8, value: u64) {
        if let Some(slot) = self.mm.get_mut(usize::from(n)) {
            *slot = value;
        }
    }

    fn fpu_words(&mut self) -> FpuWords {
        self.fpu
    }

    fn iteration_done(&mut self) {
        self.iterations = self.iterations.wrapping_add(1);
        self.replay.clear();
    }

    fn should_break(&mut self) -> bool {
        self.break_after != 0 && self.iterations.checked_rem(self.break_after) == Some(0)
    }
}
