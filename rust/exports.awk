# SPDX-License-Identifier: GPL-2.0
#
# Input: `nm -u` of the vendor modules, a line "--", `nm --defined-only` of the
# core's objects. Output: one export for each symbol that is in both.

$0 == "--" { definitions = 1; next }
!definitions { if (NF) needed[$NF] = 1; next }
NF == 3 && $2 ~ /^[TRDB]$/ && ($3 in needed) { printf "EXPORT_SYMBOL_KVM(%s);\n", $3 }
