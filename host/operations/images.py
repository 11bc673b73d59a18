"""Building the images of agents by hand; a host that starts does it by itself for those it finds missing or old."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from host.runtime.image_names import PLAIN
from host.runtime.images import DOCKERFILE
from host.runtime.sources import SOURCE_ROOT
from host.settings import Settings, engine_address
from shared_schema.errors import NotFound


async def build(settings: Settings, variant: str) -> dict[str, Any]:
    """Build one variant of the image that is set: `{image, base_image, seconds}`.

    Raises `NotFound` where the sources of the image are not installed, `RuntimeUnavailable` without an engine, and
    `StartFailed` with the engine's reason.
    """
    if not (SOURCE_ROOT / DOCKERFILE).is_file():
        raise NotFound(f"the sources of the image are not in {SOURCE_ROOT}", hint="install dumbwaiter anew")

    from host.runtime.docker import DockerRuntime  # takes 150 ms

    image = settings.image if variant == PLAIN else f"{settings.image}-{variant}"
    docker = DockerRuntime("ins_0000000000000000", engine_address(settings))  # starts nothing, so the id is never used
    began = perf_counter()
    try:
        await docker.build_image(image, settings.base_image, variant, SOURCE_ROOT)
    finally:
        await docker.close()
    return {"image": image, "base_image": settings.base_image, "seconds": round(perf_counter() - began, 1)}
