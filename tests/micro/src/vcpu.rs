// SPDX-License-Identifier: GPL-2.0
//! A vCPU: entering it, and what it comes out with.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings as abi;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::cpuid::Cpuid;
use super::deadline::{Deadline, LIMIT};
use super::exit::Exit;
use super::ram::Ram;
use super::request::{self, call, exchange, give, take};

/// A vCPU.
///
/// # Invariants
/// `page` is the start of a mapping of `size` bytes of `file`, at least a `kvm_run` long, that belongs to
/// this value.
pub struct Vcpu {
    file: File,
    id: u32,
    page: NonNull<abi::kvm_run>,
    size: usize,
    ram: Arc<Ram>,
    limit: Duration,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// The vCPU of `file`, of whose pages `size` bytes can be mapped.
    pub fn new(file: File, id: u32, size: usize, ram: Arc<Ram>) -> Result<Self> {
        ensure!(size >= size_of::<abi::kvm_run>(), "{size} bytes to map of a vCPU");
        let length = NonZeroUsize::new(size).context("no size")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice harms nothing.
        let page = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file.as_fd(), 0) };
        let page = page.context("mapping a vCPU")?.cast();
        // INVARIANT: just mapped, and the size was looked at above.
        Ok(Self { file, id, page, size, ram, limit: LIMIT })
    }

    /// The vCPU's file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The VM's memory at address 0.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Lets each entry take this long.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The run page. Nobody else looks at it while the vCPU is out of the guest, but for
    /// `immediate_exit`, which [`Stopper`] sets.
    pub fn run_page(&mut self) -> &mut abi::kvm_run {
        // SAFETY: by the invariant the mapping is long enough, and it lives as long as this value. The
        // kernel changes it during ioctls only, none of which lasts while the borrow does.
        unsafe { self.page.as_mut() }
    }

    /// A way for other threads to set `immediate_exit`.
    pub fn stopper(&self) -> Stopper {
        // SAFETY: by the invariant it is within the mapping.
        Stopper(unsafe { &raw mut (*self.page.as_ptr()).immediate_exit })
    }

    /// Bytes of the run page and the pages behind it.
    pub fn page_bytes(&self, offset: u64, count: usize) -> Vec<u8> {
        let start = self.page.as_ptr().cast::<u8>();
        let end = (offset as usize).saturating_add(count).min(self.size);
        // SAFETY: by the invariant all of it is within the mapping.
        (offset as usize..end).map(|at| unsafe { start.add(at).read_volatile() }).collect()
    }

    /// Sets bytes of those pages.
    pub fn set_page_bytes(&self, offset: u64, bytes: &[u8]) {
        let start = self.page.as_ptr().cast::<u8>();
        for (at, byte) in (offset as usize..self.size).zip(bytes) {
            // SAFETY: by the invariant it is within the mapping.
            unsafe { start.add(at).write_volatile(*byte) };
        }
    }

    /// Enters the guest until it comes out or the ioctl fails. A guest that stays inside for too long
    /// is an error of its own.
    pub fn try_run(&mut self) -> Result<Result<Exit, Errno>> {
        let deadline = Deadline::start(self.limit)?;
        let result = call(&self.file, request::RUN, 0);
        let hangs = result == Err(Errno::EINTR) && deadline.has_passed();
        drop(deadline);
        if hangs {
            bail!("the guest does not come out; {}", self.place());
        }
        match result {
            Ok(0) => Ok(Ok(self.exit())),
            Ok(other) => bail!("KVM_RUN answers {other}"),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Enters the guest and nothing else: no limit, and the exit stays in the run page.
    pub fn enter(&self) -> Result<(), Errno> {
        call(&self.file, request::RUN, 0).map(|_| ())
    }

    /// The exit that the run page tells of.
    pub fn exit(&self) -> Exit {
        // SAFETY: by the invariant the mapping is long enough; any bits are a value.
        let page = unsafe { self.page.read_volatile() };
        Exit::read(&page, |offset, count| self.page_bytes(offset, count))
    }

    /// Enters the guest until it comes out.
    pub fn run(&mut self) -> Result<Exit> {
        match self.try_run()? {
            Ok(exit) => Ok(exit),
            Err(error) => bail!("KVM_RUN fails with {error:?}; {}", self.place()),
        }
    }

    /// Enters the guest, which has to come out like this.
    pub fn expect(&mut self, expected: &Exit) -> Result<()> {
        let exit = self.run()?;
        if exit != *expected {
            bail!("{} instead of {expected:x?}", self.describe(&exit));
        }
        Ok(())
    }

    /// An exit and where it happened.
    pub fn describe(&self, exit: &Exit) -> String {
        let trap = match exit {
            Exit::Out { port: super::trap::PORT, .. } => super::trap::Trap::read(&self.ram)
                .map_or_else(|e| e.to_string(), |t| format!(" {t:x?}")),
            _ => String::new(),
        };
        format!("{exit:x?}{trap} ({})", self.place())
    }

    /// The guest has to write this to a port.
    pub fn expect_out(&mut self, port: u16, data: &[u8]) -> Result<()> {
        let exit = self.run()?;
        match &exit {
            Exit::Out { port: written, data: bytes, .. } if *written == port && bytes == data => {
                Ok(())
            }
            _ => bail!("{} instead of {data:x?} to port {port:#x}", self.describe(&exit)),
        }
    }

    /// The guest has to report `value`: `out 0xe8, eax`.
    pub fn expect_report(&mut self, value: u32) -> Result<()> {
        self.expect_out(REPORT, &value.to_le_bytes())
    }

    /// Whatever the guest reports next.
    pub fn report(&mut self) -> Result<u32> {
        match self.run()? {
            Exit::Out { port: REPORT, size: 4, data } => {
                Ok(u32::from_le_bytes(data.as_slice().try_into()?))
            }
            exit => bail!("{} instead of a report", self.describe(&exit)),
        }
    }

    /// Gives what the guest wants to read from a port or from memory that isn't there.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        let page = self.run_page();
        // SAFETY: every member of the union is plain numbers.
        unsafe {
            match page.exit_reason {
                abi::KVM_EXIT_IO => {
                    let offset = page.__bindgen_anon_1.io.data_offset;
                    self.set_page_bytes(offset, bytes);
                }
                abi::KVM_EXIT_MMIO => {
                    let data = &mut page.__bindgen_anon_1.mmio.data;
                    data.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
                }
                reason => bail!("exit {reason} asks for nothing"),
            }
        }
        Ok(())
    }

    /// Where the guest is, for messages.
    pub fn place(&self) -> String {
        let regs = self.regs();
        let sregs = self.sregs();
        match (regs, sregs) {
            (Ok(regs), Ok(sregs)) => format!(
                "cs:rip {:x}:{:x} rflags {:x} rax {:x} rsp {:x} cr0 {:x} cr2 {:x}",
                sregs.cs.selector, regs.rip, regs.rflags, regs.rax, regs.rsp, sregs.cr0, sregs.cr2
            ),
            (regs, sregs) => format!("its registers: {:?}, {:?}", regs.err(), sregs.err()),
        }
    }

    /// General registers.
    pub fn regs(&self) -> Result<abi::kvm_regs> {
        take(&self.file, request::GET_REGS).context("KVM_GET_REGS")
    }

    /// Sets general registers.
    pub fn set_regs(&self, regs: &abi::kvm_regs) -> Result<()> {
        give(&self.file, request::SET_REGS, regs).map(|_| ()).context("KVM_SET_REGS")
    }

    /// Changes general registers.
    pub fn change_regs(&self, change: impl FnOnce(&mut abi::kvm_regs)) -> Result<()> {
        let mut regs = self.regs()?;
        change(&mut regs);
        self.set_regs(&regs)
    }

    /// Segments and control registers.
    pub fn sregs(&self) -> Result<abi::kvm_sregs> {
        take(&self.file, request::GET_SREGS).context("KVM_GET_SREGS")
    }

    /// Sets segments and control registers.
    pub fn set_sregs(&self, sregs: &abi::kvm_sregs) -> Result<()> {
        give(&self.file, request::SET_SREGS, sregs).map(|_| ()).context("KVM_SET_SREGS")
    }

    /// Changes segments and control registers.
    pub fn change_sregs(&self, change: impl FnOnce(&mut abi::kvm_sregs)) -> Result<()> {
        let mut sregs = self.sregs()?;
        change(&mut sregs);
        self.set_sregs(&sregs)
    }

    /// Reads a structure.
    pub fn get<T: Default>(&self, request: u32) -> Result<T> {
        take(&self.file, request).with_context(|| format!("ioctl {request:#x}"))
    }

    /// Sets a structure, or tells why it can't be.
    pub fn try_set<T>(&self, request: u32, value: &T) -> Result<(), Errno> {
        give(&self.file, request, value).map(|_| ())
    }

    /// Sets a structure.
    pub fn set<T>(&self, request: u32, value: &T) -> Result<()> {
        self.try_set(request, value).with_context(|| format!("ioctl {request:#x}"))
    }

    /// What is to be delivered to the guest, and what holds it up.
    pub fn events(&self) -> Result<abi::kvm_vcpu_events> {
        self.get(request::GET_VCPU_EVENTS)
    }

    /// Queues an external interrupt.
    pub fn interrupt(&self, irq: u32) -> Result<(), Errno> {
        self.try_set(request::INTERRUPT, &abi::kvm_interrupt { irq })
    }

    /// Queues an NMI.
    pub fn nmi(&self) -> Result<()> {
        call(&self.file, request::NMI, 0).map(|_| ()).context("KVM_NMI")
    }

    /// Sets CPUID.
    pub fn set_cpuid(&self, cpuid: &Cpuid) -> Result<()> {
        give(&self.file, request::SET_CPUID2, cpuid).map(|_| ()).context("KVM_SET_CPUID2")
    }

    /// Reads an MSR; none if there is no such.
    pub fn msr(&self, index: u32) -> Result<Option<u64>> {
        let mut list = Msr::new(index, 0);
        let count = exchange(&self.file, request::GET_MSRS, &mut list).context("KVM_GET_MSRS")?;
        Ok((count == 1).then_some(list.entry.data))
    }

    /// Sets an MSR; whether that was accepted.
    pub fn set_msr(&self, index: u32, data: u64) -> Result<bool> {
        let list = Msr::new(index, data);
        Ok(give(&self.file, request::SET_MSRS, &list).context("KVM_SET_MSRS")? == 1)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no borrow of it can be left.
        let _ = unsafe { munmap(self.page.cast(), self.size) };
    }
}

/// The port of reports: `out 0xe8, eax`.
pub const REPORT: u16 = 0xe8;

/// `struct kvm_msrs` with one entry.
#[repr(C)]
struct Msr {
    count: u32,
    padding: u32,
    entry: abi::kvm_msr_entry,
}

impl Msr {
    fn new(index: u32, data: u64) -> Self {
        Self { count: 1, padding: 0, entry: abi::kvm_msr_entry { index, reserved: 0, data } }
    }
}

/// Sets `immediate_exit` of a vCPU. It must not outlive the [`Vcpu`], whose mapping it points to.
pub struct Stopper(*mut u8);

// SAFETY: the byte is there to be written by any thread.
unsafe impl Send for Stopper {}
// SAFETY: as above.
unsafe impl Sync for Stopper {}

impl Stopper {
    /// Lets KVM_RUN return at once, or not.
    pub fn set(&self, stop: bool) {
        // SAFETY: the vCPU outlives this value, says its contract.
        unsafe { self.0.write_volatile(stop.into()) };
    }
}
