"""The form of a backup: a gzipped tar file that any `tar` reads, of which every byte is accounted for.

dumbwaiter-backup.json    first: format, version, install, schema, time, whether secrets are in it
central.db, sessions/…    the folder, by its own paths
checksums.json            last: name → [size, SHA-256] of every file before it
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import IO, Any

from shared_schema.dataclass import dataclass
from shared_schema.errors import FileDamaged, FileTrouble, InvalidValue
from shared_schema.system_errors import words_of

FORMAT = 1
HEADER, CHECKSUMS = "dumbwaiter-backup.json", "checksums.json"
_CHUNK = 1024**2
_LARGEST_HEADER = 64 * 1024
_LARGEST_CHECKSUMS = 1024**3

Checksums = dict[str, list[int | str]]

_ANOTHER = "take another backup; nothing was changed"
_WHICH = "name a file that `dumbwaiter backup FILE` wrote"


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup is of. `schema` is the version of central.db's, `secrets` whether keys are in it."""

    format: int
    version: str
    install: str
    schema: int
    created_at: str
    secrets: bool

    def to_json(self) -> bytes:
        """As the first file has it."""
        return json.dumps(asdict(self), indent=1).encode()


class Hashing(io.RawIOBase):
    """A stream of exactly `size` bytes of another, with zeros where that ends early, and its SHA-256."""

    def __init__(self, source: IO[bytes] | Content, size: int) -> None:
        self._source, self._left, self.size = source, size, size
        self.is_short = False
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = b"" if self.is_short else (self._source.read(wanted) or b"")
        if len(data) < wanted and not data:
            self.is_short, data = self.is_short or wanted > 0, bytes(min(wanted, _CHUNK))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """Of what was read."""
        return self._hash.hexdigest()


def read_header(path: Path) -> Header:
    """What a file is a backup of. Raises `InvalidValue` where it is none, `FileTrouble`."""
    with _opened(path) as archive:
        first = archive.next()
        if first is None or first.name != HEADER or first.size > _LARGEST_HEADER:
            raise InvalidValue("the file is no backup of Dumbwaiter's", where=path, hint=_WHICH)
        return _header(archive.extractfile(first), path)


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Content | None]]:
    """All entries but header and checksums, in order. Raises `FileDamaged` for a name that could lead elsewhere."""
    seen: set[str] = set()
    with _opened(path) as archive:
        for member in archive:
            if member.name in (HEADER, CHECKSUMS):
                continue
            parts = PurePosixPath(member.name).parts
            if not parts or member.name.startswith("/") or ".." in parts or "\0" in member.name or member.name in seen:
                raise FileDamaged(
                    f"the backup has an entry that cannot be: {member.name[:80]!r}", where=path, hint=_ANOTHER
                )
            if not (member.isreg() or member.isdir() or member.issym()):
                raise FileDamaged(
                    f"the backup has an entry of another kind: {member.name[:80]!r}", where=path, hint=_ANOTHER
                )
            seen.add(member.name)
            stream = archive.extractfile(member) if member.isreg() else None
            yield member, None if stream is None else Content(stream, path)


def verify(path: Path) -> tuple[Header, int, int]:
    """Read a whole backup and compare it with its checksums; its header, and how many files and bytes are in it.

    Raises `FileDamaged`, `InvalidValue`, `FileTrouble`.
    """
    header = read_header(path)
    found: Checksums = {}
    for member, stream in members(path):
        if stream is not None:
            hashing = Hashing(stream, member.size)
            while hashing.read(_CHUNK):
                continue
            if hashing.is_short:
                raise FileDamaged("the backup ends too early", where=path, hint=_ANOTHER)
            found[member.name] = [member.size, hashing.digest()]
    said = _checksums(path)
    if found != said:
        wrong = sorted(name for name in found.keys() | said.keys() if found.get(name) != said.get(name))
        raise FileDamaged(f"the backup is damaged: {wrong[0]} is not as it was written", where=path, hint=_ANOTHER)
    return header, len(found), sum(int(size) for size, _ in found.values())


def _checksums(path: Path) -> Checksums:
    last: Any = None
    with _opened(path) as archive:
        for member in archive:
            if member.name == CHECKSUMS and member.isreg() and member.size <= _LARGEST_CHECKSUMS:
                stream = archive.extractfile(member)
                last = None if stream is None else stream.read()
    try:
        checksums = json.loads(last)
    except (TypeError, ValueError, RecursionError):
        raise FileDamaged("the backup ends too early: its checksums are missing", where=path, hint=_ANOTHER) from None
    if not isinstance(checksums, dict):
        raise FileDamaged("the checksums of the backup are malformed", where=path, hint=_ANOTHER)
    return checksums


class _opened:
    """A backup that is read; what is wrong with its form is `FileDamaged`, what with the file `FileTrouble`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tarfile.TarFile:
        try:
            self._archive = tarfile.open(self._path, "r:gz")
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise InvalidValue("the file is no backup of Dumbwaiter's", where=self._path, hint=_WHICH) from error
        except OSError as error:
            if error.errno is None:  # gzip says so of a file of another kind
                raise InvalidValue("the file is no backup of Dumbwaiter's", where=self._path, hint=_WHICH) from error
            raise FileTrouble(f"the backup cannot be read: {words_of(error)}", where=self._path) from error
        return self._archive

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._archive.close()
        _translate(error, self._path)


class Content:
    """What one file of a backup has. Its reader is not within the block that opened the archive."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path = stream, path

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises `FileDamaged`, `FileTrouble`."""
        try:
            return self._stream.read(size)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            _translate(error, self._path)
            raise


def _translate(error: BaseException | None, path: Path) -> None:
    if isinstance(error, tarfile.TarError | EOFError | zlib.error) or (
        isinstance(error, OSError) and error.errno is None  # gzip's own
    ):
        raise FileDamaged(f"the backup is damaged: {error}", where=path, hint=_ANOTHER) from error
    if isinstance(error, OSError):
        raise FileTrouble(f"the backup cannot be read: {words_of(error)}", where=path) from error


def _header(stream: IO[bytes] | None, path: Path) -> Header:
    try:
        header = Header(**json.loads(b"" if stream is None else stream.read()))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue("the file is no backup of Dumbwaiter's", where=path, hint=_WHICH) from error
    if header.format != FORMAT:
        raise InvalidValue(
            f"the backup has format {header.format}, and this version reads {FORMAT}",
            where=path,
            hint="update Dumbwaiter",
        )
    return header
