"""The files that go out with a message: `outbox/<message_id>/<name>`.

Invariant: they are complete and on the disk before the row that names them is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from container_agent.providers.protocol import OutgoingFile, ProviderError
from shared_schema.rows import FailureReason
from shared_schema.text import is_all_shown

_NAME_BYTES = 255  # the limit of the usual file systems
_CHUNK_BYTES = 1024 * 1024


def place(outbox: Path, message_id: str, files: Sequence[OutgoingFile]) -> None:
    """Write the files of one message. Blocks as long as the copying takes.

    Raises `ProviderError` for a name that is not a plain file name, is there twice, or names no readable file.
    """
    names = [file.name for file in files]
    for name in names:
        if not _is_plain(name) or names.count(name) > 1:
            raise ProviderError(FailureReason.BAD_INPUT, f"a file cannot go out under the name '{name[:80]}'")
    folder = outbox / message_id
    folder.mkdir(parents=True)
    for file in files:
        _write(folder / file.name, file.source)
    for directory in (folder, outbox):
        _sync(directory)


def _is_plain(name: str) -> bool:
    return (
        name not in ("", ".", "..")
        and is_all_shown(name)
        and "/" not in name
        and len(name.encode("utf-8", "replace")) <= _NAME_BYTES
    )


def _write(path: Path, source: bytes | Path) -> None:
    with path.open("xb") as target:
        if isinstance(source, bytes):
            target.write(source)
        else:
            try:
                with source.open("rb") as original:
                    while chunk := original.read(_CHUNK_BYTES):
                        target.write(chunk)
            except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
                raise ProviderError(FailureReason.BAD_INPUT, f"the file '{source.name}' cannot be read") from error
        target.flush()
        os.fsync(target.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
