"""What of a message a platform is given: its text in parts, its files as far as they go, its buttons.

Text goes first and files with its last part; a file that is too large is left out with a sentence, and the text still
goes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from host.channels.literal import literal
from host.channels.protocol import Capabilities, Outgoing
from host.delivery.split import size_of, split

_LONGEST_MARK = 16
"""Characters of what stands before each part of a card."""


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


def card_parts(text: str, can: Capabilities) -> list[str]:
    """A card as the messages that a platform takes, in their order: all of it is shown, and nothing in place of it.

    Words of strangers stand in a card, and are shown letter for letter. A part that goes on in the midst of them begins
    with a mark of ours, so that they cannot look like the beginning of a message of the host's.
    """
    write = literal if can.formats else str
    if can.max_text is None or size_of(write(text), can.text_unit) <= can.max_text:
        return [write(text)]
    for share in (1, 2):  # what is escaped may become twice as long
        texts = split(text, can.max_text // share - _LONGEST_MARK, can.text_unit)
        parts = [write(f"({number}/{len(texts)}) … {part}") for number, part in enumerate(texts, 1)]
        if all(size_of(part, can.text_unit) <= can.max_text for part in parts):
            break
    return parts


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
