"""What is said in an audio file, by an OpenAI-compatible `/audio/transcriptions` of a model service."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from host.channels.unreachable import why
from host.gateway.upstreams import Upstream
from shared_schema.errors import DumbwaiterError
from shared_schema.json_text import parse

_SECONDS = 120.0
_LARGEST_FILE = 25 * 1024**2
"""Bytes of a file that OpenAI's interface takes."""
_LARGEST_ANSWER = 4 * 1024**2
_LONGEST_TEXT = 20_000


class TranscriptionFailed(DumbwaiterError):
    """A service did not write down what is said in a file."""


class Transcriber:
    """Asks the service that is set in `[transcription]`. The services change in place when a person sets one."""

    def __init__(self, upstreams: Mapping[str, Upstream], setting: Mapping[str, str]) -> None:
        self._upstreams = upstreams
        self._service = setting.get("upstream")
        self._model = setting.get("model", "whisper-1")

    async def __call__(self, path: Path) -> str | None:
        """The text; None where no service is set or nothing is said. Raises `TranscriptionFailed`."""
        if self._service is None:
            return None
        upstream = self._upstreams.get(self._service)
        if upstream is None:
            hint = "set `upstream` of [transcription] to one of: " + ", ".join(self._upstreams)
            raise TranscriptionFailed(f"there is no model service '{self._service}'", hint=hint)
        return await asyncio.to_thread(_ask, upstream, self._model, path) or None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes where it was meant to go."""

    def redirect_request(self, *arguments: object, **more: object) -> None:
        return None


def _ask(upstream: Upstream, model: str, path: Path) -> str:
    """Blocks. Raises `TranscriptionFailed`."""
    if path.stat().st_size > _LARGEST_FILE:
        raise TranscriptionFailed(f"the file is larger than {_LARGEST_FILE:,} bytes")
    boundary = token_hex(16)
    body = b"".join(
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio{path.suffix}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode(),
            path.read_bytes(),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    headers = {
        **upstream.authentication(),
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Accept": "application/json",
        "User-Agent": "dumbwaiter",
    }
    request = urllib.request.Request(f"{upstream.url}/audio/transcriptions", body, headers)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            document = parse(answer.read(_LARGEST_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            raise TranscriptionFailed(f"{upstream.name} answers with status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise TranscriptionFailed(f"{upstream.name} cannot be reached: {why(error)}") from None
    except ValueError:
        raise TranscriptionFailed(f"{upstream.name} answers with something that is no text") from None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise TranscriptionFailed(f"{upstream.name} answers without a text")
    return text.strip()[:_LONGEST_TEXT]
