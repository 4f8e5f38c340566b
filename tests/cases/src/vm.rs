// SPDX-License-Identifier: GPL-2.0
//! Virtual machines and virtual CPUs as objects: limits, owners, lifetimes.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use kvm_uapi::{cap, ioctl, memory::UserspaceMemoryRegion};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::case::{Case, Outcome};
use crate::device::make;
use crate::processor::Processor;
use crate::{device, memory, module};

const ALL: &[&str] = &["amd", "intel", "z"];

/// The cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case::new("vm/create", ALL, create),
    Case::new("vm/limits", ALL, limits),
    Case::new("vm/out-of-files", ALL, out_of_descriptors),
    Case::new("vm/vcpu-pages", ALL, vcpu_pages),
    Case::new("vm/other-process", ALL, other_process),
    Case::new("vm/memory-slots", ALL, memory_slots),
    Case::new("vm/many-slots", ALL, many_slots),
    Case::new("vm/closing-order", ALL, closing_order),
];

/// /dev/kvm and a new VM.
pub(crate) fn new_vm() -> Result<(File, File)> {
    let kvm = device::open()?;
    let vm = make(&kvm, ioctl::KVM_CREATE_VM, 0).context("KVM_CREATE_VM")?;
    Ok((kvm, vm))
}

fn capability(file: &File, number: u32) -> Result<u64> {
    let value = device::ioctl(file, ioctl::KVM_CHECK_EXTENSION, number.into())
        .with_context(|| format!("capability {number}"))?;
    Ok(u64::try_from(value)?)
}

/// A VM, a vCPU, and how /proc names them.
fn create() -> Result<Outcome> {
    module::load_all()?;
    let (kvm, vm) = new_vm()?;
    let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 7).context("KVM_CREATE_VCPU")?;
    for (file, name) in [(&vm, "anon_inode:kvm-vm"), (&vcpu, "anon_inode:kvm-vcpu:7")] {
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        ensure!(link.to_string_lossy() == name, "{link:?} instead of {name}");
    }
    for file in [&kvm, &vm] {
        let answer = capability(file, cap::KVM_CAP_CHECK_EXTENSION_VM)?;
        ensure!(answer == 1, "KVM_CAP_CHECK_EXTENSION_VM: {answer}");
    }
    let unknown = device::ioctl(&vm, ioctl::KVM_RUN, 0);
    ensure!(unknown == Err(Errno::ENOTTY), "unknown request on a VM: {unknown:?}");
    let expected =
        if Processor::current()? == Processor::Z { Errno::ENOTTY } else { Errno::EINVAL };
    let unknown = device::ioctl(&vcpu, ioctl::KVM_CREATE_VM, 0);
    ensure!(unknown == Err(expected), "unknown request on a vCPU: {unknown:?}");
    let foreign = device::ioctl(&vcpu, 0x5401, 0);
    ensure!(foreign == Err(Errno::EINVAL), "another driver's request on a vCPU: {foreign:?}");
    Ok(Outcome::Passed)
}

/// Types, ids and numbers that aren't there are refused; as many vCPUs as promised can be made.
fn limits() -> Result<Outcome> {
    module::load_all()?;
    let (kvm, vm) = new_vm()?;
    for kind in [1, 63, u64::MAX] {
        let refused = make(&kvm, ioctl::KVM_CREATE_VM, kind).err();
        ensure!(refused == Some(Errno::EINVAL), "VM type {kind}: {refused:?}");
    }
    let max_vcpus = capability(&vm, cap::KVM_CAP_MAX_VCPUS)?;
    let max_id = capability(&vm, cap::KVM_CAP_MAX_VCPU_ID)?;
    setrlimit(Resource::RLIMIT_NOFILE, 8192, 8192).context("raising the limit of open files")?;
    let recommended = capability(&vm, cap::KVM_CAP_NR_VCPUS)?;
    ensure!(recommended == 2, "{recommended} vCPUs recommended on 2 processors");
    let refused = |id| make(&vm, ioctl::KVM_CREATE_VCPU, id).err();
    for id in [max_id, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        ensure!(refused(id) == Some(Errno::EINVAL), "vCPU id {id}: {:?}", refused(id));
    }
    let mut vcpus = Vec::new();
    for index in 0..max_vcpus {
        // The highest id comes first.
        let id = (max_id - 1 + index) % max_id;
        let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, id);
        vcpus.push(vcpu.with_context(|| format!("vCPU {index} of {max_vcpus}"))?);
        if index == 0 {
            ensure!(refused(id) == Some(Errno::EEXIST), "the same id again: {:?}", refused(id));
        }
    }
    let one_more = refused(max_vcpus);
    ensure!(one_more == Some(Errno::EINVAL), "one vCPU too many: {one_more:?}");
    Ok(Outcome::Passed)
}

/// A vCPU that no descriptor could be had for doesn't take its id.
fn out_of_descriptors() -> Result<Outcome> {
    module::load_all()?;
    let (_kvm, vm) = new_vm()?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let used = fs::read_dir("/proc/self/fd")?.count() as u64;
    // The directory's own descriptor was counted and is closed again.
    setrlimit(Resource::RLIMIT_NOFILE, used - 1, hard)?;
    let refused = make(&vm, ioctl::KVM_CREATE_VCPU, 0).err();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    ensure!(refused == Some(Errno::EMFILE), "a vCPU without a descriptor: {refused:?}");
    make(&vm, ioctl::KVM_CREATE_VCPU, 0).context("the same vCPU afterwards")?;
    Ok(Outcome::Passed)
}

/// The vCPU's own pages are zero, writable, each vCPU's own, and outlive the descriptor.
fn vcpu_pages() -> Result<Outcome> {
    module::load_all()?;
    let (_kvm, vm) = new_vm()?;
    let is_z = Processor::current()? == Processor::Z;
    let pages = if is_z { 1 } else { 2 };
    let length = NonZeroUsize::new(4096 * pages).context("no pages")?;
    let mut maps = Vec::new();
    for id in 0..2 {
        let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, id)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice harms nothing.
        maps.push(unsafe {
            mmap(None, length, protection, MapFlags::MAP_SHARED, vcpu.as_fd(), 0)
        }?);
    }
    drop(vm);
    for (id, map) in maps.iter().enumerate() {
        // SAFETY: the mapping is this long, lives until below, and nobody else writes to it.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(map.as_ptr().cast::<u8>(), length.get()) };
        if is_z {
            // The registers that `kvm_run` can carry are named from the start.
            use kvm_uapi::run::offset::VALID_REGS;
            let named = bytes.get_mut(VALID_REGS..VALID_REGS + 8).context("no such field")?;
            ensure!(named.iter().any(|byte| *byte != 0), "vCPU {id}: no registers are named");
            named.fill(0);
        }
        ensure!(bytes.iter().all(|byte| *byte == 0), "vCPU {id}: pages aren't zero");
        bytes.fill(0xa5 + id as u8);
    }
    for map in maps {
        // SAFETY: nobody uses the mapping any more.
        unsafe { munmap(map, length.get()) }?;
    }
    Ok(Outcome::Passed)
}

/// A child inherits the descriptors and may not use them.
fn other_process() -> Result<Outcome> {
    module::load_all()?;
    let (_kvm, vm) = new_vm()?;
    let vcpu = make(&vm, ioctl::KVM_CREATE_VCPU, 0)?;
    // SAFETY: the child makes system calls only.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let on_vm = device::ioctl(&vm, ioctl::KVM_CHECK_EXTENSION, 0);
            let on_vcpu = device::ioctl(&vcpu, ioctl::KVM_RUN, 0);
            let refused = on_vm == Err(Errno::EIO) && on_vcpu == Err(Errno::EIO);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(if refused { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None)?;
            ensure!(
                ended == WaitStatus::Exited(child, 0),
                "a child may use its parent's VM: {ended:?}"
            );
        }
    }
    let answer = device::ioctl(&vm, ioctl::KVM_CHECK_EXTENSION, 0);
    ensure!(answer.is_ok(), "the parent may not: {answer:?}");
    Ok(Outcome::Passed)
}

/// An address that the process could have something at.
const MEMORY: u64 = 0x7e00_0000_0000;

fn region(slot: u32, guest_phys_addr: u64, memory_size: u64) -> UserspaceMemoryRegion {
    UserspaceMemoryRegion { slot, flags: 0, guest_phys_addr, memory_size, userspace_addr: MEMORY }
}

fn set_region(vm: &File, region: UserspaceMemoryRegion) -> Result<i32, Errno> {
    device::ioctl_with(vm, ioctl::KVM_SET_USER_MEMORY_REGION, &region)
}

/// Slots that a VM can have.
const SLOTS: u32 = if cfg!(target_arch = "x86_64") { 32764 } else { 32766 };

/// Slots come, move and go; what can't be is refused with the documented errno and changes nothing.
fn memory_slots() -> Result<Outcome> {
    module::load_all()?;
    let (_kvm, vm) = new_vm()?;
    let set = |region| set_region(&vm, region);
    // Without the capability there is one.
    let spaces = u32::try_from(capability(&vm, cap::KVM_CAP_MULTI_ADDRESS_SPACE)?)?.max(1);
    let size = 0x20_0000;
    for (what, region, expected) in [
        ("a new slot", region(0, 0, size), Ok(0)),
        ("the same again", region(0, 0, size), Ok(0)),
        ("its neighbour", region(1, size, size), Ok(0)),
        ("an overlap", region(2, size + 0x1000, size), Err(Errno::EEXIST)),
        ("a move onto another", region(0, size, size), Err(Errno::EEXIST)),
        ("a move", region(0, 4 * size, size), Ok(0)),
        ("where it was", region(2, 0, size), Ok(0)),
        ("another size", region(0, 4 * size, 2 * size), Err(Errno::EINVAL)),
        ("deletion", region(0, 0, 0), Ok(0)),
        ("deletion of nothing", region(0, 0, 0), Err(Errno::EINVAL)),
        ("an odd address", region(3, 0x1234, size), Err(Errno::EINVAL)),
        ("an odd size", region(3, 8 * size, 0x1234), Err(Errno::EINVAL)),
        ("a wrap", region(3, 0u64.wrapping_sub(0x1000), 0x2000), Err(Errno::EINVAL)),
        ("too much", region(3, 8 * size, 1 << 43), Err(Errno::EINVAL)),
        ("a slot number too high", region(SLOTS, 8 * size, size), Err(Errno::EINVAL)),
        ("an address space too high", region(spaces << 16, 8 * size, size), Err(Errno::EINVAL)),
    ] {
        let answer = set(region);
        ensure!(answer == expected, "{what}: {answer:?} instead of {expected:?}");
    }
    let flags = UserspaceMemoryRegion { flags: 1 << 31, ..region(3, 8 * size, size) };
    ensure!(set(flags) == Err(Errno::EINVAL), "unknown flags: {:?}", set(flags));
    let kernel = UserspaceMemoryRegion { userspace_addr: 1 << 63, ..region(3, 8 * size, size) };
    if Processor::current()? != Processor::Z {
        ensure!(set(kernel) == Err(Errno::EINVAL), "the kernel's memory: {:?}", set(kernel));
    }
    let nowhere = device::ioctl(&vm, ioctl::KVM_SET_USER_MEMORY_REGION, 0);
    ensure!(nowhere == Err(Errno::EFAULT), "no structure: {nowhere:?}");
    Ok(Outcome::Passed)
}

/// A lot of slots, in an order that moves them about.
fn many_slots() -> Result<Outcome> {
    const COUNT: u32 = 1000;
    module::load_all()?;
    let (_kvm, vm) = new_vm()?;
    let all = capability(&vm, cap::KVM_CAP_NR_MEMSLOTS)?;
    ensure!(all >= COUNT.into(), "{all} slots");
    // 7 has no factor in common with the count: every place once.
    let place = |slot: u32| u64::from(slot * 7 % COUNT) * 0x1000;
    for slot in 0..COUNT {
        set_region(&vm, region(slot, place(slot), 0x1000))
            .with_context(|| format!("slot {slot}"))?;
    }
    let full = set_region(&vm, region(COUNT, place(3), 0x1000));
    ensure!(full == Err(Errno::EEXIST), "every place is taken: {full:?}");
    for slot in (0..COUNT).rev() {
        set_region(&vm, region(slot, 0, 0)).with_context(|| format!("deleting slot {slot}"))?;
    }
    Ok(Outcome::Passed)
}

/// Descriptors of a VM and its vCPUs may be closed in any order; the modules can go afterwards and
/// nothing stays behind.
fn closing_order() -> Result<Outcome> {
    const ROUNDS: usize = 60;
    let round = |order: usize| -> Result<()> {
        let (kvm, vm) = new_vm()?;
        let mut files = vec![kvm, vm];
        for id in 0..3 {
            files.push(make(&files[1], ioctl::KVM_CREATE_VCPU, id)?);
        }
        set_region(&files[1], region(0, 0, 0x20_0000))?;
        // Each rotation of the five, forwards and backwards.
        if order % 2 == 1 {
            files.reverse();
        }
        files.rotate_left(order / 2 % 5);
        for file in files {
            drop(file);
        }
        Ok(())
    };
    // One page per VM would be 240 KiB.
    memory::leaves_nothing(31, || {
        module::load_all()?;
        for order in 0..ROUNDS {
            round(order)?;
        }
        module::unload_all()
    })?;
    Ok(Outcome::Passed)
}
