// SPDX-License-Identifier: GPL-2.0
//! How the ABI's structures are declared.

/// Declares structures with the layout of C, each with the name of its C twin,
/// and a macro that calls another one with the list
/// `(Rust, c_name, { field … }) …`. Fields are named as in the header. Padding
/// has to be a field: a structure with a hole doesn't compile, so no copy to
/// userspace can leak what was in it.
macro_rules! abi_structs {
    (
        list $list:ident;
        $(
            $(#[$doc:meta])*
            $name:ident = $c_name:ident { $($field:ident: $type:ty,)* }
        )*
    ) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq,
                zerocopy_derive::FromBytes,
                zerocopy_derive::IntoBytes,
                zerocopy_derive::Immutable,
                zerocopy_derive::KnownLayout,
            )]
            #[allow(missing_docs, reason = "the fields' meaning is the header's")]
            pub struct $name { $(pub $field: $type,)* }
        )*

        /// Calls `$callback!` with the structures of this module as
        /// `(Rust, c_name, { field … })`, for comparison with the header.
        #[macro_export]
        macro_rules! $list {
            ($callback:ident, $module:ident) => {
                $callback! { $module $(($name, $c_name, { $($field)* }))* }
            };
        }
    };
}

pub(crate) use abi_structs;
