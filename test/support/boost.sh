#!/usr/bin/env bash
#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

# Unpacks another Boost, headers and static libraries, into build/boost/VERSION. It is one of those
# that Debian 13 has; nothing of it is installed. Where that cannot be done it says so, and ends with
# status 2.
#
#   boost.sh 1.83 | 1.88

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=$1
target=$PWD/build/boost/$version
[ ! -e "$target/complete" ] || exit 0

give_up() {
  printf '%s\n' "$@" >&2
  exit 2
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for needed in "$keyring" "$(command -v apt-get)" "$(command -v dpkg)"; do
  [ -e "$needed" ] ||
    give_up "Boost $version comes from Debian's packages; apt-get, dpkg and $keyring are needed"
done

echo "Unpacking Boost $version into $target"
rm -rf "$target"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,cache,packages} "$target"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" >"$work/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
(
  cd "$work/packages"
  # Without its lists apt-get update merely warns.
  apt -o APT::Update::Error-Mode=any update
  apt download "libboost$version-dev" "libboost-context$version-dev" \
    "libboost-program-options$version-dev"
) >"$work/log" 2>&1 ||
  give_up "the packages of Boost $version are not to be had: $(tail -n 3 "$work/log")"
for package in "$work"/packages/*.deb; do dpkg -x "$package" "$target"; done
touch "$target/complete"
