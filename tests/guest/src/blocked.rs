// SPDX-License-Identifier: GPL-2.0
//! A thread whose registers hold known patterns until it is released.

use anyhow::Result;
use proto::Fields;

use crate::commands::State;

#[cfg(not(target_arch = "x86_64"))]
use elsewhere as hardware;
#[cfg(target_arch = "x86_64")]
use x86 as hardware;

/// The thread.
pub(crate) struct Blocked(hardware::Thread);

impl Blocked {
    /// `block`: tells the addresses between which the instruction pointer is while it waits.
    pub(crate) fn start(state: &mut State) -> Result<Fields> {
        anyhow::ensure!(state.blocked.is_none(), "that was done already");
        let (thread, fields) = hardware::start()?;
        state.blocked = Some(Blocked(thread));
        Ok(fields)
    }

    /// `release`: lets the thread go on, and fails if a register had lost its contents.
    pub(crate) fn release(state: &mut State) -> Result<Fields> {
        let Some(Blocked(thread)) = state.blocked.take() else {
            anyhow::bail!("nothing waits");
        };
        hardware::release(thread)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::global_asm;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::{self, JoinHandle};

    use anyhow::{Result, bail, ensure};
    use guest_load::{GENERAL, VECTORS, pattern};
    use proto::Fields;

    pub(super) type Thread = JoinHandle<Seen>;

    /// What the registers held at the end: the general ones, then both halves of the vectors.
    #[repr(C)]
    pub(super) struct Seen {
        general: [u64; GENERAL.len()],
        vectors: [[u64; 2]; VECTORS],
    }

    /// Not zero lets the waiting thread go on.
    static RELEASE: AtomicU32 = AtomicU32::new(0);

    /// Held for a whole wait: the code below is for one thread at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    // The loop has no free register: the flag is found relative to the instruction pointer, and the place
    // for the results lies on the stack.
    global_asm!(
        ".globl guest_wait, guest_wait_low, guest_wait_high",
        "guest_wait:",
        "push rbx; push rbp; push r12; push r13; push r14; push r15; push rdi",
        "movabs rax, {p0}; movabs rbx, {p1}; movabs rcx, {p2}; movabs rdx, {p3}",
        "movabs rsi, {p4}; movabs rdi, {p5}; movabs rbp, {p6}; movabs r8, {p7}",
        "movabs r9, {p8}; movabs r10, {p9}; movabs r11, {p10}; movabs r12, {p11}",
        "movabs r13, {p12}; movabs r14, {p13}; movabs r15, {p14}",
        "movq xmm0, rax; movq xmm1, rbx; movq xmm2, rcx; movq xmm3, rdx",
        "movq xmm4, rsi; movq xmm5, rdi; movq xmm6, rbp; movq xmm7, r8",
        "punpcklqdq xmm0, xmm0; punpcklqdq xmm1, xmm1; punpcklqdq xmm2, xmm2",
        "punpcklqdq xmm3, xmm3; punpcklqdq xmm4, xmm4; punpcklqdq xmm5, xmm5",
        "punpcklqdq xmm6, xmm6; punpcklqdq xmm7, xmm7",
        "guest_wait_low:",
        "pause",
        "cmp dword ptr [rip + {release}], 0",
        "je guest_wait_low",
        "guest_wait_high:",
        "xchg rdi, [rsp]",
        "mov [rdi], rax; mov [rdi + 8], rbx; mov [rdi + 16], rcx; mov [rdi + 24], rdx",
        "mov [rdi + 32], rsi; mov [rdi + 48], rbp; mov [rdi + 56], r8",
        "pop rax; mov [rdi + 40], rax",
        "mov [rdi + 64], r9; mov [rdi + 72], r10; mov [rdi + 80], r11; mov [rdi + 88], r12",
        "mov [rdi + 96], r13; mov [rdi + 104], r14; mov [rdi + 112], r15",
        "movups [rdi + 120], xmm0; movups [rdi + 136], xmm1; movups [rdi + 152], xmm2",
        "movups [rdi + 168], xmm3; movups [rdi + 184], xmm4; movups [rdi + 200], xmm5",
        "movups [rdi + 216], xmm6; movups [rdi + 232], xmm7",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
        release = sym RELEASE,
        p0 = const pattern(0), p1 = const pattern(1), p2 = const pattern(2),
        p3 = const pattern(3), p4 = const pattern(4), p5 = const pattern(5),
        p6 = const pattern(6), p7 = const pattern(7), p8 = const pattern(8),
        p9 = const pattern(9), p10 = const pattern(10), p11 = const pattern(11),
        p12 = const pattern(12), p13 = const pattern(13), p14 = const pattern(14),
    );

    unsafe extern "C" {
        /// Waits for `RELEASE` and fills `seen`.
        fn guest_wait(seen: *mut Seen);
        static guest_wait_low: u8;
        static guest_wait_high: u8;
    }

    pub(super) fn start() -> Result<(Thread, Fields)> {
        RELEASE.store(0, Ordering::SeqCst);
        let thread = thread::spawn(|| {
            let _alone = ALONE.lock();
            let mut seen = Seen { general: [0; GENERAL.len()], vectors: [[0; 2]; VECTORS] };
            // SAFETY: the routine keeps to the C calling convention: it saves what is the caller's, and
            // writes to `seen`, whose layout it knows, and to nothing else.
            unsafe { guest_wait(&mut seen) };
            seen
        });
        let low = (&raw const guest_wait_low).addr();
        let high = (&raw const guest_wait_high).addr();
        let fields =
            Fields::new().with("low", format!("{low:#x}")).with("high", format!("{high:#x}"));
        Ok((thread, fields))
    }

    pub(super) fn release(thread: Thread) -> Result<Fields> {
        RELEASE.store(1, Ordering::SeqCst);
        let Ok(seen) = thread.join() else { bail!("the thread panicked") };
        for (index, (name, have)) in GENERAL.iter().zip(seen.general).enumerate() {
            let want = pattern(index as u64);
            ensure!(have == want, "{name} held {have:#x}, not {want:#x}");
        }
        for (index, have) in seen.vectors.into_iter().enumerate() {
            let want = pattern(index as u64);
            ensure!(have == [want; 2], "XMM{index} held {have:#x?}, not {want:#x} twice");
        }
        Ok(Fields::new())
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use anyhow::{Result, bail};
    use proto::Fields;

    pub(super) struct Thread;

    pub(super) fn start() -> Result<(Thread, Fields)> {
        bail!("this processor's registers are not known")
    }

    pub(super) fn release(_thread: Thread) -> Result<Fields> {
        bail!("this processor's registers are not known")
    }
}
