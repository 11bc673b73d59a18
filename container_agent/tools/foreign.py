"""Names and results of foreign tools, as a model can take them. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from shared_schema.text import without_lone_surrogates

if TYPE_CHECKING:
    from mcp.types import CallToolResult

_MAX_NAME = 64  # what the vendors of models take
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


def tool_name(server: str, tool: str) -> str:
    """`<server>__<tool>`, with what no vendor takes replaced; a long one is cut, and stays unique by a short hash."""
    name = f"{server}__{tool}"
    plain = _NOT_PLAIN.sub("_", name)
    if plain == name and len(name) <= _MAX_NAME:
        return name
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{plain[: _MAX_NAME - len(digest) - 1]}_{digest}"


def result_text(result: CallToolResult) -> str:
    """The text of a result; what is not text is named."""
    parts = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource" and (text := getattr(block.resource, "text", None)) is not None:
            parts.append(str(text))
        else:
            parts.append(f"[{block.type}]")
    return without_lone_surrogates("\n".join(parts)) or "[nothing]"
