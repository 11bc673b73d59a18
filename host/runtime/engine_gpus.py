"""GPUs of an engine: whether it gives them is known only once a container has asked for some."""

from __future__ import annotations

from contextlib import suppress

from host.runtime.engine_client import EngineClient, EngineRefusal
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from host.runtime.specification import gpu_arguments

_WITHOUT = "could not select device driver"  # what an engine says that has no driver for GPUs


def try_gpus(client: EngineClient, image: str, count: int) -> None:
    """Start a container with so many GPUs that ends at once. Blocks.

    Raises `StartFailed` where they are refused, `RuntimeUnavailable` where that cannot be known, as without the image.
    """
    made = None
    try:
        made = client.create(gpu_arguments(image, count))
        with client.calling() as engine:
            engine.api.start(made)
    except EngineRefusal as refusal:
        if made is None and not is_about_gpus(refusal.reason):
            raise
        raise refusal_of_gpus(refusal.reason) from refusal
    finally:
        if made is not None:
            with suppress(RuntimeUnavailable):
                client.remove_container(made)


def is_about_gpus(reason: str) -> bool:
    """Whether an engine refuses a container for the GPUs that it asks for. Pure."""
    return _WITHOUT in reason or "nvidia" in reason.lower() or "cdi" in reason.lower().split()


def refusal_of_gpus(reason: str) -> StartFailed:
    """What an engine's own words come to, and what to do. Pure."""
    if _WITHOUT in reason:
        return StartFailed(
            "the container engine has no GPUs to give",
            hint="install the NVIDIA Container Toolkit on its machine and restart docker, or let agents do without: "
            "`dumbwaiter agent-group set NAME --unset gpus`",
        )
    return StartFailed(
        f"the container engine does not give these GPUs: {reason}",
        hint="`nvidia-smi` on its machine shows which there are; `dumbwaiter agent-group set NAME --gpus N` asks for "
        "fewer, and `--unset gpus` for none",
    )
