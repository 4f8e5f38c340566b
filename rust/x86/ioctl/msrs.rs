// SPDX-License-Identifier: GPL-2.0
//! `KVM_GET_MSRS` and `KVM_SET_MSRS` of a vCPU; on /dev/kvm, the lists of MSRs and
//! the values of those that tell features.

use crate::{host, msr, state::Cx, vendor::Vendor};
use kernel::prelude::*;
use kvm_policy::msr::{feature_list, find, index_list, Owner};
use kvm_sys::{user, x86::rdmsr};
use kvm_uapi::x86::{MsrEntry, MsrList, Msrs};
use zerocopy::IntoBytes;

/// Most registers of one call.
const MAX: u32 = 256;

fn count(arg: usize) -> Result<u32> {
    let head: Msrs = user::read(arg)?;
    if head.nmsrs >= MAX {
        return Err(E2BIG);
    }
    Ok(head.nmsrs)
}

fn entry_at(arg: usize, index: u32) -> usize {
    arg.wrapping_add(size_of::<Msrs>())
        .wrapping_add((index as usize).wrapping_mul(size_of::<MsrEntry>()))
}

/// Registers that are copied at once.
const CHUNK: u32 = 16;

/// Entries of a list, as many as are copied at once.
struct Chunk([MsrEntry; CHUNK as usize]);

impl Chunk {
    /// The chunks of a list of `count`: index of the first entry, and how many.
    fn all(count: u32) -> impl Iterator<Item = (u32, usize)> {
        let length = move |first: u32| count.saturating_sub(first).min(CHUNK) as usize;
        (0..count).step_by(CHUNK as usize).map(move |first| (first, length(first)))
    }

    const EMPTY: Self = Self([MsrEntry { index: 0, reserved: 0, data: 0 }; CHUNK as usize]);

    fn read(&mut self, arg: usize, first: u32, length: usize) -> Result<&mut [MsrEntry]> {
        let entries = self.0.get_mut(..length).ok_or(EINVAL)?;
        user::read_bytes(entry_at(arg, first), entries.as_mut_bytes())?;
        Ok(entries)
    }
}

/// Reads registers up to the first one that isn't there; how many.
pub(crate) fn get<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let count = count(arg)?;
    let mut chunk = Chunk::EMPTY;
    for (first, length) in Chunk::all(count) {
        let entries = chunk.read(arg, first, length)?;
        let mut done = 0;
        for entry in entries.iter_mut() {
            let Ok(data) = msr::get(cx, entry.index) else { break };
            entry.data = data;
            done = usize::wrapping_add(done, 1);
        }
        let bytes = entries.get(..done).ok_or(EINVAL)?.as_bytes();
        user::write_bytes(entry_at(arg, first), bytes)?;
        if done < length {
            return Ok(first.wrapping_add(done as u32));
        }
    }
    Ok(count)
}

/// Sets registers up to the first one that is refused; how many.
pub(crate) fn set<V: Vendor>(cx: &mut Cx<'_, V>, arg: usize) -> Result<u32> {
    let count = count(arg)?;
    let mut chunk = Chunk::EMPTY;
    for (first, length) in Chunk::all(count) {
        for (entry, index) in chunk.read(arg, first, length)?.iter().zip(first..) {
            if msr::set(cx, entry.index, entry.data).is_err() {
                return Ok(index);
            }
        }
    }
    Ok(count)
}

/// The value of an MSR that tells features.
fn feature(index: u32) -> Option<u64> {
    let host = host::get().ok()?;
    let row = find(index).filter(|row| row.feature)?;
    match row.owner {
        Owner::Stored(slot) => host.feature_msrs.read(slot),
        Owner::Constant(value) => Some(value),
        _ => None,
    }
}

/// `KVM_GET_MSRS` of /dev/kvm.
///
/// # Errors
///
/// `E2BIG`; `EFAULT`.
pub(crate) fn get_features(arg: usize) -> Result<u32> {
    let count = count(arg)?;
    for index in 0..count {
        let at = entry_at(arg, index);
        let mut entry: MsrEntry = user::read(at)?;
        let Some(data) = feature(entry.index) else { return Ok(index) };
        entry.data = data;
        user::write(at, &entry)?;
    }
    Ok(count)
}

/// `KVM_GET_MSR_INDEX_LIST`.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn get_index_list(arg: usize) -> Result<u32> {
    let host = host::get()?;
    list(arg, || index_list(&host.supported, |index| rdmsr(index).is_some()))
}

/// `KVM_GET_MSR_FEATURE_INDEX_LIST`.
///
/// # Errors
///
/// As [`list`].
pub(crate) fn get_feature_list(arg: usize) -> Result<u32> {
    list(arg, feature_list)
}

/// Hands a list of numbers to userspace.
///
/// # Errors
///
/// `E2BIG` if there is no room, with the number that it needs; `EFAULT`.
fn list<I: Iterator<Item = u32>>(arg: usize, numbers: impl Fn() -> I) -> Result<u32> {
    let room = user::read::<MsrList>(arg)?.nmsrs;
    let count = numbers().count() as u32;
    user::write(arg, &MsrList { nmsrs: count })?;
    if room < count {
        return Err(E2BIG);
    }
    let mut at = arg.wrapping_add(size_of::<MsrList>());
    // The same processor answers both times.
    for number in numbers().take(count as usize) {
        user::write(at, &number)?;
        at = at.wrapping_add(size_of::<u32>());
    }
    Ok(0)
}
