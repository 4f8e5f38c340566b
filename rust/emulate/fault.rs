// SPDX-License-Identifier: GPL-2.0
//! How an instruction ends: [`Completed`] or [`Stop`].
//!
//! A guest-visible fault isn't an error of the emulator, it is one of the
//! architectural outcomes. Intel SDM volume 3 section 6.15.

use x86_defs::{PageFaultCode, Vector};

/// An exception to inject. RIP and all registers are those before the
/// instruction (or, for a trap such as INT3, as the vector demands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector number.
    pub vector: Vector,
    /// Error code, if this vector pushes one in this mode.
    pub error_code: Option<u32>,
    /// Faulting linear address of #PF, DR6 bits of #DB.
    pub payload: Option<u64>,
}

impl Exception {
    /// An exception without error code.
    pub const fn new(vector: Vector) -> Self {
        Self { vector, error_code: None, payload: None }
    }

    /// An exception with an error code.
    pub const fn with_code(vector: Vector, code: u32) -> Self {
        Self { vector, error_code: Some(code), payload: None }
    }

    /// A page fault at linear address `addr`.
    pub const fn page_fault(code: PageFaultCode, addr: u64) -> Self {
        Self { vector: Vector::Pf, error_code: Some(code.bits()), payload: Some(addr) }
    }
}

/// Why an instruction did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Inject this exception.
    Fault(Exception),
    /// The owner recorded an access that someone else must complete; execute
    /// the same [`Insn`](crate::Insn) again afterwards, see [`io`](crate::io).
    NeedsExit,
    /// Something changed underneath; enter the guest at the same RIP.
    Retry,
    /// An exception while delivering exceptions: shutdown.
    TripleFault,
    /// Not covered by the emulator: an emulation failure.
    Unsupported,
}

impl Stop {
    /// #UD.
    pub const UD: Self = Self::Fault(Exception::new(Vector::Ud));
    /// #GP(0).
    pub const GP0: Self = Self::gp(0);
    /// #SS(0).
    pub const SS0: Self = Self::Fault(Exception::with_code(Vector::Ss, 0));
    /// #DE.
    pub const DE: Self = Self::Fault(Exception::new(Vector::De));
    /// #NM.
    pub const NM: Self = Self::Fault(Exception::new(Vector::Nm));
    /// A pending x87 exception.
    pub const MF: Self = Self::Fault(Exception::new(Vector::Mf));

    /// #GP with an error code.
    pub const fn gp(code: u32) -> Self {
        Self::Fault(Exception::with_code(Vector::Gp, code))
    }

    /// Any vector with a selector error code.
    pub const fn sel(vector: Vector, code: u32) -> Self {
        Self::Fault(Exception::with_code(vector, code))
    }
}

impl From<Exception> for Stop {
    fn from(e: Exception) -> Self {
        Self::Fault(e)
    }
}

/// Interrupts that stay blocked for one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// None.
    #[default]
    None,
    /// After STI: external interrupts.
    Sti,
    /// After a load of SS: interrupts and debug exceptions.
    MovSs,
}

/// An instruction, or some iterations of a repeated one, is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completed {
    /// RIP still points at the repeated instruction: more iterations remain.
    pub repeat: bool,
    /// The interrupt shadow it leaves. A previous shadow is over.
    pub shadow: Shadow,
    /// RFLAGS.TF was set when it began: raise the single-step #DB (DR6.BS).
    pub single_step: bool,
    /// A task switch found the T bit: raise #DB (DR6.BT).
    pub task_trap: bool,
}
