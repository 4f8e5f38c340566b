// SPDX-License-Identifier: GPL-2.0
/*
 * Symbols of kvm.ko that the vendor modules use.
 *
 * The list is made at build time from what the vendor modules leave undefined
 * (rust/exports.awk), so nothing else is exported. The types don't matter: the
 * names are mangled Rust paths that no C code calls.
 */
#include <linux/export.h>

#define EXPORT_SYMBOL_KVM(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
