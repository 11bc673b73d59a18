"""What of a message a platform is given: its text in parts, its files as far as they go, its buttons.

Text goes first and files with its last part; a file that is too large is left out with a sentence, and the text still
goes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from host.channels.protocol import Capabilities, Outgoing
from host.delivery.split import split


def parts_of(message: Outgoing, can: Capabilities) -> list[Outgoing]:
    """The messages that one message becomes on a platform, in their order. Looks at the sizes of files: blocks."""
    files, left_out = _files(message.files, can)
    text = "\n\n".join(part for part in (message.text, *left_out) if part)
    texts = split(text, can.max_text, can.text_unit)
    last = len(texts)
    return [
        replace(
            message,
            key=message.key if number == 1 else f"{message.key}#{number}",
            text=part,
            files=files if number == last else (),
            buttons=message.buttons if number == last and can.buttons else (),
            reply_to=message.reply_to if number == 1 else None,
            draft_id=message.draft_id if number == 1 and can.edits else None,
        )
        for number, part in enumerate(texts, 1)
    ]


def _files(files: tuple[Path, ...], can: Capabilities) -> tuple[tuple[Path, ...], list[str]]:
    """The files that the platform takes, and a sentence on each of the others."""
    taken, left_out = [], []
    for file in files:
        if not can.takes_files:
            left_out.append(f"(The file {file.name} is left out: there are no files here.)")
        elif can.max_file_bytes is not None and (size := _size(file)) > can.max_file_bytes:
            limit = _mb(can.max_file_bytes)
            left_out.append(f"(The file {file.name} is left out: it has {_mb(size)}, and {limit} are the most here.)")
        else:
            taken.append(file)
    return tuple(taken), left_out


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # its channel says what is wrong with it


def _mb(size: int) -> str:
    return f"{size / 1024**2:,.1f} MB" if size >= 1024**2 // 10 else f"{size:,} bytes"
