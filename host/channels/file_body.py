"""A file that a platform gives: written piece by piece as it comes, within its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from host.channels.protocol import DeliveryRefused
from shared_schema.errors import FileTrouble
from shared_schema.system_errors import words_of

P = ParamSpec("P")
T = TypeVar("T")


async def save(pieces: AsyncIterable[bytes], target: Path, limit: int) -> None:
    """Write the pieces into `target`, which does not exist yet. After a failure there is no file.

    Raises `DeliveryRefused` for more than `limit` bytes, also where the platform has said a smaller size, `FileTrouble`
    where the host's disk does not take it, and what `pieces` raises.
    """
    file = await _on_disk(target, target.open, "xb")
    try:
        written = 0
        async for piece in pieces:
            written += len(piece)
            if written > limit:
                raise DeliveryRefused(f"the file has more than the {limit} bytes that are allowed")
            await _on_disk(target, file.write, piece)
        await _on_disk(target, file.close)
    except BaseException:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise


async def _on_disk(target: Path, act: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    # The disk's errors are told apart from the platform's here: those of a lost connection are `OSError` too.
    try:
        return await asyncio.to_thread(act, *arguments, **options)
    except OSError as error:
        raise FileTrouble(f"the file cannot be kept: {words_of(error)}", where=target.parent) from error
