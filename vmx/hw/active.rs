// SPDX-License-Identifier: GPL-2.0
//! Which control structure is active and current where (SDM vol. 3, 25.1).
//!
//! A CPU may keep parts of a VMCS from its VMPTRLD to its VMCLEAR: so long the VMCS is
//! active there. It may be active on one CPU only, so who wants it elsewhere has that
//! CPU clear it first. A CPU that turns VMX off clears all that are active there.

use crate::insn::{try_vmread, vmclear, vmptrld, vmread, vmwrite};
use core::ptr::{self, NonNull};
use kernel::{
    cpu::CpuId,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};
use kvm_sys::{
    hw_pages::HwPages,
    irq::{self, IrqOff},
    percpu::PerCpu,
    plain::Plain,
    preempt::Pinned,
};
use vmx_arch::{
    exit::Reason,
    field::{Field, Slot},
};

/// The CPU of a VMCS that is active nowhere.
const NOWHERE: u32 = u32::MAX;
/// The physical address of no VMCS.
const NOTHING: u64 = 0;

/// A value that no stack pointer has.
const HOST_RSP_UNKNOWN: u64 = 0;

/// What an entry of a vCPU takes and an exit leaves besides the registers; `enter.S` knows
/// its layout.
#[repr(C)]
pub struct Entering {
    /// What the VMCS has as the host's stack pointer, or [`HOST_RSP_UNKNOWN`].
    host_rsp: u64,
    spec_ctrl: u64,
    switches_spec_ctrl: bool,
}

impl Entering {
    /// That of a vCPU which was never entered.
    #[expect(clippy::new_without_default, reason = "for one VMCS each")]
    pub const fn new() -> Self {
        Self { host_rsp: HOST_RSP_UNKNOWN, spec_ctrl: 0, switches_spec_ctrl: false }
    }

    /// The guest's IA32_SPEC_CTRL, if it is switched.
    #[inline]
    pub fn spec_ctrl(&self) -> Option<u64> {
        self.switches_spec_ctrl.then_some(self.spec_ctrl)
    }

    /// From the next entry on the guest runs with this IA32_SPEC_CTRL, which the processor has
    /// and takes, and exits go to another [address](Self::exit_address).
    pub fn switch_spec_ctrl(&mut self, value: u64) {
        self.spec_ctrl = value;
        self.switches_spec_ctrl = true;
    }

    /// The address of the code that an exit goes to: for HOST_RIP.
    pub fn exit_address(&self) -> u64 {
        if self.switches_spec_ctrl {
            (&raw const crate::kvm_vmx_exited_switching) as u64
        } else {
            (&raw const crate::kvm_vmx_exited) as u64
        }
    }
}

/// What CPUs know of a VMCS.
struct Node {
    physical: u64,
    /// Where it is active.
    cpu: Atomic<u32>,
    /// It was entered since it was cleared.
    launched: Atomic<bool>,
    previous: Atomic<*mut Node>,
    next: Atomic<*mut Node>,
}

/// The control structures that are active on a CPU.
///
/// # Invariants
///
/// `first` and the links of nodes make a list of those whose `cpu` is this one, each of
/// which exists. The CPU itself changes it, with interrupts off.
pub struct VmcsCpu {
    /// Physical address of the one that is current.
    current: Atomic<u64>,
    first: Atomic<*mut Node>,
}

// SAFETY: It is atomic, and what it points to belongs to whoever has the list.
unsafe impl Send for VmcsCpu {}
// SAFETY: As above; changes happen on one CPU.
unsafe impl Sync for VmcsCpu {}

impl VmcsCpu {
    /// None is.
    #[expect(clippy::new_without_default, reason = "per CPU, never made alone")]
    pub const fn new() -> Self {
        // INVARIANT: the empty list.
        Self { current: Atomic::new(NOTHING), first: Atomic::new(ptr::null_mut()) }
    }

    /// Puts a node on this CPU's list.
    ///
    /// # Safety
    ///
    /// `self` is that of this CPU; the node is on no list.
    unsafe fn add(&self, node: &Node, _off: &IrqOff) {
        let this = ptr::from_ref(node).cast_mut();
        let first = self.first.load(Relaxed);
        node.previous.store(ptr::null_mut(), Relaxed);
        node.next.store(first, Relaxed);
        // SAFETY: By the invariants of the list.
        if let Some(first) = unsafe { first.as_ref() } {
            first.previous.store(this, Relaxed);
        }
        // INVARIANT: it is on the list now. Whoever walks it in an NMI sees all of it.
        self.first.store(this, Release);
    }

    /// Clears a VMCS that is active on this CPU.
    ///
    /// # Safety
    ///
    /// `self` is that of this CPU, and the node on its list.
    unsafe fn clear(&self, node: &Node, _off: &IrqOff) {
        // SAFETY: The VMCS is active on this CPU.
        unsafe { vmclear(node.physical) };
        if self.current.load(Relaxed) == node.physical {
            self.current.store(NOTHING, Relaxed);
        }
        node.launched.store(false, Relaxed);
        let (previous, next) = (node.previous.load(Relaxed), node.next.load(Relaxed));
        // SAFETY: By the invariants of the list, here and below.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.store(next, Relaxed),
            None => self.first.store(next, Relaxed),
        }
        // SAFETY: As above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.previous.store(previous, Relaxed);
        }
        // INVARIANT: it is on the list no longer. Another CPU may have it now.
        node.cpu.store(NOWHERE, Release);
    }

    /// Clears all that are active on this CPU, which `self` belongs to: VMX is about to
    /// be turned off.
    pub fn clear_all(&self, off: &IrqOff) {
        // SAFETY: By the invariants of the list.
        while let Some(node) = unsafe { self.first.load(Relaxed).as_ref() } {
            // SAFETY: It is on the list, and the caller says whose that is.
            unsafe { self.clear(node, off) };
        }
    }

    /// Clears all that are active on this CPU of a crashing kernel, whatever it was
    /// about: memory is to hold all there is.
    pub fn crash(&self, _off: &IrqOff) {
        let mut next = self.first.load(Acquire);
        // SAFETY: By the invariants of the list, in which each link is always right.
        while let Some(node) = unsafe { next.as_ref() } {
            // SAFETY: The VMCS is active on this CPU.
            unsafe { vmclear(node.physical) };
            next = node.next.load(Relaxed);
        }
    }
}

/// A vCPU's control structure, which is current nowhere as far as anybody knows.
///
/// # Invariants
///
/// `node` came from a box. It is on the list of the CPU that it names.
pub struct Vmcs {
    /// Keeps the memory.
    _region: HwPages<1>,
    node: NonNull<Node>,
    cpus: &'static PerCpu<VmcsCpu>,
}

// SAFETY: Any thread may load it, one at a time.
unsafe impl Send for Vmcs {}

impl Vmcs {
    /// A structure that was never used, for processors of a `revision`, with the lists
    /// of the CPUs that it may be active on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(cpus: &'static PerCpu<VmcsCpu>, revision: u32) -> Result<Self> {
        let mut region = HwPages::new()?;
        if let Some(word) = region.bytes().first_chunk_mut() {
            *word = revision.to_le_bytes();
        }
        let node = Node {
            physical: region.physical(),
            cpu: Atomic::new(NOWHERE),
            launched: Atomic::new(false),
            previous: Atomic::new(ptr::null_mut()),
            next: Atomic::new(ptr::null_mut()),
        };
        let node = NonNull::from(KBox::leak(KBox::new(node, GFP_KERNEL_ACCOUNT)?));
        // INVARIANT: from a box, and on no list.
        Ok(Self { _region: region, node, cpus })
    }

    #[inline]
    fn node(&self) -> &Node {
        // SAFETY: It came from a box that `drop` frees; all in it is atomic.
        unsafe { self.node.as_ref() }
    }

    /// Makes it current on this CPU. Interrupts must be on, unless it was loaded here
    /// before and the CPU did nothing with interrupts on since.
    #[inline]
    pub fn load<'a>(&'a self, cpu: Pinned<'a>) -> Loaded<'a> {
        let this = self.cpus.this(cpu);
        if this.current.get() != self.node().physical {
            self.make_current(this, cpu);
        }
        Loaded { vmcs: self, cpu }
    }

    #[cold]
    fn make_current(&self, this: &VmcsCpu, cpu: Pinned<'_>) {
        let node = self.node();
        let here = cpu.cpu().as_u32();
        if node.cpu.load(Acquire) != here {
            self.clear();
        }
        irq::with_irqs_off(|off| {
            if node.cpu.load(Acquire) == NOWHERE {
                // SAFETY: `this` is this CPU's; the node is on no list, and the memory
                // that of a VMCS which is active nowhere.
                unsafe {
                    vmclear(node.physical);
                    this.add(node, off);
                }
                node.cpu.store(here, Relaxed);
            }
            // SAFETY: It is active here or nowhere. `clear` comes before it goes.
            unsafe { vmptrld(node.physical) };
            this.current.store(node.physical, Relaxed);
        });
    }

    /// Has it cleared where it is active. Interrupts are on.
    fn clear(&self) {
        let at = self.node().cpu.load(Acquire);
        let Some(cpu) = CpuId::from_u32(at).filter(|_| at != NOWHERE) else { return };
        let node = Shared(self.node);
        // A CPU that is gone has cleared it before.
        self.cpus.on_cpu(cpu, move |there, off| {
            let node = &node;
            // SAFETY: The caller has it.
            let node = unsafe { node.0.as_ref() };
            if node.cpu.load(Relaxed) == at {
                // SAFETY: `there` is this CPU's, and it is on its list.
                unsafe { there.clear(node, off) };
            }
        });
    }
}

/// A node that another CPU is to look at.
struct Shared(NonNull<Node>);

// SAFETY: All in a node is atomic.
unsafe impl Sync for Shared {}

impl Drop for Vmcs {
    fn drop(&mut self) {
        self.clear();
        // SAFETY: It came from a box, and is on no list any more.
        drop(unsafe { KBox::from_raw(self.node.as_ptr()) });
    }
}

/// A control structure that is current on this CPU: its fields can be read and written.
///
/// # Invariants
///
/// It is current as long as nothing else is loaded on this CPU, which takes that the
/// caller leaves it.
#[derive(Clone, Copy)]
pub struct Loaded<'a> {
    vmcs: &'a Vmcs,
    cpu: Pinned<'a>,
}

impl Loaded<'_> {
    /// The CPU.
    #[inline]
    pub fn cpu(&self) -> Pinned<'_> {
        self.cpu
    }

    /// Reads a field that the processor has; 0 for another one.
    #[inline(always)]
    pub fn read(&self, field: Field) -> u64 {
        // SAFETY: It is current, by the invariants.
        unsafe { vmread(field) }
    }

    /// Whether the processor has a field.
    pub fn has(&self, field: Field) -> bool {
        // SAFETY: As above.
        unsafe { try_vmread(field) }.is_some()
    }

    /// Writes a field that the processor has; nothing happens with another one.
    ///
    /// The host relies on the fields that control what a guest may do, and on those
    /// that an exit loads: they are the caller's to keep right.
    #[inline(always)]
    pub fn write(&self, field: Field, value: u64) {
        // SAFETY: As above.
        unsafe { vmwrite(field, value) };
    }

    /// Runs the guest until it exits; why, or `None` if the processor refused to try.
    /// `registers` are its general registers in the order of their encoding, but for RSP.
    /// `entering` is always the same for a VMCS.
    ///
    /// HOST_RIP has to be [`Entering::exit_address`].
    #[inline(always)]
    pub fn enter(
        &self,
        _off: &IrqOff,
        registers: &mut [u64; 16],
        entering: &mut Entering,
    ) -> Option<Reason> {
        let node = self.vmcs.node();
        let launched = node.launched.get();
        // SAFETY: The VMCS is current, and interrupts are off. The addresses are those of
        // sixteen registers and an `Entering`, borrowed for the call.
        if unsafe { crate::kvm_vmx_enter(registers.as_mut_ptr(), entering, launched) } {
            return None;
        }
        let reason = Reason(self.read(Slot::ExitReason.field()) as u32);
        if !launched && !reason.is_failed_entry() {
            node.launched.store(true, Relaxed);
        }
        Some(reason)
    }
}
