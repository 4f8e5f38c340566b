// SPDX-License-Identifier: GPL-2.0
//! The state-save area against the manuals' tables, and RSM.

use crate::control::{Change, Control, PagingMode};
use crate::guest_features::GuestFeatures;
use crate::smm::{entry_control, entry_cs, entry_data, Image, Shutdown, SmmState, OFFSET, SIZE};
use proptest::prelude::*;
use x86_defs::{Cr0, Cr4, Efer, SegReg, Segment, TableReg};

fn guest() -> GuestFeatures {
    GuestFeatures {
        phys_bits: 40,
        cr4_reserved: !(Cr4::PAE | Cr4::PCIDE | Cr4::PGE | Cr4::CET).bits(),
        efer_valid: (Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE).bits(),
        ..GuestFeatures::none()
    }
}

fn state() -> SmmState {
    let mut segments = [Segment::real(0x10, 3); 8];
    for (n, segment) in (1u16..).zip(segments.iter_mut()) {
        segment.selector = n * 8;
        segment.base = u64::from(n) << 16;
    }
    segments[SegReg::Cs as usize].l = true;
    segments[SegReg::Cs as usize].g = true;
    SmmState {
        gprs: core::array::from_fn(|n| 0x1000 + n as u64),
        rip: 0x1234,
        rflags: 0x246,
        cr0: (Cr0::PE | Cr0::PG | Cr0::WP | Cr0::ET).bits(),
        cr3: 0x5000,
        cr4: Cr4::PAE.bits(),
        efer: (Efer::LME | Efer::LMA).bits(),
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        segments,
        gdt: TableReg { base: 0x7000, limit: 0x7f },
        idt: TableReg { base: 0x8000, limit: 0xfff },
        smbase: 0x3_0000,
        interrupt_shadow: 2,
        ssp: 0x9000,
    }
}

fn field<const N: usize>(image: &Image, offset: usize) -> [u8; N] {
    image[offset - OFFSET as usize..][..N].try_into().unwrap()
}

fn u64_at(image: &Image, offset: usize) -> u64 {
    u64::from_le_bytes(field(image, offset))
}

fn u32_at(image: &Image, offset: usize) -> u32 {
    u32::from_le_bytes(field(image, offset))
}

/// APM volume 2 table 10-1.
#[test]
fn the_64_bit_layout() {
    let image = state().to_image64();
    assert_eq!(field(&image, 0xfe10), [0x10, 0]);
    assert_eq!(u16::from_le_bytes(field(&image, 0xfe12)), 0xa0f3);
    assert_eq!(u64_at(&image, 0xfe18), 2 << 16);
    assert_eq!((u32_at(&image, 0xfe64), u64_at(&image, 0xfe68)), (0x7f, 0x7000));
    assert_eq!((u32_at(&image, 0xfe84), u64_at(&image, 0xfe88)), (0xfff, 0x8000));
    assert_eq!(field(&image, 0xfe90), [0x40, 0]);
    assert_eq!(u64_at(&image, 0xfed0), 0x500);
    assert_eq!((u32_at(&image, 0xfefc), u32_at(&image, 0xff00)), (0x2_0064, 0x3_0000));
    assert_eq!(u64_at(&image, 0xff48), 0x20);
    assert_eq!(u64_at(&image, 0xff50), 0x5000);
    assert_eq!(u64_at(&image, 0xff58), 0x8001_0011);
    assert_eq!((u64_at(&image, 0xff60), u64_at(&image, 0xff68)), (0x400, 0xffff_0ff0));
    assert_eq!((u64_at(&image, 0xff70), u64_at(&image, 0xff78)), (0x246, 0x1234));
    assert_eq!((u64_at(&image, 0xff80), u64_at(&image, 0xfff8)), (0x100f, 0x1000));
}

/// SDM volume 3 table 32-1, the fields that it names.
#[test]
fn the_32_bit_layout() {
    let image = state().to_image32();
    assert_eq!(u32_at(&image, 0xfffc), 0x8001_0011);
    assert_eq!(u32_at(&image, 0xfff8), 0x5000);
    assert_eq!((u32_at(&image, 0xfff4), u32_at(&image, 0xfff0)), (0x246, 0x1234));
    // EDI, ESI, EBP, ESP, EBX, EDX, ECX, EAX downwards.
    assert_eq!((u32_at(&image, 0xffec), u32_at(&image, 0xffd0)), (0x1007, 0x1000));
    assert_eq!((u32_at(&image, 0xffcc), u32_at(&image, 0xffc8)), (0xffff_0ff0, 0x400));
    // TR, LDTR, GS, FS, DS, SS, CS, ES.
    for (offset, selector) in [0xffc4, 0xffc0, 0xffbc, 0xffb8, 0xffb4, 0xffb0, 0xffac, 0xffa8]
        .into_iter()
        .zip([0x40, 0x38, 0x30, 0x28, 0x20, 0x18, 0x10, 0x08])
    {
        assert_eq!(u32_at(&image, offset), selector, "{offset:x}");
    }
    assert_eq!((u32_at(&image, 0xfefc), u32_at(&image, 0xfef8)), (0x2_0000, 0x3_0000));
}

#[test]
fn images_round_trip() {
    let state = state();
    assert_eq!(SmmState::from_image64(&state.to_image64()), state);
    let mut short = SmmState { efer: 0, ssp: 0, ..state };
    short.gprs[8..].fill(0);
    assert_eq!(SmmState::from_image32(&state.to_image32()), short);
    let unusable = {
        let mut state = state;
        state.segments[SegReg::Ldtr as usize] = Segment::null(0);
        state
    };
    assert_eq!(SmmState::from_image64(&unusable.to_image64()), unusable);
}

#[test]
fn entry() {
    let before = Control {
        cr0: Cr0::PG | Cr0::PE | Cr0::NE | Cr0::ET | Cr0::TS,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA,
    };
    let smm = entry_control(&before);
    assert_eq!((smm.cr0, smm.cr3), (Cr0::NE | Cr0::ET, 0x1000));
    assert!(!smm.is_long() && smm.cr4.is_empty());
    let cs = entry_cs(0x3_0000);
    assert_eq!((cs.selector, cs.base, cs.limit), (0x3000, 0x3_0000, u32::MAX));
    assert_eq!((entry_data().base, entry_data().selector, entry_data().typ), (0, 0, 3));
}

#[test]
fn resume_checks_what_it_loads() {
    let g = guest();
    let (control, change) = state().resume(&g).unwrap();
    assert_eq!(control.paging_mode(), PagingMode::FourLevel);
    assert!(change.contains(Change::FLUSH_ALL | Change::LONG_MODE | Change::PAGING));
    let pcid = SmmState { cr3: 0x5007, cr4: (Cr4::PAE | Cr4::PCIDE).bits(), ..state() };
    assert_eq!(pcid.resume(&g).unwrap().0.cr3, 0x5007);
    let pae = SmmState { efer: 0, ..state() };
    assert!(pae.resume(&g).unwrap().1.contains(Change::LOAD_PDPTES));
    let bad = |state: SmmState| assert_eq!(state.resume(&g).err(), Some(Shutdown));
    bad(SmmState { cr0: Cr0::PG.bits(), ..state() });
    bad(SmmState { cr0: 1 << 32, ..state() });
    bad(SmmState { cr4: 0, ..state() });
    bad(SmmState { cr4: 1 << 20 | 0x20, ..state() });
    bad(SmmState { efer: Efer::SVME.bits(), ..state() });
    bad(SmmState { cr3: 1 << 40, ..state() });
    bad(SmmState { efer: 0, ..pcid });
}

proptest! {
    /// Whatever the handler leaves in memory can be read.
    #[test]
    fn any_image_is_read(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
        let image: Image = bytes.try_into().unwrap();
        let long = SmmState::from_image64(&image);
        prop_assert_eq!(SmmState::from_image64(&long.to_image64()), long);
        let short = SmmState::from_image32(&image);
        prop_assert_eq!(SmmState::from_image32(&short.to_image32()), short);
        let _ = long.resume(&guest());
    }
}
