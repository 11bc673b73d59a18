"""Which files the tools may touch: those of the workspace, and for reading those of the session folder too.

Paths are resolved before they are compared, so that a link that leads out is refused like any other path outside. The
container is what keeps an agent in; this keeps a model's mistake from looking like success.
"""

from __future__ import annotations

import os
from pathlib import Path

from container_agent.tools.tool import ToolRefused
from shared_schema.dataclass import dataclass
from shared_schema.foreign_text import same_name


@dataclass(frozen=True, slots=True)
class Bounds:
    """The two folders. Relative paths are of the workspace."""

    workspace: Path
    session: Path

    def readable(self, path: str) -> Path:
        """The file or folder that is meant, without links. Raises `ToolRefused`."""
        return self._within(path, (self.workspace, self.session))

    def writable(self, path: str) -> Path:
        """The same for a file that is to be written: in the workspace alone. Raises `ToolRefused`."""
        return self._within(path, (self.workspace,))

    def shown(self, path: Path) -> str:
        """A path as a model should write it."""
        root = self.workspace.resolve()
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    def _within(self, path: str, roots: tuple[Path, ...]) -> Path:
        try:
            meant = _as_stored(self.workspace / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null character
            raise ToolRefused(f"'{path[:200]}' is not a path that can be used") from error
        if not any(meant.is_relative_to(root.resolve()) for root in roots):
            places = " or ".join(str(root) for root in roots)
            raise ToolRefused(f"'{path[:200]}' is outside of {places}", hint="use a path in the workspace")
        return meant


def _as_stored(path: Path) -> Path:
    """The path with its names as the file system has them, where those differ only in how accents are stored.

    Models write composed accents; macOS, and archives made there, decompose them. Raises `OSError`, `ValueError`.
    """
    if str(path).isascii():
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if not part.isascii() and not os.path.lexists(found / part) and found.is_dir():
            part = next((name for name in sorted(os.listdir(found)) if same_name(name, part)), part)
        found /= part
    return found
