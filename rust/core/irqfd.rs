// SPDX-License-Identifier: GPL-2.0
//! `KVM_IRQFD`: an eventfd raises an interrupt.
//!
//! The interrupt is delivered where the eventfd is signalled, without a thread in
//! between. An irqfd ends when it is deassigned, when its eventfd is closed, or
//! with the VM's last descriptor; until then it holds the VM.
//!
//! Locks: an eventfd's own lock is held while its signal is delivered. The list's
//! lock is taken outside of it, and may be held while sleeping.

use crate::{
    arch::Arch,
    irq_route::Resampler,
    vm::Vm,
    wiring::{Source, Wiring},
};
use kernel::{
    error::Result,
    impl_has_work, new_mutex, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, ArcBorrow, Mutex,
    },
    workqueue::{Work, WorkItem},
};
use kvm_sys::{
    eventfd::{EventFd, EventFile, Hook, Wake},
    user, work,
};
use kvm_uapi::irq::{Irqfd as Args, KVM_IRQFD_FLAG_DEASSIGN, KVM_IRQFD_FLAG_RESAMPLE};

/// What an eventfd raises.
struct Irqfd<A: Arch> {
    vm: Arc<Vm<A>>,
    gsi: u32,
    /// Who is told when the interrupt was served. The line then stays high until
    /// that, otherwise it is only pulsed.
    resampler: Option<Arc<Resampler>>,
    /// Whether the eventfd is closed.
    closed: Atomic<bool>,
}

impl<A: Arch> Wake for Irqfd<A> {
    #[inline]
    fn signalled(&self) {
        match self.resampler {
            None => self.vm.pulse_irq(self.gsi),
            Some(_) => {
                let _ = self.vm.set_irq(Source::RESAMPLE, self.gsi, true, false);
            }
        }
    }

    fn closed(&self) {
        self.closed.store(true, Relaxed);
        // If it is queued already, it will see this one too.
        let _ = work::queue().enqueue(self.vm.irq().irqfds.clone());
    }
}

/// All irqfds of a VM.
#[pin_data]
pub(crate) struct Irqfds<A: Arch> {
    /// Each is hooked up with its eventfd.
    #[pin]
    list: Mutex<KVec<Arc<Hook<Irqfd<A>>>>>,
    /// Takes away those whose eventfd is closed.
    #[pin]
    reaper: Work<Self>,
}

impl_has_work! {
    impl{A: Arch} HasWork<Irqfds<A>> for Irqfds<A> { self.reaper }
}

impl<A: Arch> WorkItem for Irqfds<A> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.remove(|irqfd| irqfd.closed.load(Relaxed));
    }
}

impl<A: Arch> Irqfds<A> {
    /// None.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new(), "kvm_irqfds"),
                reaper <- new_work!("kvm_irqfds"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Ends those for which `goes` holds. They raise nothing any more when this
    /// returns.
    fn remove(&self, goes: impl Fn(&Hook<Irqfd<A>>) -> bool) {
        let mut list = self.list.lock();
        let mut index = 0usize;
        while let Some(irqfd) = list.get(index) {
            if !goes(irqfd) {
                index = index.saturating_add(1);
                continue;
            }
            irqfd.detach();
            if let Some(resampler) = &irqfd.resampler {
                irqfd.vm.remove_resampler(resampler);
            }
            drop(list.remove(index));
        }
    }

    /// Ends all. To be called when no new one can come.
    pub(crate) fn end(&self) {
        self.remove(|_| true);
        work::wait(&self.reaper);
    }
}

/// `KVM_IRQFD` with the structure at `arg`.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for flags that there aren't; `EBADF` or `EINVAL` for a
/// descriptor that isn't an eventfd's. To assign: `EINVAL` without an in-kernel
/// interrupt controller, or one that can't tell when interrupts are served if that
/// is wanted, `EBUSY` if the eventfd raises an interrupt already, of any VM;
/// `ENOMEM`.
pub(crate) fn set<A: Arch>(vm: ArcBorrow<'_, Vm<A>>, arg: usize) -> Result<u32> {
    let args: Args = user::read(arg)?;
    if args.flags & !(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE) != 0 {
        return Err(EINVAL);
    }
    if args.flags & KVM_IRQFD_FLAG_DEASSIGN != 0 {
        let event = EventFd::from_fd(args.fd as i32)?;
        vm.irq().irqfds.remove(|irqfd| irqfd.gsi == args.gsi && *irqfd.event() == event);
    } else {
        assign(vm, &args)?;
    }
    Ok(0)
}

fn assign<A: Arch>(vm: ArcBorrow<'_, Vm<A>>, args: &Args) -> Result {
    let wants_resample = args.flags & KVM_IRQFD_FLAG_RESAMPLE != 0;
    if !A::Wiring::has_irqchip(&vm) || wants_resample && !A::Wiring::may_resample(&vm) {
        return Err(EINVAL);
    }
    let file = EventFile::from_fd(args.fd)?;
    let resampler =
        if wants_resample { Some(Resampler::new(args.gsi, args.resamplefd)?) } else { None };
    let irqfd = Irqfd {
        vm: vm.into(),
        gsi: args.gsi,
        resampler: resampler.clone(),
        closed: Atomic::new(false),
    };
    let irqfd = Arc::pin_init(Hook::new(&file, irqfd), GFP_KERNEL_ACCOUNT)?;
    // The eventfd can't be closed before it is in the list: `file` keeps it open.
    let mut list = vm.irq().irqfds.list.lock();
    list.reserve(1, GFP_KERNEL_ACCOUNT)?;
    if let Some(resampler) = &resampler {
        vm.add_resampler(resampler.clone())?;
    }
    let pending = irqfd.attach(&file).inspect_err(|_| {
        if let Some(resampler) = &resampler {
            vm.remove_resampler(resampler);
        }
    })?;
    if pending {
        irqfd.signalled();
    }
    list.push_within_capacity(irqfd).map_err(|_| ENOMEM)
}
