// SPDX-License-Identifier: GPL-2.0
//! Loads and stores of atomics without a call.
//!
//! Those of the kernel's own type are calls of C functions, which costs several times what
//! they do; an exit has some twenty of them. On x86 they are plain instructions: a load of an
//! aligned word acquires, a store releases (SDM vol. 3, 9.2.2). Elsewhere they are the
//! kernel's own.

/// Loads and stores of an atomic `T`.
pub trait Plain<T> {
    /// Loads it; what follows may come before that.
    fn get(&self) -> T;
    /// Loads it before anything that follows.
    fn get_acquire(&self) -> T;
    /// Stores it after everything before.
    fn put_release(&self, value: T);
}

#[cfg(CONFIG_X86_64)]
mod imp {
    use super::Plain;
    use core::arch::asm;
    use kernel::sync::atomic::{Atomic, AtomicType};

    impl<T: AtomicType> Plain<T> for Atomic<T> {
        #[inline(always)]
        fn get(&self) -> T {
            const { assert!(size_of::<T>() <= 8) };
            // SAFETY: The pointer is valid and aligned, so that the load is one instruction.
            unsafe { self.as_ptr().read_volatile() }
        }

        #[inline(always)]
        fn get_acquire(&self) -> T {
            let value = self.get();
            keep_order();
            value
        }

        #[inline(always)]
        fn put_release(&self, value: T) {
            const { assert!(size_of::<T>() <= 8) };
            keep_order();
            // SAFETY: As for loads; whoever else accesses it does so as atomically.
            unsafe { self.as_ptr().write_volatile(value) };
        }
    }

    /// The compiler moves no access to memory across this.
    #[inline(always)]
    fn keep_order() {
        // SAFETY: No instruction.
        unsafe { asm!("", options(nostack, preserves_flags)) };
    }
}

#[cfg(not(CONFIG_X86_64))]
mod imp {
    use super::Plain;
    use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

    macro_rules! by_the_kernel {
        ($([$($generic:ident)?] $type:ty),*) => {
            $(impl$(<$generic>)? Plain<$type> for Atomic<$type> {
                #[inline(always)]
                fn get(&self) -> $type {
                    self.load(Relaxed)
                }

                #[inline(always)]
                fn get_acquire(&self) -> $type {
                    self.load(Acquire)
                }

                #[inline(always)]
                fn put_release(&self, value: $type) {
                    self.store(value, Release);
                }
            })*
        };
    }

    by_the_kernel!([] bool, [] i32, [] u32, [] u64, [T] *mut T);
}
