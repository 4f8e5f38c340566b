// SPDX-License-Identifier: GPL-2.0
//! Storage keys.

use kvm_uapi::cap;
use kvm_uapi::ioctl::s390 as z;
use kvm_uapi::s390::{KeyOp, MemOp, Skeys};
use nix::errno::Errno;
use nix::sys::mman::MmapAdvise;

use super::*;
use crate::device::{exchange, ioctl_with as give};
use crate::ram::Ram;

pub(super) const CASES: &[Case] = &[
    case("micro-keys-records", records),
    case("micro-keys-protection", protection),
    case("micro-keys-conditional", conditional),
    case("micro-keys-taken", taken),
    case("micro-keys-save", save),
    case("micro-keys-one", one),
    case("micro-keys-frames", frames),
    case("micro-keys-test-protection", test_protection),
    case("micro-keys-mem-op", mem_op),
];

const REFERENCED: u64 = 4;
const CHANGED: u64 = 2;

/// SSKE: key from `key`, page from `page`.
fn sske(code: Code, key: u8, page: u8) -> Code {
    code.rre(0xb22b, key, page)
}

/// ISKE, and a report of the key.
fn iske(code: Code, page: u8) -> Code {
    code.load(9, 0).rre(0xb229, 9, page).report(9)
}

/// Keys of frames from one on, by userspace.
fn keys(vm: &Vm, request: u32, first: u64, bytes: &mut [u8]) -> Result<i32, Errno> {
    let argument = Skeys {
        start_gfn: first,
        count: bytes.len() as u64,
        skeydata_addr: bytes.as_mut_ptr() as u64,
        flags: 0,
        reserved: [0; 9],
    };
    give(vm.file(), request, &argument)
}

/// What is accessed is recorded in the key, and RRBE resets it.
fn records() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let page = DATA as i32;
    let mut code = Code::new().load(2, page).load(3, 0x98).lg(4, 2, 0);
    code = iske(sske(code, 3, 2), 2);
    code = iske(code.lg(4, 2, 0), 2);
    code = iske(code.stg(4, 2, 0), 2);
    // RRBE
    code = iske(code.rre(0xb22a, 0, 2).condition(8).report(8), 2);
    code = code.rre(0xb22a, 0, 2).condition(8).report(8);
    // No memory there.
    let vcpu = vm.start(&iske(code.load(2, 0x4000_0000), 2))?;
    check_eq!(vcpu.report()? & 0xf8, 0x98, "the key, before anything else is accessed");
    check_eq!(vcpu.report()? & (0xf8 | REFERENCED), 0x98 | REFERENCED, "after a fetch");
    check_eq!(vcpu.report()?, 0x98 | REFERENCED | CHANGED, "after a store");
    check_eq!(vcpu.report()?, 3, "both were on");
    check_eq!(vcpu.report()?, 0x98 | CHANGED, "after RRBE");
    check_eq!(vcpu.report()?, 1, "changed, and not referenced since");
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0004_0005, "addressing");
    Ok(())
}

/// A guest with an access key touches pages with other ones.
fn protection() -> Result<()> {
    const KEY_2: u64 = MASK | 2 << 52;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let [own, open, closed] = [DATA, DATA + 0x1000, DATA + 0x2000];
    for page in [own, open, closed] {
        vm.write(page, page)?;
    }
    let mut code = Code::new().load(3, 0);
    for (page, key) in [(own, 0x20), (open, 0x30), (closed, 0x38)] {
        code = sske(code.load(2, page as i32).load(3, key), 3, 2);
    }
    let after = vm::PROGRAM_TRAP;
    let vcpu = vm.start(&code.report(3))?;
    check_eq!(vcpu.report()?, 0x38);
    // From address, and whether it is a store; whether that is allowed.
    let tries = [
        (own, true, true),
        (own, false, true),
        (open, false, true),
        (open, true, false),
        (closed, false, false),
        (closed, true, false),
    ];
    for (page, is_store, is_allowed) in tries {
        let code = Code::new().load(2, page as i32).load(4, 0x77);
        let code = if is_store { code.stg(4, 2, 8) } else { code.lg(4, 2, 0) };
        vm.load(&code.report(4))?;
        vcpu.set_psw(KEY_2, CODE);
        let what = format!("page {page:x}, store {is_store}");
        if is_allowed {
            let expected = if is_store { 0x77 } else { page };
            check_eq!(vcpu.report()?, expected, "{what}");
        } else {
            vcpu.expect_wait(after)?;
            check_eq!(vm.read_u32(0x8c)? & 0xffff, 4, "{what}");
        }
    }
    check_eq!(vm.read(open + 8)?, 0, "not stored");
    Ok(())
}

/// Conditional SSKE tells the old key and whether it set the new one.
fn conditional() -> Result<()> {
    const CONDITIONAL: u16 = 10;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    // SSKE with MR and MC.
    let either = |code: Code| code.raw(&[0xb2, 0x2b, 0x60, 0x32]).condition(8).report(8).report(3);
    let code = Code::new().load(2, DATA as i32).load(3, 0x10);
    let code = either(sske(code, 3, 2).load(3, 0x16));
    let vcpu = vm.start(&iske(either(code.load(3, 0x20)), 2))?;
    let first = vcpu.report()?;
    if vm.facility(CONDITIONAL)? {
        check_eq!(first, 0, "the keys differ in what doesn't matter");
        check_eq!(vcpu.report()? & 0xf8ff, 0x1016, "old key, new key");
        check_eq!(vcpu.report()?, 1, "set");
        check_eq!(vcpu.report()? & 0xf8ff, 0x1020, "old key, new key");
    } else {
        for _ in 0..3 {
            let _ = vcpu.report()?;
        }
    }
    check_eq!(vcpu.report()? & 0xf8, 0x20);
    Ok(())
}

/// The host takes a page; the frame keeps its key, and counts as used.
fn taken() -> Result<()> {
    const SLOT: u64 = 0x1000_0000;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let ram = Ram::new(0x10_0000)?;
    vm.add_slot(1, SLOT, &ram)?;
    let code = Code::new().load(2, SLOT as i32).load(3, 0x50);
    let code = iske(sske(code, 3, 2).stg(3, 2, 0), 2);
    let vcpu = vm.start(&iske(iske(code, 2).lg(4, 2, 0), 2))?;
    check_eq!(vcpu.report()?, 0x50 | REFERENCED | CHANGED);
    ram.advise(MmapAdvise::MADV_DONTNEED)?;
    check_eq!(vcpu.report()?, 0x50 | REFERENCED | CHANGED, "without a page");
    check_eq!(vcpu.report()?, 0x50 | REFERENCED | CHANGED, "with another page");
    Ok(())
}

/// Userspace saves keys and sets them.
fn save() -> Result<()> {
    const NONE: i32 = 1;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let first = DATA >> 12;
    let code = sske(Code::new().load(2, DATA as i32 + 0x1000).load(3, 0x70), 3, 2).report(3);
    let vcpu = vm.start(&iske(code.load(2, DATA as i32 + 0x2000), 2))?;
    let mut found = [0; 4];
    check_eq!(keys(&vm, z::KVM_S390_GET_SKEYS, first, &mut found), Ok(NONE), "none used yet");
    vcpu.report()?;
    check_eq!(keys(&vm, z::KVM_S390_GET_SKEYS, first, &mut found), Ok(0));
    check_eq!(found, [0, 0x70, 0, 0]);
    let mut wanted = [0x10, 0x26, 0x38, 0x42];
    check_eq!(keys(&vm, z::KVM_S390_SET_SKEYS, first, &mut wanted), Ok(0));
    check_eq!(keys(&vm, z::KVM_S390_GET_SKEYS, first, &mut found), Ok(0));
    check_eq!(found, wanted);
    check_eq!(vcpu.report()?, 0x38, "the guest sees it");
    let mut odd = [0x11];
    check_eq!(keys(&vm, z::KVM_S390_SET_SKEYS, first, &mut odd), Err(Errno::EINVAL), "no key");
    check_eq!(keys(&vm, z::KVM_S390_SET_SKEYS, first, &mut []), Err(Errno::EINVAL), "none");
    let end = (vm::RAM_SIZE as u64 >> 12) - 2;
    check_eq!(keys(&vm, z::KVM_S390_GET_SKEYS, end, &mut found), Err(Errno::EFAULT), "no memory");
    Ok(())
}

/// Userspace operates on one key, of a page that the guest has and of one that it hasn't.
fn one() -> Result<()> {
    const INSERT: u8 = 1;
    const RESET: u8 = 2;
    const SET: u8 = 3;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_KEYOP, "KVM_CAP_S390_KEYOP")?;
    let operate = |operation: u8, at: u64, key: u8| -> Result<u8, Errno> {
        let mut what = KeyOp { guest_addr: at, key, operation, pad: [0; 6] };
        exchange(vm.file(), z::KVM_S390_KEYOP, &mut what).map(|_| what.key)
    };
    let code = Code::new().load(2, DATA as i32).load(3, 1).stg(3, 2, 0).report(3);
    let vcpu = vm.start(&iske(code.stg(3, 2, 0).report(3), 2))?;
    check_eq!(operate(SET, DATA, 0x10), Ok(0));
    vcpu.report()?;
    check_eq!(operate(INSERT, DATA, 0), Ok(0x16), "the guest stored");
    check_eq!(operate(RESET, DATA, 0), Ok(6));
    check_eq!(operate(RESET, DATA, 0), Ok(2));
    check_eq!(operate(SET, DATA, 0x21), Ok(0x12));
    vcpu.report()?;
    check_eq!(vcpu.report()?, 0x26, "after the guest's next store");
    let other = DATA + 0x5000;
    check_eq!(operate(SET, other, 0x36), Ok(0));
    check_eq!(operate(RESET, other, 0), Ok(6));
    check_eq!(operate(INSERT, other, 0), Ok(0x32));
    check_eq!(operate(4, DATA, 0), Err(Errno::EINVAL));
    check_eq!(operate(INSERT, 0x4000_0000, 0), Err(Errno::EFAULT));
    Ok(())
}

/// PFMF clears and sets the keys of many frames, if the guest has it.
fn frames() -> Result<()> {
    const ENHANCED_DAT: u16 = 8;
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let start = 0x2f_d000_u64;
    let places = [start - 0x1000, start, 0x2f_f000, 0x30_0000];
    for place in places {
        vm.write(place, place)?;
    }
    // Set the key, clear, up to the end of the segment.
    let code = Code::new().load(2, start as i32).load(3, 0x3_1040).rre(0xb9af, 3, 2).report(2);
    let vcpu = vm.start(&code)?;
    if !vm.facility(ENHANCED_DAT)? {
        vcpu.expect_wait(vm::PROGRAM_TRAP)?;
        check_eq!(vm.read_u32(0x8c)? & 0xffff, 1, "operation");
        return Ok(());
    }
    check_eq!(vcpu.report()?, 0x30_0000, "where it ended");
    let mut words = [0; 4];
    let mut found = [0; 4];
    for (number, place) in places.into_iter().enumerate() {
        words[number] = vm.read(place)?;
        keys(&vm, z::KVM_S390_GET_SKEYS, place >> 12, &mut found[number..=number])?;
    }
    check_eq!(words, [places[0], 0, 0, places[3]]);
    check_eq!(found.map(|key| key & 0xf8), [0, 0x40, 0x40, 0]);
    Ok(())
}

/// TPROT tells what the key allows.
fn test_protection() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_SKEYS, "KVM_CAP_S390_SKEYS")?;
    let tprot = |code: Code, key: i32| {
        // TPROT 0(%r2),0(%r4)
        code.load(4, key).raw(&[0xe5, 0x01, 0x20, 0, 0x40, 0]).condition(8).report(8)
    };
    let mut code = sske(Code::new().load(2, DATA as i32).load(3, 0x10), 3, 2);
    for key in [0, 0x10, 0x20] {
        code = tprot(code, key);
    }
    let code = tprot(sske(code.load(3, 0x18), 3, 2), 0x20);
    let vcpu = vm.start(&tprot(code.load(2, 0x4000_0000), 0))?;
    check_eq!(vcpu.report()?, 0, "key 0");
    check_eq!(vcpu.report()?, 0, "the same key");
    check_eq!(vcpu.report()?, 1, "fetches alone");
    check_eq!(vcpu.report()?, 2, "nothing");
    vcpu.expect_wait(vm::PROGRAM_TRAP)?;
    check_eq!(vm.read_u32(0x8c)?, 0x0006_0005, "addressing");
    Ok(())
}

/// Userspace accesses memory with a key, and compares and exchanges.
fn mem_op() -> Result<()> {
    let vm = Vm::new()?;
    vm.need(cap::KVM_CAP_S390_MEM_OP_EXTENSION, "KVM_CAP_S390_MEM_OP_EXTENSION")?;
    let code = sske(Code::new().load(2, DATA as i32).load(3, 0x18), 3, 2).report(3);
    let vcpu = vm.start(&code.report(3))?;
    vcpu.report()?;
    vm.write(DATA, 0x1111)?;
    let op = |on_vm: bool, op: u32, size: u32, key: u8, value: &mut u64, old: &mut u64| {
        const KEYS: u64 = 4;
        let mut rest = [0; 32];
        rest[1] = key;
        rest[8..16].copy_from_slice(&(&raw mut *old as u64).to_ne_bytes());
        let request = MemOp {
            gaddr: DATA,
            flags: KEYS,
            size,
            op,
            buf: &raw mut *value as u64,
            __bindgen_anon_1: rest,
        };
        let file = if on_vm { vm.file() } else { vcpu.file() };
        give(file, z::KVM_S390_MEM_OP, &request)
    };
    let (mut value, mut old) = (0_u64, 0_u64);
    for (on_vm, read, write) in [(false, 0, 1), (true, 4, 5)] {
        check_eq!(op(on_vm, read, 8, 1, &mut value, &mut old), Ok(0));
        check_eq!(u64::from_be(value), 0x1111);
        check_eq!(op(on_vm, read, 8, 2, &mut value, &mut old), Ok(4), "another key");
        check_eq!(op(on_vm, write, 8, 2, &mut value, &mut old), Ok(4), "another key");
        check_eq!(op(on_vm, write, 8, 0, &mut value, &mut old), Ok(0), "key 0");
        check_eq!(op(on_vm, read, 8, 16, &mut value, &mut old), Err(Errno::EINVAL), "no key");
    }
    let (mut new, mut old) = (0x2222_u64.to_be(), 0x1111_u64.to_be());
    check_eq!(op(true, 6, 8, 2, &mut new, &mut old), Ok(4), "another key");
    check_eq!(op(true, 6, 8, 1, &mut new, &mut old), Ok(0));
    check_eq!((vm.read(DATA)?, u64::from_be(old)), (0x2222, 0x1111), "exchanged");
    new = 0x3333_u64.to_be();
    check_eq!(op(true, 6, 8, 1, &mut new, &mut old), Ok(0));
    check_eq!((vm.read(DATA)?, u64::from_be(old)), (0x2222, 0x2222), "something else was there");
    check_eq!(op(true, 6, 3, 1, &mut new, &mut old), Err(Errno::EINVAL), "an odd size");
    check_eq!(op(false, 6, 8, 1, &mut new, &mut old), Err(Errno::EINVAL), "not on a vCPU");
    Ok(())
}
