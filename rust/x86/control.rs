// SPDX-License-Identifier: GPL-2.0
//! A vCPU's control block, VMCB or VMCS, as common code sees it.
//!
//! Getters and setters move values and check nothing: the rules of the
//! architecture are applied before, by whoever knows why a value changes. Setters
//! note what the processor has to load again.

use crate::{inject::Injected, trace::ExitRecord};
use kvm_emulate::{Shadow, Table};
use kvm_paging::addr::Gfn;
use kvm_policy::guest_features::GuestFeatures;
use kvm_sys::{irq::IrqOff, preempt::Pinned, x86::user_return::UserMsr};
use x86_defs::{Cr0, Cr4, Efer, Rflags, SegReg, Segment, TableReg};

/// General registers in the order of their encoding: RAX, RCX, RDX, RBX, RSP,
/// RBP, RSI, RDI, R8 to R15.
pub type Gprs = [u64; 16];

/// What an entry follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Whatever the host did.
    First,
    /// An exit that was over at once, on this CPU, with interrupts off since.
    Again,
}

/// The control block of one vCPU.
pub trait Control: Send {
    /// What belongs to the vCPU and can be reached by its thread whatever it is doing.
    type Shared: Default + Send + Sync;

    /// RIP.
    fn rip(&self) -> u64;
    /// Sets RIP.
    fn set_rip(&mut self, rip: u64);
    /// RFLAGS, as the guest would see them.
    fn rflags(&self) -> Rflags;
    /// Sets RFLAGS.
    fn set_rflags(&mut self, rflags: Rflags);

    /// A segment register.
    fn segment(&self, reg: SegReg) -> Segment;
    /// Whether the guest executes 64-bit code, which not all of CS is needed for.
    #[inline]
    fn is_64_bit_code(&self) -> bool {
        self.efer().contains(Efer::LMA) && self.segment(SegReg::Cs).l
    }
    /// The next instruction is about to be fetched from memory: what that takes is read at once,
    /// where it has to be read.
    #[inline]
    fn expect_fetch(&self) {}
    /// Sets a segment register.
    fn set_segment(&mut self, reg: SegReg, segment: &Segment);
    /// GDTR or IDTR.
    fn table(&self, table: Table) -> TableReg;
    /// Sets GDTR or IDTR.
    fn set_table(&mut self, table: Table, value: TableReg);
    /// Current privilege level.
    fn cpl(&self) -> u8;
    /// Sets the privilege level, where it is kept apart from SS.
    fn set_cpl(&mut self, cpl: u8);

    /// CR0, as the guest would see it.
    fn cr0(&self) -> Cr0;
    /// Sets CR0.
    fn set_cr0(&mut self, cr0: Cr0);
    /// CR2.
    fn cr2(&self) -> u64;
    /// Sets CR2.
    fn set_cr2(&mut self, cr2: u64);
    /// CR3.
    fn cr3(&self) -> u64;
    /// Sets CR3.
    fn set_cr3(&mut self, cr3: u64);
    /// CR4, as the guest would see it.
    fn cr4(&self) -> Cr4;
    /// Sets CR4.
    fn set_cr4(&mut self, cr4: Cr4);
    /// EFER, as the guest would see it.
    fn efer(&self) -> Efer;
    /// Sets EFER.
    fn set_efer(&mut self, efer: Efer);
    /// DR6 of the guest after an exit, if the processor keeps it.
    fn dr6(&self) -> u64;
    /// Sets the DR6 that the guest runs with.
    fn set_dr6(&mut self, dr6: u64);
    /// The DR7 that the guest runs with, as it left it.
    fn dr7(&self) -> u64;
    /// Sets the DR7 that the guest runs with.
    fn set_dr7(&mut self, dr7: u64);
    /// The guest's PAT.
    fn set_pat(&mut self, pat: u64);
    /// An MSR that the control block or the processor holds for the guest; `None`
    /// if it isn't one of those.
    fn msr(&self, shared: &Self::Shared, index: u32) -> Option<u64>;
    /// Sets such an MSR; whether it is one.
    fn set_msr(&mut self, shared: &Self::Shared, index: u32, value: u64) -> bool;
    /// Those of them that an entry doesn't load, nor an exit save, and that matter in
    /// user mode only; their values for the guest.
    #[inline]
    fn user_msrs(&self) -> &[(UserMsr, u64)] {
        &[]
    }
    /// Whether the guest's CR0.CD and CR0.NW count, where they can.
    fn set_caches_by_guest(&mut self, _by_guest: bool) {}
    /// The guest's SPEC_CTRL.
    fn spec_ctrl(&self) -> u64;
    /// Sets it to a value that the processor takes. As long as it was never anything but 0 the guest
    /// may run with the host's instead.
    fn set_spec_ctrl(&mut self, value: u64);
    /// Whether an entry loads it, and an exit saves it.
    fn switches_spec_ctrl(&self) -> bool;
    /// The guest's VIRT_SPEC_CTRL is another one.
    fn set_virtual_spec_ctrl(&mut self, _value: u64) {}
    /// The page-directory pointers of PAE paging that the processor holds; `None` if it
    /// reads them from memory when it needs them.
    fn pdptrs(&self) -> Option<[u64; 4]>;
    /// Sets them.
    fn set_pdptrs(&mut self, pointers: [u64; 4]);
    /// The guest's processor has these features: it may do without exits what they allow.
    fn set_features(&mut self, _features: &GuestFeatures) {}

    /// Lets the guest access MSRs by itself that it otherwise could, and that `may`
    /// (number, whether it is a write) has nothing against.
    fn pass_msrs(&mut self, may: &dyn Fn(u32, bool) -> bool);

    /// What the last instruction left blocked.
    fn shadow(&self) -> Shadow;
    /// Sets what is blocked until the next instruction is done.
    fn set_shadow(&mut self, shadow: Shadow);

    /// Has the processor deliver an event at the next entry, in the place of one
    /// that was chosen before.
    fn inject(&mut self, event: Injected);
    /// Nothing is to be delivered at the next entry.
    fn clear_injection(&mut self);
    /// What is injected at the next entry, and its error code or 0, as the control block
    /// has them.
    fn injection_record(&self) -> (u32, u32);
    /// All that the control block tells of the last exit.
    fn exit_record(&self) -> ExitRecord;
    /// The event whose delivery the last exit interrupted.
    fn interrupted(&mut self) -> Option<Injected>;
    /// Exit as soon as the guest can take an interrupt, or no longer.
    fn set_interrupt_window(&mut self, wanted: bool);
    /// NMIs are blocked because the guest handles one.
    fn nmi_blocked(&self) -> bool;
    /// Sets whether they are.
    fn set_nmi_blocked(&mut self, blocked: bool);
    /// Exit as soon as the guest can take an NMI.
    fn want_nmi_window(&mut self);
    /// The task priority, whose upper half the guest has in CR8. `known` is what it was: a
    /// processor that knows no lower half can only tell that the upper one has changed.
    fn tpr(&self, known: u8) -> u8;
    /// Sets it; with `exit_below`, a write of less than that to CR8 exits.
    fn set_tpr(&mut self, tpr: u8, exit_below: Option<u8>);

    /// From the next entry on the vCPU has its local APIC in [the page](crate::apic::page) that the
    /// processor may know of, or not; at first it has.
    fn set_apic_page(&mut self, _is_there: bool) {}

    /// Added to the host's TSC when the guest reads its own.
    fn set_tsc_offset(&mut self, offset: u64);
    /// Whether there are processors that do what [`Self::set_deadline`] says.
    const EXITS_AT_DEADLINE: bool = false;
    /// From the next entry on the guest exits when the host's TSC gets to `at`, or no longer; whether this
    /// processor does that.
    #[inline]
    fn set_deadline(&mut self, _at: Option<u64>) -> bool {
        false
    }
    /// Whether there is such a deadline.
    #[inline]
    fn has_deadline(&self) -> bool {
        false
    }
    /// How long the guest may spin in a loop of PAUSEs.
    fn pause_window(&self) -> u32;
    /// Sets it.
    fn set_pause_window(&mut self, window: u32);
    /// Runs the guest on second-level tables with this root from the next entry on,
    /// before which its translations are forgotten ([`Self::flush_tlb`]).
    fn set_tables(&mut self, root: u64);
    /// Forgets all cached translations of this guest before the next entry.
    fn flush_tlb(&mut self);
    /// Forgets those that come from the guest's own tables.
    #[inline]
    fn flush_guest_tlb(&mut self) {
        self.flush_tlb();
    }
    /// Exceptions and debug registers that a debugger wants to see.
    fn set_debug_intercepts(&mut self, breakpoints: bool, registers: bool);
    /// Steps through the guest for a debugger outside: each instruction ends in
    /// #DB, and the guest's own trap flag isn't what it runs with.
    fn set_stepping(&mut self, on: bool);
    /// The address of the instruction after the one that caused the last exit, if
    /// the processor says so.
    fn next_rip(&self) -> Option<u64>;
    /// The bytes of that instruction, as far as the processor gives them.
    fn fetched(&self) -> &[u8];

    /// The guest is to be entered on this CPU. Interrupts are still on; the thread stays
    /// here until the entry, or leaves and comes back to this.
    #[inline]
    fn prepare(&mut self, _shared: &Self::Shared, _cpu: Pinned<'_>) {}
    /// Calls `written` with each frame that the processor noted as written to and that nobody was
    /// told of. Any thread.
    fn take_notes(_shared: &Self::Shared, _written: &mut dyn FnMut(Gfn)) {}
    /// Enters the guest and returns when it exits. Not allowed to fail: what the
    /// processor refuses shows in the exit.
    fn enter(&mut self, shared: &Self::Shared, gprs: &mut Gprs, entry: Entry, off: &IrqOff);
    /// Handles the host's interrupt or machine check that got the guest out, where the
    /// processor took it with the exit. The host's state is loaded.
    #[inline]
    fn take_host_event(&mut self, _off: &IrqOff) {}
    /// The vCPU's thread leaves the CPU or goes to userspace: what the processor holds is
    /// to be the thread's own.
    #[inline]
    fn left(_shared: &Self::Shared, _cpu: Pinned<'_>) {}
}
