// SPDX-License-Identifier: GPL-2.0
//! Module parameters, with files below `/sys/module/<module>/parameters`.
//!
//! The `module!` macro of the `kernel` crate has parameters too, but they are
//! read at load time only and get no file. These are declared with
//! [`module_params!`](crate::module_params), in any crate that is linked into
//! the module they belong to, and may change at any time if their mode lets root
//! write them.
//!
//! C header: `include/linux/moduleparam.h`.

use crate::plain::Plain;
use kernel::{
    bindings,
    error::{from_result, Result},
    ffi::{c_char, c_int},
    str::{CStr, CStrExt as _},
    sync::atomic::{Atomic, AtomicType, Relaxed},
};

/// A type that a parameter can have.
///
/// # Safety
///
/// `OPERATIONS` points to operations that take `kernel_param::arg` for a pointer
/// to a `Self`, and store nothing there that isn't a valid `Self`.
pub unsafe trait Kind: AtomicType {
    /// How the kernel reads and writes it as text.
    const OPERATIONS: *const bindings::kernel_param_ops;
}

/// The value of a parameter, made by [`module_params!`](crate::module_params).
///
/// Userspace may change it between any two reads; nothing else is ordered by it.
/// Whoever decides twice on one value reads it once.
#[repr(transparent)]
pub struct Param<T: Kind> {
    value: Atomic<T>,
}

impl<T: Kind> Param<T> {
    /// A parameter with its default.
    pub const fn new(default: T) -> Self {
        Self { value: Atomic::new(default) }
    }
}

// What a `Param` can do needs the atomic operations of its type, which can't be
// named as a bound outside the `kernel` crate.
macro_rules! kinds {
    ($($type:ty, $operations:ident;)*) => { $(
        // SAFETY: The rows of `kinds!` pair each type with its own operations.
        unsafe impl Kind for $type {
            const OPERATIONS: *const bindings::kernel_param_ops =
                &raw const bindings::$operations;
        }

        impl Param<$type> {
            /// Its present value.
            #[inline]
            pub fn get(&self) -> $type {
                self.value.get()
            }

            /// Changes it, as for a feature that was asked for and isn't there:
            /// the file then shows what holds.
            #[inline]
            pub fn set(&self, value: $type) {
                self.value.store(value, Relaxed);
            }
        }
    )* };
}

kinds! {
    // One byte, 0 or 1.
    bool, param_ops_bool;
    // `int`, `unsigned int`, `unsigned long long`: what Linux has them to be.
    i32, param_ops_int;
    u32, param_ops_uint;
    u64, param_ops_ullong;
}

/// One row of a module's parameter table (ELF section `__param`); only
/// [`module_params!`](crate::module_params) needs to name it.
#[doc(hidden)]
#[repr(transparent)]
pub struct Entry(bindings::kernel_param);

// SAFETY: The kernel reads an entry from several threads and changes none.
unsafe impl Sync for Entry {}

impl Entry {
    /// The entry that shows `param` as `name`, with permissions `mode`, to be
    /// placed in the module that the code is linked into.
    pub const fn new<T: Kind>(name: &'static CStr, param: &'static Param<T>, mode: u16) -> Self {
        Self(bindings::kernel_param {
            name: kernel::str::as_char_ptr_in_const_context(name),
            mod_: &raw mut bindings::__this_module,
            ops: T::OPERATIONS,
            perm: mode,
            level: -1,
            flags: 0,
            __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                arg: param.value.as_ptr().cast(),
            },
        })
    }
}

/// A parameter that is read and written as text, declared with
/// [`text_param!`](crate::text_param). The kernel calls one of the two at a time.
pub trait Text: 'static {
    /// Somebody wrote `text`, maybe before the module's code ran for the first time. May sleep.
    ///
    /// # Errors
    ///
    /// Any: that of the write, or of loading the module.
    fn set(text: &[u8]) -> Result;

    /// What the file shows, in one line of less than a page.
    fn get() -> &'static str;
}

impl Entry {
    /// As [`Self::new`], for a parameter of text.
    pub const fn of_text<T: Text>(name: &'static CStr, mode: u16) -> Self {
        Self(bindings::kernel_param {
            name: kernel::str::as_char_ptr_in_const_context(name),
            mod_: &raw mut bindings::__this_module,
            ops: <TextOperations<T>>::OPERATIONS,
            perm: mode,
            level: -1,
            flags: 0,
            __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 { arg: core::ptr::null_mut() },
        })
    }
}

struct TextOperations<T>(core::marker::PhantomData<T>);

impl<T: Text> TextOperations<T> {
    const OPERATIONS: &'static bindings::kernel_param_ops = &bindings::kernel_param_ops {
        flags: 0,
        set: Some(Self::set),
        get: Some(Self::get),
        free: None,
    };

    /// # Safety
    ///
    /// `text` ends in a NUL.
    unsafe extern "C" fn set(text: *const c_char, _row: *const bindings::kernel_param) -> c_int {
        // SAFETY: By the contract; the kernel doesn't call without a text.
        let text = unsafe { CStr::from_char_ptr(text) };
        from_result(|| T::set(text.to_bytes()).map(|()| 0))
    }

    /// # Safety
    ///
    /// `buffer` has a page.
    unsafe extern "C" fn get(buffer: *mut c_char, _row: *const bindings::kernel_param) -> c_int {
        let text = T::get().as_bytes();
        // SAFETY: By the contract; a line is shorter.
        unsafe {
            core::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
            buffer.cast::<u8>().wrapping_add(text.len()).write(b'\n');
        }
        text.len().wrapping_add(1) as c_int
    }
}

/// Declares a parameter of text: a type with [`Text`](crate::module_param::Text), its name, its mode
/// and what modinfo says.
#[macro_export]
macro_rules! text_param {
    ($type:ty, $name:literal, $mode:literal, $description:literal) => {
        $crate::module_params!(@entry $name, $mode,
            $crate::module_param::Entry::of_text::<$type>(NAME, MODE));
        $crate::module_params!(@information "parm", $name, $description);
        $crate::module_params!(@information "parmtype", $name, "charp");
    };
}

/// The bytes of `text`, whose length is `N`; for strings in ELF sections.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => [0; N],
    }
}

/// Declares parameters of the module that the crate is linked into.
///
/// Each becomes a `static` [`Param`](crate::module_param::Param), a line of
/// `modinfo`, and, unless its mode is 0, a file. Types are `bool`, `i32`, `u32`
/// and `u64`. Modes are as for files: `0o444` is fixed once the module is
/// loaded, `0o644` lets root change it later, nobody else may ever write.
///
/// ```ignore
/// kvm_sys::module_params! {
///     /// How long to wait, in nanoseconds.
///     pub(crate) static PATIENCE: Param<u32> = 1000, "patience_ns", 0o644,
///         "longest wait, in nanoseconds";
/// }
/// ```
#[macro_export]
macro_rules! module_params {
    ($(
        $(#[$doc:meta])*
        $visibility:vis static $param:ident: Param<$type:ident> =
            $default:expr, $name:literal, $mode:literal, $description:literal;
    )*) => { $(
        $(#[$doc])*
        $visibility static $param: $crate::module_param::Param<$type> =
            $crate::module_param::Param::new($default);

        $crate::module_params!(@entry $name, $mode,
            $crate::module_param::Entry::new(NAME, &$param, MODE));
        $crate::module_params!(@information "parm", $name, $description);
        $crate::module_params!(@information "parmtype", $name, $crate::module_params!(@type $type));
    )* };

    // The kernel's row, by an expression of NAME and MODE.
    (@entry $name:literal, $mode:literal, $entry:expr) => {
        const _: () = {
            const MODE: u16 = $mode;
            assert!(MODE & !0o755 == 0 && MODE & 0o111 == 0, "no mode for a parameter");
            const NAME: &::kernel::str::CStr =
                match ::kernel::str::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a NUL in a name"),
                };
            #[link_section = "__param"]
            #[used(compiler)]
            static ENTRY: $crate::module_param::Entry = $entry;
        };
    };

    (@information $key:literal, $name:literal, $text:expr) => {
        const _: () = {
            const TEXT: &str = concat!($key, "=", $name, ":", $text, "\0");
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static INFORMATION: [u8; TEXT.len()] = $crate::module_param::bytes(TEXT);
        };
    };

    // As the kernel spells them for modinfo.
    (@type bool) => { "bool" };
    (@type i32) => { "int" };
    (@type u32) => { "uint" };
    (@type u64) => { "ullong" };
}
