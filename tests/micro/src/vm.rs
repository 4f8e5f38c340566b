// SPDX-License-Identifier: GPL-2.0
//! A VM with a little memory.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use kvm_bindings as abi;
use nix::errno::Errno;

use super::cpuid::Cpuid;
use super::ram::Ram;
use super::request::{self, call, exchange, give, make};
use super::vcpu::Vcpu;
use super::{deadline, mode};
use crate::Skip;
use crate::device;

/// Bytes of memory that every VM has from address 0 on.
pub const RAM_SIZE: usize = 4 << 20;

/// Where three pages for real mode on Intel's processors may lie, as in other VMMs.
const TSS_ADDR: u64 = 0xfffb_d000;

/// A VM whose slot 0 is [`RAM_SIZE`] bytes at address 0. What lies where is said in [`mode`].
pub struct Vm {
    kvm: File,
    file: File,
    ram: Arc<Ram>,
    page_size: usize,
}

impl Vm {
    /// A VM without interrupt controllers.
    pub fn new() -> Result<Self> {
        Self::with_ram(Ram::new(RAM_SIZE)?)
    }

    /// A VM whose first memory is `ram`, of at least [`RAM_SIZE`], which may be another one's as well.
    pub fn with_ram(ram: impl Into<Arc<Ram>>) -> Result<Self> {
        deadline::handle_signals()?;
        let kvm = device::open()?;
        if call(&kvm, request::CHECK_EXTENSION, abi::KVM_CAP_IMMEDIATE_EXIT.into())? == 0 {
            let reason = "the modules run no guests yet: they don't report KVM_CAP_IMMEDIATE_EXIT";
            return Err(Skip(reason.into()).into());
        }
        let file = make(&kvm, request::CREATE_VM, 0).context("KVM_CREATE_VM")?;
        let page_size = call(&kvm, request::GET_VCPU_MMAP_SIZE, 0)?.try_into()?;
        let vm = Self { kvm, file, ram: ram.into(), page_size };
        if vm.has(abi::KVM_CAP_SET_TSS_ADDR)? {
            call(&vm.file, request::SET_TSS_ADDR, TSS_ADDR).context("KVM_SET_TSS_ADDR")?;
        }
        vm.set_slot(&vm.slot(0, 0, &vm.ram)).context("slot 0")?;
        mode::prepare(&vm.ram)?;
        Ok(vm)
    }

    /// /dev/kvm.
    pub fn kvm(&self) -> &File {
        &self.kvm
    }

    /// The VM's file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The memory at address 0.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// The value of a capability on the VM.
    pub fn capability(&self, number: u32) -> Result<u32> {
        let value = call(&self.file, request::CHECK_EXTENSION, number.into());
        Ok(value.with_context(|| format!("capability {number}"))?.try_into()?)
    }

    /// Whether it is not 0.
    pub fn has(&self, capability: u32) -> Result<bool> {
        Ok(self.capability(capability)? != 0)
    }

    /// Skips the case without a capability.
    pub fn need(&self, capability: u32, name: &str) -> Result<()> {
        if self.has(capability)? {
            return Ok(());
        }
        Err(Skip(format!("the modules don't report {name}")).into())
    }

    /// Turns a capability on.
    pub fn enable(&self, cap: u32, args: [u64; 4]) -> Result<i32, Errno> {
        let argument = abi::kvm_enable_cap { cap, args, ..Default::default() };
        give(&self.file, request::ENABLE_CAP, &argument)
    }

    /// Makes all interrupt controllers; vCPUs come after.
    pub fn create_irqchip(&self) -> Result<()> {
        self.need(abi::KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP")?;
        call(&self.file, request::CREATE_IRQCHIP, 0).map(|_| ()).context("KVM_CREATE_IRQCHIP")
    }

    /// Makes local APICs alone: the IOAPIC is the VMM's, with this many pins.
    pub fn split_irqchip(&self, pins: u64) -> Result<()> {
        self.need(abi::KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP")?;
        self.enable(abi::KVM_CAP_SPLIT_IRQCHIP, [pins, 0, 0, 0])
            .context("KVM_CAP_SPLIT_IRQCHIP")?;
        Ok(())
    }

    /// Sets a line.
    pub fn irq_line(&self, irq: u32, level: bool) -> Result<()> {
        let line = abi::kvm_irq_level {
            __bindgen_anon_1: abi::kvm_irq_level__bindgen_ty_1 { irq },
            level: level.into(),
        };
        give(&self.file, request::IRQ_LINE, &line).map(|_| ()).context("KVM_IRQ_LINE")
    }

    /// Sets a line and tells what became of it: 1 delivered, 0 merged with one before, negative if
    /// nobody takes it.
    pub fn irq_line_status(&self, irq: u32, level: bool) -> Result<i32> {
        let mut line = abi::kvm_irq_level {
            __bindgen_anon_1: abi::kvm_irq_level__bindgen_ty_1 { irq },
            level: level.into(),
        };
        exchange(&self.file, request::IRQ_LINE_STATUS, &mut line).context("KVM_IRQ_LINE_STATUS")?;
        // SAFETY: both members of the union are plain numbers.
        Ok(unsafe { line.__bindgen_anon_1.status })
    }

    /// Sends a message; how many took it.
    pub fn msi(&self, address: u32, data: u32) -> Result<i32, Errno> {
        let msi = abi::kvm_msi { address_lo: address, data, ..Default::default() };
        give(&self.file, request::SIGNAL_MSI, &msi)
    }

    /// A slot at `gpa` with all of `ram` behind it.
    pub fn slot(&self, slot: u32, gpa: u64, ram: &Ram) -> abi::kvm_userspace_memory_region {
        abi::kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: gpa,
            memory_size: ram.size() as u64,
            userspace_addr: ram.address(),
        }
    }

    /// Sets a slot.
    pub fn set_slot(&self, slot: &abi::kvm_userspace_memory_region) -> Result<i32, Errno> {
        give(&self.file, request::SET_USER_MEMORY_REGION, slot)
    }

    /// Adds a slot at `gpa` with all of `ram` behind it.
    pub fn add_slot(&self, slot: u32, gpa: u64, ram: &Ram) -> Result<()> {
        let result = self.set_slot(&self.slot(slot, gpa, ram));
        result.map(|_| ()).with_context(|| format!("slot {slot} at {gpa:#x}"))
    }

    /// CPUID that guests can have.
    pub fn supported_cpuid(&self) -> Result<Cpuid> {
        Cpuid::supported(&self.kvm)
    }

    /// A vCPU as after reset, without CPUID.
    pub fn bare_vcpu(&self, id: u32) -> Result<Vcpu> {
        let file = make(&self.file, request::CREATE_VCPU, id.into());
        let file = file.with_context(|| format!("KVM_CREATE_VCPU {id}"))?;
        Vcpu::new(file, id, self.page_size, Arc::clone(&self.ram))
    }

    /// A vCPU as after reset, with all that CPUID can tell.
    pub fn vcpu(&self, id: u32) -> Result<Vcpu> {
        let vcpu = self.bare_vcpu(id)?;
        let mut cpuid = self.supported_cpuid()?;
        cpuid.set_apic_id(id);
        vcpu.set_cpuid(&cpuid)?;
        Ok(vcpu)
    }

    /// The vCPU 0, about to run 64-bit code.
    pub fn long(&self, code: &[u8]) -> Result<Vcpu> {
        let vcpu = self.vcpu(0)?;
        vcpu.start(mode::Mode::Long, code)?;
        Ok(vcpu)
    }
}
