"""OpenID Connect providers for tests: a real one in a process of its own, and one that does what it should not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey


@asynccontextmanager
async def real_provider(*users: str) -> AsyncIterator[str]:
    """`oidc-provider-mock`, with users as JSON; its issuer. It is another site than the page: `localhost`."""
    code = (
        "import sys, json; from oidc_provider_mock import User, run_server_in_thread\n"
        "users = [User(sub=each['sub'], claims=each) for each in map(json.loads, sys.argv[1:])]\n"
        "with run_server_in_thread(0, user_claims=users, require_nonce=True) as server:\n"
        "    print(server.server_port, flush=True); sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", code, *users,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        yield f"http://localhost:{port}"
    finally:
        process.stdin.close()
        await process.wait()


async def consent(session: aiohttp.ClientSession, address: str, sub: str) -> str:
    """Say yes on the real provider's page, as a person does; where it sends the browser."""
    async with session.post(address, data={"sub": sub}, allow_redirects=False) as answer:
        assert answer.status in (302, 303), await answer.text()
        return answer.headers["Location"]


KEY = RSAKey.generate_key(2048, parameters={"kid": "one"})
OTHER = RSAKey.generate_key(2048, parameters={"kid": "one"})
CLAIMS = {"sub": "mallory", "groups": ["staff"], "email": "mallory@example.org", "email_verified": True}


def signed(claims: dict[str, Any]) -> str:
    """A token as it should be."""
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY)


class HostileProvider:
    """A provider of which each part can be bent: its discovery, its answer, its tokens. It checks PKCE."""

    def __init__(self) -> None:
        self.issuer = ""
        self.metadata: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.sign: Callable[[dict[str, Any]], str] = signed
        self.keys: list[dict[str, Any]] = [KEY.as_dict(private=False)]
        self.more: dict[str, Any] | None = None
        self.asked: dict[str, str] = {}
        self.verifiers: list[str] = []
        self.asked_for_keys = 0

    def discovery(self) -> dict[str, Any]:
        known = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }
        if self.more is not None:
            known["userinfo_endpoint"] = f"{self.issuer}/me"
        return known | self.metadata

    def authorized(self, address: str) -> str:
        """A person said yes: where the browser goes then."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        return f"{self.asked['redirect_uri']}?code=abc&state={self.asked['state']}"

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        verifier = str(form["code_verifier"])
        self.verifiers.append(verifier)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if digest != self.asked["code_challenge"] or form["redirect_uri"] != self.asked["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "dumbwaiter", "nonce": self.asked["nonce"], "iat": now, "exp": now + 300,
            **CLAIMS, **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": self.sign(claims)})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HostileProvider]:
        """Serve it."""

        async def discovery(_: web.Request) -> web.Response:
            return web.json_response(self.discovery())

        async def keys(_: web.Request) -> web.Response:
            self.asked_for_keys += 1
            return web.json_response({"keys": self.keys})

        async def me(_: web.Request) -> web.Response:
            return web.json_response(self.more)

        application = web.Application()
        application.router.add_get("/.well-known/openid-configuration", discovery)
        application.router.add_get("/keys", keys)
        application.router.add_get("/me", me)
        application.router.add_post("/token", self._token)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def unsigned(claims: dict[str, Any]) -> str:
    """A token with `alg: none`."""
    import json

    parts = (json.dumps({"alg": "none", "kid": "one"}), json.dumps(claims))
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."


def with_public_key_as_secret(claims: dict[str, Any]) -> str:
    """A token signed by a secret that everybody knows: the provider's public key."""
    return jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(KEY.as_pem(private=False)))


def altered(claims: dict[str, Any]) -> str:
    """A rightly signed token whose claims were exchanged afterwards."""
    head, _, rest = jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY).partition(".")
    _, _, signature = rest.partition(".")
    import json

    body = base64.urlsafe_b64encode(json.dumps({**claims, "groups": ["boss"]}).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


def link_in(page: str) -> str:
    """The address that the page goes on to by itself."""
    (found,) = re.findall(r'content="0; url=([^"]+)"', page)
    return str(found)
