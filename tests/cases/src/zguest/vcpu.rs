// SPDX-License-Identifier: GPL-2.0
//! A vCPU.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, bail, ensure};
use kvm_uapi::run::{offset, reason};
use kvm_uapi::s390::{Irq, run, sync};
use kvm_uapi::vcpu::{MpState, OneReg};
use kvm_uapi::{ioctl, ioctl::s390 as z};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::code::REPORT;
use crate::deadline::{Deadline, LIMIT};
use crate::device::{exchange, ioctl as call, ioctl_with as give};

/// Interception codes.
pub(super) mod icpt {
    /// Instruction.
    pub(in super::super) const INSTRUCTION: u8 = 0x04;
    /// Wait.
    pub(in super::super) const WAIT: u8 = 0x1c;
    /// Stop.
    pub(in super::super) const STOP: u8 = 0x28;
    /// Operation exception.
    pub(in super::super) const OPERATION: u8 = 0x2c;
}

/// Why a guest came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It reported a value.
    Report(u64),
    /// An interception: its code and the first bytes of the instruction.
    Sie { code: u8, ipa: u16, ipb: u32 },
    /// A reset, with flags.
    Reset(u64),
    /// Something else, by number.
    Other(u32),
}

/// A vCPU and the page that it shares with the case.
///
/// # Invariants
/// `page` is a mapping of `size` bytes that belongs to this value.
pub(super) struct Vcpu {
    file: File,
    page: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the process, and every access is volatile.
unsafe impl Send for Vcpu {}
// SAFETY: as above.
unsafe impl Sync for Vcpu {}

impl Vcpu {
    pub(super) fn new(file: File, size: usize) -> Result<Self> {
        let length = NonZeroUsize::new(size).context("no size")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice harms nothing.
        let page = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file.as_fd(), 0) };
        // INVARIANT: just mapped.
        Ok(Self { file, page: page.context("mapping kvm_run")?.cast(), size })
    }

    /// The vCPU's file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads from `kvm_run`.
    fn read<T: Copy>(&self, at: usize) -> T {
        assert!(at + size_of::<T>() <= self.size && at % align_of::<T>() == 0);
        // SAFETY: aligned and within the mapping; only numbers are read.
        unsafe { self.page.as_ptr().add(at).cast::<T>().read_volatile() }
    }

    /// Writes to `kvm_run`.
    fn write<T: Copy>(&self, at: usize, value: T) {
        assert!(at + size_of::<T>() <= self.size && at % align_of::<T>() == 0);
        // SAFETY: aligned and within the mapping.
        unsafe { self.page.as_ptr().add(at).cast::<T>().write_volatile(value) };
    }

    /// A general register.
    pub(super) fn gpr(&self, number: u8) -> u64 {
        self.read(run::GPRS + usize::from(number) * 8)
    }

    /// Sets a general register.
    pub(super) fn set_gpr(&self, number: u8, value: u64) {
        self.write(run::GPRS + usize::from(number) * 8, value);
        self.dirty(sync::GPRS);
    }

    /// A control register.
    pub(super) fn control(&self, number: u8) -> u64 {
        self.read(run::CRS + usize::from(number) * 8)
    }

    /// Sets a control register.
    pub(super) fn set_control(&self, number: u8, value: u64) {
        self.write(run::CRS + usize::from(number) * 8, value);
        self.dirty(sync::CRS);
    }

    /// Sets the prefix.
    pub(super) fn set_prefix(&self, prefix: u32) {
        self.write(run::PREFIX, u64::from(prefix));
        self.dirty(sync::PREFIX);
    }

    /// A word of the synchronized registers.
    pub(super) fn sync_word(&self, at: usize) -> u64 {
        self.read(at)
    }

    /// Sets one, of a set.
    pub(super) fn set_sync_word(&self, at: usize, value: u64, set: u64) {
        self.write(at, value);
        self.dirty(set);
    }

    /// Says that userspace changed registers.
    fn dirty(&self, set: u64) {
        let old: u64 = self.read(offset::DIRTY_REGS);
        self.write(offset::DIRTY_REGS, old | set);
    }

    /// The PSW.
    pub(super) fn psw(&self) -> (u64, u64) {
        (self.read(run::PSW_MASK), self.read(run::PSW_ADDR))
    }

    /// Sets the PSW.
    pub(super) fn set_psw(&self, mask: u64, address: u64) {
        self.write(run::PSW_MASK, mask);
        self.write(run::PSW_ADDR, address);
    }

    /// Asks for an immediate return.
    pub(super) fn set_immediate_exit(&self, on: bool) {
        self.write(offset::IMMEDIATE_EXIT, u8::from(on));
    }

    /// Initial CPU reset.
    pub(super) fn reset(&self) -> Result<()> {
        self.call(z::KVM_S390_INITIAL_RESET, 0).map(|_| ()).context("KVM_S390_INITIAL_RESET")
    }

    /// An ioctl with a number.
    pub(super) fn call(&self, request: u32, argument: u64) -> Result<i32, Errno> {
        call(&self.file, request, argument)
    }

    /// An ioctl with a structure that the kernel reads.
    pub(super) fn give<T>(&self, request: u32, argument: &T) -> Result<i32, Errno> {
        give(&self.file, request, argument)
    }

    /// Injects an interruption.
    pub(super) fn inject(&self, type_: u64, u: [u64; 8]) -> Result<i32, Errno> {
        self.give(z::KVM_S390_IRQ, &Irq { type_, u })
    }

    /// Its state: 5 stopped, 7 operating.
    pub(super) fn state(&self) -> Result<u32> {
        let mut state = MpState { mp_state: u32::MAX };
        exchange(&self.file, ioctl::KVM_GET_MP_STATE, &mut state).context("KVM_GET_MP_STATE")?;
        Ok(state.mp_state)
    }

    /// Sets it. From then on userspace alone starts and stops vCPUs.
    pub(super) fn set_state(&self, mp_state: u32) -> Result<i32, Errno> {
        self.give(ioctl::KVM_SET_MP_STATE, &MpState { mp_state })
    }

    /// A register by its id.
    pub(super) fn one_reg(&self, id: u64) -> Result<u64, Errno> {
        let mut value = 0_u64;
        let register = OneReg { id, addr: &raw mut value as u64 };
        give(&self.file, ioctl::KVM_GET_ONE_REG, &register)?;
        Ok(value)
    }

    /// Sets one.
    pub(super) fn set_one_reg(&self, id: u64, mut value: u64) -> Result<i32, Errno> {
        let mut register = OneReg { id, addr: &raw mut value as u64 };
        exchange(&self.file, ioctl::KVM_SET_ONE_REG, &mut register)
    }

    /// `KVM_RUN`, whatever it answers.
    pub(super) fn try_run(&self) -> Result<Exit, Errno> {
        self.call(ioctl::KVM_RUN, 0)?;
        let reason: u32 = self.read(offset::EXIT_REASON);
        Ok(match reason {
            reason::KVM_EXIT_S390_SIEIC => {
                let code: u8 = self.read(offset::EXIT);
                let ipa: u16 = self.read(offset::EXIT + 2);
                let ipb: u32 = self.read(offset::EXIT + 4);
                let is_report =
                    code == icpt::INSTRUCTION && ipa >> 8 == 0x83 && ipb >> 16 == u32::from(REPORT);
                if is_report {
                    Exit::Report(self.gpr((ipa >> 4 & 0xf) as u8))
                } else {
                    Exit::Sie { code, ipa, ipb }
                }
            }
            reason::KVM_EXIT_S390_RESET => Exit::Reset(self.read(offset::EXIT)),
            other => Exit::Other(other),
        })
    }

    /// Runs until the guest comes out.
    pub(super) fn run(&self) -> Result<Exit> {
        let deadline = Deadline::start(LIMIT)?;
        loop {
            match self.try_run() {
                Ok(exit) => return Ok(exit),
                Err(Errno::EINTR) if !deadline.has_passed() => {}
                Err(error) => bail!("KVM_RUN fails with {error:?}; {}", self.place()),
            }
        }
    }

    /// The first words of what `kvm_run` says of the exit.
    pub(super) fn exit_words(&self) -> [u64; 3] {
        [0, 8, 16].map(|at| self.read(offset::EXIT + at))
    }

    /// Runs until a report, which has to come.
    pub(super) fn report(&self) -> Result<u64> {
        match self.run()? {
            Exit::Report(value) => Ok(value),
            other => bail!("{other:x?} instead of a report; {}", self.place()),
        }
    }

    /// Runs until a disabled wait at an address.
    pub(super) fn expect_wait(&self, address: u64) -> Result<()> {
        let exit = self.run()?;
        let is_wait = matches!(exit, Exit::Sie { code: icpt::WAIT, .. });
        ensure!(is_wait && self.psw().1 == address, "{exit:x?}; {}", self.place());
        Ok(())
    }

    /// Where the guest is.
    pub(super) fn place(&self) -> String {
        let (mask, address) = self.psw();
        format!("PSW {mask:016x} {address:016x}")
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: by the invariant the mapping is this value's own.
        let _ = unsafe { munmap(self.page.cast(), self.size) };
    }
}
