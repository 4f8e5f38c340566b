// SPDX-License-Identifier: GPL-2.0
//! Guests that go on for ever, for tests of what happens to a machine while it has some.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use micro::{guest, mode::Mode, vcpu::Vcpu, vm::Vm};
use nix::errno::Errno;

/// No machine lives longer.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// vCPUs of each kind: more than processors, so that they take turns.
const OF_EACH: usize = 4;

/// Runs one with vCPUs that never exit by themselves, with others whose exits the kernel handles, and
/// with some whose exits come to userspace, until this process is killed. Says so on standard output.
pub(crate) fn run() -> Result<()> {
    let vm = Vm::new()?;
    let codes: [&[u8]; 3] = [
        guest!(64; "2:", "jmp 2b"),
        guest!(64; "2:", "xor eax, eax", "cpuid", "jmp 2b"),
        guest!(64; "2:", "out 0x10, al", "jmp 2b"),
    ];
    let mut vcpus = Vec::new();
    for (id, code) in (0..).zip(codes.repeat(OF_EACH)) {
        let mut vcpu = vm.vcpu(id)?;
        vcpu.start_at(Mode::Long, 0xa000 + u64::from(id) * 0x100, code)?;
        vcpu.set_limit(LIMIT);
        vcpus.push(vcpu);
    }
    println!("guests run");
    thread::scope(|scope| {
        let runners: Vec<_> = vcpus.iter_mut().map(|vcpu| scope.spawn(|| forever(vcpu))).collect();
        runners.into_iter().try_for_each(|runner| {
            runner.join().map_err(|_| anyhow!("a vCPU's thread came to harm"))?
        })
    })
}

fn forever(vcpu: &mut Vcpu) -> Result<()> {
    loop {
        match vcpu.try_run()? {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
