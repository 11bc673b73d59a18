"""What the agent has written down for itself: `memory/` in its workspace, with `MEMORY.md` as the index.

The agent keeps it with its tools for files. The index comes first and whole, as far as there is room; then the other
files, the ones that were changed last first. What does not fit is named, so that it can be read.
"""

from __future__ import annotations

from pathlib import Path

from container_agent.prompt.folder import names_in, text_in

INDEX = "MEMORY.md"
MAX_CHARACTERS = 12_000
_MAX_FILES = 100
_MAX_NAMED = 30


def memory_in(workspace: Path, *, most: int = MAX_CHARACTERS) -> str:
    """The text for the prompt, about `most` characters; empty when there is nothing."""
    base = workspace / "memory"
    names = [name for name in names_in(workspace, base, most=_MAX_FILES) if name.endswith(".md")]
    others = sorted((name for name in names if name != INDEX), key=lambda name: (-_changed(base / name), name))
    room, parts, left = most, [], []
    for name in [INDEX, *others] if INDEX in names else others:
        if room <= 0:
            left.append(name)
            continue
        read = text_in(workspace, base / name, most=room)
        if read.text or read.note:
            parts.append(
                "\n".join(filter(None, [f"## memory/{name}", read.text, f"[{read.note}]" if read.note else ""]))
            )
        room -= len(read.text)
    if left:
        more = "" if len(left) <= _MAX_NAMED else f" and {len(left) - _MAX_NAMED} more"
        parts.append(
            f"[not shown for want of room: {', '.join(left[:_MAX_NAMED])}{more}; read them when you need them]"
        )
    return "\n\n".join(parts)


def _changed(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0
