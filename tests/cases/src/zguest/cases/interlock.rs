// SPDX-License-Identifier: GPL-2.0
//! The guest's own tables: it invalidates entries while the kernel goes by them.

use std::thread;
use std::time::Duration;

use micro::stats::Stats;
use micro::userfault::Userfault;

use super::*;
use crate::ram::Ram;

pub(super) const CASES: &[Case] = &[
    case("micro-interlock-invalidate", invalidate),
    case("micro-interlock-unmapped", unmapped),
    case("micro-interlock-held", held),
];

/// Memory whose pages come when the case says so.
const SLOT: u64 = 0x1000_0000;
/// A segment table for the first 512 MiB, and page tables for the first MiB and the slot.
const SEGMENTS: u64 = 0x10_0000;
const FIRST: u64 = 0x10_2000;
const SECOND: u64 = 0x10_3000;
/// An invalid segment, an invalid page.
const NO_SEGMENT: u64 = 0x20;
const NO_PAGE: u64 = 0x400;

/// Dynamic address translation, in a PSW.
const DAT: u64 = 0x0400_0000_0000_0000;

/// Tables that map the first MiB and the slot to themselves.
fn write_tables(vm: &Vm) -> Result<()> {
    for segment in 0..512 {
        vm.write(SEGMENTS + segment * 8, NO_SEGMENT)?;
    }
    for (table, start) in [(FIRST, 0), (SECOND, SLOT)] {
        vm.write(SEGMENTS + (start >> 20) * 8, table)?;
        for page in 0..256 {
            vm.write(table + page * 8, start + page * 0x1000)?;
        }
    }
    Ok(())
}

/// IPTE: the entry for an address, in the table at another.
fn ipte(code: Code, table: u64, address: u64) -> Code {
    code.load(8, table as i32).load(9, address as i32).rre(0xb221, 8, 9)
}

/// An instruction that invalidates a page works, and the guest sees it.
fn invalidate() -> Result<()> {
    let vm = Vm::new()?;
    write_tables(&vm)?;
    let code = Code::new().load(2, DATA as i32).lg(3, 2, 0).report(3);
    let vcpu = vm.start(&ipte(code, FIRST, DATA).report(1).lg(3, 2, 0).report(3))?;
    vm.write(DATA, 0x77)?;
    vcpu.set_control(1, SEGMENTS);
    vcpu.set_psw(MASK | DAT, CODE);
    check_eq!(vcpu.report()?, 0x77);
    vcpu.report()?;
    check_eq!(vm.read(FIRST + (DATA >> 12) * 8)?, DATA | NO_PAGE);
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)? & 0xffff, 0x11, "page translation");
    Ok(())
}

/// A table that the host hasn't mapped yet. On Hercules the first attempt comes out with the interlock
/// taken.
fn unmapped() -> Result<()> {
    const TABLES: [u64; 3] = [0x30_0000, 0x31_0000, 0x32_0000];
    let vm = Vm::new()?;
    let mut code = TABLES.iter().fold(Code::new(), |code, table| ipte(code, *table, 0x5000));
    // And the kernel takes it after that: STPX with translation on.
    write_tables(&vm)?;
    vm.write_psw(DATA, MASK | DAT, CODE + 0x200)?;
    code = code.report(8).load(3, DATA as i32).s(0xb2b2, 3, 0);
    let then = Code::new().s(0xb211, 3, 0x100);
    vm.ram().write_bytes(CODE + 0x200, ipte(then, FIRST, 0x5000).report(3).bytes())?;
    let vcpu = vm.start(&code)?;
    vcpu.set_control(1, SEGMENTS);
    check_eq!(vcpu.report()?, TABLES[2]);
    for table in TABLES {
        check_eq!(vm.read(table + 5 * 8)?, NO_PAGE, "table at {table:x}");
    }
    check_eq!(vcpu.report()?, DATA);
    check_eq!(vm.read(FIRST + 5 * 8)?, 0x5000 | NO_PAGE);
    Ok(())
}

/// While the kernel waits for the page of an operand that it has translated, nobody invalidates entries.
fn held() -> Result<()> {
    let vm = Vm::new()?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    write_tables(&vm)?;
    // STPX to the slot.
    let stores = vm.start(&Code::new().load(2, SLOT as i32).s(0xb211, 2, 4).report(2))?;
    stores.set_control(1, SEGMENTS);
    stores.set_psw(MASK | DAT, CODE);
    let code = ipte(Code::new(), SECOND, SLOT + 0x5000).report(1);
    vm.ram().write_bytes(CODE + 0x800, ipte(code, SECOND, SLOT).report(1).bytes())?;
    let invalidates = vm.vcpu(1)?;
    invalidates.reset()?;
    invalidates.set_psw(MASK, CODE + 0x800);
    invalidates.report()?;
    check_eq!(vm.read(SECOND + 5 * 8)?, SLOT + 0x5000 | NO_PAGE, "nobody holds it");
    let fault = Userfault::new(&ram)?;
    thread::scope(|scope| {
        let store = scope.spawn(|| stores.report());
        check_eq!(fault.wait()?, 0);
        let invalidate = scope.spawn(|| invalidates.report());
        thread::sleep(Duration::from_millis(100));
        let early = invalidate.is_finished();
        let entry = vm.read(SECOND)?;
        fault.provide(0, 0)?;
        store.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        invalidate.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
        ensure!(!early && entry == SLOT, "the entry is {entry:x} while it is in use");
        Ok(())
    })?;
    check_eq!(vm.read(SECOND)?, SLOT | NO_PAGE, "later");
    let stats = Stats::open(invalidates.file())?;
    ensure!(stats.value("instruction_ipte_interlock")? >= 1, "it didn't wait");
    Ok(())
}
