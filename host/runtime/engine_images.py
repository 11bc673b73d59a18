"""The images an engine has: their labels, building `Dockerfile.agent`, and layers with packages. Blocks."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

from host.runtime.engine_client import CONFLICT, NOT_FOUND, EngineClient, EngineRefusal
from host.runtime.image_names import PLAIN
from host.runtime.layers import BuiltLayer, LayerRequest, dockerfile
from host.runtime.protocol import BuildFailed, StartFailed
from host.runtime.sources import digest

_LOG_CHARACTERS = 20_000
_PIECE = 4_000
_NO_REGISTRY = re.compile(r"no such host|dial tcp|i/o timeout|TLS handshake|connection refused|network is unreachable")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_REASON = re.compile(r"^(?:ERROR|E): *(.+)$", re.MULTILINE)  # as pip and apt say it


def id_of(engine: EngineClient, image: str) -> str | None:
    """The engine's id of an image; None when it has none of that name."""
    try:
        with engine.calling() as client:
            return str(client.images.get(image).id)
    except EngineRefusal as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return None


def build_layer(engine: EngineClient, request: LayerRequest) -> BuiltLayer:
    """Build a layer. Raises `BuildFailed` with the engine's reason and the log."""
    base_id = id_of(engine, request.base)
    if base_id is None:
        raise BuildFailed(f"the image {request.base} is missing", "")
    log, failure = "", None
    try:
        with engine.calling() as client:
            progress = client.api.build(
                fileobj=io.BytesIO(dockerfile(request).encode()),
                tag=request.image,
                buildargs={} if request.pip_index is None else {"PIP_INDEX_URL": request.pip_index},
                network_mode=request.network,
                use_config_proxy=True,
                rm=True,
                forcerm=True,
                decode=True,
            )
            for line in progress:  # to the end, also after an error: only then is the connection free again
                failure = line.get("error", failure)
                piece = str(line.get("stream") or line.get("error") or "")[:_PIECE]
                log = (log + _COLOUR.sub("", piece))[-_LOG_CHARACTERS:]
    except EngineRefusal as refusal:
        failure = refusal.reason
    if failure is not None:
        raise BuildFailed(_reason(log) or failure.strip()[:500], log)
    return BuiltLayer(base_id, log)


def _reason(log: str) -> str | None:
    """The last error of pip or apt: what the engine says instead is the whole command."""
    found = _REASON.findall(log)
    return found[-1].strip()[:300] if found else None


def remove_image(engine: EngineClient, image: str) -> None:
    """Remove an image by its name; one that is gone, or that a container still has, is no error."""
    try:
        with engine.calling() as client:
            client.images.remove(image)
    except EngineRefusal as refusal:
        if refusal.status not in (NOT_FOUND, CONFLICT):
            raise


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
        what = f"the image '{tag}' cannot be built on {base_image}: {failure.strip()}"
        raise StartFailed(what, hint=_how_to_go_on(failure, variant, context))


def _how_to_go_on(failure: str, variant: str, context: Path) -> str:
    """What helps after a build that failed; the same command once more does not."""
    if _NO_REGISTRY.search(failure):
        named = "" if variant == PLAIN else f" {variant}"
        return (
            "the engine reaches no registry of images, see its network; on an image that it has, "
            f"`dumbwaiter image build{named} --base-image IMAGE` builds (`docker images` lists them)"
        )
    return f"`docker build -f Dockerfile.agent {shlex.quote(str(context))}` shows every step"
