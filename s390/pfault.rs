// SPDX-License-Identifier: GPL-2.0
//! Page faults that don't stop the guest: while the host gets a page that takes I/O,
//! the guest does something else.
//!
//! The guest turns it on by DIAGNOSE 258, which names a word of its memory: what is
//! there at a fault is the token of it. An external interruption with the token says
//! that a page isn't there, another one, for any CPU, that it has come. Userspace can
//! forbid it (FLIC), to have nothing under way.
//!
//! CP Programming Services (SC24-6084), "DIAGNOSE X'258'".

use crate::{
    deliver,
    floating::{self, Floating},
    guest,
    sie::Sie,
    state::{Cx, Next},
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Full},
        Arc, Mutex,
    },
};
use kvm_core::{
    request::{Request, Requests},
    vcpu::Vcpu,
    vm::Vm,
};
use kvm_paging::addr::{Gpa, Hva};
use kvm_sys::{
    fault_in::{Arrival, FaultIn},
    kick::Kick,
};
use kvm_uapi::s390::PFAULT_TOKEN_INVALID;
use s390_arch::{
    pending::{external, subclass, External, Kinds},
    psw::Mask,
};

/// A page that a vCPU started to get has come.
pub(crate) const PAGE_CAME: Request = Request::of_arch(2);

/// Most pages that one vCPU waits for.
const MOST: usize = 64;

/// What DIAGNOSE 258 set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pfault {
    /// Where the token is, a real address; or [`PFAULT_TOKEN_INVALID`].
    pub(crate) token: u64,
    /// Bits of the PSW's mask that have to be as in `compare`.
    pub(crate) select: u64,
    pub(crate) compare: u64,
}

impl Pfault {
    /// Turned off.
    pub(crate) const OFF: Self = Self { token: PFAULT_TOKEN_INVALID, select: 0, compare: 0 };

    /// Whether it is on.
    pub(crate) const fn is_on(&self) -> bool {
        self.token != PFAULT_TOKEN_INVALID
    }
}

/// Who is told that a page came.
struct Told {
    requests: Arc<Requests>,
    kick: Arc<Kick>,
}

impl Arrival for Told {
    fn arrived(&self) {
        self.requests.set(PAGE_CAME);
        self.kick.kick();
    }
}

/// A page on its way.
struct Waiting {
    page: Arc<FaultIn<Told>>,
    token: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.page.wait();
    }
}

/// The pages that a vCPU started to get.
#[pin_data]
pub(crate) struct Pages {
    #[pin]
    waiting: Mutex<KVec<Waiting>>,
}

impl Pages {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self { waiting <- new_mutex!(KVec::new(), "kvm_s390_pfault") })
    }

    /// The guest doesn't want to know of them any more. Waits until they have come.
    pub(crate) fn forget(&self) {
        drop(core::mem::take(&mut *self.waiting.lock()));
    }
}

/// Whether a fault now need not wait for its page: the guest can take the interruption
/// that tells it, and nothing comes first.
pub(crate) fn may_delay(cx: &Cx<'_>) -> bool {
    let pfault = &cx.state.pfault;
    if !pfault.is_on() || !cx.vm.arch().pfault.load(Acquire) {
        return false;
    }
    let gate = cx.state.gate();
    gate.psw.mask & pfault.select == pfault.compare
        && gate.psw.has(Mask::EXTERNAL)
        && gate.cr0 & subclass::SERVICE_SIGNAL != 0
        && !deliver::has_reason(cx)
}

/// The page, which the VMM has at `address`, takes I/O. `None`: the fault has to wait
/// for it after all.
pub(crate) fn begin(cx: &mut Cx<'_>, address: Hva) -> Option<Next> {
    let mut token = [0; 8];
    let at = guest::absolute(cx.state.block.prefix(), cx.state.pfault.token);
    cx.vm.memory().read(Gpa::new(at), &mut token).ok()?;
    let token = u64::from_be_bytes(token);
    {
        let mut waiting = cx.vcpu.shared().pages().waiting.lock();
        // Whoever forbids it takes the lock afterwards.
        if waiting.len() >= MOST || !cx.vm.arch().pfault.load(Acquire) {
            return None;
        }
        waiting.reserve(1, GFP_KERNEL_ACCOUNT).ok()?;
        let told = Told { requests: cx.vcpu.requests.clone(), kick: cx.vcpu.kick.clone() };
        let page = FaultIn::start(cx.vm.memory().space(), address, told).ok()?;
        // There is room.
        let _ = waiting.push_within_capacity(Waiting { page, token });
    }
    cx.vcpu.shared().with_local(|local| {
        local.pfault = token;
        local.kinds |= Kinds::PFAULT_INIT;
    });
    cx.state.kinds |= Kinds::PFAULT_INIT;
    Some(Next::Resume)
}

/// Tells the guest of pages that came.
///
/// # Errors
///
/// Those of [`floating::inject`].
pub(crate) fn came(vm: &Vm<Sie>, vcpu: &Vcpu<Sie>) -> Result {
    loop {
        let done = {
            let mut waiting = vcpu.shared().pages().waiting.lock();
            let place = waiting.iter().position(|one| one.page.is_done());
            place.and_then(|place| waiting.remove(place).ok())
        };
        match done {
            Some(done) => floating::inject(vm, done_with(done.token))?,
            None => return Ok(()),
        }
    }
}

/// Userspace lets the guest handle page faults.
pub(crate) fn allow(vm: &Vm<Sie>) {
    let _ = vm.arch().pfault.xchg(true, Full);
}

/// Userspace doesn't let the guest do so any more. Waits for all pages of all vCPUs,
/// and tells the guest of them.
///
/// # Errors
///
/// Those of [`floating::inject`].
pub(crate) fn forbid(vm: &Vm<Sie>) -> Result {
    let _ = vm.arch().pfault.xchg(false, Full);
    for vcpu in vm.vcpus().iter() {
        let all = core::mem::take(&mut *vcpu.shared().pages().waiting.lock());
        for one in &all {
            one.page.wait();
            floating::inject(vm, done_with(one.token))?;
        }
    }
    Ok(())
}

/// The interruption that says that a page came.
fn done_with(token: u64) -> Floating {
    Floating::Host(External {
        cpu: external::PFAULT_DONE,
        parameter_2: Some(token),
        ..External::new(external::HOST)
    })
}
