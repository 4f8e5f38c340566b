// SPDX-License-Identifier: GPL-2.0
//! One process' life: threads that do what the random numbers say.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::argument::{self, ROOM, put32, put64};
use crate::code;
use crate::count::Counts;
use crate::table::{Argument, Entry, On, TABLE, size_of_request};
use crate::world::World;

/// How often threads are called out of the kernel.
const KICK: Duration = Duration::from_millis(4);

extern "C" fn ignore(_signal: i32) {}

/// Runs the threads for `time`.
pub(crate) fn run(seed: u64, threads: u32, counts: &'static Counts, time: Duration) -> Result<()> {
    let handler = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &handler) }.context("handling a signal")?;
    let world = Arc::new(World::new()?);
    let stop = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(Barrier::new(threads as usize + 1));
    let (send, receive) = std::sync::mpsc::channel();
    for number in 0..threads {
        let (world, stop, ready, send) = (world.clone(), stop.clone(), ready.clone(), send.clone());
        let random = SmallRng::seed_from_u64(seed << 8 | u64::from(number));
        thread::Builder::new()
            .spawn(move || {
                // Whoever kicks may have gone.
                let _ = send.send(pthread_self());
                ready.wait();
                let mut actor =
                    Actor { random, world, counts, bytes: vec![0; ROOM], other: vec![0; ROOM] };
                actor.begin();
                while !stop.load(Relaxed) {
                    actor.act();
                }
                // No thread ends, so that all of them can be kicked.
                loop {
                    thread::park();
                }
            })
            .context("starting a thread")?;
    }
    ready.wait();
    let all: Vec<Pthread> = receive.try_iter().collect();
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::sleep(KICK);
        for thread in &all {
            // None ends before this process does.
            let _ = pthread_kill(*thread, Signal::SIGUSR1);
        }
    }
    stop.store(true, Relaxed);
    Ok(())
}

/// A thread.
struct Actor {
    random: SmallRng,
    world: Arc<World>,
    counts: &'static Counts,
    /// The argument.
    bytes: Vec<u8>,
    /// What an argument points to.
    other: Vec<u8>,
}

impl Actor {
    /// A VM with a vCPU that can run, so that not everything has to be found by chance.
    fn begin(&mut self) {
        self.generate();
        for (on, wanted) in [
            (On::System, kvm_uapi::ioctl::KVM_CREATE_VM),
            (On::Vm, kvm_uapi::ioctl::KVM_SET_USER_MEMORY_REGION),
            (On::Vm, kvm_uapi::ioctl::KVM_CREATE_IRQCHIP),
            (On::Vm, kvm_uapi::ioctl::KVM_CREATE_VCPU),
        ] {
            if let Some(index) =
                TABLE.iter().position(|entry| entry.on == on && entry.request == wanted)
            {
                self.call(index);
            }
        }
    }

    /// One thing.
    fn act(&mut self) {
        match self.random.random_range(0..40) {
            0 => self.world.memory.shake(&mut self.random),
            1 | 2 => self.world.scribble(&mut self.random),
            3 => self.generate(),
            4 => self.event(),
            5 if self.random.random() => self.world.shake_file(&mut self.random),
            6 if self.random.random_range(0..6) == 0 => self.close(),
            _ => {
                let total: u32 = TABLE.iter().map(|entry| entry.weight).sum();
                let mut left = self.random.random_range(0..total);
                let chosen = TABLE.iter().position(|entry| {
                    let here = left < entry.weight;
                    left = left.saturating_sub(entry.weight);
                    here
                });
                if let Some(index) = chosen {
                    self.call(index);
                }
            }
        }
    }

    /// New code for the guests, where the reset state and simple registers lead.
    fn generate(&mut self) {
        let mut page = [0x90; code::LENGTH];
        code::generate(&mut self.random, &mut page);
        let at = [0, 0x1000, 0x2000, 0xff0][self.random.random_range(0..4)];
        self.world.memory.write(at, &page);
    }

    /// An eventfd comes, or one is signalled.
    fn event(&mut self) {
        let old = self.world.events.any(&mut self.random);
        if old < 0 || self.random.random_range(0..3) == 0 {
            // SAFETY: makes a file.
            let file = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            self.world.events.put(&mut self.random, file);
        } else {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: reads eight bytes.
            unsafe { libc::write(old, one.as_ptr().cast(), one.len()) };
        }
    }

    fn close(&mut self) {
        let world = self.world.clone();
        let files = match self.random.random_range(0..5) {
            0 => &world.vms,
            1 => &world.vcpus,
            2 => &world.devices,
            3 => &world.files,
            _ => &world.events,
        };
        files.close_any(&mut self.random);
    }

    /// One request.
    fn call(&mut self, index: usize) {
        let Some(entry) = TABLE.get(index) else { return };
        let world = self.world.clone();
        let random = &mut self.random;
        let file = match entry.on {
            On::System => world.system,
            On::Vm => world.vms.any(random),
            On::Vcpu => world.vcpus.any(random),
            On::Attribute => match random.random_range(0..3) {
                0 => world.devices.any(random),
                1 => world.vms.any(random),
                _ => world.vcpus.any(random),
            },
        };
        if file < 0 {
            return;
        }
        let argument = self.prepare(entry, file);
        // SAFETY: where the argument is a pointer, it is to `bytes`, which is longer than all of them; the
        // pointers in it are to `other` or to guest memory.
        let answer = unsafe { libc::ioctl(file, entry.request.into(), argument) };
        self.counts.add(index, answer >= 0);
        if answer >= 0 {
            self.keep(entry.request, answer);
        }
    }

    /// Keeps the files that requests make.
    fn keep(&mut self, request: u32, answer: i32) {
        use kvm_uapi::ioctl::{
            KVM_CREATE_DEVICE, KVM_CREATE_GUEST_MEMFD, KVM_CREATE_VCPU, KVM_CREATE_VM,
            KVM_GET_STATS_FD,
        };
        let world = self.world.clone();
        let random = &mut self.random;
        match request {
            KVM_CREATE_VM => world.vms.put(random, answer),
            KVM_CREATE_GUEST_MEMFD => world.files.put(random, answer),
            KVM_CREATE_VCPU => {
                world.map_run(random, answer);
                world.vcpus.put(random, answer);
            }
            KVM_GET_STATS_FD => {
                // SAFETY: reads into `other`, which is as long.
                unsafe { libc::read(answer, self.other.as_mut_ptr().cast(), self.other.len()) };
                world.devices.put(random, answer);
            }
            KVM_CREATE_DEVICE => {
                let file = self.bytes.get(4..8).and_then(|word| word.try_into().ok());
                world.devices.put(random, file.map_or(-1, i32::from_le_bytes));
            }
            _ => {}
        }
    }

    /// Makes the argument of a request.
    fn prepare(&mut self, entry: &Entry, file: i32) -> u64 {
        let world = self.world.clone();
        let size = size_of_request(entry.request);
        let random = &mut self.random;
        let bytes = &mut self.bytes[..];
        match entry.argument {
            Argument::None => return 0,
            Argument::Number(most) => {
                return match random.random_range(0..10) {
                    0 => argument::number(random),
                    _ => random.random_range(0..=most),
                };
            }
            Argument::Out => {}
            Argument::Plain => argument::plain(random, &mut bytes[..size]),
            Argument::Changed(from) => {
                put32(bytes, 0, random.random_range(0..3));
                // SAFETY: the argument is shorter than `bytes`.
                unsafe { libc::ioctl(file, from.into(), bytes.as_mut_ptr()) };
                argument::change(random, &mut bytes[..size]);
            }
            Argument::List { entries, size } => argument::list(random, bytes, entries, size),
            Argument::ChangedList { from, entries, size } => {
                put32(bytes, 0, entries);
                put32(bytes, 4, 0);
                // SAFETY: as many entries fit.
                unsafe { libc::ioctl(world.system, from.into(), bytes.as_mut_ptr()) };
                let end = 8 + (entries as usize) * (size as usize);
                argument::change(random, &mut bytes[8..end]);
            }
            Argument::Slot => argument::slot(random, &world.memory, bytes),
            Argument::FileSlot => {
                argument::slot(random, &world.memory, bytes);
                bytes[32..size].fill(0);
                let file = world.files.any(random);
                if file >= 0 && random.random() {
                    argument::slot_of_file(random, bytes, file);
                }
            }
            Argument::File => argument::file(random, bytes),
            Argument::Log(at) => {
                argument::plain(random, &mut bytes[..size]);
                put32(bytes, 0, random.random_range(0..5));
                put64(bytes, at, self.other.as_ptr() as u64);
            }
            Argument::Event(at) => {
                argument::plain(random, &mut bytes[..size]);
                put32(bytes, at, world.events.any(random) as u32);
            }
            Argument::Attribute => {
                argument::plain(random, &mut bytes[..size]);
                argument::plain(random, &mut self.other[..64]);
                put64(bytes, 16, self.other.as_ptr() as u64);
            }
        }
        self.bytes.as_mut_ptr() as u64
    }
}
