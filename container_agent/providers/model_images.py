"""The files of a message, as the model gets them: all of them by name and path, and images as images.

Content with an image in it is a JSON list of parts, `{"type": "text", "text": …}` and `{"type": "image", "path": …}`;
the path is relative to the session folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared_schema.layout import SessionLayout
from shared_schema.rows import MessageIn, decode

MOST_BYTES = 5 * 1024**2
"""A larger image is only named: the vendors take no more."""

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_HEAD = 12


def content_of(message: MessageIn, said: str, session: SessionLayout) -> str:
    """What a step records of a message: its text with a line for each file, and the images."""
    files = decode(message.content).get("files")
    found = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    lines = [f"[file {file.get('name')}: {session.folder / str(file.get('path'))}]" for file in found]
    text = "\n".join(part for part in (said, *lines) if part)
    images = [str(file["path"]) for file in found if "path" in file and media_type(session, str(file["path"]))]
    if not images and parts_of(text) is None:
        return text
    parts: list[dict[str, str]] = [{"type": "text", "text": text}]
    parts += [{"type": "image", "path": path} for path in images]
    return json.dumps(parts, ensure_ascii=False)


def parts_of(content: str) -> list[dict[str, Any]] | None:
    """The parts of a step's content; None when it is plain text."""
    if not content.startswith("["):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    is_parts = isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value)
    return value if is_parts else None


def media_type(session: SessionLayout, path: str) -> str | None:
    """What kind of image a file of the session's inbox is, by its first bytes; None for anything else."""
    place = _inside(session, path)
    if place is None:
        return None
    try:
        if place.stat().st_size > MOST_BYTES:
            return None
        with place.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def data(session: SessionLayout, path: str) -> tuple[bytes, str] | None:
    """The bytes of an image and its media type; None when it is not there any more."""
    kind, place = media_type(session, path), _inside(session, path)
    if kind is None or place is None:
        return None
    try:
        return place.read_bytes(), kind
    except OSError:
        return None


def not_shown(path: str, *, again: bool = False) -> str:
    """What stands in the place of an image."""
    return f"[the image {path} is not shown{' again' if again else ': this model does not take it'}]"


def _inside(session: SessionLayout, path: str) -> Path | None:
    try:
        place = (session.folder / path).resolve()
        return place if place.is_relative_to(session.inbox.resolve()) and place.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None
