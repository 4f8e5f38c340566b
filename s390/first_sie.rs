// SPDX-License-Identifier: GPL-2.0
//! The first SIE of a CPU, before any guest's.
//!
//! Hercules 3.13 leaves a wrong instruction address where the very first SIE of a
//! processor comes out because something isn't mapped. So the first one is that of a
//! guest of two pages of zeroes, all of it mapped, which ends with an operation
//! exception at once. Other machines don't mind.

use crate::sie::Sie;
use core::sync::atomic::Ordering;
use kernel::{prelude::*, sync::rcu};
use kvm_core::mmu::{SecondLevel, TwoLevel};
use kvm_paging::{
    addr::{Gfn, Pfn, PAGE_SHIFT},
    entry::{Access, Leaf, MemoryType},
    level::Level,
    map::Sizes,
};
use kvm_sys::{guest_mode, hw_pages::HwPages, irq};
use s390_arch::{
    psw::{Mask, Psw},
    sie::{intercept_control, CpuFlags},
};
use s390_hw::Block;

/// Frames of the guest: those that any guest needs for its prefix.
const FRAMES: u64 = 2;

/// Runs it on this CPU, in a thread that can't migrate. Sleeps.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn run() -> Result {
    let pages = HwPages::<{ FRAMES as usize }>::new()?;
    let tables = TwoLevel::<Sie>::new()?;
    map(&tables, Pfn::new(pages.physical() >> PAGE_SHIFT))?;
    let mut block = Block::new()?;
    let flags = CpuFlags::ZARCH | CpuFlags::MODE;
    block.cpuflags.store(flags.bits(), Ordering::Relaxed);
    block.main_storage_limit = FRAMES << PAGE_SHIFT;
    block.intercept_control = intercept_control::OPERATION;
    block.psw = Psw { mask: (Mask::EXTENDED | Mask::BASIC).bits(), address: 1 << PAGE_SHIFT };
    let mut registers = [0; 16];
    let space = tables.root();
    irq::with_irqs_off(|off| {
        guest_mode::in_guest(off, || s390_hw::enter(off, &mut block, &mut registers, space))
    });
    Ok(())
}

/// Maps the frames to pages in a row.
fn map(tables: &TwoLevel<Sie>, first: Pfn) -> Result {
    for frame in 0..FRAMES {
        let leaf = Leaf {
            pfn: Pfn::new(first.raw().wrapping_add(frame)),
            access: Access::READ | Access::WRITE | Access::EXEC,
            may_write: true,
            memory_type: MemoryType::WriteBack,
        };
        let mut spare = Default::default();
        <TwoLevel<Sie> as SecondLevel>::top_up(&mut spare)?;
        let _reader = rcu::read_lock();
        let mapped =
            tables.map(Gfn::new(frame), Level::Page4K, leaf, &mut spare, &mut Sizes::default());
        // A table that nobody else changes takes what is put in.
        let _ = mapped.map_err(|_| EINVAL)?;
    }
    Ok(())
}
