"""An answer that is larger than one message may be, as several messages. Pure.

It is split at paragraphs where it can be, else at lines, else at words. A block of code that is split is closed at the
end of one part and opened again at the beginning of the next. An answer of very many parts goes as a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from container_agent.providers.protocol import OutgoingFile, Reply
from shared_schema.rows import MessageOutKind

MOST_PARTS = 5
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)
_SEPARATORS = ("\n\n", "\n", " ")
_LONGEST_FENCE = 200


def of_reply(reply: Reply, most: int) -> list[Reply]:
    """The messages that a reply goes as, each of at most `most` characters; its files go with the last one."""
    if len(reply.text) <= most or reply.kind != MessageOutKind.CHAT:
        return [reply]
    texts = list(_split(reply.text, most, MOST_PARTS + 1))
    if len(texts) > MOST_PARTS:
        note = f"This answer has {len(reply.text)} characters, and comes as a file."
        file = OutgoingFile("answer.md", reply.text.encode("utf-8", "replace"))
        return [replace(reply, text=note[:most], files=(*reply.files, file))]
    return [replace(reply, text=text, files=()) for text in texts[:-1]] + [replace(reply, text=texts[-1])]


def _split(text: str, most: int, parts: int) -> Iterator[str]:
    """The first `parts` parts of a text."""
    opening = ""
    for _ in range(parts):
        text = opening + text
        if len(text) <= most:
            yield text
            return
        room = most - min(_LONGEST_FENCE, most // 4)  # for a line that closes a block
        part, text = _cut(text, max(1, room), len(opening))
        fence, opening = _open_fence(part)
        yield f"{part}\n{fence}" if fence else part
        opening = opening if len(opening) + 1 < most // 4 else ""


def _cut(text: str, room: int, begins: int) -> tuple[str, str]:
    """The beginning of a text, and the rest. Something behind `begins` is always in the beginning."""
    for separator in _SEPARATORS:
        at = text.rfind(separator, max(begins + 1, room // 2), room)
        if at > 0:
            return text[:at], text[at + len(separator) :]
    at = max(room, begins + 1)
    while at > begins + 1 and at < len(text) and unicodedata.combining(text[at]):
        at -= 1
    return text[:at], text[at:]


def _open_fence(part: str) -> tuple[str, str]:
    """What closes a block of code that a part leaves open, and what opens it again; both empty where none is."""
    fence = opening = ""
    for match in _FENCE.finditer(part):
        mark, rest = match[1], match[2]
        if not fence:
            fence, opening = mark, f"{match[0].strip()[:_LONGEST_FENCE]}\n"
        elif mark[0] == fence[0] and len(mark) >= len(fence) and not rest.strip():
            fence = opening = ""
    return fence, opening
