"""The model services that the gateway can call, and their keys.

Invariant: a key is a `SecretStr` from where it is read until it is put into the header of a request to its upstream.
No error here repeats what was read.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.foreign_text import decoded
from shared_schema.system_errors import words_of


class UpstreamKind(StrEnum):
    """Whose conventions an upstream follows: for keys, errors and usage."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    OLLAMA = "ollama"


class UpstreamSetting(BaseModel):
    """What the operator set of an upstream: its `url` up to where the SDKs' paths begin, its `key` or several `keys`,
    its `kind`, and its `paths`: `all`, or else those of model calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str | None = None
    key: SecretStr | None = None
    keys: tuple[SecretStr, ...] = ()
    kind: UpstreamKind | None = None
    paths: Literal["all"] | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model service; `url` has no slash at its end. `key` is what a call gets: one of `keys`, where there are any."""

    name: str
    url: str
    key: SecretStr | None
    kind: UpstreamKind
    opens_all: bool = False
    """To calls that are no model calls as well."""
    url_from: str = ""
    """The variable of the environment that named the URL; empty for a setting, and for the vendor's own."""
    keys: tuple[SecretStr, ...] = ()

    @property
    def lacks_key(self) -> bool:
        """Whether it can be known that a call without a key fails: a server of one's own may need none."""
        return self.key is None and KEY_VARIABLES.get(self.name) is not None and self.url == _VENDORS[self.kind]

    def authentication(self) -> dict[str, str]:
        """The header with the key, as the vendor wants it."""
        if self.key is None:
            return {}
        key = self.key.get_secret_value()
        match self.kind:
            case UpstreamKind.ANTHROPIC:
                return {"x-api-key": key}
            case UpstreamKind.GOOGLE:
                return {"x-goog-api-key": key}
            case _:
                return {"authorization": f"Bearer {key}"}


_VENDORS: Mapping[UpstreamKind, str] = {
    UpstreamKind.ANTHROPIC: "https://api.anthropic.com",
    UpstreamKind.OPENAI: "https://api.openai.com/v1",
    UpstreamKind.GOOGLE: "https://generativelanguage.googleapis.com",
    UpstreamKind.OLLAMA: "http://127.0.0.1:11434",
}
KEY_VARIABLES: Mapping[str, str] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "google": "GEMINI_API_KEY",
}
"""Where the key of a vendor is taken from when none is set."""
URL_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_BASE_URL",),
    "openai": ("OPENAI_BASE_URL",),
    "google": ("GOOGLE_GEMINI_BASE_URL",),
    "ollama": ("OLLAMA_HOST", "OLLAMA_BASE_URL"),
}
"""Where the URL of a vendor is taken from when none is set: the variables of the vendors' own SDKs and programs."""
VARIABLES = (*KEY_VARIABLES.values(), *(name for names in URL_VARIABLES.values() for name in names))
"""All that `configure` wants to know of the environment."""

_OLLAMA_PORT = 11434
_EVERYWHERE = ("0.0.0.0", "::", "[::]")  # what a server listens on, and no client can call
_SDK_ADDS = {
    UpstreamKind.ANTHROPIC: ("/v1",),
    UpstreamKind.GOOGLE: ("/v1beta", "/v1"),
    UpstreamKind.OLLAMA: ("/v1", "/api"),
    UpstreamKind.OPENAI: (),
}
"""What these SDKs put behind a URL themselves. People write it all the same, where another SDK wants it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_KEY = re.compile(r"[!-~]{1,4096}")
_LARGEST_FILE = 64 * 1024
MOST_KEYS = 50


def configure(
    settings: Mapping[str, UpstreamSetting], file: Mapping[str, UpstreamSetting], variables: Mapping[str, str]
) -> dict[str, Upstream]:
    """All upstreams by name: what the settings say, else the file, else the vendors' variables and URLs.

    Raises `InvalidValue`, naming the upstream and never its key.
    """
    return {
        name: _upstream(name, (settings.get(name), file.get(name)), variables)
        for name in sorted({*(kind.value for kind in UpstreamKind), *settings, *file})
    }


def doubts(upstream: Upstream) -> str | None:
    """What may be wrong with a URL, in a sentence; None when it looks as such URLs do."""
    if upstream.kind is UpstreamKind.OPENAI and urlsplit(upstream.url).path in ("", "/"):
        return (
            f"the url of '{upstream.name}', {upstream.url}, has no path: most services that speak as OpenAI does "
            f"want one, {upstream.url}/v1"
        )
    return None


def read_file(path: Path) -> dict[str, UpstreamSetting]:
    """Upstreams from a TOML file of tables `[name]` with the fields of `UpstreamSetting`; a missing file has none.

    Raises `InvalidValue` when others may read it (its mode must be 0600) or it is of another form.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                line = f"chmod 600 {shlex.quote(str(path.absolute()))}"
                raise InvalidValue("others may read the file with keys", where=path, hint=line)
            document = tomllib.loads(decoded(stream.read(_LARGEST_FILE)))
        return {name: UpstreamSetting.model_validate(table) for name, table in document.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidValue(f"the file with keys cannot be read: {words_of(error)}", where=path) from error
    except ValidationError as error:
        name = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise InvalidValue(
            f"'{name}' is not known here, or not a text", where=path, hint="set url, key, keys, kind, paths"
        ) from None
    except (ValueError, RecursionError):  # its text could repeat a key
        raise InvalidValue("the file with keys is malformed", where=path, hint='write [openai] and key = "…"') from None


def _upstream(name: str, given: Sequence[UpstreamSetting | None], variables: Mapping[str, str]) -> Upstream:
    if _NAME.fullmatch(name) is None:
        raise InvalidValue(f"'{name}' cannot be the name of an upstream", hint="use a-z, 0-9, hyphens, underscores")
    settings = [each for each in given if each is not None]
    kind = next((each.kind for each in settings if each.kind is not None), None)
    if kind is None:
        kind = UpstreamKind(name) if name in set(UpstreamKind) else UpstreamKind.OPENAI
    url, url_from = next((each.url for each in settings if each.url), None), ""
    if url is None:
        url, url_from = _url_of_variable(name, variables)
    if url is None and name not in set(UpstreamKind):
        raise InvalidValue(f"the upstream '{name}' has no url", hint=f"set upstreams.{name}.url")
    keys = next((each for each in map(_keys_of, settings) if each), ())
    variable = variables.get(KEY_VARIABLES.get(name, ""), "")
    if not keys and variable.strip():
        keys = (SecretStr(variable),)
    if len(keys) > MOST_KEYS:
        raise InvalidValue(f"the upstream '{name}' has {len(keys)} keys", hint=f"set {MOST_KEYS} at most")
    keys = tuple(good for key in keys if (good := _key(name, key)) is not None)
    opens_all = any(each.paths == "all" for each in settings)
    found = _VENDORS[kind] if url is None else _url(name, url, kind)
    several = keys if len(keys) > 1 else ()
    return Upstream(name, found, keys[0] if keys else None, kind, opens_all, url_from, several)


def _keys_of(setting: UpstreamSetting) -> tuple[SecretStr, ...]:
    """All keys that one place sets, each once."""
    given = (*(() if setting.key is None else (setting.key,)), *setting.keys)
    return tuple(dict.fromkeys(key for key in given if key.get_secret_value().strip()))


def _url_of_variable(name: str, variables: Mapping[str, str]) -> tuple[str | None, str]:
    """The URL that the vendor's own variable names, and which variable that is."""
    for variable in URL_VARIABLES.get(name, ()):
        if text := variables.get(variable, "").strip().strip("\"'"):
            return (_as_ollama_does(text) if variable == "OLLAMA_HOST" else text), variable
    return None, ""


def _as_ollama_does(text: str) -> str:
    """`OLLAMA_HOST` as Ollama reads it: scheme and port may be missing, and it may be what the server listens on."""
    scheme, _, rest = text.rpartition("://")
    place, slash, path = rest.partition("/")
    host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not colon:
        host, port = place, {"http": "80", "https": "443"}.get(scheme, str(_OLLAMA_PORT))
    host = "127.0.0.1" if host in ("", *_EVERYWHERE) else host
    return f"{scheme or 'http'}://{host}:{port}{slash}{path}"


def _url(name: str, text: str, kind: UpstreamKind) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0
        good = good and text.isprintable() and not set("?# ") & set(text)  # urlsplit leaves out what is not printable
    except ValueError:
        good = False
    if not good:
        raise InvalidValue(f"the url of the upstream '{name}' is not one", hint="write http:// or https:// and a host")
    if "@" in url.netloc:
        raise InvalidValue(f"the url of the upstream '{name}' has a password", hint=f"set upstreams.{name}.key")
    plain = text.rstrip("/")
    for ending in _SDK_ADDS[kind]:
        plain = plain.removesuffix(ending).rstrip("/")
    return plain


def _key(name: str, key: SecretStr | None) -> SecretStr | None:
    if key is None or not key.get_secret_value().strip():
        return None
    text = key.get_secret_value().strip()
    if _KEY.fullmatch(text) is None:
        raise InvalidValue(f"the key of the upstream '{name}' has characters that no key has", hint="set it again")
    return SecretStr(text)
