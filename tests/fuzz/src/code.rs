// SPDX-License-Identifier: GPL-2.0
//! Guest code: pieces that leave the guest in all the ways there are, in any order, in a loop.

use rand::Rng;
use rand::seq::IndexedRandom;

/// Pieces that mean something in every mode.
const PIECES: &[&[u8]] = &[
    &[0x90],                                     // nop
    &[0xf4],                                     // hlt
    &[0xfb, 0xf4],                               // sti; hlt
    &[0xfb],                                     // sti
    &[0xfa],                                     // cli
    &[0x0f, 0xa2],                               // cpuid
    &[0x0f, 0x31],                               // rdtsc
    &[0x0f, 0x32],                               // rdmsr
    &[0x0f, 0x30],                               // wrmsr
    &[0xb9, 0x10, 0x00, 0x00, 0x00, 0x0f, 0x32], // mov ecx, 0x10; rdmsr
    &[0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x30], // mov ecx, EFER; wrmsr
    &[0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32], // mov ecx, APIC_BASE; rdmsr
    &[0xb9, 0x30, 0x08, 0x00, 0x00, 0x0f, 0x30], // mov ecx, x2APIC ICR; wrmsr
    &[0xb9, 0x01, 0x4d, 0x56, 0x4b, 0x0f, 0x30], // mov ecx, system time; wrmsr
    &[0xe6, 0x80],                               // out 0x80, al
    &[0xe7, 0x21],                               // out 0x21, eax
    &[0xe4, 0x40],                               // in al, 0x40
    &[0xec],                                     // in al, dx
    &[0xef],                                     // out dx, eax
    &[0xf3, 0x6e],                               // rep outsb
    &[0xf3, 0x6d],                               // rep insd
    &[0x0f, 0x01, 0xd9],                         // vmmcall
    &[0x0f, 0x01, 0xc1],                         // vmcall
    &[0x0f, 0x20, 0xc0],                         // mov eax, cr0
    &[0x0f, 0x22, 0xc0],                         // mov cr0, eax
    &[0x0f, 0x22, 0xd8],                         // mov cr3, eax
    &[0x0f, 0x22, 0xe0],                         // mov cr4, eax
    &[0x0f, 0x23, 0xf8],                         // mov dr7, eax
    &[0x0f, 0x21, 0xc0],                         // mov eax, dr0
    &[0x0f, 0x01, 0xd1],                         // xsetbv
    &[0x0f, 0x09],                               // wbinvd
    &[0x0f, 0x01, 0x38],                         // invlpg
    &[0xf3, 0x90],                               // pause
    &[0xcc],                                     // int3
    &[0xcd, 0x20],                               // int 0x20
    &[0x0f, 0x0b],                               // ud2
    &[0xf1],                                     // int1
    &[0x8b, 0x03],                               // mov eax, [rbx]
    &[0x89, 0x03],                               // mov [rbx], eax
    &[0xf0, 0x0f, 0xc7, 0x0b],                   // lock cmpxchg8b [rbx]
    &[0xf0, 0xff, 0x03],                         // lock inc [rbx]
    &[0xff, 0x33],                               // push [rbx]
    &[0xf3, 0xa4],                               // rep movsb
    &[0xf3, 0xab],                               // rep stosd
    &[0x0f, 0x6f, 0x03],                         // movq mm0, [rbx]
    &[0x0f, 0x11, 0x03],                         // movups [rbx], xmm0
    &[0x0f, 0xae, 0x03],                         // fxsave [rbx]
    &[0xd9, 0xe8],                               // fld1
    &[0x0f, 0x01, 0x13],                         // lgdt [rbx]
    &[0x0f, 0x01, 0x1b],                         // lidt [rbx]
    &[0x0f, 0x00, 0xd8],                         // ltr ax
    &[0x8e, 0xd8],                               // mov ds, eax
    &[0xcf],                                     // iret
    &[0xcb],                                     // retf
    &[0x0f, 0xaa],                               // rsm
    &[0x48, 0xbb, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0], // mov rbx, the APIC's page
    &[0x48, 0xbb, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0], // mov rbx, the IOAPIC's page
    &[0xbb, 0x00, 0x20, 0x00, 0x00],             // mov ebx, 0x2000
    &[0xb8, 0x11, 0x00, 0x00, 0x80],             // mov eax, PG | ET | PE
    &[0xba, 0xf8, 0x03, 0x00, 0x00],             // mov edx, 0x3f8
];

/// Bytes of a loop.
pub(crate) const LENGTH: usize = 256;

/// Fills `page`'s beginning with a loop.
pub(crate) fn generate(random: &mut impl Rng, page: &mut [u8]) {
    let mut at = 0;
    let room = LENGTH.min(page.len()).saturating_sub(2);
    while at < room {
        let junk: [u8; 3] = random.random();
        let piece = match random.random_range(0..16) {
            0 => &junk[..],
            _ => PIECES.choose(random).copied().unwrap_or(&[0x90]),
        };
        let Some(place) = page.get_mut(at..at + piece.len()).filter(|_| at + piece.len() <= room)
        else {
            break;
        };
        place.copy_from_slice(piece);
        at += piece.len();
    }
    // Back to the start, by at most 127 bytes.
    if let Some(place) = page.get_mut(at..at + 2) {
        place.copy_from_slice(&[0xeb, 0x80]);
    }
}
