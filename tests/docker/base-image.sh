#!/bin/sh
# Makes the image dumbwaiter-base:bookworm (Debian with python3) without an image registry: debootstrap fills a folder,
# `docker import` makes it an image. Takes about 40 seconds the first time; an image that is there is kept.
set -eu

image=${1:-dumbwaiter-base:bookworm}
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there already"
    exit 0
fi

# The package mirror is the one this machine already uses, in the one-line or in the deb822 format of apt's sources.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] *)?([^ ]+) .*/\2/p' | grep -v security | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work" "$work.log"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work" ${mirror:+"$mirror"} >"$work.log" ||
    { tail -n 20 "$work.log" >&2; exit 1; }
# Builds on it install packages: whom this machine trusts, they trust.
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ ! -r "$certificates" ] || cp -L "$certificates" "$work/etc/ssl/certs/ca-certificates.crt"
rm -rf "$work/var/cache/apt/archives" "$work/var/lib/apt/lists"
tar -C "$work" -c . | docker import - "$image" >&2
echo "made $image"
