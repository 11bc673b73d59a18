"""The files beside the pages: style, scripts, icon. Each is named by its content, so that browsers may keep it."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from aiohttp import web

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


class Assets:
    """All files of `static/`, read once; together they are smaller than a picture."""

    def __init__(self) -> None:
        self._by_path: dict[str, tuple[bytes, str]] = {}
        self._urls: dict[str, str] = {}
        contents: dict[str, bytes] = {}
        for folder, prefix in (
            (files("host.web") / "static", ""),
            (files("host.web") / "static" / "vendor", "vendor/"),
        ):
            for entry in folder.iterdir():
                if entry.is_file() and f".{entry.name.rpartition('.')[2]}" in TYPES:
                    contents[prefix + entry.name] = entry.read_bytes()
        # One name for all of them: a script imports another one by its place beside it.
        version = hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:12]
        for name, content in contents.items():
            self._by_path[f"{version}/{name}"] = (content, TYPES[f".{name.rpartition('.')[2]}"])
            self._urls[name] = f"/static/{version}/{name}"

    def url(self, name: str) -> str:
        """Where a file is."""
        return self._urls[name]

    async def serve(self, request: web.Request) -> web.Response:
        """One of the files, without a sign-in."""
        found = self._by_path.get(request.match_info["path"])
        if found is None:
            raise web.HTTPNotFound(text="there is no such file")
        content, kind = found
        return web.Response(body=content, content_type=kind, charset="utf-8", headers={"Cache-Control": _FOREVER})
