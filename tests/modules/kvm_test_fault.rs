// SPDX-License-Identifier: GPL-2.0
//! Does something wrong when loaded, the one thing that its parameter names.
//!
//! Shows that a run whose kernel notices fails, whatever the program inside
//! says. A kernel that doesn't look for such a mistake lets it pass, so each of
//! them is harmless by itself.

use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{Arc, Mutex, SpinLock},
};

module! {
    type: Fault,
    name: "kvm_test_fault",
    authors: ["The KVM in Rust developers"],
    description: "Test: does something wrong when loaded",
    license: "GPL",
    params: {
        kind: u32 {
            default: 0,
            description: "0: warning, 1: use after free, 2: sleep under a spinlock, 3: lock order, 4: leak",
        },
    },
}

struct Fault;

impl kernel::Module for Fault {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        match *module_parameters::kind.value_ref() {
            0 => warn(),
            1 => use_after_free()?,
            2 => sleep_under_spinlock()?,
            3 => lock_order()?,
            4 => leak()?,
            _ => return Err(EINVAL),
        }
        Ok(Self)
    }
}

fn warn() {
    kernel::warn_on!(true);
}

/// For the address sanitizer.
fn use_after_free() -> Result {
    let pointer = KBox::into_raw(KBox::new([1_u64; 8], GFP_KERNEL)?);
    // SAFETY: The pointer comes from `KBox::into_raw` just now.
    drop(unsafe { KBox::from_raw(pointer) });
    // SAFETY: There is no reason why this should be sound, that is the point. The address stays
    // mapped, so without a sanitizer the read ends well.
    let value = unsafe { pointer.cast::<u64>().read_volatile() };
    pr_info!("read {value:#x} after it was freed\n");
    Ok(())
}

#[pin_data]
struct Spin {
    #[pin]
    lock: SpinLock<u32>,
    #[pin]
    mutex: Mutex<u32>,
}

/// For `CONFIG_DEBUG_ATOMIC_SLEEP`.
fn sleep_under_spinlock() -> Result {
    let spin = Arc::pin_init(
        pin_init!(Spin {
            lock <- new_spinlock!(0),
            mutex <- new_mutex!(0),
        }),
        GFP_KERNEL,
    )?;
    let _guard = spin.lock.lock();
    // Nobody holds it, so this doesn't sleep; it could.
    let _mutex = spin.mutex.lock();
    Ok(())
}

#[pin_data]
struct Pair {
    #[pin]
    first: Mutex<u32>,
    #[pin]
    second: Mutex<u32>,
}

/// For lockdep: nobody waits here, but two threads could wait for each other.
fn lock_order() -> Result {
    let pair = Arc::pin_init(
        pin_init!(Pair {
            first <- new_mutex!(0, "first"),
            second <- new_mutex!(0, "second"),
        }),
        GFP_KERNEL,
    )?;
    {
        let _first = pair.first.lock();
        let _second = pair.second.lock();
    }
    let _second = pair.second.lock();
    let _first = pair.first.lock();
    Ok(())
}

/// For kmemleak. It takes the pointers that the allocator's sheaves hold, also
/// those of objects that were handed out, for references: the last few dozen
/// leaks go unseen.
fn leak() -> Result {
    for _ in 0..500 {
        core::mem::forget(KBox::new([0_u8; 200], GFP_KERNEL)?);
    }
    Ok(())
}
