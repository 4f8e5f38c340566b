#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# First stage of every command: makes the Debian root that everything runs in if it is missing,
# enters it, builds the harness there with the root's own cargo if its sources changed, and hands
# over to it. Needs root, Debian and make; what else is missing it installs itself.
#
# usage: enter.sh [harness arguments ...]

set -eu

suite=trixie
tree=$(cd "$(dirname "$0")/../.." && pwd -P)
cache=${KVM_CACHE:-/var/cache/kvm-rs}
root=$cache/root
log=$cache/logs/root.log
# What cargo makes. Each checkout has a directory of its own, so that several may share the cache.
target=$cache/target/$(printf %s "$tree" | sha256sum | cut -c 1-8)
# What the harness needs to be built, and no more: the harness itself installs the rest.
packages=ca-certificates,cargo,rustc,gcc,libc6-dev,make
need_gib=12

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# watched ABOUT COMMAND...: runs COMMAND with its output in the log and shows where it is.
watched() {
	about=$1; shift
	start=$(date +%s)
	echo "== $about: $*" >>"$log"
	"$@" >>"$log" 2>&1 </dev/null &
	child=$!
	trap 'kill $child 2>/dev/null; exit 130' INT TERM HUP
	ticks=0
	while kill -0 $child 2>/dev/null; do
		sleep 0.2
		ticks=$((ticks + 1))
		[ $((ticks % 25)) -eq 0 ] || continue
		say "[$(($(date +%s) - start))s] $about: $(tail -n 1 "$log" | cut -c 1-90)"
	done
	trap - INT TERM HUP
	wait $child || {
		tail -n 15 "$log" >&2
		die "$about failed, see $log"
	}
	say "[$(($(date +%s) - start))s] $about: done"
}

# URIs of the host's own package sources that end in $1.
host_sources() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u |
		sed -n "s,/*\$,,; \\,/$1\$,p"
}

# has URI SUITE: whether the suite can be had from there.
has() {
	/usr/lib/apt/apt-helper download-file "$1/dists/$2/InRelease" "$cache/logs/InRelease" >>"$log" 2>&1
}

# The first URI of the host's own package sources from which $suite can be had.
find_mirror() {
	for uri in ${KVM_MIRROR:-$(host_sources debian)}; do
		if has "$uri" "$suite"; then
			echo "$uri"
			return
		fi
	done
	return 1
}

# Package sources of the root, one a line.
list_sources() {
	for part in "" -updates -backports; do
		echo "deb $1 $suite$part main"
	done
	for uri in $(host_sources debian-security); do
		if has "$uri" "$suite-security"; then
			echo "deb $uri $suite-security main"
			break
		fi
	done
}

# How this host reaches its package sources (proxies and the like) holds for the root as well.
apt_options() {
	apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' || true
	echo 'APT::Install-Recommends "false";'
	echo 'Acquire::Retries "3";'
}

check_host() {
	[ "$(id -u)" -eq 0 ] || die "this needs root (it makes a Debian root and mounts): run it with sudo"
	if [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
		die "this needs a Debian host (12 or 13): use a Debian virtual machine or container"
	fi
}

check_space() {
	free=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge "$need_gib" ] ||
		die "$cache has $free GiB free and $need_gib GiB are needed: make room, or set KVM_CACHE to another place"
}

install_mmdebstrap() {
	command -v mmdebstrap >/dev/null && return
	# Package lists may be missing or old: that is no error if the package can be had anyway.
	watched "updating the host's package lists" sh -c 'apt-get update || true'
	watched "installing mmdebstrap on the host" \
		env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap
}

make_root() {
	: >"$log"
	check_space
	install_mmdebstrap
	mirror=$(find_mirror) ||
		die "no package source of this host has Debian $suite (or there is no network): set KVM_MIRROR=URI of a Debian mirror; see $log"
	list_sources "$mirror" >"$cache/logs/sources.list"
	apt_options >"$cache/logs/apt.conf"
	rm -rf --one-file-system "$root.new"
	watched "making the Debian root" mmdebstrap --mode=root --variant=minbase --include="$packages" \
		--aptopt="$cache/logs/apt.conf" "$suite" "$root.new" "$cache/logs/sources.list"
	mkdir -p "$root.new/host"
	mv "$root.new" "$root"
}

# Runs in a mount namespace of its own: nothing here is seen outside or has to be undone.
mount_all() {
	for dir in /proc /sys /dev /tmp; do
		mount --rbind "$dir" "$root$dir"
	done
	mkdir -p "$root/host" "$root$tree" "$root$cache"
	mount --rbind / "$root/host"
	mount --bind "$tree" "$root$tree"
	mount --bind "$cache" "$root$cache"
	for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		[ -e "$file" ] || continue
		mkdir -p "$root${file%/*}"
		[ -e "$root$file" ] || : >"$root$file"
		mount --bind "$(readlink -f "$file")" "$root$file"
	done
}

# Builds the harness, unless nothing it is made of changed since the last time.
build_harness() {
	stamp=$target/harness-built-from
	if [ -x "$target/debug/harness" ] &&
		[ -e "$stamp" ] && [ -z "$(find Cargo.toml Cargo.lock tests/harness tests/proto -newer "$stamp" -print -quit)" ]; then
		return
	fi
	mkdir -p "$target"
	exec 8>"$target/lock"
	flock 8
	rm -f "$stamp"
	: >"$stamp.new"
	chroot "$root" cargo build --locked --manifest-path "$tree/Cargo.toml" --package harness >&2 ||
		die "building the harness failed (see above)"
	mv "$stamp.new" "$stamp"
	exec 8>&-
}

case ${1:-} in
--inside)
	shift
	mount_all
	cd "$tree"
	export CARGO_HOME="$cache/cargo" CARGO_TARGET_DIR="$target" HOME=/root LC_ALL=C.UTF-8
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	export KVM_TREE="$tree" KVM_CACHE="$cache"
	build_harness
	exec chroot "$root" "$target/debug/harness" "$@"
	;;
*)
	check_host
	mkdir -p "$cache/logs" || die "cannot make $cache: set KVM_CACHE to a directory that can be written"
	if [ ! -d "$root" ]; then
		exec 9>"$cache/lock"
		flock -n 9 || { say "another command is preparing $cache, waiting for it"; flock 9; }
		[ -d "$root" ] || make_root
		exec 9>&-
	fi
	# A make above this must not speak to the ones below.
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS
	export KVM_CWD="$PWD"
	exec unshare --mount --propagation private "$tree/tests/setup/enter.sh" --inside "$@"
	;;
esac
