// SPDX-License-Identifier: GPL-2.0
//! The operations, one name per behaviour rather than per encoding.

macro_rules! ops {
    ($($name:ident)*) => {
        /// What an instruction does; operands and sizes are in [`Insn`](super::Insn).
        ///
        /// Names are the manual's mnemonics. Some stand for a family: `Jcc`,
        /// `Setcc` and `Cmovcc` take their condition from the opcode; `Loop`
        /// is E0h to E3h; `LoadFar` is LDS to LGS; `Imul1` is the
        /// one-operand form; `VecMov` and its relatives are the SSE and AVX moves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "mnemonics")]
        #[repr(u8)]
        pub enum Op { $($name,)* }
    };
}

ops! {
    Unknown Ud
    Add Or Adc Sbb And Sub Xor Cmp Test Inc Dec Not Neg
    Mul Imul1 Imul2 Imul3 Div Idiv
    Rol Ror Rcl Rcr Shl Shr Sar Shld Shrd
    Mov MovToSeg MovFromSeg Movzx Movsx Lea Xchg Nop Movnti Movbe Bswap Xlat
    Push Pop PushSeg PopSeg Pusha Popa Pushf Popf Enter Leave
    Jmp Jcc Call Ret Loop CallFar JmpFar RetFar Iret Int Int3 Int1 Into
    Cbw Cwd Sahf Lahf Cmc Clc Stc Cli Sti Cld Std Salc
    Daa Das Aaa Aas Aam Aad Bound Arpl
    Movs Cmps Stos Lods Scas Ins Outs In Out
    Bt Bts Btr Btc Bsf Bsr Tzcnt Lzcnt Popcnt
    Cmpxchg Cmpxchg8b Xadd Setcc Cmovcc LoadFar
    Sgdt Sidt Lgdt Lidt Sldt Str Lldt Ltr Smsw Lmsw Verr Verw Lar Lsl
    ReadCr WriteCr ReadDr WriteDr Clts Invlpg Invpcid Hlt Rdmsr Wrmsr Rdtsc Rdtscp Rdpmc Rdpid
    Cpuid Syscall Sysret Sysenter Sysexit Xsetbv Xgetbv Vmcall Vmmcall Swapgs
    Wbinvd Fence Clflush Prefetch Pause Monitor Mwait
    ReadFsGsBase WriteFsGsBase Clac Stac
    Fwait Fninit Fnstcw Fnstsw Fldcw
    VecMov VecMovAligned VecScalar VecLow VecHigh VecHighToLow VecLowToHigh
    VecDupEven VecDupOdd VecDup64 VecFromGpr VecToGpr MmxMov MmxFromGpr MmxToGpr
    Andn Bextr Blsr Blsmsk Blsi Bzhi Mulx Pdep Pext Rorx Sarx Shlx Shrx Adcx Adox Crc32
}
