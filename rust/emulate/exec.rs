// SPDX-License-Identifier: GPL-2.0
//! Execution of a decoded instruction over a [`Cpu`].
//!
//! [`execute`] dispatches to one file per instruction family. Each handler
//! makes its faulting accesses first and changes registers last, so that an
//! instruction that stops can be executed again from the start.

mod arith;
mod bit;
mod bmi;
mod branch;
mod cmpxchg;
mod decimal;
mod far;
mod far_return;
mod fast_call;
mod flags;
mod interrupt;
mod io;
mod mem;
mod mov;
mod muldiv;
mod operand;
mod segment;
mod shift;
mod sse;
mod stack;
mod string;
mod system;
mod table;

pub use interrupt::deliver_real;
pub(crate) use segment::LoadKind;
pub(crate) use table::Found;

use crate::cpu::Cpu;
use crate::decode::{Insn, Op, Operand};
use crate::fault::{Completed, Stop};
use x86_defs::{Cr0, Cr4, Mode, Rflags};

/// One instruction under way.
pub(crate) struct Exec<'a, C: Cpu> {
    pub(crate) cpu: &'a mut C,
    pub(crate) insn: &'a Insn,
    pub(crate) mode: Mode,
    /// RIP after the instruction; branches change it.
    pub(crate) next: u64,
    pub(crate) done: Completed,
}

/// Executes `insn`, which was decoded at CS:RIP in the current mode.
///
/// On success registers, memory and RIP are those after the instruction. On
/// [`Stop::Fault`] RIP is where the exception must report it: at the
/// instruction for faults, after it for the traps INT3, INTO and INT1.
///
/// # Errors
///
/// See [`Stop`].
pub fn execute<C: Cpu>(cpu: &mut C, insn: &Insn) -> Result<Completed, Stop> {
    let mode = cpu.mode();
    let next = advance(cpu.rip(), insn.len, mode);
    let mut exec = Exec { cpu, insn, mode, next, done: Completed::default() };
    // The quick forms: nothing but data moves, so no flag changes either.
    if insn.op == Op::Mov {
        let result = exec.mov();
        return exec.finish(result);
    }
    let result = exec.dispatch();
    exec.finish(result)
}

/// RIP of the next instruction.
fn advance(rip: u64, len: u8, mode: Mode) -> u64 {
    let next = rip.wrapping_add(u64::from(len));
    if mode.is_long() {
        next
    } else {
        next & 0xffff_ffff
    }
}

impl<C: Cpu> Exec<'_, C> {
    #[inline]
    fn finish(mut self, result: Result<(), Stop>) -> Result<Completed, Stop> {
        match result {
            Ok(()) => {
                self.done.single_step |= self.complete();
                Ok(self.done)
            }
            Err(Stop::Fault(mut e)) => {
                // Real mode pushes no error codes.
                if self.mode == Mode::Real {
                    e.error_code = None;
                }
                Err(Stop::Fault(e))
            }
            Err(stop) => Err(stop),
        }
    }

    /// Advances RIP, clears RF; whether the instruction is to be single-stepped.
    fn complete(&mut self) -> bool {
        self.cpu.set_rip(self.next);
        let flags = self.cpu.rflags();
        if flags.contains(Rflags::RF) && self.insn.op != Op::Iret {
            self.cpu.set_rflags(flags.difference(Rflags::RF));
        }
        // POPF and IRET trap by the TF before them, SYSCALL by the one it loads.
        match self.insn.op {
            Op::Popf | Op::Iret | Op::Syscall => self.done.single_step,
            _ => flags.contains(Rflags::TF),
        }
    }

    fn dispatch(&mut self) -> Result<(), Stop> {
        use Op::*;
        match self.insn.op {
            Mov => self.mov(),
            Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test | Inc | Dec | Not | Neg => {
                self.arith()
            }
            Movzx | Movsx | Lea | Xchg | Movnti | Movbe | Bswap | Xlat | Cmovcc | Setcc | Cbw
            | Cwd => self.mov_family(),
            Nop | Prefetch => Ok(()),
            Rol | Ror | Rcl | Rcr | Shl | Shr | Sar | Shld | Shrd => self.shift(),
            Mul | Imul1 | Imul2 | Imul3 | Div | Idiv => self.muldiv(),
            Push | Pop | PushSeg | PopSeg | Pusha | Popa | Pushf | Popf | Enter | Leave => {
                self.stack_family()
            }
            Jmp | Jcc | Call | Ret | Loop | Bound => self.branch(),
            CallFar | JmpFar | RetFar | Iret | Int | Int3 | Int1 | Into => self.far_family(),
            Sahf | Lahf | Cmc | Clc | Stc | Cli | Sti | Cld | Std | Salc | Clac | Stac => {
                self.flag_family()
            }
            Daa | Das | Aaa | Aas | Aam | Aad => self.decimal(),
            Movs | Cmps | Stos | Lods | Scas | Ins | Outs => self.string(),
            In | Out => self.port_io(),
            Bt | Bts | Btr | Btc | Bsf | Bsr | Tzcnt | Lzcnt | Popcnt => self.bit_family(),
            Cmpxchg | Cmpxchg8b | Xadd => self.cmpxchg_family(),
            MovToSeg | MovFromSeg | LoadFar | Lldt | Ltr | Sldt | Str => self.segment_family(),
            Arpl | Verr | Verw | Lar | Lsl => self.selector_family(),
            Syscall | Sysret | Sysenter | Sysexit | Swapgs => self.fast_call(),
            VecMov | VecMovAligned | VecScalar | VecLow | VecHigh | VecHighToLow | VecLowToHigh
            | VecDupEven | VecDupOdd | VecDup64 | VecFromGpr | VecToGpr | MmxMov | MmxFromGpr
            | MmxToGpr => self.sse(),
            Andn | Bextr | Blsr | Blsmsk | Blsi | Bzhi | Mulx | Pdep | Pext | Rorx | Sarx
            | Shlx | Shrx | Adcx | Adox | Crc32 => self.bmi(),
            Ud => Err(Stop::UD),
            Unknown => Err(Stop::Unsupported),
            _ => self.system(),
        }
    }

    /// The size in bytes of an operand.
    #[inline]
    pub(crate) fn size_of(&self, op: Operand) -> u8 {
        match op {
            Operand::Gpr { size, .. } | Operand::Mem { size } | Operand::Xmm { size, .. } => size,
            Operand::High { .. } => 1,
            _ => self.insn.op_size,
        }
    }

    /// #GP(0) unless CPL is 0.
    pub(crate) fn require_cpl0(&self) -> Result<(), Stop> {
        if self.cpu.cpl() == 0 {
            Ok(())
        } else {
            Err(Stop::GP0)
        }
    }

    /// Whether CR0 has this bit.
    pub(crate) fn cr0_has(&self, bit: Cr0) -> bool {
        self.cpu.cr0().contains(bit)
    }

    /// Whether CR4 has this bit.
    pub(crate) fn cr4_has(&self, bit: Cr4) -> bool {
        self.cpu.cr4().contains(bit)
    }

    /// RFLAGS as a number.
    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.cpu.rflags().bits()
    }

    /// Sets RFLAGS from a number.
    #[inline]
    pub(crate) fn set_flags(&mut self, flags: u64) {
        self.cpu.set_rflags(Rflags::from_bits_retain(flags));
    }

    /// Replaces the six arithmetic flags.
    #[inline]
    pub(crate) fn set_arith_flags(&mut self, arith: u64) {
        self.set_flags(self.flags() & !flags::ARITH | arith);
    }
}
