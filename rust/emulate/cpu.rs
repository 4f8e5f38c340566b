// SPDX-License-Identifier: GPL-2.0
//! What the emulator needs of a processor: the [`Cpu`] trait.
//!
//! The owner implements it over its cached guest state. All methods are
//! monomorphised into the executor. Contracts that hold for every method:
//!
//! * A method that returns `Err` has changed nothing that the guest can see.
//! * The executor calls setters only when nothing of the instruction can fail
//!   any more, with the exceptions that the architecture makes itself (bytes
//!   pushed below the stack pointer, accessed bits of descriptors, iterations
//!   of a repeated instruction).
//! * An access may return [`Stop::NeedsExit`]; see [`io`](crate::io) for the
//!   protocol.

use crate::fault::Stop;
use x86_defs::{Cr0, Cr4, Efer, Mode, Rflags, SegReg, Segment, TableReg};

/// Who makes a memory access and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Made by the processor itself (descriptor tables, TSS): supervisor
    /// rights whatever the CPL.
    pub system: bool,
    /// A read whose result will be written back: faults as a write.
    pub write_intent: bool,
}

impl Access {
    /// A plain access with the rights of the CPL.
    pub const DATA: Self = Self { system: false, write_intent: false };
    /// The read half of a read-modify-write.
    pub const MODIFY: Self = Self { system: false, write_intent: true };
    /// An implicit supervisor access.
    pub const SYSTEM: Self = Self { system: true, write_intent: false };
}

/// Effects on the processor that are neither registers nor memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// HLT: wait for an interrupt. RIP is advanced afterwards by the executor.
    Halt,
    /// INVLPG of this linear address.
    InvalidatePage(u64),
    /// INVPCID with type, and PCID and address from the descriptor.
    InvalidatePcid {
        /// Type from the register operand.
        kind: u64,
        /// First quadword of the descriptor: PCID.
        pcid: u64,
        /// Second quadword: linear address.
        addr: u64,
    },
    /// WBINVD, WBNOINVD or INVD.
    WriteBackCaches,
    /// CLFLUSH, CLFLUSHOPT, CLWB of this linear address.
    FlushLine(u64),
    /// PAUSE.
    Pause,
    /// MONITOR on this linear address.
    Monitor(u64),
    /// MWAIT with hints (EAX) and extensions (ECX).
    Mwait(u64, u64),
    /// FNINIT.
    FpuInit,
    /// FLDCW. No x87 exception is pending.
    FpuControl(u16),
    /// IRET completed: non-maskable interrupts are open again.
    UnblockNmi,
}

/// What the emulator reads from the floating-point unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FpuWords {
    /// Control word.
    pub control: u16,
    /// Status word.
    pub status: u16,
}

/// A hypercall instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypercall {
    /// VMCALL.
    Vmcall,
    /// VMMCALL.
    Vmmcall,
}

/// Differences between processors that instructions can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// AMD rules: near branches honour 66h in 64-bit mode, SYSENTER is #UD in
    /// long mode, MOV CR8 by LOCK prefix, and the like.
    pub amd: bool,
    /// RDPMC, RDTSCP and others exist for this guest: unset ones are #UD.
    pub rdtscp: bool,
    /// MOVBE.
    pub movbe: bool,
    /// RDFSBASE and friends.
    pub fsgsbase: bool,
    /// CMPXCHG16B.
    pub cx16: bool,
    /// LZCNT (else BSR).
    pub lzcnt: bool,
    /// TZCNT, ANDN and the rest of BMI1 (TZCNT falls back to BSF).
    pub bmi1: bool,
    /// RORX, SHLX and the rest of BMI2.
    pub bmi2: bool,
    /// POPCNT.
    pub popcnt: bool,
    /// ADCX and ADOX.
    pub adx: bool,
}

impl Features {
    /// Everything, by AMD or Intel rules.
    pub const fn all(amd: bool) -> Self {
        Self {
            amd,
            rdtscp: true,
            movbe: true,
            fsgsbase: true,
            cx16: true,
            lzcnt: true,
            bmi1: true,
            bmi2: true,
            popcnt: true,
            adx: true,
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Global descriptor table.
    Gdt,
    /// Interrupt descriptor table.
    Idt,
}

/// A processor that instructions execute on.
pub trait Cpu {
    /// General register `n` (0 to 15: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8...).
    fn gpr(&self, n: u8) -> u64;
    /// Sets all 64 bits of general register `n`.
    fn set_gpr(&mut self, n: u8, value: u64);
    /// Offset of the instruction in CS.
    fn rip(&self) -> u64;
    /// Sets RIP.
    fn set_rip(&mut self, value: u64);
    /// RFLAGS.
    fn rflags(&self) -> Rflags;
    /// Sets RFLAGS; privilege rules were applied.
    fn set_rflags(&mut self, value: Rflags);

    /// A segment register with its cached descriptor.
    fn segment(&self, reg: SegReg) -> Segment;
    /// Sets a segment register; checks were made. A load of CS or SS may change
    /// the CPL, see [`set_cpl`](Self::set_cpl).
    fn set_segment(&mut self, reg: SegReg, seg: &Segment);
    /// Base of a segment; the only part that 64-bit mode reads.
    fn segment_base(&self, reg: SegReg) -> u64 {
        self.segment(reg).base
    }
    /// GDTR or IDTR.
    fn table(&self, table: Table) -> TableReg;
    /// Sets GDTR or IDTR.
    fn set_table(&mut self, table: Table, value: TableReg);
    /// Current privilege level: 0 in real mode, 3 in virtual-8086 mode.
    fn cpl(&self) -> u8;
    /// A far transfer changed the privilege level (VMX derives it from SS.DPL,
    /// SVM has a field).
    fn set_cpl(&mut self, cpl: u8);

    /// CR0.
    fn cr0(&self) -> Cr0;
    /// CR4.
    fn cr4(&self) -> Cr4;
    /// EFER.
    fn efer(&self) -> Efer;
    /// The processor mode. Asked once per instruction.
    fn mode(&self) -> Mode {
        Mode::of(self.cr0(), self.efer(), self.rflags(), &self.segment(SegReg::Cs))
    }
    /// What the guest's processor can do.
    fn features(&self) -> Features;
    /// CR0, 2, 3, 4 or 8.
    fn cr(&self, n: u8) -> u64;
    /// Writes CR0, 2, 3, 4 or 8 with all checks of its value (#GP).
    fn set_cr(&mut self, n: u8, value: u64) -> Result<(), Stop>;
    /// DR0 to 3, 6 or 7. General detect (#DB) is checked by the executor.
    fn dr(&self, n: u8) -> u64;
    /// Writes a debug register with all checks of its value (#GP).
    fn set_dr(&mut self, n: u8, value: u64) -> Result<(), Stop>;
    /// XCR `n`, or #GP.
    fn xcr(&self, n: u32) -> Result<u64, Stop>;
    /// XSETBV with all checks of the value (#GP).
    fn set_xcr(&mut self, n: u32, value: u64) -> Result<(), Stop>;

    /// Reads guest memory at a linear address, `buf.len()` up to 32 bytes, all
    /// or nothing. May cross pages.
    fn read(&mut self, linear: u64, buf: &mut [u8], access: Access) -> Result<(), Stop>;
    /// Writes guest memory, all or nothing: both pages are translated before
    /// the first byte changes.
    fn write(&mut self, linear: u64, data: &[u8], access: Access) -> Result<(), Stop>;
    /// Atomically replaces `old` by `new` (1, 2, 4, 8 or 16 bytes, equal
    /// lengths); `Ok(false)` if memory held something else. On device memory it
    /// is a plain write.
    fn compare_exchange(
        &mut self,
        linear: u64,
        old: &[u8],
        new: &[u8],
        access: Access,
    ) -> Result<bool, Stop>;
    /// Fetches code at a linear address within one page.
    fn fetch(&mut self, linear: u64, buf: &mut [u8]) -> Result<(), Stop>;
    /// Strips ignored bits of a data pointer (LAM, UAI). Called in 64-bit mode.
    fn untag(&self, linear: u64) -> u64 {
        linear
    }

    /// Reads `size` (1, 2 or 4) bytes from an I/O port; permission was checked.
    fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Stop>;
    /// Writes `size` (1, 2 or 4) bytes to an I/O port; permission was checked.
    fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop>;
    /// As [`Self::port_in`], for one of `most` elements that will be read.
    fn port_in_string(&mut self, port: u16, size: u8, most: u64) -> Result<u32, Stop> {
        let _ = most;
        self.port_in(port, size)
    }
    /// Writes up to `most` elements that lie at `linear`, in one page, to a port; how
    /// many. With 0 each goes through [`Self::port_out`].
    fn port_out_string(
        &mut self,
        port: u16,
        size: u8,
        linear: u64,
        most: u64,
    ) -> Result<u64, Stop> {
        let _ = (port, size, linear, most);
        Ok(0)
    }
    /// RDMSR, or #GP.
    fn read_msr(&mut self, index: u32) -> Result<u64, Stop>;
    /// WRMSR, or #GP.
    fn write_msr(&mut self, index: u32, value: u64) -> Result<(), Stop>;
    /// CPUID: EAX, EBX, ECX, EDX.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4], Stop>;
    /// The guest's time-stamp counter.
    fn tsc(&mut self) -> u64;
    /// RDPMC, or #GP.
    fn read_pmc(&mut self, index: u32) -> Result<u64, Stop>;
    /// Carries out a side effect.
    fn effect(&mut self, effect: Effect) -> Result<(), Stop>;
    /// VMCALL or VMMCALL. The owner sets RAX; the executor advances RIP.
    fn hypercall(&mut self, call: Hypercall) -> Result<(), Stop>;

    /// YMM register `n` as four quadwords, lowest first.
    fn ymm(&mut self, n: u8) -> [u64; 4];
    /// Sets all 256 bits, and clears what lies above, as VEX encodings do. The
    /// owner ignores the upper half without AVX.
    fn set_ymm(&mut self, n: u8, value: [u64; 4]);
    /// Sets the low 128 bits and leaves what lies above, as legacy encodings do.
    fn set_xmm(&mut self, n: u8, value: [u64; 2]);
    /// MMX register `n`. No x87 exception is pending.
    fn mm(&mut self, n: u8) -> u64;
    /// Sets an MMX register and the FPU's tag, as any MMX instruction does. No x87
    /// exception is pending.
    fn set_mm(&mut self, n: u8, value: u64);
    /// FPU control and status words.
    fn fpu_words(&mut self) -> FpuWords;

    /// An iteration of a repeated instruction was committed: completed
    /// accesses of the [`io`](crate::io) cache are used up.
    fn iteration_done(&mut self) {}
    /// Whether a repeated instruction should return between two iterations
    /// (pending interrupt, or it ran long enough).
    fn should_break(&mut self) -> bool {
        false
    }
    /// A task switch loaded CR3 (task_switch only): like a MOV to CR3, but an
    /// error is #TS.
    fn load_task_cr3(&mut self, value: u64) -> Result<(), Stop> {
        self.set_cr(3, value)
    }
}
