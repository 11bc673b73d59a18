"""The tools for files: `read_file`, `write_file`, `edit_file`, `list_files`. What blocks runs in a thread."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from container_agent.tools.confine import Bounds
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from shared_schema.dataclass import dataclass
from shared_schema.foreign_text import encoding_of
from shared_schema.ids import Prefix, new_id
from shared_schema.text import composed, decomposed

_MAX_BYTES = 20 * 1024**2
_MAX_LINE = 2_000
_MAX_WRITTEN = 1_000_000
_MAX_LISTED = 1_000
_MAX_PATH = 1_000
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINE_END = re.compile(r"\r\n|\n|\r")
_FORMS = (composed, decomposed)
_PATH = text("Path of the file, relative to the workspace.", _MAX_PATH)


def tools(bounds: Bounds) -> list[Tool]:
    """The tools over these folders."""

    def threaded(work: Callable[[Bounds, Arguments], str]) -> Callable[[Arguments], asyncio.Future[str]]:
        def run(arguments: Arguments) -> asyncio.Future[str]:
            return asyncio.ensure_future(asyncio.to_thread(_translated, work, bounds, arguments))

        return run

    return [
        Tool(
            "read_file",
            "Read a text file of the workspace or the session folder. Lines are numbered.",
            form(
                {"path": _PATH},
                {
                    "offset": number("The line to begin with; the first is 1.", 1, 10**9, 1),
                    "limit": number("How many lines.", 1, 10_000, 500),
                },
            ),
            threaded(_read),
        ),
        Tool(
            "write_file",
            "Write a text file of the workspace. What was in it is replaced; folders are made.",
            form({"path": _PATH, "content": text("The whole text of the file.", _MAX_WRITTEN, least=0)}),
            threaded(_write),
        ),
        Tool(
            "edit_file",
            "Replace a text in a file of the workspace by another. It must be there exactly as given, and once, "
            "unless `all` is set.",
            form(
                {
                    "path": _PATH,
                    "old": text("The text to be replaced, without line numbers.", _MAX_WRITTEN),
                    "new": text("The text in its place.", _MAX_WRITTEN, least=0),
                },
                {"all": {"type": "boolean", "description": "Replace it wherever it is.", "default": False}},
            ),
            threaded(_edit),
        ),
        Tool(
            "list_files",
            "List the files of a folder, with what is in its folders to a given depth.",
            form(
                None,
                {
                    "path": text("Path of the folder.", _MAX_PATH, default="."),
                    "depth": number("How deep to look.", 1, 10, 1),
                },
            ),
            threaded(_list),
        ),
    ]


def content_of(path: Path, most: int = _MAX_BYTES) -> bytes:
    """The bytes of a regular file that has at most `most`. Raises `ToolRefused`, `OSError`."""
    descriptor = os.open(path, _FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise ToolRefused(f"'{path.name}' is a folder")
        if not stat.S_ISREG(mode):
            raise ToolRefused(f"'{path.name}' is not an ordinary file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ToolRefused(f"'{path.name}' has more than {most:,} bytes")
    return data


def _translated(work: Callable[[Bounds, Arguments], str], bounds: Bounds, arguments: Arguments) -> str:
    try:
        return work(bounds, arguments)
    except FileNotFoundError as error:
        raise ToolRefused(f"there is no file '{arguments['path'][:200]}'") from error
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ToolRefused(f"'{arguments['path'][:200]}' cannot be used: {reason}") from error


@dataclass(frozen=True, slots=True)
class _WrittenFile:
    """A text with what must stay of how its file is written: the byte order mark, the encoding, the line ends."""

    text: str
    mark: bytes = b""
    encoding: str = "utf-8"

    @property
    def has_crlf(self) -> bool:
        """Whether every line ends as on Windows."""
        return "\r\n" in self.text and self.text.count("\r\n") == self.text.count("\n")

    def like(self, text: str) -> str:
        """A text of the model's with the line ends of this one."""
        return re.sub(r"\r?\n", "\r\n", text) if self.has_crlf else text

    def encoded(self, text: str) -> bytes:
        """The bytes of another text in its place."""
        return self.mark + text.encode(self.encoding)


def _text_of(bounds: Bounds, path: Path) -> _WrittenFile:
    """The text of a file. Raises `ToolRefused` for one that holds none."""
    data = content_of(path)
    mark, encoding = encoding_of(data)
    try:
        found = _WrittenFile(data[len(mark) :].decode(encoding), mark, encoding)
    except UnicodeDecodeError as error:
        raise ToolRefused(f"'{bounds.shown(path)}' is not a text file") from error
    if "\0" in found.text:
        raise ToolRefused(f"'{bounds.shown(path)}' is not a text file")
    return found


def _read(bounds: Bounds, arguments: Arguments) -> str:
    found = _text_of(bounds, bounds.readable(arguments["path"]))
    lines = _LINE_END.split(found.text)
    if not lines[-1]:
        lines.pop()  # the end of the last line begins none
    first, limit = arguments["offset"], arguments["limit"]
    chosen = lines[first - 1 : first - 1 + limit]
    if not lines:
        return "[the file is empty]"
    if not chosen:
        raise ToolRefused(f"the file has {len(lines)} lines")
    shown = [
        f"{place:6}\t{line if len(line) <= _MAX_LINE else line[:_MAX_LINE] + ' [… cut]'}"
        for place, line in enumerate(chosen, first)
    ]
    rest = len(lines) - (first - 1 + len(chosen))
    if rest:
        shown.append(f"[{rest} more lines; go on with offset {first + len(chosen)}]")
    return "\n".join(shown)


def _write(bounds: Bounds, arguments: Arguments) -> str:
    path = bounds.writable(arguments["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _before(bounds, path)
    data = before.encoded(before.like(arguments["content"]))
    _replace(path, data)
    return f"wrote {len(data):,} bytes to {bounds.shown(path)}"


def _before(bounds: Bounds, path: Path) -> _WrittenFile:
    """The text that is written over: the new one keeps its line ends and encoding, which a model does not see."""
    try:
        return _text_of(bounds, path)
    except (ToolRefused, OSError):  # none yet, or no text
        return _WrittenFile("")


def _edit(bounds: Bounds, arguments: Arguments) -> str:
    path = bounds.writable(arguments["path"])
    before, old, new = _text_of(bounds, path), arguments["old"], arguments["new"]
    meant = next((each for each in _spellings(before, old) if each[0] in before.text), None)
    count = 0 if meant is None else before.text.count(meant[0])
    if meant is None:
        raise ToolRefused("the text to be replaced is not in the file", hint="read the file, and copy it exactly")
    if count > 1 and not arguments["all"]:
        raise ToolRefused(f"the text to be replaced is in the file {count} times", hint="give more of it, or set all")
    if old == new:
        raise ToolRefused("old and new are the same")
    found, accented = meant
    put = before.like(new if accented is None else accented(new, len(new)))
    _replace(path, before.encoded(before.text.replace(found, put)))
    return f"replaced {count} {'place' if count == 1 else 'places'} in {bounds.shown(path)}"


def _spellings(before: _WrittenFile, old: str) -> Iterator[tuple[str, Callable[[str, int], str] | None]]:
    """How a text of the model's may stand in the file, and the form its replacement gets: a model sees neither line
    ends nor whether accents are composed.
    """
    yield old, None
    yield re.sub(r"\r?\n", "\r\n", old), None
    for accented in _FORMS:
        yield before.like(accented(old, len(old))), accented


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place of another in one step: a reader sees the old content or the new one."""
    if path.exists() and not path.is_file():
        raise ToolRefused(f"'{path.name}' is not an ordinary file")
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    draft = path.with_name(f".{new_id(Prefix.MESSAGE)}.new")
    try:
        draft.write_bytes(content)
        if mode is not None:
            draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _list(bounds: Bounds, arguments: Arguments) -> str:
    folder = bounds.readable(arguments["path"])
    if not folder.is_dir():
        raise ToolRefused(f"'{arguments['path'][:200]}' is not a folder")
    found: list[str] = []
    for base, folders, files in os.walk(folder):
        here = Path(base).relative_to(folder)
        folders.sort()
        found += [f"{here / name}/" for name in folders]
        found += [f"{here / name}  {_size(Path(base) / name)}" for name in sorted(files)]
        if len(here.parts) + 1 >= arguments["depth"]:
            folders.clear()
        if len(found) > _MAX_LISTED:
            break
    rest = [f"[only the first {_MAX_LISTED:,} are shown]"] if len(found) > _MAX_LISTED else []
    return "\n".join(sorted(found[:_MAX_LISTED]) + rest) or "[the folder is empty]"


def _size(path: Path) -> str:
    status = path.lstat()
    return "link" if stat.S_ISLNK(status.st_mode) else f"{status.st_size:,} bytes"
