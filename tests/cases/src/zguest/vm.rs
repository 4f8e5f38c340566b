// SPDX-License-Identifier: GPL-2.0
//! A VM with a little memory.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use kvm_uapi::memory::UserspaceMemoryRegion;
use kvm_uapi::vcpu::{DeviceAttr, EnableCap};
use kvm_uapi::{cap, ioctl};
use nix::errno::Errno;

use super::code::Code;
use super::vcpu::Vcpu;
use crate::case::Skip;
use crate::device::{ioctl as call, ioctl_with as give, make};
use crate::ram::Ram;
use crate::{deadline, device};

/// Bytes of memory that every VM has from address 0 on.
pub(super) const RAM_SIZE: usize = 4 << 20;

/// Where guests start.
pub(super) const CODE: u64 = 0x1_0000;

/// Where cases may put what they like.
pub(super) const DATA: u64 = 0x2_0000;

/// 64-bit addressing, nothing else.
pub(super) const MASK: u64 = 0x0000_0001_8000_0000;

/// With [`MASK`]: wait.
pub(super) const WAIT: u64 = 0x0002_0000_0000_0000;

/// With [`MASK`]: external interruptions.
pub(super) const EXTERNAL: u64 = 0x0100_0000_0000_0000;

/// Where the new PSWs of interruptions are, and the addresses of disabled waits that are in them.
pub(super) const TRAPS: &[(u64, u64)] = &[
    (0x1a0, RESTART_TRAP),
    (0x1b0, EXTERNAL_TRAP),
    (0x1c0, 0xfff_0c0),
    (0x1d0, PROGRAM_TRAP),
    (0x1e0, 0xfff_0e0),
    (0x1f0, IO_TRAP),
];

/// A restart came.
pub(super) const RESTART_TRAP: u64 = 0xfff_0a0;
/// An external interruption came.
pub(super) const EXTERNAL_TRAP: u64 = 0xfff_0b0;
/// A program interruption came.
pub(super) const PROGRAM_TRAP: u64 = 0xfff_0d0;
/// An I/O interruption came.
pub(super) const IO_TRAP: u64 = 0xfff_0f0;

/// A VM whose slot 0 is [`RAM_SIZE`] bytes at address 0.
pub(super) struct Vm {
    kvm: File,
    file: File,
    ram: Arc<Ram>,
    page_size: usize,
}

impl Vm {
    /// A VM with nothing but a little memory.
    pub(super) fn new() -> Result<Self> {
        let vm = Self::with_ram(Ram::new(RAM_SIZE)?)?;
        for (place, address) in TRAPS {
            vm.ram.write(*place, (MASK | WAIT).to_be())?;
            vm.ram.write(*place + 8, address.to_be())?;
        }
        Ok(vm)
    }

    /// A VM with this memory at address 0.
    pub(super) fn with_ram(ram: Ram) -> Result<Self> {
        deadline::handle_signals()?;
        let kvm = device::open()?;
        if call(&kvm, ioctl::KVM_CHECK_EXTENSION, cap::KVM_CAP_IMMEDIATE_EXIT.into())? == 0 {
            let reason = "the modules run no guests: they don't report KVM_CAP_IMMEDIATE_EXIT";
            return Err(Skip(reason.into()).into());
        }
        let file = make(&kvm, ioctl::KVM_CREATE_VM, 0).context("KVM_CREATE_VM")?;
        let page_size = call(&kvm, ioctl::KVM_GET_VCPU_MMAP_SIZE, 0)?.try_into()?;
        let vm = Self { kvm, file, ram: Arc::new(ram), page_size };
        vm.add_slot(0, 0, &vm.ram)?;
        Ok(vm)
    }

    /// The VM's file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The memory at address 0.
    pub(super) fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Reads a number of the guest.
    pub(super) fn read(&self, address: u64) -> Result<u64> {
        self.ram.read::<u64>(address).map(u64::from_be)
    }

    /// Reads a number of 32 bits.
    pub(super) fn read_u32(&self, address: u64) -> Result<u32> {
        self.ram.read::<u32>(address).map(u32::from_be)
    }

    /// Writes a number for the guest.
    pub(super) fn write(&self, address: u64, value: u64) -> Result<()> {
        self.ram.write(address, value.to_be())
    }

    /// Sets the PSW at an address.
    pub(super) fn write_psw(&self, place: u64, mask: u64, address: u64) -> Result<()> {
        self.write(place, mask)?;
        self.write(place + 8, address)
    }

    /// The value of a capability on the VM.
    pub(super) fn capability(&self, number: u32) -> Result<u32> {
        let value = call(&self.file, ioctl::KVM_CHECK_EXTENSION, number.into());
        Ok(value.with_context(|| format!("capability {number}"))?.try_into()?)
    }

    /// Skips the case without a capability.
    pub(super) fn need(&self, capability: u32, name: &str) -> Result<()> {
        if self.capability(capability)? != 0 {
            return Ok(());
        }
        Err(Skip(format!("the modules don't report {name}")).into())
    }

    /// Whether guests have a facility.
    pub(super) fn facility(&self, number: u16) -> Result<bool> {
        const CPU_MODEL: u32 = 3;
        let mut words = [0_u64; 258];
        let attr =
            DeviceAttr { flags: 0, group: CPU_MODEL, attr: 0, addr: words.as_mut_ptr() as u64 };
        give(&self.file, ioctl::KVM_GET_DEVICE_ATTR, &attr).context("the CPU model")?;
        let word = words[2 + usize::from(number / 64)];
        Ok(word << (number % 64) >> 63 != 0)
    }

    /// Turns a capability on.
    pub(super) fn enable(&self, cap: u32, args: [u64; 4]) -> Result<i32, Errno> {
        give(&self.file, ioctl::KVM_ENABLE_CAP, &EnableCap { cap, flags: 0, args, pad: [0; 64] })
    }

    /// Sets a slot.
    pub(super) fn set_slot(
        &self,
        slot: u32,
        flags: u32,
        gpa: u64,
        ram: &Ram,
        size: usize,
    ) -> Result<i32, Errno> {
        let region = UserspaceMemoryRegion {
            slot,
            flags,
            guest_phys_addr: gpa,
            memory_size: size as u64,
            userspace_addr: ram.address(),
        };
        give(&self.file, ioctl::KVM_SET_USER_MEMORY_REGION, &region)
    }

    /// Adds a slot at `gpa` with all of `ram` behind it.
    pub(super) fn add_slot(&self, slot: u32, gpa: u64, ram: &Ram) -> Result<()> {
        let result = self.set_slot(slot, 0, gpa, ram, ram.size());
        result.map(|_| ()).with_context(|| format!("slot {slot} at {gpa:#x}"))
    }

    /// A vCPU as it is made.
    pub(super) fn vcpu(&self, id: u32) -> Result<Vcpu> {
        let file = make(&self.file, ioctl::KVM_CREATE_VCPU, id.into());
        let file = file.with_context(|| format!("KVM_CREATE_VCPU {id}"))?;
        Vcpu::new(file, self.page_size)
    }

    /// Copies code to where guests start.
    pub(super) fn load(&self, code: &Code) -> Result<()> {
        self.ram.write_bytes(CODE, code.bytes())
    }

    /// vCPU 0, about to run code.
    pub(super) fn start(&self, code: &Code) -> Result<Vcpu> {
        self.load(code)?;
        let vcpu = self.vcpu(0)?;
        vcpu.reset()?;
        vcpu.set_psw(MASK, CODE);
        Ok(vcpu)
    }
}
