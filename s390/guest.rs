// SPDX-License-Identifier: GPL-2.0
//! Guest memory by absolute, real and logical addresses.

use crate::{
    inject, key,
    state::{Cx, Next},
    sync,
};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::Kind;
use kvm_paging::addr::Gpa;
use s390_arch::{
    dat::{self, Asce, Features, Refused},
    key::OVERRIDE_KEY,
    program::{code, Program},
    psw::{Mask, Space},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Fetch,
    Store,
}

/// Why an access to guest memory didn't happen.
#[derive(Debug)]
pub(crate) enum Missed {
    /// The guest gets a program interruption.
    Program(Program),
    /// The host has nothing there, or something else went wrong.
    Host(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

impl Missed {
    /// Lets the guest have it, or returns the error.
    pub(crate) fn into_next(self, cx: &mut Cx<'_>) -> Result<Next> {
        match self {
            Self::Program(program) => Ok(inject::program_with(cx, program)),
            Self::Host(error) => Err(error),
        }
    }
}

/// The absolute address of a real one.
pub(crate) fn absolute(prefix: u32, real: u64) -> u64 {
    let prefix = u64::from(prefix);
    if real < 0x2000 {
        real.wrapping_add(prefix)
    } else if real & !0x1fff == prefix {
        real & 0x1fff
    } else {
        real
    }
}

/// Whether there is memory at an absolute address.
pub(crate) fn exists(cx: &Cx<'_>, absolute: u64) -> bool {
    cx.vm.memory().kind(Gpa::new(absolute)) != Kind::Device
}

/// Reads a value from the prefix area, at a real address below 8192.
///
/// # Errors
///
/// `EFAULT` if there is no memory.
pub(crate) fn read_low<T: FromBytes + IntoBytes + Copy + Default>(
    cx: &Cx<'_>,
    real: u64,
) -> Result<T> {
    let mut value = T::default();
    let at = u64::from(cx.state.block.prefix()).wrapping_add(real);
    cx.vm.memory().read(Gpa::new(at), value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a value there.
///
/// # Errors
///
/// As [`read_low`].
pub(crate) fn write_low<T: IntoBytes + Immutable>(cx: &Cx<'_>, real: u64, value: T) -> Result {
    let at = u64::from(cx.state.block.prefix()).wrapping_add(real);
    cx.vm.memory().write(Gpa::new(at), value.as_bytes())
}

/// The space that operands are in by the PSW, `None` without translation.
///
/// # Errors
///
/// `EOPNOTSUPP` for access registers other than those that name the primary or the
/// secondary space, which is not implemented.
fn space(cx: &Cx<'_>, access_register: u8) -> Result<Option<Asce>> {
    let psw = cx.state.block.psw;
    if !psw.has(Mask::DAT) {
        return Ok(None);
    }
    let [_, cr1, _, _, _, _, _, cr7, _, _, _, _, _, cr13, _, _] = cx.state.block.control;
    let asce = match psw.space() {
        Space::Primary => cr1,
        Space::Secondary => cr7,
        Space::Home => cr13,
        Space::AccessRegister => match access_register_value(cx, access_register)? {
            0 => cr1,
            1 => cr7,
            _ => return Err(EOPNOTSUPP),
        },
    };
    Ok(Some(Asce(asce)))
}

/// An access register of the guest. Register 0 counts as 0.
fn access_register_value(cx: &Cx<'_>, number: u8) -> Result<u32> {
    if number == 0 {
        return Ok(0);
    }
    if cx.vcpu.shared().is_running() {
        return Ok(kvm_sys::s390::registers::access(number));
    }
    let registers = sync::registers(sync::page(cx)?);
    Ok(registers.acrs.get(usize::from(number)).copied().unwrap_or(0))
}

/// The absolute address that a logical one leads to.
///
/// # Errors
///
/// [`Missed`].
pub(crate) fn translate(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    purpose: Purpose,
) -> Result<u64, Missed> {
    let prefix = cx.state.block.prefix();
    let address = cx.state.block.psw.wrap(address);
    let Some(asce) = space(cx, access_register)? else {
        check_low_address(cx, address, access_register, purpose, None)?;
        let at = absolute(prefix, address);
        return if exists(cx, at) { Ok(at) } else { Err(addressing()) };
    };
    check_low_address(cx, address, access_register, purpose, Some(asce))?;
    let [cr0, ..] = cx.state.block.control;
    let features = Features { edat1: cr0 & CR0_EDAT != 0, edat2: false };
    let guest = cx.vm.memory();
    let place = dat::translate(asce, address, features, |real| {
        let at = Gpa::new(absolute(prefix, real));
        if guest.kind(at) == Kind::Device {
            return Ok(None);
        }
        let mut bytes = [0; 8];
        guest.read(at, &mut bytes).map(|()| Some(u64::from_be_bytes(bytes)))
    });
    match place {
        Ok(place) if place.is_protected && purpose == Purpose::Store => {
            Err(refused(Why::Dat, address, access_register, purpose, cx))
        }
        Ok(place) => {
            let at = absolute(prefix, place.real);
            if exists(cx, at) {
                Ok(at)
            } else {
                Err(addressing())
            }
        }
        Err(Refused::Program(code)) => {
            Err(refused(Why::Translation(code), address, access_register, purpose, cx))
        }
        Err(Refused::Memory(error)) => Err(Missed::Host(error)),
    }
}

/// Control register 0: enhanced DAT.
const CR0_EDAT: u64 = 0x80_0000;
/// Control register 0: low addresses are protected.
const CR0_LOW_ADDRESS_PROTECTION: u64 = 0x1000_0000;

/// Stores to the first half kilobytes of the first two pages may be refused
/// (Principles of Operation, "Low-Address Protection").
fn check_low_address(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    purpose: Purpose,
    asce: Option<Asce>,
) -> Result<(), Missed> {
    let [cr0, ..] = cx.state.block.control;
    let is_low = address & !0x11ff == 0;
    let is_on = cr0 & CR0_LOW_ADDRESS_PROTECTION != 0 && !is_private(asce);
    if purpose == Purpose::Store && is_low && is_on {
        return Err(refused(Why::LowAddress, address, access_register, purpose, cx));
    }
    Ok(())
}

/// Whether low-address protection lets a store to a real address be.
///
/// # Errors
///
/// A protection exception.
pub(crate) fn check_low_real(cx: &Cx<'_>, real: u64) -> Result<(), Missed> {
    check_low_address(cx, real, 0, Purpose::Store, None)
}

/// Whether a space is a private one: what protects and frees low addresses isn't for it.
fn is_private(asce: Option<Asce>) -> bool {
    const PRIVATE: u64 = 0x100;
    asce.is_some_and(|asce| asce.0 & PRIVATE != 0)
}

/// Bytes in one page, as the guest addresses them, and where they are.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// The logical address.
    pub(crate) address: u64,
    /// The absolute one.
    pub(crate) at: u64,
    /// How many.
    pub(crate) count: usize,
}

/// Whether the frame's storage key allows an access with a key (Principles of Operation,
/// "Key-Controlled Protection").
///
/// # Errors
///
/// `EOPNOTSUPP` for an address space that isn't implemented.
pub(crate) fn is_allowed(
    cx: &Cx<'_>,
    piece: Piece,
    access_register: u8,
    purpose: Purpose,
    key: u8,
) -> Result<bool> {
    const CR0_FETCH_OVERRIDE: u64 = 0x200_0000;
    const CR0_STORAGE_OVERRIDE: u64 = 0x100_0000;
    /// Bytes from address 0 on that fetch-protection override is about.
    const FETCH_OVERRIDE: u64 = 2048;
    let (keys, gfn) = (key::of(&cx.vm), Gpa::new(piece.at).gfn());
    let is_store = purpose == Purpose::Store;
    if keys.allows(gfn, key, is_store) {
        return Ok(true);
    }
    let [cr0, ..] = cx.state.block.control;
    if cr0 & CR0_STORAGE_OVERRIDE != 0 && keys.allows(gfn, OVERRIDE_KEY, is_store) {
        return Ok(true);
    }
    let end = cx.state.block.psw.wrap(piece.address).checked_add(piece.count as u64);
    let is_low = end.is_some_and(|end| end <= FETCH_OVERRIDE);
    let is_on = !is_store && cr0 & CR0_FETCH_OVERRIDE != 0 && is_low;
    Ok(is_on && !is_private(space(cx, access_register)?))
}

fn addressing() -> Missed {
    Missed::Program(Program::new(code::ADDRESSING))
}

/// Why an access is refused.
#[derive(Clone, Copy)]
enum Why {
    /// There is no translation, for a reason with this code.
    Translation(u16),
    /// The guest's tables protect the page.
    Dat,
    /// Low-address protection.
    LowAddress,
    /// The storage key.
    Key,
    /// The storage key, after some of the access was done.
    KeyLater,
}

/// The interruption for an address that isn't to be used so.
fn refused(why: Why, address: u64, access_register: u8, purpose: Purpose, cx: &Cx<'_>) -> Missed {
    // Bits 52 and 53: store or fetch. Bits 56, 60 and 61: what protects, 0 if the
    // instruction is terminated. Bits 62 and 63: the space.
    let kind = match purpose {
        Purpose::Store => 0x400,
        Purpose::Fetch => 0x800,
    };
    let (code, what) = match why {
        Why::Translation(code) => (code, 0),
        Why::Dat => (code::PROTECTION, 0x4),
        Why::LowAddress => (code::PROTECTION, 0x80),
        Why::Key => (code::PROTECTION, 0x8),
        Why::KeyLater => (code::PROTECTION, 0),
    };
    let space = cx.state.block.psw.space() as u64;
    let translation = address & !0xfff | kind | what | space;
    let exception_access = access_register;
    Missed::Program(Program { translation, exception_access, ..Program::new(code) })
}

/// Goes through a range page by page: absolute address, and number of bytes.
fn pages(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    length: usize,
    purpose: Purpose,
    key: u8,
    mut page: impl FnMut(u64, usize) -> Result,
) -> Result<(), Missed> {
    let _still = match space(cx, access_register)? {
        Some(_) => Some(cx.vm.arch().sca.hold()),
        None => None,
    };
    // First all of it is looked at: nothing happens if some of it isn't there.
    for check in [true, false] {
        let mut done = 0_usize;
        while done < length {
            let address = cx.state.block.psw.wrap(address.wrapping_add(done as u64));
            let in_page = 0x1000_u64.wrapping_sub(address & 0xfff) as usize;
            let count = in_page.min(length.wrapping_sub(done));
            let at = translate(cx, address, access_register, purpose)?;
            let piece = Piece { address, at, count };
            if check && !is_allowed(cx, piece, access_register, purpose, key)? {
                let is_later = done != 0 && purpose == Purpose::Store;
                let why = if is_later { Why::KeyLater } else { Why::Key };
                return Err(refused(why, address, access_register, purpose, cx));
            }
            if !check {
                page(at, count)?;
            }
            done = done.wrapping_add(count);
        }
    }
    Ok(())
}

/// Whether all of a range can be accessed with a key.
///
/// # Errors
///
/// [`Missed`].
pub(crate) fn check(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    length: usize,
    purpose: Purpose,
    key: u8,
) -> Result<(), Missed> {
    pages(cx, address, access_register, length, purpose, key, |_, _| Ok(()))
}

/// Reads bytes at a logical address of the guest that runs, whatever their storage keys.
///
/// # Errors
///
/// [`Missed`]; then nothing was read.
pub(crate) fn read(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    bytes: &mut [u8],
) -> Result<(), Missed> {
    read_with_key(cx, address, access_register, bytes, 0)
}

/// As [`read`], with an access key.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_with_key(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    bytes: &mut [u8],
    key: u8,
) -> Result<(), Missed> {
    let length = bytes.len();
    let mut rest = bytes;
    pages(cx, address, access_register, length, Purpose::Fetch, key, |at, count| {
        let (now, later) = core::mem::take(&mut rest).split_at_mut_checked(count).ok_or(EFAULT)?;
        cx.vm.memory().read(Gpa::new(at), now)?;
        rest = later;
        Ok(())
    })
}

/// Writes bytes at a logical address of the guest that runs, whatever their storage keys.
///
/// # Errors
///
/// [`Missed`]; then nothing was written.
pub(crate) fn write(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    bytes: &[u8],
) -> Result<(), Missed> {
    write_with_key(cx, address, access_register, bytes, 0)
}

/// As [`write`], with an access key.
///
/// # Errors
///
/// As [`write`].
pub(crate) fn write_with_key(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    bytes: &[u8],
    key: u8,
) -> Result<(), Missed> {
    let mut rest = bytes;
    pages(cx, address, access_register, bytes.len(), Purpose::Store, key, |at, count| {
        let (now, later) = rest.split_at_checked(count).ok_or(EFAULT)?;
        cx.vm.memory().write(Gpa::new(at), now)?;
        rest = later;
        Ok(())
    })
}

/// Reads a big-endian number.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_u64(cx: &Cx<'_>, address: u64, access_register: u8) -> Result<u64, Missed> {
    let mut bytes = [0; 8];
    read(cx, address, access_register, &mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
