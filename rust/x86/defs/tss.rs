// SPDX-License-Identifier: GPL-2.0
//! Byte offsets in the three task-state segments.
//!
//! Intel SDM volume 3 sections 8.2.1, 8.6 and 8.7. Offsets rather than structs:
//! the emulator reads fields one at a time from guest memory.

/// The 16-bit TSS.
pub mod tss16 {
    /// Selector of the previous task.
    pub const LINK: u16 = 0;
    /// SP for privilege 0; level `n` is four bytes further each, then SS.
    pub const SP0: u16 = 2;
    /// Instruction pointer: the first field saved by a task switch.
    pub const IP: u16 = 14;
    /// Flags.
    pub const FLAGS: u16 = 16;
    /// AX; the eight registers follow in encoding order.
    pub const AX: u16 = 18;
    /// ES; CS, SS and DS follow.
    pub const ES: u16 = 34;
    /// LDT selector.
    pub const LDT: u16 = 42;
    /// Size in bytes.
    pub const SIZE: u16 = 44;
}

/// The 32-bit TSS.
pub mod tss32 {
    /// Selector of the previous task.
    pub const LINK: u16 = 0;
    /// ESP for privilege 0; level `n` is eight bytes further each, then SS.
    pub const ESP0: u16 = 4;
    /// CR3 of the task.
    pub const CR3: u16 = 28;
    /// Instruction pointer: the first field saved by a task switch.
    pub const EIP: u16 = 32;
    /// Flags.
    pub const EFLAGS: u16 = 36;
    /// EAX; the eight registers follow in encoding order.
    pub const EAX: u16 = 40;
    /// ES; CS, SS, DS, FS and GS follow, four bytes each.
    pub const ES: u16 = 72;
    /// LDT selector.
    pub const LDT: u16 = 96;
    /// Bit 0: raise #DB on a switch to this task.
    pub const T: u16 = 100;
    /// Offset of the I/O permission bitmap.
    pub const IO_MAP: u16 = 102;
    /// Smallest size in bytes.
    pub const SIZE: u16 = 104;
}

/// The TSS of long mode.
pub mod tss64 {
    /// RSP for privilege 0; level `n` is eight bytes further each.
    pub const RSP0: u16 = 4;
    /// Interrupt stack 1; the seven follow each other.
    pub const IST1: u16 = 36;
    /// Offset of the I/O permission bitmap.
    pub const IO_MAP: u16 = 102;
    /// Smallest size in bytes.
    pub const SIZE: u16 = 104;
}
