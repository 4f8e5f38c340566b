// SPDX-License-Identifier: GPL-2.0
//! Memory mapped before the guest touches it (`KVM_PRE_FAULT_MEMORY`).

use super::{Fault, Memory, VcpuMemory};
use crate::{arch::Arch, mmu::SecondLevel};
use kernel::{current, error::Result, prelude::*};
use kvm_paging::{
    addr::{Gpa, PAGE_SIZE},
    entry::Access,
};
use kvm_sys::{process, user};
use kvm_uapi::{ioctl::KVM_PRE_FAULT_MEMORY, memory::PreFaultMemory};

impl<A: Arch> Memory<A> {
    /// An ioctl of a vCPU's file, if it is one about memory.
    pub fn vcpu_ioctl(
        &self,
        me: &mut VcpuMemory<A>,
        request: u32,
        arg: usize,
    ) -> Option<Result<u32>> {
        (request == KVM_PRE_FAULT_MEMORY).then(|| self.pre_fault(me, arg))
    }

    /// `KVM_PRE_FAULT_MEMORY` with the structure at `arg`, in which it leaves what
    /// is still to do.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that isn't pages or has none; if nothing was done,
    /// `ENOENT` where no memory is, `EINTR`, and those of [`Self::fault`].
    fn pre_fault(&self, me: &mut VcpuMemory<A>, arg: usize) -> Result<u32> {
        let mut range: PreFaultMemory = user::read(arg)?;
        let result = self.pre_fault_range(me, &mut range);
        user::write(arg, &range)?;
        result.map(|()| 0)
    }

    fn pre_fault_range(&self, me: &mut VcpuMemory<A>, range: &mut PreFaultMemory) -> Result {
        let is_aligned = (range.gpa | range.size) % PAGE_SIZE == 0;
        let has_end = range.gpa.checked_add(range.size).is_some();
        if range.flags != 0 || !is_aligned || !has_end || range.size == 0 {
            return Err(EINVAL);
        }
        let whole = range.size;
        while range.size != 0 {
            match self.pre_fault_one(me, Gpa::new(range.gpa)) {
                Ok(done) => {
                    let done = done.min(range.size);
                    range.gpa = range.gpa.wrapping_add(done);
                    range.size = range.size.wrapping_sub(done);
                }
                Err(err) if range.size == whole => return Err(err),
                Err(_) => return Ok(()),
            }
            process::cond_resched();
        }
        Ok(())
    }

    /// Maps what is at `gpa`; bytes from there to the end of the mapping.
    fn pre_fault_one(&self, me: &mut VcpuMemory<A>, gpa: Gpa) -> Result<u64> {
        loop {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            match self.fault_at(me, gpa, Access::READ, true)? {
                (Fault::Mapped | Fault::Spurious, level) => {
                    let size = A::Tables::GEOMETRY.frames(level).saturating_mul(PAGE_SIZE);
                    return Ok(size.wrapping_sub(gpa.raw() & size.wrapping_sub(1)));
                }
                (Fault::Mmio | Fault::ReadOnly, _) => return Err(ENOENT),
                (Fault::Retry | Fault::Slow(_), _) => process::cond_resched(),
            }
        }
    }
}
