// SPDX-License-Identifier: GPL-2.0
//! Guest code, written where it is used.

/// Assembles guest code and gives its bytes: `guest!(64; "mov eax, 1", "hlt")`.
///
/// The first argument is the width of the code: 16, 32 or 64. The lines are in Intel syntax; labels
/// are numbers from 2 on (`2:`, `2b`, `2f`), and `881b` is the start of the code. The code is copied
/// elsewhere before it runs: it may hold differences of labels and relative jumps, no addresses of
/// labels. After a semicolon come constants for the lines' `{name}`s: `; port = PORT`.
#[macro_export]
macro_rules! guest {
    ($bits:literal; $($line:literal),+ $(,)? $(; $($name:ident = $value:expr),+ $(,)?)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: the two instructions load addresses; the rest lies in a section of its own, is never
        // run here, and the slice is exactly what was assembled between the labels.
        unsafe {
            core::arch::asm!(
                "lea {guest_start}, [rip + 881f]",
                "lea {guest_end}, [rip + 882f]",
                ".pushsection .rodata.guest, \"a\", @progbits",
                concat!(".code", $bits),
                "881:",
                $($line,)+
                "882:",
                ".code64",
                ".popsection",
                guest_start = out(reg) start,
                guest_end = out(reg) end,
                $($($name = const $value,)+)?
                options(pure, nomem, nostack, preserves_flags)
            );
            core::slice::from_raw_parts(start, end.offset_from(start) as usize)
        }
    }};
}

pub use crate::guest;
