// SPDX-License-Identifier: GPL-2.0
//! Attributes of a VM: its memory, its clock, and the processor that the guest sees.

use crate::{
    crypto::{self, Kind},
    ioctl::clock,
    sie::Sie,
    vm::{Features, Model},
};
use kernel::{
    alloc::{allocator::KVmalloc, Vec},
    prelude::*,
};
use kvm_core::vm::Vm;
use kvm_paging::addr::{Gfn, PAGE_SHIFT};
use kvm_sys::{
    s390::{self, SUBFUNCTIONS},
    user,
};
use kvm_uapi::vcpu::DeviceAttr;
use s390_arch::facility::{Facilities, WORDS};

const MEMORY: u32 = 0;
const LIMIT: u64 = 2;

const TOD: u32 = 1;
const TOD_LOW: u64 = 0;
const TOD_HIGH: u64 = 1;

const CRYPTO: u32 = 2;
const AES_ON: u64 = 0;
const DEA_ON: u64 = 1;
const AES_OFF: u64 = 2;
const DEA_OFF: u64 = 3;

const CPU_MODEL: u32 = 3;
const PROCESSOR: u64 = 0;
const MACHINE: u64 = 1;
const PROCESSOR_FEATURES: u64 = 2;
const MACHINE_FEATURES: u64 = 3;
const PROCESSOR_FUNCTIONS: u64 = 4;
const MACHINE_FUNCTIONS: u64 = 5;

/// Words of `kvm_s390_vm_cpu_feat`.
const FEATURE_WORDS: usize = 16;
/// Bytes of `kvm_s390_vm_cpu_subfunc`.
const FUNCTION_BYTES: usize = 2048;

/// Words of a facility list in the ABI.
const LIST: usize = 256;
/// Words of `kvm_s390_vm_cpu_processor`: CPU id, instruction blocking control, list.
const PROCESSOR_WORDS: usize = 2 + LIST;
/// Words of `kvm_s390_vm_cpu_machine`: as above, with two lists.
const MACHINE_WORDS: usize = 2 + 2 * LIST;

/// `KVM_HAS_DEVICE_ATTR`.
pub(super) fn has(arg: usize) -> Result<u32> {
    let attr: DeviceAttr = user::read(arg)?;
    match (attr.group, attr.attr) {
        (MEMORY, LIMIT)
        | (TOD, TOD_LOW | TOD_HIGH)
        | (CRYPTO, AES_ON..=DEA_OFF)
        | (CPU_MODEL, PROCESSOR..=MACHINE_FUNCTIONS) => Ok(0),
        _ => Err(ENXIO),
    }
}

/// `KVM_GET_DEVICE_ATTR`.
pub(super) fn get(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let attr: DeviceAttr = user::read(arg)?;
    let at = attr.addr as usize;
    match (attr.group, attr.attr) {
        (MEMORY, LIMIT) => user::write(at, &(vm.memory().frames() << PAGE_SHIFT))?,
        (TOD, _) if attr.flags != 0 => return Err(EINVAL),
        (TOD, TOD_LOW) => user::write(at, &clock::get(vm))?,
        // The clock has no more than 64 bits.
        (TOD, TOD_HIGH) => user::write(at, &0_u8)?,
        (CPU_MODEL, PROCESSOR) => {
            let model = *vm.arch().model.lock();
            let mut words = list(&[model.cpuid, u64::from(model.blocking) << 48])?;
            append(&mut words, &model.facilities)?;
            user::write_words(at, &words)?;
        }
        (CPU_MODEL, MACHINE) => {
            let machine = Facilities(s390::facilities());
            let mut words = list(&[s390::cpu_id(), 0])?;
            append(&mut words, &Model::of_host().facilities)?;
            append(&mut words, &machine)?;
            user::write_words(at, &words)?;
        }
        (CPU_MODEL, PROCESSOR_FEATURES) => {
            user::write(at, &features(vm.arch().model.lock().features))?;
        }
        (CPU_MODEL, MACHINE_FEATURES) => user::write(at, &features(Features::of_host()))?,
        (CPU_MODEL, PROCESSOR_FUNCTIONS) => {
            let functions = *vm.arch().functions.lock();
            write_functions(at, &functions)?;
        }
        (CPU_MODEL, MACHINE_FUNCTIONS) => write_functions(at, &s390::subfunctions())?,
        _ => return Err(ENXIO),
    }
    Ok(0)
}

/// Features, which are bits from the left, as the ABI has them.
fn features(Features(first): Features) -> [u64; FEATURE_WORDS] {
    let mut words = [0; FEATURE_WORDS];
    let [word, ..] = &mut words;
    *word = first;
    words
}

/// The known beginning, and zeroes.
fn write_functions(at: usize, functions: &[u8; SUBFUNCTIONS]) -> Result {
    const ZEROES: [u8; FUNCTION_BYTES - SUBFUNCTIONS] = [0; FUNCTION_BYTES - SUBFUNCTIONS];
    user::write_bytes(at, functions)?;
    user::write_bytes(at.wrapping_add(SUBFUNCTIONS), &ZEROES)
}

/// `KVM_SET_DEVICE_ATTR`.
pub(super) fn set(vm: &Vm<Sie>, arg: usize) -> Result<u32> {
    let attr: DeviceAttr = user::read(arg)?;
    let at = attr.addr as usize;
    match (attr.group, attr.attr) {
        (MEMORY, LIMIT) => limit_memory(vm, user::read(at)?),
        (TOD, _) if attr.flags != 0 => Err(EINVAL),
        (TOD, TOD_LOW) => {
            clock::set(vm, user::read(at)?);
            Ok(0)
        }
        (TOD, TOD_HIGH) => match user::read::<u8>(at)? {
            0 => Ok(0),
            _ => Err(EINVAL),
        },
        (CRYPTO, AES_ON..=DEA_OFF) => {
            let is_aes = matches!(attr.attr, AES_ON | AES_OFF);
            let kind = if is_aes { Kind::Aes } else { Kind::Dea };
            crypto::turn(vm, kind, matches!(attr.attr, AES_ON | DEA_ON)).map(|()| 0)
        }
        (CPU_MODEL, PROCESSOR) => set_processor(vm, at),
        (CPU_MODEL, PROCESSOR_FEATURES) => set_features(vm, at),
        (CPU_MODEL, PROCESSOR_FUNCTIONS) => set_functions(vm, at),
        _ => Err(ENXIO),
    }
}

/// No memory from an address on, which is rounded up to segments. A limit can be lowered
/// before there is a processor.
fn limit_memory(vm: &Vm<Sie>, limit: u64) -> Result<u32> {
    const SEGMENT: u64 = 1 << 20;
    let limit = limit.wrapping_add(SEGMENT - 1) & !(SEGMENT - 1);
    if limit >> PAGE_SHIFT > vm.memory().frames() {
        return Err(E2BIG);
    }
    if limit == 0 {
        return Err(EINVAL);
    }
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        vm.memory().limit(Gfn::new(limit >> PAGE_SHIFT)).map(|()| 0)
    })
}

/// The processor can be chosen before there is one.
fn set_processor(vm: &Vm<Sie>, at: usize) -> Result<u32> {
    let words = user::read_words(at, PROCESSOR_WORDS)?;
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        let mut model = vm.arch().model.lock();
        if let [cpuid, _, list @ ..] = words.as_slice() {
            model.cpuid = *cpuid;
            for (word, wanted) in model.facilities.0.iter_mut().zip(list) {
                *word = *wanted;
            }
        }
        Ok(0)
    })
}

/// Features can be chosen among those of the machine.
fn set_features(vm: &Vm<Sie>, at: usize) -> Result<u32> {
    let [first, rest @ ..]: [u64; FEATURE_WORDS] = user::read(at)?;
    let Features(machine) = Features::of_host();
    if first & !machine != 0 || rest.iter().any(|word| *word != 0) {
        return Err(EINVAL);
    }
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        vm.arch().model.lock().features = Features(first);
        Ok(0)
    })
}

/// Functions of instructions are kept for userspace: SIE leaves none out.
fn set_functions(vm: &Vm<Sie>, at: usize) -> Result<u32> {
    let functions = user::read(at)?;
    vm.with_creation_locked(|| {
        if vm.vcpus().count() != 0 {
            return Err(EBUSY);
        }
        *vm.arch().functions.lock() = functions;
        Ok(0)
    })
}

type Words = Vec<u64, KVmalloc>;

/// The beginning of a structure.
fn list(words: &[u64]) -> Result<Words> {
    let mut all = Words::with_capacity(MACHINE_WORDS, GFP_KERNEL_ACCOUNT)?;
    all.extend_from_slice(words, GFP_KERNEL_ACCOUNT)?;
    Ok(all)
}

/// A facility list behind it.
fn append(words: &mut Words, facilities: &Facilities) -> Result {
    words.extend_from_slice(&facilities.0, GFP_KERNEL_ACCOUNT)?;
    for _ in WORDS..LIST {
        words.push(0, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(())
}
