// SPDX-License-Identifier: GPL-2.0
//! The state of a vCPU, for the one thread that holds it.

use crate::{crypto, debug::Debug, pfault::Pfault, sie::Sie, vm::Choice};
use core::sync::atomic::Ordering;
use kernel::{prelude::*, sync::atomic::Relaxed};
use kvm_core::{memory::VcpuMemory, vcpu::Held, vm::Vm};
use kvm_sys::s390::{self, registers::Registers};
use s390_arch::{
    insn::Insn,
    intercept,
    pending::{Gate, Kinds},
    sie::{execution_a, execution_b, intercept_control, CpuFlags},
};
use s390_hw::Block;

/// A held vCPU: what every handler gets.
pub(crate) type Cx<'a> = Held<'a, Sie>;

/// What comes after an exit was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// Back into the guest.
    Resume,
    /// To userspace; `kvm_run` says why.
    ToUser,
    /// To userspace with the interception as it is.
    Intercept,
}

/// The state. General, access and floating-point registers and the PSW are in
/// `kvm_run` outside of `KVM_RUN`.
pub(crate) struct VcpuState {
    /// The SIE block.
    pub(crate) block: Block,
    /// General registers; 14 and 15 are up to date outside of SIE.
    pub(crate) gprs: [u64; 16],
    /// Floating-point and access registers, while they aren't in the processor.
    pub(crate) registers: Registers,
    /// What it needs to touch guest memory.
    pub(crate) memory: VcpuMemory<Sie>,
    /// What designates the guest's memory. Constant.
    pub(crate) space: u64,
    /// Kinds of local interruptions that waited at the last look.
    pub(crate) kinds: Kinds,
    /// It sleeps until an interruption: the clock comparator is looked at here.
    pub(crate) waits: bool,
    /// Page faults that the guest handles.
    pub(crate) pfault: Pfault,
    /// What DIAGNOSE 318 set.
    pub(crate) diag318: u64,
    /// What a debugger outside wants.
    pub(crate) debug: Option<KBox<Debug>>,
}

impl VcpuState {
    /// The state of a new vCPU.
    pub(crate) fn new<'a>(
        vm: &'a Vm<Sie>,
        id: u32,
        index: u32,
    ) -> impl Init<Self, Error> + use<'a> {
        let state = try_init!(Self {
            block: Block::new()?,
            gprs: [0; 16],
            registers: Registers::default(),
            memory: vm.memory().vcpu(index)?,
            space: vm.memory().root(),
            kinds: Kinds::empty(),
            waits: false,
            pfault: Pfault::OFF,
            diag318: 0,
            debug: None,
        }? Error);
        state.chain(move |state| {
            state.set_up(vm, id);
            Ok(())
        })
    }

    /// What never changes in the block.
    fn set_up(&mut self, vm: &Vm<Sie>, id: u32) {
        const KVM: u8 = 4;
        let block = &mut *self.block;
        let flags = CpuFlags::ZARCH | CpuFlags::MODE | CpuFlags::STOPPED;
        block.cpuflags.store(flags.bits(), Ordering::Relaxed);
        block.main_storage_limit = s390::highest_address().unwrap_or(u64::MAX);
        block.cpu_address = id as u16;
        block.execution_a = execution_a::MOVE_PAGE;
        block.execution_b = execution_b::SPECIFICATION;
        if s390::tells_protection() {
            // Else the guest's own protection exceptions have to be looked at.
            block.execution_a |= execution_a::PROTECTION;
            block.execution_b |= execution_b::HOST_PROTECTION;
        }
        block.intercept_control =
            intercept_control::ISKE | intercept_control::SSKE | intercept_control::RRBE;
        if !s390::tells_protection() {
            // What only the host protects isn't protected.
            block.intercept_control |= intercept_control::TPROT;
        }
        block.intercept_control |= operation_control(vm);
        block.hypervisor = KVM;
        block.epoch = vm.arch().epoch.load(Relaxed);
        vm.arch().sca.set_up(block);
        crypto::set_up(vm, self);
    }

    /// Lets SIE forget the guest's translations when it begins.
    pub(crate) fn flush(&mut self) {
        // No CPU has this number, so the machine takes it for a new one.
        self.block.last_host_cpu = 0xffff;
    }

    /// Sets or clears flags of the CPU.
    pub(crate) fn set_flags(&self, flags: CpuFlags, on: bool) {
        if on {
            self.block.cpuflags.fetch_or(flags.bits(), Ordering::Relaxed);
        } else {
            self.block.cpuflags.fetch_and(!flags.bits(), Ordering::Relaxed);
        }
    }

    /// What the CPU lets in.
    pub(crate) fn gate(&self) -> Gate {
        let [cr0, _, _, _, _, _, cr6, _, _, _, _, _, _, _, cr14, _] = self.block.control;
        Gate { psw: self.block.psw, cr0, cr6, cr14 }
    }

    /// The intercepted instruction.
    pub(crate) fn insn(&self) -> Insn {
        Insn { ipa: self.block.ipa, ipb: self.block.ipb }
    }

    /// Bytes of the instruction that the last interception is about.
    pub(crate) fn insn_length(&self) -> u8 {
        let block = &*self.block;
        intercept::instruction_length(
            block.intercept,
            block.intercept_status,
            block.ipa,
            block.program_length,
        )
    }

    /// Lets the guest execute the intercepted instruction again.
    pub(crate) fn retry_insn(&mut self) {
        let length = i64::from(self.insn_length());
        self.block.psw.step(length.wrapping_neg());
    }

    /// A general register.
    pub(crate) fn gpr(&self, number: u8) -> u64 {
        self.gprs.get(usize::from(number)).copied().unwrap_or(0)
    }

    /// Sets a general register.
    pub(crate) fn set_gpr(&mut self, number: u8, value: u64) {
        if let Some(register) = self.gprs.get_mut(usize::from(number)) {
            *register = value;
        }
    }

    /// The guest's clock now.
    pub(crate) fn clock(&self) -> u64 {
        s390::clock::now().wrapping_add(self.block.epoch)
    }
}

/// Whether SIE has to come out for operation exceptions: userspace wants to see them.
pub(crate) fn operation_control(vm: &Vm<Sie>) -> u32 {
    let choices = &vm.arch().choices;
    if choices.has(Choice::UserInstr0) || choices.has(Choice::UserOperation) {
        intercept_control::OPERATION
    } else {
        0
    }
}

/// Sets the prefix of a held vCPU.
pub(crate) fn set_prefix(cx: &mut Cx<'_>, prefix: u32) {
    cx.state.block.set_prefix(prefix);
    cx.state.flush();
    cx.vcpu.shared().set_prefix(cx.state.block.prefix());
    cx.vcpu.requests.set(crate::sie::MAP_PREFIX);
}
