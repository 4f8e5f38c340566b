// SPDX-License-Identifier: GPL-2.0
//! vCPUs that run in threads of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::pthread::{pthread_kill, pthread_self};

use super::deadline::{self, KICK};
use super::exit::Exit;
use super::vcpu::Vcpu;

/// How long a vCPU may stay inside while another thread does its work.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `vcpu` in a thread while `body` runs in this one, and stops it when `body` has ended. Its exits
/// come through the channel; it is entered again after each.
pub fn beside<R>(vcpu: &mut Vcpu, body: impl FnOnce(&Exits) -> Result<R>) -> Result<R> {
    // The body has limits of its own.
    vcpu.set_limit(LIMIT);
    let stopper = vcpu.stopper();
    let stop = AtomicBool::new(false);
    let (exits, received) = mpsc::channel();
    let (name, named) = mpsc::channel();
    let result = thread::scope(|scope| {
        let runner = scope.spawn(|| -> Result<()> {
            let exits = exits;
            name.send(pthread_self()).context("nobody waits for the thread")?;
            loop {
                match vcpu.try_run()? {
                    // Nobody may care any more.
                    Ok(exit) => exits.send(exit).unwrap_or(()),
                    // The vCPU was started by another.
                    Err(Errno::EAGAIN) => {}
                    Err(Errno::EINTR) if stop.load(Ordering::Relaxed) => return Ok(()),
                    Err(Errno::EINTR) => {}
                    Err(error) => bail!("KVM_RUN fails with {error:?}; {}", vcpu.place()),
                }
            }
        });
        let thread = named.recv().context("the vCPU's thread does not start")?;
        let result = body(&Exits(received));
        stop.store(true, Ordering::Relaxed);
        stopper.set(true);
        while !runner.is_finished() {
            pthread_kill(thread, KICK).context("sending a signal")?;
            thread::sleep(Duration::from_millis(1));
        }
        match (runner.join(), result) {
            // Whatever else went wrong comes from that.
            (Ok(Err(error)), _) => Err(error.context("the vCPU that runs beside")),
            (Ok(Ok(())), result) => result,
            (Err(_), _) => bail!("the vCPU's thread came to harm"),
        }
    });
    stopper.set(false);
    vcpu.set_limit(deadline::LIMIT);
    result
}

/// The exits of a vCPU that runs beside.
pub struct Exits(Receiver<Exit>);

impl Exits {
    /// The next one; an error if there is none for 10 s.
    pub fn next(&self) -> Result<Exit> {
        self.0.recv_timeout(Duration::from_secs(10)).context("the other vCPU does not come out")
    }

    /// The next one, if there is one already.
    pub fn try_next(&self) -> Option<Exit> {
        self.0.try_recv().ok()
    }

    /// All that came so far and the next two have to be this report.
    pub fn expect_reports(&self, value: u32) -> Result<()> {
        let came = self.0.try_iter().collect::<Vec<_>>();
        let report =
            Exit::Out { port: super::vcpu::REPORT, size: 4, data: value.to_le_bytes().to_vec() };
        if let Some(exit) = came.iter().find(|exit| **exit != report) {
            bail!("the other vCPU came out with {exit:x?} instead of {report:x?}");
        }
        self.expect_report(value)?;
        self.expect_report(value)
    }

    /// Whether none comes for a moment.
    pub fn is_quiet(&self) -> bool {
        self.0.recv_timeout(Duration::from_millis(50)).is_err()
    }

    /// The next one has to be this report.
    pub fn expect_report(&self, value: u32) -> Result<()> {
        let exit = self.next()?;
        let report =
            Exit::Out { port: super::vcpu::REPORT, size: 4, data: value.to_le_bytes().to_vec() };
        if exit != report {
            bail!("the other vCPU comes out with {exit:x?} instead of {report:x?}");
        }
        Ok(())
    }
}

/// Kicks a vCPU while `runs` runs it again and again, each time a little later after the last one.
pub fn kicked(runs: impl FnOnce() -> Result<()>) -> Result<()> {
    let runner = pthread_self();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for wait in (0..400).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = pthread_kill(runner, KICK);
                (0..wait).for_each(|_| std::hint::spin_loop());
            }
        });
        let result = runs();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}
