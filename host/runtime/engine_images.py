"""The images an engine has: their labels, and building `Dockerfile.agent`. Blocks."""

from __future__ import annotations

from pathlib import Path

from host.runtime.engine_client import NOT_FOUND, EngineClient, EngineRefusal
from host.runtime.image_names import how_to_build
from host.runtime.protocol import StartFailed
from host.runtime.sources import digest


def labels_of(engine: EngineClient, image: str) -> dict[str, str] | None:
    """The labels of an image; None when the engine has none of that name."""
    try:
        with engine.calling() as client:
            return dict(client.images.get(image).labels)
    except EngineRefusal as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return None


def build(engine: EngineClient, tag: str, base_image: str, variant: str, context: Path) -> None:
    """Build an image from a source checkout; the engine pulls a missing base image if it can.

    Raises `StartFailed` with the engine's reason.
    """
    failure = None
    try:
        with engine.calling() as client:
            progress = client.api.build(
                path=str(context),
                dockerfile="Dockerfile.agent",
                tag=tag,
                buildargs={
                    "BASE_IMAGE": base_image,
                    "VARIANT": variant,
                    "VERSION": tag.rpartition(":")[2].removesuffix(f"-{variant}"),
                    "SOURCES": digest(context),
                },
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in progress:  # to the end, also after an error: only then is the connection free again
                failure = line.get("error", failure)
    except EngineRefusal as refusal:
        failure = refusal.reason
    if failure is not None:
        raise StartFailed(f"the image '{tag}' cannot be built: {failure.strip()}", hint=how_to_build(tag, context))
