// SPDX-License-Identifier: GPL-2.0
//! Guest memory by absolute, real and logical addresses.

use crate::{
    inject,
    state::{Cx, Next},
    sync,
};
use kernel::{error::Result, prelude::*};
use kvm_core::memory::Kind;
use kvm_paging::addr::Gpa;
use s390_arch::{
    dat::{self, Asce, Features, Refused},
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
        check_low_address(cx, address, purpose, None)?;
        let at = absolute(prefix, address);
        return if exists(cx, at) { Ok(at) } else { Err(addressing()) };
    };
    check_low_address(cx, address, purpose, Some(asce))?;
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
            Err(refused(code::PROTECTION, address, purpose, cx))
        }
        Ok(place) => {
            let at = absolute(prefix, place.real);
            if exists(cx, at) {
                Ok(at)
            } else {
                Err(addressing())
            }
        }
        Err(Refused::Program(code)) => Err(refused(code, address, purpose, cx)),
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
    purpose: Purpose,
    asce: Option<Asce>,
) -> Result<(), Missed> {
    const PRIVATE: u64 = 0x100;
    let [cr0, ..] = cx.state.block.control;
    let is_low = address & !0x11ff == 0;
    let is_private = asce.is_some_and(|asce| asce.0 & PRIVATE != 0);
    if purpose == Purpose::Store && is_low && cr0 & CR0_LOW_ADDRESS_PROTECTION != 0 && !is_private {
        return Err(refused(code::PROTECTION, address, purpose, cx));
    }
    Ok(())
}

fn addressing() -> Missed {
    Missed::Program(Program::new(code::ADDRESSING))
}

/// The interruption for an address that isn't to be used so.
fn refused(code: u16, address: u64, purpose: Purpose, cx: &Cx<'_>) -> Missed {
    // Bits 52 and 53: store or fetch. Bit 61: the address is valid. Bits 62 and
    // 63: the space.
    let kind = match purpose {
        Purpose::Store => 0x400,
        Purpose::Fetch => 0x800,
    };
    let valid = if code == code::PROTECTION { 4 } else { 0 };
    let space = cx.state.block.psw.space() as u64;
    let translation = address & !0xfff | kind | valid | space;
    Missed::Program(Program { translation, ..Program::new(code) })
}

/// Goes through a range page by page: absolute address, and number of bytes.
fn pages(
    cx: &Cx<'_>,
    address: u64,
    access_register: u8,
    length: usize,
    purpose: Purpose,
    mut page: impl FnMut(u64, usize) -> Result,
) -> Result<(), Missed> {
    // First all of it is looked at: nothing happens if some of it isn't there.
    for check in [true, false] {
        let mut done = 0_usize;
        while done < length {
            let at = address.wrapping_add(done as u64);
            let in_page = 0x1000_u64.wrapping_sub(at & 0xfff) as usize;
            let count = in_page.min(length.wrapping_sub(done));
            let at = translate(cx, at, access_register, purpose)?;
            if !check {
                page(at, count)?;
            }
            done = done.wrapping_add(count);
        }
    }
    Ok(())
}

/// Whether all of a range can be accessed.
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
) -> Result<(), Missed> {
    pages(cx, address, access_register, length, purpose, |_, _| Ok(()))
}

/// Reads bytes at a logical address of the guest that runs.
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
    let length = bytes.len();
    let mut rest = bytes;
    pages(cx, address, access_register, length, Purpose::Fetch, |at, count| {
        let (now, later) = core::mem::take(&mut rest).split_at_mut_checked(count).ok_or(EFAULT)?;
        cx.vm.memory().read(Gpa::new(at), now)?;
        rest = later;
        Ok(())
    })
}

/// Writes bytes at a logical address of the guest that runs.
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
    let mut rest = bytes;
    pages(cx, address, access_register, bytes.len(), Purpose::Store, |at, count| {
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
