"""Which engine is used: the setting, else what the environment and the docker command line say, else docker's default.

The order is that of the docker command line (docs.docker.com/engine/manage-resources/contexts): `DOCKER_HOST` wins over
`DOCKER_CONTEXT`, and that over the current context of `config.json`. A context lies in
`contexts/meta/<SHA-256 of its name>/meta.json` beside that file, its certificates in `contexts/tls/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared_schema.dataclass import dataclass

VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "HOME")
DEFAULT_URL = "unix:///var/run/docker.sock"
_DEFAULT_CONTEXT = "default"
_SCHEMES = ("unix", "tcp", "http", "https")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files for TLS. `verify`: the engine's certificate is checked, by `authority` or the system's."""

    certificate: Path | None
    key: Path | None
    authority: Path | None
    verify: bool


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """An engine's address and who named it, as words for a sentence, such as `DOCKER_HOST`."""

    url: str = DEFAULT_URL
    source: str = "docker's default"
    tls: Certificates | None = None
    problem: str | None = None
    """Why no engine can be found by it; `hint` then says what to do."""
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"

    @property
    def socket(self) -> Path | None:
        """The Unix socket, if it is one."""
        scheme, _, path = self.url.partition("://")
        return Path(path) if scheme == "unix" else None

    @property
    def is_ssh(self) -> bool:
        return self.url.startswith("ssh://")

    @property
    def owner(self) -> int | None:
        """The user whose socket it is; None for another kind of address, and where there is none."""
        try:
            return None if self.socket is None else self.socket.stat().st_uid
        except OSError:
            return None


def resolve(setting: str | None, environment: Mapping[str, str]) -> EngineAddress:
    """The engine for a setting and `VARIABLES` of the environment; reads docker's own files. Never raises."""
    tls = _variables(environment)
    if setting:
        return _checked(EngineAddress(setting, "the setting docker_host", tls))
    if url := environment.get("DOCKER_HOST"):
        return _checked(EngineAddress(url, "DOCKER_HOST", tls))
    folder = _folder(environment)
    named_by, name = "DOCKER_CONTEXT", environment.get("DOCKER_CONTEXT")
    if not name:
        named_by, name = str(folder / "config.json"), _current_context(folder)
    if not name or name == _DEFAULT_CONTEXT:
        return EngineAddress(tls=None)
    found = _context(folder, name, named_by)
    return found if found.problem else _checked(found)


def of_node(
    name: str, url: str, *, certificate: Path | None = None, key: Path | None = None, authority: Path | None = None
) -> EngineAddress:
    """The engine of a node, which may be on another machine; `tcp` with the files of its TLS. Never raises."""
    files = (certificate, key, authority)
    tls = None if files == (None, None, None) else Certificates(certificate, key, authority, verify=True)
    address = EngineAddress(url, f"the node {name}", tls)
    scheme, found, _ = url.partition("://")
    if found and scheme in (*_SCHEMES, "ssh"):
        return address
    hint = "write such as ssh://user@host, tcp://host:2376 or unix:///var/run/docker.sock"
    return replace(address, problem="the engine's address is not one", hint=hint)


def _checked(address: EngineAddress) -> EngineAddress:
    scheme, found, _ = address.url.partition("://")
    if found and scheme in _SCHEMES:
        return address
    if scheme == "ssh":
        what = "an engine that is reached by ssh is on another machine, and cannot show agents their folders"
        return replace(address, problem=what, hint="use an engine of this machine: docker_host = unix://…")
    return replace(address, problem="the engine's address is not one", hint="write such as unix:///var/run/docker.sock")


def _folder(environment: Mapping[str, str]) -> Path:
    if configured := environment.get("DOCKER_CONFIG"):
        return Path(configured)
    return Path(environment.get("HOME") or "/") / ".docker"


def _current_context(folder: Path) -> str | None:
    """The current context of the docker command line; without a file that can be read it has none."""
    try:
        name = _json(folder / "config.json").get("currentContext")
    except (OSError, ValueError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _context(folder: Path, name: str, named_by: str) -> EngineAddress:
    identity = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    meta = folder / "contexts" / "meta" / identity / "meta.json"
    try:
        endpoint = _json(meta)["Endpoints"]["docker"]
        url, skips = str(endpoint["Host"]), bool(endpoint.get("SkipTLSVerify"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        what = f"the docker context '{name}', which {named_by} names, cannot be read"
        return EngineAddress(str(meta), named_by, problem=what, hint="see `docker context ls`, or set docker_host")
    return EngineAddress(
        url, f"the docker context '{name}'", _files(folder / "contexts" / "tls" / identity / "docker", verify=not skips)
    )


def _variables(environment: Mapping[str, str]) -> Certificates | None:
    """TLS as docker's variables want it: by `DOCKER_TLS_VERIFY`, with the files of `DOCKER_CERT_PATH`."""
    verify, folder = environment.get("DOCKER_TLS_VERIFY"), environment.get("DOCKER_CERT_PATH")
    if not verify and not folder:
        return None
    return _files(Path(folder) if folder else _folder(environment), verify=bool(verify)) or Certificates(
        None, None, None, bool(verify)
    )


def _files(folder: Path, *, verify: bool) -> Certificates | None:
    certificate, key, authority = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
    if not any(path.is_file() for path in (certificate, key, authority)):
        return None
    has_pair = certificate.is_file() and key.is_file()
    return Certificates(
        certificate if has_pair else None,
        key if has_pair else None,
        authority if authority.is_file() else None,
        verify,
    )


def _json(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no object")
    return document
