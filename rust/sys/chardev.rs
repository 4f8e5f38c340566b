// SPDX-License-Identifier: GPL-2.0
//! A character device below the misc major, with a fixed minor.
//!
//! The `kernel` crate's `miscdevice` hands out dynamic minors; /dev/kvm has had
//! number 232 since before udev, and static device nodes rely on it.
//!
//! C header: `include/linux/miscdevice.h`.

use core::marker::PhantomData;
use kernel::{
    bindings,
    device::Device,
    error::{to_result, Result},
    ffi::{c_int, c_long, c_uint, c_ulong},
    module::{this_module, ModuleMetadata},
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
};

/// A device whose files have no state of their own.
pub trait CharDevice: 'static {
    /// The module that is pinned while a file is open.
    type Module: ModuleMetadata;
    /// Name of the device node.
    const NAME: &'static CStr;
    /// Minor number below the misc major, 0 to 254.
    const MINOR: u8;
    /// Whether 32-bit processes of a 64-bit kernel may use the device, with the
    /// same requests.
    const COMPAT: bool;

    /// Answers a request; `arg` is whatever userspace passed, a number or an
    /// unchecked user address.
    fn ioctl(request: u32, arg: usize) -> Result<u32>;
}

/// A registered [`CharDevice`]. Dropping it removes the node; files that are
/// open by then keep working, and keep the module loaded.
///
/// # Invariants
///
/// `misc` is registered with `misc_register()` and stays so until drop.
#[pin_data(PinnedDrop)]
pub struct Registration<T: CharDevice> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    _device: PhantomData<T>,
}

// SAFETY: `misc_deregister()` may be called from any thread, and `&Registration`
// gives access to nothing.
unsafe impl<T: CharDevice> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: CharDevice> Sync for Registration<T> {}

impl<T: CharDevice> Registration<T> {
    /// Registers the device. Userspace can open it before this returns.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the minor is taken; whatever the driver core answers.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            misc <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let mut misc: bindings::miscdevice = pin_init::zeroed();
                misc.minor = c_int::from(T::MINOR);
                misc.name = kernel::str::as_char_ptr_in_const_context(T::NAME);
                misc.fops = &Operations::<T>::TABLE;
                // SAFETY: `slot` is writable by the contract of `try_ffi_init`.
                unsafe { slot.write(misc) };
                // INVARIANT: on success the device is registered. The memory is
                // pinned, so it stays in place until `drop` deregisters it.
                // SAFETY: `slot` was just initialised and points to operations
                // that live as long as the module.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
            _device: PhantomData,
        })
    }

    /// What userspace knows the device by.
    pub fn node(&self) -> Node {
        // SAFETY: By the type invariant the device is registered, and then the
        // driver core's device is there.
        Node(unsafe { Device::get_device((*self.misc.get()).this_device) })
    }
}

/// A device as udev sees it, even when it is registered no more.
#[derive(Clone)]
pub struct Node(ARef<Device>);

/// Most variables of a [`Node::changed`].
const VARIABLES: usize = 7;

impl Node {
    /// Tells userspace that the device changed (`KOBJ_CHANGE`), with up to seven
    /// variables `NAME=value`. Sleeps. Nobody may be listening.
    pub fn changed<'a>(&self, variables: impl IntoIterator<Item = &'a CStr>) {
        let mut list = [core::ptr::null_mut(); VARIABLES + 1];
        for (place, variable) in list.iter_mut().take(VARIABLES).zip(variables) {
            *place = variable.as_char_ptr().cast_mut();
        }
        // `Device` is the C structure.
        let device = core::ptr::from_ref::<Device>(&self.0).cast_mut().cast::<bindings::device>();
        // SAFETY: The device is referenced; the list ends with a null pointer, and
        // nothing in it is written to or kept.
        unsafe {
            bindings::kobject_uevent_env(
                &raw mut (*device).kobj,
                bindings::kobject_action_KOBJ_CHANGE,
                list.as_mut_ptr(),
            )
        };
    }
}

#[pinned_drop]
impl<T: CharDevice> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the device is registered.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

struct Operations<T>(PhantomData<T>);

impl<T: CharDevice> Operations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: this_module::<T::Module>().as_ptr(),
        open: Some(Self::open),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: if T::COMPAT { Some(Self::ioctl) } else { None },
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    /// misc_open() leaves the `miscdevice` in `private_data`. No file needs it,
    /// and it may be gone before the file is.
    ///
    /// # Safety
    ///
    /// `file` is a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: By this function's contract nobody else looks at the field yet.
        unsafe { (*file).private_data = core::ptr::null_mut() };
        0
    }

    extern "C" fn ioctl(_file: *mut bindings::file, request: c_uint, arg: c_ulong) -> c_long {
        match T::ioctl(request, arg) {
            Ok(value) => value as c_long,
            Err(err) => err.to_errno() as c_long,
        }
    }
}
