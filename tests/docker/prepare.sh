#!/bin/sh
# Builds a variant of the image of agents (plain, model, claude) for the tests, and prints its name and its base.
# Cheap when nothing changed: docker caches the layers.
# The base is $BASE_IMAGE, or the usual one if it is here or can be pulled, or Debian made by base-image.sh.
set -eu
cd "$(dirname "$0")/../.."

default=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile.agent)
made=dumbwaiter-base:bookworm
here() { docker image inspect "$1" >/dev/null 2>&1; }

if [ -n "${BASE_IMAGE:-}" ]; then base=$BASE_IMAGE
elif here "$default"; then base=$default
elif here "$made"; then base=$made
elif timeout 120 docker pull -q "$default" >&2; then base=$default
else sh tests/docker/base-image.sh "$made" >&2; base=$made
fi

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
variant=${1:-plain}
image=dumbwaiter-agent:$version
[ "$variant" = plain ] || image=$image-$variant
docker build -q -f Dockerfile.agent --build-arg "BASE_IMAGE=$base" --build-arg "VERSION=$version" \
    --build-arg "VARIANT=$variant" --build-arg "SOURCES=$(python3 host/runtime/sources.py)" -t "$image" . >&2
echo "$image $base"
