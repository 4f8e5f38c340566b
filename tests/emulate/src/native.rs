// SPDX-License-Identifier: GPL-2.0
//! Runs one instruction on the real processor, in user mode.
//!
//! Code, data and a save area lie at fixed addresses below 2 GiB, so that the
//! trampoline can reach its save area without using a register. An instruction
//! that completes falls into a jump back; one that faults arrives in a signal
//! handler, which reads vector, error code and CR2 from the signal context.

use std::arch::global_asm;
use std::ptr;
use std::sync::{Mutex, MutexGuard};

/// Page that the instruction lies in.
pub const CODE: u64 = 0x1000_0000;
/// Where in the page the instruction starts.
pub const ENTRY: u64 = CODE + 0x800;
/// Save area of the trampoline.
const SAVE: u64 = 0x1100_0000;
/// First byte of the data window.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of the window that may be written.
pub const DATA_LEN: usize = 0x3000;
/// A read-only page follows, then nothing is mapped.
pub const READ_ONLY: u64 = DATA + DATA_LEN as u64;
/// Linux's selector of 64-bit user code.
pub const CS64: u16 = 0x33;
/// Linux's selector of 32-bit user code.
pub const CS32: u16 = 0x23;
/// Linux's selector of user data.
pub const DS: u16 = 0x2b;
/// 16-bit code in the LDT: the code page.
pub const CS16: u16 = 0x07;
/// 16-bit data in the LDT, based at the window and ending inside its last page.
pub const DS16: u16 = 0x0f;
/// Highest offset of [`DS16`].
pub const DS16_LIMIT: u32 = 0x37ff;
/// Where compatibility code enters 64-bit mode to get back.
const BACK: u64 = CODE + 0xf80;
/// Branch targets lie in the code page below this.
pub const CODE_END: u64 = BACK;
/// Base of GS.
pub const GS_BASE: u64 = 0x1_0000;

/// Registers as they go in and come out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gprs: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// YMM registers.
    pub ymm: [[u64; 4]; 16],
}

/// Layout of the save area; the offsets are repeated in the assembly.
#[repr(C)]
struct Save {
    regs: Regs,
    host_rsp: u64,
    entry: u32,
    entry_cs: u32,
    faulted: u64,
    trap: u64,
    error: u64,
    cr2: u64,
    rip: u64,
    ss: u64,
    ds: u64,
}

/// How the instruction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It completed and execution went on behind it.
    Next,
    /// A breakpoint in the code page was reached at this address: a branch was taken.
    At(u64),
    /// An exception: vector, error code, CR2.
    Fault(u8, u32, u64),
}

global_asm!(
    ".pushsection .text",
    ".globl emulate_native_enter",
    "emulate_native_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [0x11000288], rsp",
    "vmovdqu ymm0, [0x11000088]",
    "vmovdqu ymm1, [0x110000a8]",
    "vmovdqu ymm2, [0x110000c8]",
    "vmovdqu ymm3, [0x110000e8]",
    "vmovdqu ymm4, [0x11000108]",
    "vmovdqu ymm5, [0x11000128]",
    "vmovdqu ymm6, [0x11000148]",
    "vmovdqu ymm7, [0x11000168]",
    "vmovdqu ymm8, [0x11000188]",
    "vmovdqu ymm9, [0x110001a8]",
    "vmovdqu ymm10, [0x110001c8]",
    "vmovdqu ymm11, [0x110001e8]",
    "vmovdqu ymm12, [0x11000208]",
    "vmovdqu ymm13, [0x11000228]",
    "vmovdqu ymm14, [0x11000248]",
    "vmovdqu ymm15, [0x11000268]",
    "mov ecx, [0x110002c0]",
    "mov ss, ecx",
    "mov ecx, [0x110002c8]",
    "mov ds, ecx",
    "mov es, ecx",
    "push qword ptr [0x11000080]",
    "popfq",
    "mov rax, [0x11000000]",
    "mov rcx, [0x11000008]",
    "mov rdx, [0x11000010]",
    "mov rbx, [0x11000018]",
    "mov rsp, [0x11000020]",
    "mov rbp, [0x11000028]",
    "mov rsi, [0x11000030]",
    "mov rdi, [0x11000038]",
    "mov r8, [0x11000040]",
    "mov r9, [0x11000048]",
    "mov r10, [0x11000050]",
    "mov r11, [0x11000058]",
    "mov r12, [0x11000060]",
    "mov r13, [0x11000068]",
    "mov r14, [0x11000070]",
    "mov r15, [0x11000078]",
    "jmp fword ptr [0x11000290]",
    ".globl emulate_native_exit",
    "emulate_native_exit:",
    "mov [0x11000000], rax",
    "mov [0x11000008], rcx",
    "mov [0x11000010], rdx",
    "mov [0x11000018], rbx",
    "mov [0x11000020], rsp",
    "mov [0x11000028], rbp",
    "mov [0x11000030], rsi",
    "mov [0x11000038], rdi",
    "mov [0x11000040], r8",
    "mov [0x11000048], r9",
    "mov [0x11000050], r10",
    "mov [0x11000058], r11",
    "mov [0x11000060], r12",
    "mov [0x11000068], r13",
    "mov [0x11000070], r14",
    "mov [0x11000078], r15",
    "mov rsp, [0x11000288]",
    "pushfq",
    "pop qword ptr [0x11000080]",
    "vmovdqu [0x11000088], ymm0",
    "vmovdqu [0x110000a8], ymm1",
    "vmovdqu [0x110000c8], ymm2",
    "vmovdqu [0x110000e8], ymm3",
    "vmovdqu [0x11000108], ymm4",
    "vmovdqu [0x11000128], ymm5",
    "vmovdqu [0x11000148], ymm6",
    "vmovdqu [0x11000168], ymm7",
    "vmovdqu [0x11000188], ymm8",
    "vmovdqu [0x110001a8], ymm9",
    "vmovdqu [0x110001c8], ymm10",
    "vmovdqu [0x110001e8], ymm11",
    "vmovdqu [0x11000208], ymm12",
    "vmovdqu [0x11000228], ymm13",
    "vmovdqu [0x11000248], ymm14",
    "vmovdqu [0x11000268], ymm15",
    ".globl emulate_native_fault",
    "emulate_native_fault:",
    "mov rsp, [0x11000288]",
    "mov ecx, 0x2b",
    "mov ss, ecx",
    "cld",
    "vzeroupper",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    fn emulate_native_enter();
    fn emulate_native_exit();
    fn emulate_native_fault();
}

const _: () = assert!(std::mem::offset_of!(Save, host_rsp) == 0x288);
const _: () = assert!(std::mem::offset_of!(Save, entry) == 0x290);
const _: () = assert!(std::mem::offset_of!(Save, ss) == 0x2c0);

/// Order of the general registers in a signal context.
const CONTEXT_ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

fn save() -> *mut Save {
    SAVE as *mut Save
}

extern "C" fn on_signal(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid context; the save area was mapped
    // before the handler was installed, and only this thread uses it.
    unsafe {
        let gregs = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let rip = gregs[libc::REG_RIP as usize] as u64;
        let s = &mut *save();
        // Anything outside the code page is a bug of the test itself.
        if s.entry == 0 {
            libc::_exit(99);
        }
        for (slot, index) in s.regs.gprs.iter_mut().zip(CONTEXT_ORDER) {
            *slot = gregs[index as usize] as u64;
        }
        s.regs.rflags = gregs[libc::REG_EFL as usize] as u64;
        s.faulted = 1;
        s.trap = gregs[libc::REG_TRAPNO as usize] as u64;
        s.error = gregs[libc::REG_ERR as usize] as u64;
        s.cr2 = gregs[libc::REG_CR2 as usize] as u64;
        s.rip = rip;
        s.regs.rflags &= 0xffff_ffff;
        let cs = &mut gregs[libc::REG_CSGSFS as usize];
        *cs = *cs & !0xffff | i64::from(CS64);
        gregs[libc::REG_EFL as usize] = 0x202;
        gregs[libc::REG_RIP as usize] = emulate_native_fault as *const () as i64;
    }
}

/// The processor, exclusively: there is one save area.
pub struct Native {
    _guard: MutexGuard<'static, ()>,
    code: [u8; 64],
}

static LOCK: Mutex<()> = Mutex::new(());

fn map(addr: u64, len: usize, protection: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: no existing mapping is touched.
    let got = unsafe { libc::mmap(addr as *mut libc::c_void, len, protection, flags, -1, 0) };
    // A second instance in this process finds its own mappings.
    assert!(
        got as u64 == addr || std::io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST)
    );
}

/// Installs a 16-bit segment in the LDT.
fn set_ldt(index: u32, base: u32, limit: u32, kind: u32) {
    // struct user_desc of asm/ldt.h; bit 1 of the flags begins the kind.
    let desc = [index, base, limit, kind << 1];
    // SAFETY: modify_ldt(1) reads 16 bytes; the process has no other LDT user.
    let result = unsafe { libc::syscall(libc::SYS_modify_ldt, 0x11, desc.as_ptr(), 16usize) };
    assert_eq!(result as i32, 0, "modify_ldt");
}

impl Native {
    /// Maps the areas and installs the signal handlers, for this thread.
    pub fn new() -> Self {
        let guard = LOCK.lock().unwrap_or_else(|e| e.into_inner());
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        map(CODE, 0x1000, rw | libc::PROT_EXEC);
        map(SAVE, 0x1000, rw);
        map(DATA, DATA_LEN + 0x1000, rw);
        // SAFETY: all of it was mapped above; the alternate stack is leaked, so
        // it outlives the thread.
        unsafe {
            ptr::write_bytes(CODE as *mut u8, 0xcc, 0x1000);
            let exit = (emulate_native_exit as *const () as u64).to_le_bytes();
            ptr::copy_nonoverlapping([0xffu8, 0x25, 0, 0, 0, 0].as_ptr(), BACK as *mut u8, 6);
            ptr::copy_nonoverlapping(exit.as_ptr(), (BACK + 6) as *mut u8, 8);
            libc::mprotect(READ_ONLY as *mut libc::c_void, 0x1000, libc::PROT_READ);
            let stack = Box::leak(vec![0u8; 1 << 17].into_boxed_slice());
            let alt = libc::stack_t {
                ss_sp: stack.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: stack.len(),
            };
            assert_eq!(libc::sigaltstack(&alt, ptr::null_mut()), 0);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
            // ARCH_SET_GS: user programs don't use GS on Linux.
            assert_eq!(libc::syscall(libc::SYS_arch_prctl, 0x1001, GS_BASE), 0);
        }
        // Code is kind 2, data kind 0; both readable, byte-granular.
        set_ldt(0, CODE as u32, 0xfff, 2);
        set_ldt(1, DATA as u32, DS16_LIMIT, 0);
        Self { _guard: guard, code: [0xcc; 64] }
    }

    /// The data window that instructions can write.
    pub fn data(&mut self) -> &mut [u8] {
        // SAFETY: mapped in `new`, and nothing else refers to it while the
        // borrow of self lasts.
        unsafe { std::slice::from_raw_parts_mut(DATA as *mut u8, DATA_LEN) }
    }

    /// Runs `bytes` in the code segment `cs` with the registers in `regs`, which take the result.
    ///
    /// The vector registers only count if it completes.
    pub fn run(&mut self, bytes: &[u8], cs: u16, is_branch: bool, regs: &mut Regs) -> End {
        self.code = [0xcc; 64];
        self.code[..bytes.len()].copy_from_slice(bytes);
        if !is_branch && cs != CS64 {
            // A far jump to 64-bit code, with a 32-bit offset in either mode.
            let mut at = bytes.len();
            if cs == CS16 {
                self.code[at] = 0x66;
                at += 1;
            }
            self.code[at] = 0xea;
            self.code[at + 1..at + 5].copy_from_slice(&(BACK as u32).to_le_bytes());
            self.code[at + 5..at + 7].copy_from_slice(&CS64.to_le_bytes());
        } else if !is_branch {
            // jmp [rip]; the address follows.
            let at = bytes.len();
            self.code[at..at + 6].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
            let exit = (emulate_native_exit as *const () as u64).to_le_bytes();
            self.code[at + 6..at + 14].copy_from_slice(&exit);
        }
        // SAFETY: the areas are mapped; the trampoline saves and restores what the
        // ABI wants; the caller's instruction stays within the window.
        let s = unsafe {
            ptr::copy_nonoverlapping(self.code.as_ptr(), ENTRY as *mut u8, self.code.len());
            // The kernel may have dropped the read-only page meanwhile.
            ptr::read_volatile(READ_ONLY as *const u8);
            let s = &mut *save();
            s.regs = *regs;
            s.entry = if cs == CS16 { (ENTRY - CODE) as u32 } else { ENTRY as u32 };
            s.ss = u64::from(if cs == CS16 { DS16 } else { DS });
            s.ds = u64::from(if cs == CS16 { DS16 } else { DS });
            s.entry_cs = u32::from(cs);
            s.faulted = 0;
            emulate_native_enter();
            &mut *save()
        };
        s.entry = 0;
        *regs = s.regs;
        match (s.faulted, s.trap) {
            (0, _) => End::Next,
            // The breakpoint reports the address behind it.
            (_, 3) => End::At(s.rip.wrapping_sub(1)),
            (_, trap) => End::Fault(trap as u8, s.error as u32, s.cr2),
        }
    }
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}
