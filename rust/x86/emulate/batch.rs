// SPDX-License-Identifier: GPL-2.0
//! String I/O in batches: as many elements as the instruction surely moves, and as
//! the page for port data holds, travel to userspace in one exit.
//!
//! The elements stay in that page; nothing else uses it before the instruction is
//! through with them.

use super::cpu::Processor;
use crate::{outcome::Next, state::Cx, userspace, vendor::Vendor};
use kernel::error::Result;
use kvm_core::memory::Kind;
use kvm_emulate::{io::FragmentKind, Stop};
use kvm_paging::addr::Gpa;

/// Bytes of the page for port data.
const ROOM: usize = 4096;
/// Bytes that are copied at once.
const CHUNK: usize = 128;

/// Elements on their way.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    port: u16,
    size: u8,
    is_in: bool,
    /// How many there are.
    count: u32,
    /// How many the instruction has taken.
    taken: u32,
    /// Userspace is through with them.
    served: bool,
}

impl Batch {
    fn fits(&self, port: u16, size: u8, is_in: bool) -> bool {
        self.served && (self.port, self.size, self.is_in) == (port, size, is_in)
    }

    /// An element was used; the batch, if there are more.
    fn after_one(mut self) -> Option<Self> {
        self.taken = self.taken.wrapping_add(1);
        (self.taken < self.count).then_some(self)
    }
}

/// Takes a batch to userspace, if there is one to be taken.
pub(super) fn leave<V: Vendor>(cx: &mut Cx<'_, V>) -> Option<Result<Next>> {
    let batch = cx.state.batch.filter(|batch| !batch.served)?;
    let Batch { port, size, is_in, count, .. } = batch;
    Some(userspace::port_batch(cx, port, size, is_in, count))
}

/// Userspace has answered; whether that was about a batch.
pub(super) fn serve<V: Vendor>(cx: &mut Cx<'_, V>) -> bool {
    let asked = cx.state.batch.as_mut().filter(|batch| !batch.served);
    asked.map(|batch| batch.served = true).is_some()
}

impl<V: Vendor> Processor<'_, '_, V> {
    /// An element of INS that reads `most` of them.
    pub(super) fn string_in(&mut self, port: u16, size: u8, most: u64) -> Result<u32, Stop> {
        if let Some(batch) = self.cx.state.batch.filter(|batch| batch.fits(port, size, true)) {
            let page = self.cx.vcpu.page(1).ok_or(Stop::Unsupported)?;
            let mut bytes = [0; 4];
            let at = (batch.taken as usize).wrapping_mul(size.into());
            page.read_bytes(at, bytes.get_mut(..size.into()).ok_or(Stop::Unsupported)?);
            return Ok(u32::from_le_bytes(bytes));
        }
        self.cx.state.batch = None;
        let read = self.device(FragmentKind::PortIn, port.into(), size.into(), 0);
        if read == Err(Stop::NeedsExit) {
            self.begin(port, size, true, most);
        }
        read.map(|data| data as u32)
    }

    /// OUTS of `most` elements from `linear` on, all in one page; how many were
    /// written. None: they are to be written one by one.
    pub(super) fn string_out(
        &mut self,
        port: u16,
        size: u8,
        linear: u64,
        most: u64,
    ) -> Result<u64, Stop> {
        if let Some(batch) = self.cx.state.batch.take() {
            if batch.fits(port, size, false) {
                return Ok(u64::from(batch.count).min(most));
            }
        }
        let gpa = self.translate(linear, false, false, false)?;
        if self.is_apic_page(gpa) || self.memory().kind(gpa) == Kind::Device {
            return Ok(0);
        }
        let mut first = [0; 4];
        let part = first.get_mut(..size.into()).ok_or(Stop::Unsupported)?;
        if self.memory().read(gpa, part).is_err() {
            return Ok(0);
        }
        let value = u32::from_le_bytes(first).into();
        match self.device(FragmentKind::PortOut, port.into(), size.into(), value) {
            Ok(_) => Ok(1),
            Err(Stop::NeedsExit) => {
                let count = self.begin(port, size, false, most);
                self.copy_out(gpa, (count as usize).wrapping_mul(size.into()))?;
                Err(Stop::NeedsExit)
            }
            Err(stop) => Err(stop),
        }
    }

    /// An iteration was committed.
    pub(super) fn element_done(&mut self) {
        if let Some(batch) = self.cx.state.batch.filter(|batch| batch.is_in && batch.served) {
            self.cx.state.batch = batch.after_one();
        }
    }

    /// Has userspace serve as many of `most` elements as there is room for.
    fn begin(&mut self, port: u16, size: u8, is_in: bool, most: u64) -> u32 {
        let room = ROOM.checked_div(size.into()).unwrap_or(1) as u64;
        let count = most.clamp(1, room) as u32;
        self.cx.state.batch = Some(Batch { port, size, is_in, count, taken: 0, served: false });
        count
    }

    /// Copies guest memory, within one page, to the page for port data.
    fn copy_out(&self, gpa: Gpa, length: usize) -> Result<(), Stop> {
        let page = self.cx.vcpu.page(1).ok_or(Stop::Unsupported)?;
        let guest = self.memory().guest();
        let mut chunk = [0; CHUNK];
        for at in (0..length).step_by(CHUNK) {
            let now = length.saturating_sub(at).min(CHUNK);
            let part = chunk.get_mut(..now).ok_or(Stop::Unsupported)?;
            let from = Gpa::new(gpa.raw().wrapping_add(at as u64));
            guest.read(from, part).map_err(|_| Stop::Unsupported)?;
            page.write_bytes(at, part);
        }
        Ok(())
    }
}
