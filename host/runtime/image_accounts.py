"""What a user is called in an image (`accounts.py` says why it must be called something). Blocks.

An image's /etc/passwd and /etc/group are read from a container that is made for it and never started.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import threading
from collections.abc import Sequence

from host.runtime.accounts import GROUP, PASSWD, Account, account_in
from host.runtime.engine_client import CONFLICT, NOT_FOUND, EngineClient, EngineRefusal
from host.runtime.protocol import StartFailed
from host.runtime.specification import HOME, accounts_arguments

_MOST_LINKS = 8
_LARGEST_FILE = 4 * 1024**2  # bytes, of an image's /etc/passwd or /etc/group as a tar archive


class ImageAccounts:
    """Looks into each image once."""

    def __init__(self, engine: EngineClient, install_id: str) -> None:
        self._engine = engine
        self._install_id = install_id
        self._known: dict[tuple[str, int, int], Account] = {}  # by the id of an image, uid and gid
        self._looking_up = threading.Lock()

    def account(self, image: str, uid: int, gid: int) -> Account:
        """What that user is called there. Raises `EngineRefusal`: NOT_FOUND for an image that is missing."""
        with self._engine.calling() as client:
            key = (str(client.images.get(image).id), uid, gid)  # a tag may be another image tomorrow
        with self._looking_up:  # many agents may start at once, and the container for it has one name
            if key not in self._known:
                passwd, group = self._files_of(image, (PASSWD, GROUP))
                self._known[key] = account_in(passwd, group, uid=uid, gid=gid, home=HOME)
            return self._known[key]

    def _files_of(self, image: str, paths: Sequence[str]) -> Sequence[bytes]:
        arguments = accounts_arguments(image, self._install_id)
        try:
            container = self._engine.create(arguments)
        except EngineRefusal as refusal:
            if refusal.status != CONFLICT:
                raise
            self._engine.remove_container(str(arguments["name"]))  # a host was killed between making and removing it
            container = self._engine.create(arguments)
        try:
            return [self._file_of(container, path) for path in paths]
        finally:
            self._engine.remove_container(container)

    def _file_of(self, container: str, path: str) -> bytes:
        """A file of a container, empty when there is none; links are followed."""
        for _ in range(_MOST_LINKS):
            packed = self._archive_of(container, path)
            if packed is None:
                return b""
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                entry = archive.next()
                if entry is not None and entry.issym():
                    path = posixpath.join(posixpath.dirname(path), entry.linkname)
                    continue
                content = None if entry is None else archive.extractfile(entry)
                return b"" if content is None else content.read()
        raise StartFailed(f"{path} of the image is a link that leads to no file")

    def _archive_of(self, container: str, path: str) -> bytes | None:
        packed = bytearray()
        try:
            with self._engine.calling() as client:
                chunks, _ = client.api.get_archive(container, path)
                for chunk in chunks:
                    packed += chunk
                    if len(packed) > _LARGEST_FILE:
                        raise StartFailed(f"{path} of the image is larger than {_LARGEST_FILE} bytes")
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None
        return bytes(packed)
