// SPDX-License-Identifier: GPL-2.0
//! A debugger outside: single steps, breakpoints and watchpoints
//! (`KVM_SET_GUEST_DEBUG`).
//!
//! They are events of program-event recording that the guest doesn't know of. While it
//! runs, control registers 9 to 11 are what guest and debugger want together; loads and
//! stores of them are intercepted, and so are all program interruptions. What neither
//! asked for is filtered out of these.
//!
//! A vCPU without a debugger pays nothing: `KVM_RUN` chooses once.

use crate::{
    deliver, exit, guest, run,
    state::{Cx, Next},
};
use kernel::{
    alloc::{allocator::Kmalloc, Vec},
    prelude::*,
};
use kvm_paging::addr::Gpa;
use kvm_uapi::{
    run::reason,
    s390::{DebugExit, HwBreakpoint},
};
use s390_arch::{
    intercept,
    pending::{subclass, Kinds},
    per::{self, control, event, Range},
    program::{code, Program},
    psw::Mask,
    sie::{intercept_control, load_control},
};

/// Bytes of the longest instruction.
const LONGEST: u64 = 6;

/// Types of events, as userspace is told of them.
const BREAKPOINT: u8 = 1;
const WATCHPOINT: u8 = 2;
const STEP: u8 = 4;

/// Memory whose change is an event.
struct Watch {
    address: u64,
    physical: u64,
    /// What it was when the debugger set this.
    old: Vec<u8, Kmalloc>,
}

/// What a debugger wants.
pub(crate) struct Debug {
    steps: bool,
    breakpoints: Vec<Range, Kmalloc>,
    watches: Vec<Watch, Kmalloc>,
    /// Address of the last breakpoint that it was told of.
    last: Option<u64>,
    /// What it is to be told.
    pending: Option<DebugExit>,
}

impl Debug {
    /// With single steps or without.
    pub(crate) fn new(steps: bool) -> Self {
        Self { steps, breakpoints: Vec::new(), watches: Vec::new(), last: None, pending: None }
    }

    /// Adds a point, of a kind that is known or not.
    ///
    /// # Errors
    ///
    /// `EINVAL` for memory that is too long; `EFAULT` for none; `ENOMEM`.
    pub(crate) fn add(&mut self, cx: &Cx<'_>, point: &HwBreakpoint) -> Result {
        /// Bytes of the longest watchpoint.
        const MOST: u64 = 100;
        match point.type_ {
            BREAKPOINT => {
                self.breakpoints.push(Range::new(point.addr, point.len), GFP_KERNEL_ACCOUNT)?;
            }
            WATCHPOINT => {
                if point.len > MOST {
                    return Err(EINVAL);
                }
                let mut old = Vec::from_elem(0, point.len as usize, GFP_KERNEL_ACCOUNT)?;
                cx.vm.memory().read(Gpa::new(point.phys_addr), &mut old)?;
                let watch = Watch { address: point.addr, physical: point.phys_addr, old };
                self.watches.push(watch, GFP_KERNEL_ACCOUNT)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn breakpoint_at(&self, address: u64) -> bool {
        self.breakpoints.iter().any(|range| range.contains(address))
    }

    /// What of an event the debugger asked for. `at` is where the guest goes on.
    fn wants(&mut self, cx: &Cx<'_>, code: u8, address: u64, at: u64) -> Option<DebugExit> {
        let exit = |addr: u64, type_: u8| Some(DebugExit { addr, type_, pad: [0; 7] });
        if code & (event::STORE | event::STORE_REAL) != 0 {
            if let Some(watch) = self.watches.iter().find(|watch| watch.has_changed(cx)) {
                return exit(watch.address, WATCHPOINT);
            }
        }
        if code & (event::FETCH | event::BRANCH) == 0 {
            return None;
        }
        // An event comes after an instruction; a breakpoint is about the next one.
        if at != address && self.breakpoint_at(at) {
            self.last = Some(at);
            return exit(at, BREAKPOINT);
        }
        // The first instruction after something else than an instruction.
        if self.last != Some(address) && self.breakpoint_at(address) {
            return exit(address, BREAKPOINT);
        }
        if self.steps {
            return exit(at, STEP);
        }
        None
    }
}

impl Watch {
    fn has_changed(&self, cx: &Cx<'_>) -> bool {
        /// Bytes that are compared at once.
        const STEP: usize = 16;
        let mut at = self.physical;
        self.old.chunks(STEP).any(|old| {
            let mut now = [0; STEP];
            let Some(now) = now.get_mut(..old.len()) else { return false };
            let is_there = cx.vm.memory().read(Gpa::new(at), now).is_ok();
            at = at.wrapping_add(STEP as u64);
            is_there && now != old
        })
    }
}

/// The guest's own control registers 0, 9, 10 and 11.
struct Own([u64; 4]);

/// Puts what the debugger wants into the control registers.
fn arm(cx: &mut Cx<'_>) -> Own {
    let state = &mut *cx.state;
    let [cr0, _, _, _, _, _, _, _, _, cr9, cr10, cr11, ..] = &mut state.block.control;
    let own = Own([*cr0, *cr9, *cr10, *cr11]);
    let Some(debug) = &state.debug else { return own };
    let own_range = Range { first: *cr10, last: *cr11 };
    let mut range = (per::events(*cr9) != 0).then_some(own_range);
    let mut cover = |more: Range| range = Some(range.map_or(more, |range| range.cover(more)));
    if debug.steps {
        // The clock would never let it get on.
        *cr0 &= !subclass::CLOCK_COMPARATOR;
        *cr9 |= control::FETCH;
        cover(Range::ALL);
    }
    if !debug.breakpoints.is_empty() {
        if *cr9 & control::BRANCH == 0 {
            *cr9 |= control::BRANCH_ADDRESS;
        }
        *cr9 |= control::FETCH | control::BRANCH;
    }
    for point in debug.breakpoints.iter() {
        // The instruction before it, too.
        cover(Range { first: point.first.saturating_sub(LONGEST), last: point.last });
    }
    if !debug.watches.is_empty() {
        if *cr9 & control::STORE != 0 && *cr9 & control::ALTERATION != 0 {
            cover(Range::ALL);
        }
        *cr9 = *cr9 & !control::ALTERATION | control::STORE;
    }
    for watch in debug.watches.iter() {
        cover(Range::new(watch.address, watch.old.len() as u64));
    }
    *cr9 &= !control::NULLIFICATION;
    if let Some(range) = range {
        (*cr10, *cr11) = (range.first, range.last);
    }
    state.block.load_control |=
        load_control::CR0 | load_control::CR9 | load_control::CR10 | load_control::CR11;
    state.block.intercept_control |= intercept_control::STORE_CONTROL | intercept_control::PROGRAM;
    own
}

/// Gives the guest its own control registers back.
fn disarm(cx: &mut Cx<'_>, Own(own): Own) {
    let block = &mut *cx.state.block;
    let [cr0, _, _, _, _, _, _, _, _, cr9, cr10, cr11, ..] = &mut block.control;
    [*cr0, *cr9, *cr10, *cr11] = own;
    block.intercept_control &= !(intercept_control::STORE_CONTROL | intercept_control::PROGRAM);
}

/// Runs the guest with what the debugger wants until it comes out.
pub(crate) fn enter(
    cx: &mut Cx<'_>,
    enter: impl FnOnce(&mut Cx<'_>) -> Option<s390_hw::Exit>,
) -> Option<s390_hw::Exit> {
    let own = arm(cx);
    let exit = enter(cx);
    disarm(cx, own);
    exit
}

/// Notes an exit for the debugger.
fn note(cx: &mut Cx<'_>, exit: DebugExit) {
    if let Some(debug) = &mut cx.state.debug {
        debug.pending = Some(exit);
    }
}

/// Goes to userspace if the debugger is to be told something.
pub(crate) fn tell(cx: &mut Cx<'_>) -> Result<Option<Next>> {
    let pending = cx.state.debug.as_mut().and_then(|debug| debug.pending.take());
    match pending {
        Some(exit) => run::exit_with(cx, reason::KVM_EXIT_DEBUG, exit).map(Some),
        None => Ok(None),
    }
}

/// At the beginning of `KVM_RUN`: what the debugger wasn't told because userspace had to
/// handle the instruction. If userspace made an interruption of that, the step ends where
/// the guest handles it.
pub(crate) fn resume(cx: &mut Cx<'_>) -> Result<Option<Next>> {
    let gate = cx.state.gate();
    let is_interrupted = cx.vcpu.shared().with_local(|local| !local.deliverable(&gate).is_empty());
    if is_interrupted {
        if let Some(debug) = &mut cx.state.debug {
            debug.pending = None;
        }
    }
    tell(cx)
}

/// Delivers interruptions; a step ends where the guest handles one.
pub(crate) fn deliver(cx: &mut Cx<'_>) -> Result<Option<Next>> {
    if !deliver::deliver(cx)? || !cx.state.debug.as_ref().is_some_and(|debug| debug.steps) {
        return Ok(None);
    }
    note(cx, DebugExit { addr: cx.state.block.psw.address, type_: STEP, pad: [0; 7] });
    tell(cx)
}

/// Handles an exit: first what it means for the debugger.
pub(crate) fn handle(cx: &mut Cx<'_>) -> Result<Next> {
    let next = if cx.state.block.intercept == intercept::code::PROGRAM
        && cx.state.block.program_code & code::PER != 0
    {
        program(cx)?
    } else {
        exit::handle(cx)?
    };
    match next {
        Next::Resume => Ok(tell(cx)?.unwrap_or(Next::Resume)),
        other => Ok(other),
    }
}

/// A program interruption with an event in it.
fn program(cx: &mut Cx<'_>) -> Result<Next> {
    let block = &*cx.state.block;
    let (mut events, address) = (block.per_code, block.per_address);
    let at = block.psw.address;
    let is_step = cx.state.debug.as_ref().is_some_and(|debug| debug.steps);
    // A step that ends with another interruption ends where the guest handles that.
    if !is_step || block.program_code == code::PER {
        if let Some(mut debug) = cx.state.debug.take() {
            let exit = debug.wants(cx, events, address, at);
            cx.state.debug = Some(debug);
            if let Some(exit) = exit {
                note(cx, exit);
            }
        }
    }
    events = for_guest(cx, events, address)?;
    let block = &mut *cx.state.block;
    block.per_code = events;
    if events == 0 {
        block.program_code &= !code::PER;
    }
    if block.program_code == SPACE_SWITCH {
        let [_, cr1, _, _, _, _, _, _, _, _, _, _, _, cr13, ..] = block.control;
        if !per::is_space_switch(block.psw.space(), block.translation, cr1, cr13) {
            block.program_code = 0;
        }
    }
    if block.program_code == 0 {
        cx.vcpu.stats().arch.exit_program_interruption.add(1);
        return Ok(Next::Resume);
    }
    exit::handle(cx)
}

/// Space-switch event.
const SPACE_SWITCH: u16 = 0x1c;

/// The events that the guest asked for itself. Whether it would have had a storage
/// alteration in its own range isn't known: it gets it.
fn for_guest(cx: &Cx<'_>, events: u8, address: u64) -> Result<u8> {
    let block = &*cx.state.block;
    let [_, _, _, _, _, _, _, _, _, cr9, cr10, cr11, ..] = block.control;
    if !block.psw.has(Mask::PER) {
        return Ok(0);
    }
    let range = Range { first: cr10, last: cr11 };
    let mut events = events & per::events(cr9);
    let is_limited = cr9 & control::BRANCH_ADDRESS != 0;
    if is_limited && !range.contains(block.psw.address) {
        events &= !event::BRANCH;
    }
    if events & event::FETCH != 0 && !range.contains(fetched(cx, address)?) {
        events &= !event::FETCH;
    }
    Ok(events)
}

/// The address of the instruction that an instruction-fetching event at an address is
/// about: EXECUTE counts where its target is.
fn fetched(cx: &Cx<'_>, address: u64) -> Result<u64> {
    let mut bytes = [0; LONGEST as usize];
    match guest::read(cx, address, 0, &mut bytes) {
        Ok(()) => {}
        // What was executed can be read; only what follows it can't.
        Err(guest::Missed::Program(_)) => return Ok(address),
        Err(guest::Missed::Host(error)) => return Err(error),
    }
    let target = per::executed(bytes, address, &cx.state.gprs);
    Ok(target.map_or(address, |target| cx.state.block.psw.wrap(target)))
}

/// An instruction was intercepted whose fetching is an event. The kernel or userspace
/// executes it; `next` is what became of that.
pub(crate) fn intercepted(cx: &mut Cx<'_>, next: Next) -> Result<Next> {
    if next == Next::ToUser {
        return Ok(next);
    }
    let length = cx.state.insn_length();
    let mut psw = cx.state.block.psw;
    psw.step(i64::from(length).wrapping_neg());
    let (address, at) = (psw.address, cx.state.block.psw.address);
    let is_debugged = cx.state.debug.is_some();
    if let Some(mut debug) = cx.state.debug.take() {
        let has_other = cx.state.kinds.contains(Kinds::PROGRAM);
        let exit = if debug.steps && has_other {
            None
        } else {
            debug.wants(cx, event::FETCH, address, at)
        };
        debug.pending = exit.or(debug.pending.take());
        cx.state.debug = Some(debug);
    }
    if !is_debugged || for_guest(cx, event::FETCH, address)? != 0 {
        let event = Program {
            per_code: event::FETCH,
            per_address: address,
            length,
            ..Program::new(code::PER)
        };
        cx.vcpu.shared().with_local(|local| local.add_program(event));
        cx.state.kinds |= Kinds::PROGRAM;
    }
    Ok(next)
}
