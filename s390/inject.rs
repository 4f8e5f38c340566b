// SPDX-License-Identifier: GPL-2.0
//! Program interruptions that a handler finds for the guest.

use crate::state::{Cx, Next};
use s390_arch::{pending::Kinds, program::Program};

/// Lets the guest have a program interruption for the intercepted instruction.
pub(crate) fn program(cx: &mut Cx<'_>, code: u16) -> Next {
    program_with(cx, Program::new(code))
}

/// As [`program`], with what else it stores.
pub(crate) fn program_with(cx: &mut Cx<'_>, program: Program) -> Next {
    let program = Program {
        length: cx.state.insn_length(),
        // The PSW is behind the instruction.
        rewind: program.is_nullifying(),
        ..program
    };
    post(cx, program)
}

/// Lets the guest have a program interruption that is complete.
pub(crate) fn post(cx: &mut Cx<'_>, program: Program) -> Next {
    cx.vcpu.shared().with_local(|local| local.add_program(program));
    cx.state.kinds |= Kinds::PROGRAM;
    Next::Resume
}
