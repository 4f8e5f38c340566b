// SPDX-License-Identifier: GPL-2.0
//! What a VM has besides what all architectures share.

use crate::{adapter::Adapters, crypto, floating::FloatingSet, key::Section, sca::Sca};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Mutex, SpinLock,
    },
};
use kvm_sys::s390;
use s390_arch::facility::Facilities;

/// Choices of userspace, each made once and never taken back.
pub(crate) struct Choices {
    /// Bits of [`Choice`].
    made: Atomic<u32>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Choice {
    /// Userspace handles most SIGP orders.
    UserSigp = 1 << 0,
    /// Userspace sees STSI.
    UserStsi = 1 << 1,
    /// Userspace sees operation exceptions of instruction 0.
    UserInstr0 = 1 << 2,
    /// Userspace sees all operation exceptions.
    UserOperation = 1 << 3,
    /// Userspace alone starts and stops vCPUs.
    UserCpuState = 1 << 4,
    /// I/O instructions of channels are userspace's.
    Css = 1 << 5,
    /// `KVM_CREATE_IRQCHIP` is known.
    Routes = 1 << 6,
    /// Adapter interruptions can be suppressed.
    Suppression = 1 << 7,
}

impl Choices {
    /// None were made.
    const fn new() -> Self {
        Self { made: Atomic::new(0) }
    }

    /// Whether it was made.
    #[inline]
    pub(crate) fn has(&self, choice: Choice) -> bool {
        self.made.load(Acquire) & choice as u32 != 0
    }

    /// Makes it.
    pub(crate) fn make(&self, choice: Choice) {
        let mut old = self.made.load(Acquire);
        while let Err(now) = self.made.cmpxchg(old, old | choice as u32, Release) {
            old = now;
        }
    }
}

/// Features of a processor that no facility stands for (`KVM_S390_VM_CPU_FEAT_*`), bits
/// from the left.
#[derive(Clone, Copy)]
pub(crate) struct Features(pub(crate) u64);

impl Features {
    /// Those of the machine that guests can have: enhanced suppression on protection.
    /// All others are about guests that have guests.
    pub(crate) fn of_host() -> Self {
        const ESOP: u64 = 1 << 63;
        Self(if s390::tells_protection() { ESOP } else { 0 })
    }
}

/// The processor that the guest sees.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    /// What STORE CPU ID says.
    pub(crate) cpuid: u64,
    /// Instruction blocking control.
    pub(crate) blocking: u16,
    /// Facilities.
    pub(crate) facilities: Facilities,
    /// Features.
    pub(crate) features: Features,
}

impl Model {
    /// The machine's processor, as far as guests can have it.
    pub(crate) fn of_host() -> Self {
        /// In place of a version: a virtual machine's.
        const VIRTUAL: u64 = 0xff << 56;
        let machine = Facilities(s390::facilities());
        Self {
            cpuid: s390::cpu_id() | VIRTUAL,
            // Nothing is blocked.
            blocking: 0,
            facilities: Facilities::for_guests(&machine, s390::managed_facilities()),
            features: Features(0),
        }
    }
}

/// The state.
#[pin_data]
pub(crate) struct VmState {
    pub(crate) choices: Choices,
    /// Interruptions for any CPU.
    #[pin]
    pub(crate) floating: FloatingSet,
    pub(crate) adapters: Adapters,
    /// Userspace lets guests handle page faults.
    pub(crate) pfault: Atomic<bool>,
    /// There is a floating-interrupt controller for userspace.
    pub(crate) has_flic: Atomic<bool>,
    #[pin]
    pub(crate) model: SpinLock<Model>,
    /// Functions of instructions.
    #[pin]
    pub(crate) functions: SpinLock<[u8; s390::SUBFUNCTIONS]>,
    /// Added to the host's clock, by all vCPUs.
    pub(crate) epoch: Atomic<u64>,
    /// With what protected keys are encrypted.
    #[pin]
    pub(crate) keys: Mutex<crypto::Keys>,
    /// What the CPUs have in common for SIE.
    #[pin]
    pub(crate) sca: Sca,
    /// For ioctls of the VM that are about storage keys.
    #[pin]
    pub(crate) section: Mutex<Section>,
}

impl VmState {
    /// That of a new VM, whose clock is the host's.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            choices: Choices::new(),
            floating <- FloatingSet::new(),
            adapters: Adapters::new(),
            pfault: Atomic::new(false),
            has_flic: Atomic::new(false),
            model <- new_spinlock!(Model::of_host(), "kvm_s390_model"),
            functions <- new_spinlock!([0; s390::SUBFUNCTIONS], "kvm_s390_functions"),
            epoch: Atomic::new(0),
            keys <- new_mutex!(crypto::Keys::new()?, "kvm_s390_wrapping_keys"),
            sca <- Sca::new(),
            section <- new_mutex!(None, "kvm_s390_section"),
        })
    }
}
