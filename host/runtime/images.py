"""The images of agents: which one an agent needs, and that those this checkout builds are no older than its sources.

An image of ours is one of that name with our labels. One of any other name is the operator's own, also when it was made
from ours, and is never built.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from host.runtime.image_names import OWN_IMAGES, PLAIN, how_to_build, image_for, variant_of
from host.runtime.protocol import StartFailed
from host.runtime.sources import BASE_LABEL, SOURCES_LABEL, VARIANT_LABEL, digest

if TYPE_CHECKING:
    from host.runtime.docker import DockerRuntime  # it brings docker's client, which takes 150 ms

log = logging.getLogger(__name__)

DOCKERFILE = "Dockerfile.agent"


class ImageStanding(StrEnum):
    """How it stands with an image."""

    MISSING = "is missing"
    PRESENT = "is there"
    OLD = "is there, older than its sources"


async def standing(runtime: DockerRuntime, image: str, context: Path) -> ImageStanding:
    """How it stands with an image, as far as `context`, a source checkout, can tell."""
    return _standing(image, await runtime.image_labels(image), context)


async def make_ready(
    runtime: DockerRuntime, image: str, base_image: str, providers: Collection[str], context: Path
) -> str:
    """See to it that agents have an image: build it where it is missing, and anew where the sources have changed, as
    those of its variants that `providers` need; how it stands.

    Raises `StartFailed` for an image that is missing and cannot be built.
    """
    if await runtime.image_labels(image) is None:
        if not (context / DOCKERFILE).is_file():
            raise StartFailed(f"the image {image} is missing", hint=how_to_build(image, context))
        log.info("building the image of agents, once", extra={"image": image, "base_image": base_image})
        await runtime.build_image(image, base_image, variant_of(image) or PLAIN, context)
        return "was built just now"
    stands = await _renew(runtime, image, context)
    for name in dict.fromkeys(image_for(provider, image) for provider in providers):
        if name != image:
            await _renew(runtime, name, context)
    return stands


async def _renew(runtime: DockerRuntime, image: str, context: Path) -> str:
    labels = await runtime.image_labels(image)
    stands = _standing(image, labels, context)
    if labels is None or stands is not ImageStanding.OLD:
        return stands
    log.info("the sources of the image have changed: building it anew", extra={"image": image})
    try:
        await runtime.build_image(image, labels[BASE_LABEL], labels.get(VARIANT_LABEL, PLAIN), context)
    except StartFailed as error:
        log.warning("the image is older than its sources, and cannot be built", extra={"error": str(error)})
        return stands
    return "was built anew, because its sources have changed"


def _standing(image: str, labels: dict[str, str] | None, context: Path) -> ImageStanding:
    if labels is None:
        return ImageStanding.MISSING
    is_ours = image.startswith(OWN_IMAGES) and labels.get(SOURCES_LABEL) and labels.get(BASE_LABEL)
    if not is_ours or not (context / DOCKERFILE).is_file() or labels[SOURCES_LABEL] == digest(context):
        return ImageStanding.PRESENT
    return ImageStanding.OLD
