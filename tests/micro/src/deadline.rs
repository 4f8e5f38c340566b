// SPDX-License-Identifier: GPL-2.0
//! A limit for each entry of a guest: a guest that hangs fails its case and nothing else.

use std::cell::OnceCell;
use std::mem::zeroed;
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The usual limit.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Once the limit has passed the signal comes again and again: the first may arrive just before the
/// guest is entered.
const AGAIN: Duration = Duration::from_millis(20);

/// The signal with which cases interrupt a vCPU's thread.
pub const KICK: Signal = Signal::SIGUSR1;

/// A limit that holds for the calling thread until it is dropped.
pub struct Deadline(Instant);

impl Deadline {
    /// From now on for `limit`.
    pub fn start(limit: Duration) -> Result<Self> {
        handle_signals()?;
        set(limit)?;
        Ok(Self(Instant::now() + limit))
    }

    /// Whether it is over.
    pub fn has_passed(&self) -> bool {
        Instant::now() >= self.0
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let _ = set(Duration::ZERO);
    }
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// Makes signals interrupt system calls and do nothing else.
pub fn handle_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
        for signal in [Signal::SIGALRM, KICK] {
            // SAFETY: the handler does nothing.
            result = result.and(unsafe { sigaction(signal, &action) }.map(|_| ()));
        }
    });
    result.context("handling signals")
}

/// A timer that sends SIGALRM to one thread.
struct Timer(libc::timer_t);

impl Timer {
    fn new() -> Result<Self, Errno> {
        // SAFETY: all zeroes are a value of this structure.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut timer = std::ptr::null_mut();
        // SAFETY: both structures live through the call.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        Errno::result(made)?;
        Ok(Self(timer))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer is this value's own.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Arms the thread's timer, or disarms it with zero.
fn set(limit: Duration) -> Result<()> {
    thread_local! {
        static TIMER: OnceCell<Timer> = const { OnceCell::new() };
    }
    let time = |duration: Duration| libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(duration.subsec_nanos()),
    };
    TIMER.with(|cell| {
        let timer = match cell.get() {
            Some(timer) => timer,
            None => {
                let timer = Timer::new().context("making a timer")?;
                cell.get_or_init(|| timer)
            }
        };
        let spec = libc::itimerspec { it_interval: time(AGAIN), it_value: time(limit) };
        // SAFETY: the timer is alive and the structure lives through the call.
        let set = unsafe { libc::timer_settime(timer.0, 0, &raw const spec, std::ptr::null_mut()) };
        Errno::result(set).map(|_| ()).context("setting a timer")
    })
}
