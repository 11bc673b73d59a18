"""Other hosts: what is allowed goes through untouched, what is not is refused and told; with the tools people use."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from container_agent.forwarder import environment
from tests.gateway.service import serving
from tests.gateway.world import World
from tests.support.wait import until


async def run(world: World, *command: str, **more: str) -> tuple[int, str, str]:
    """A command with the environment that an agent's tools have; its status and what it prints."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**kept, **environment(await world.forwarder.port()), "NO_PROXY": "", "no_proxy": "", **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """Sends back what it gets, and then "bye" when the other side has ended."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_tunnel_carries_every_byte_and_the_end_of_each_direction(here: World) -> None:
    async with echo_server() as port:
        here.allow(f"127.0.0.1:{port}")
        reader, writer = await here.connect()
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        sent = os.urandom(5_000_000)

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(60):
            received = await reader.read(-1)
            await sending
        writer.close()

    assert received == sent + b"bye"


async def test_what_is_sent_behind_connect_goes_to_the_host_and_is_no_second_request(here: World) -> None:
    async with echo_server() as port:
        here.allow(f"127.0.0.1:{port}")
        smuggled = b"GET /upstream/openai/v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        reader, writer = await here.connect()
        writer.write(
            f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".replace("\r\n\r\n", "\r\nHost: x\r\n\r\n").encode() + smuggled
        )
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read(-1)
        writer.close()

    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + smuggled + b"bye"
    assert here.service.seen == []


async def test_a_host_that_is_not_listed_is_refused_in_a_sentence_and_told_once(here: World) -> None:
    for _ in range(3):
        answer = await here.raw(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"example.com:443 is not on the list of hosts that this agent may reach" in answer

    ((session_id, what, reason),) = here.refused
    assert (session_id, what) == (here.session_id, "CONNECT example.com:443")
    assert reason.startswith("example.com:443 is not on the list")


async def test_a_listed_name_that_leads_into_the_hosts_own_network_is_refused(here: World) -> None:
    here.allow(f"localhost:{here.service.port}")
    answer = await here.raw(f"CONNECT localhost:{here.service.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"network that is not public" in answer

    here.allow(f"localhost:{here.service.port}", f"127.0.0.1:{here.service.port}")
    answer = await here.raw(f"GET http://localhost:{here.service.port}/x HTTP/1.1\r\nHost: other\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_name_that_nobody_has_is_said_to_be_so_and_is_no_refusal(here: World) -> None:
    here.allow("*.invalid")
    answer = await here.raw(b"CONNECT nobody.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert here.refused == []


async def test_a_plain_request_is_passed_on_once_with_the_host_of_its_url(here: World) -> None:
    here.allow(f"127.0.0.1:{here.service.port}")
    url = f"http://127.0.0.1:{here.service.port}/a/b?c=d"

    answer = await here.raw(
        f"POST {url} HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: secret\r\nConnection: keep-alive, X-Hop\r\n"
        "X-Hop: 1\r\nX-Kept: 2\r\nContent-Length: 4\r\n\r\nbody".encode()
    )

    assert answer.startswith(b"HTTP/1.1 200 ")
    (seen,) = here.service.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/a/b?c=d", b"body")
    assert seen.headers["host"] == f"127.0.0.1:{here.service.port}"
    assert seen.headers["x-kept"] == "2"
    assert not {"x-hop", "proxy-authorization", "x-api-key"} & set(seen.headers)


async def test_a_plain_request_may_come_in_chunks(here: World) -> None:
    here.allow(f"127.0.0.1:{here.service.port}")
    answer = await here.raw(
        f"PUT {here.service.url}/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\nbody\r\n0\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert here.service.seen[0].body == b"body"


async def test_curl_reaches_what_is_allowed_and_says_what_is_not(here: World) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    here.allow(f"127.0.0.1:{here.service.port}")
    plain = await run(here, "curl", "-sS", f"{here.service.url}/plain")
    tunnelled = await run(here, "curl", "-sS", "--proxytunnel", f"{here.service.url}/tunnelled")
    refused = await run(here, "curl", "-sS", "https://example.com/secret?token=x")

    assert (plain[0], tunnelled[0]) == (0, 0), (plain, tunnelled)
    assert [seen.target for seen in here.service.seen] == ["/plain", "/tunnelled"]
    assert refused[0] == 56
    assert "403" in refused[2]
    assert "token" not in str(here.refused)


async def test_curl_speaks_tls_through_it_with_the_host_itself(here: World, tmp_path: Path) -> None:
    if shutil.which("curl") is None or shutil.which("openssl") is None:
        pytest.skip("curl or openssl is not installed")
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    async with serving(context) as service:
        here.allow(f"127.0.0.1:{service.port}")
        done = await run(here, "curl", "-sS", "--cacert", str(certificate), f"https://127.0.0.1:{service.port}/x")
        assert done[0] == 0, done
        assert [seen.target for seen in service.seen] == ["/x"]


def make_certificate(folder: Path) -> Path:
    path = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(path)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return path


def make_wheel(folder: Path) -> Path:
    """A package with nothing in it."""
    path = folder / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("parcel.py", "")
        wheel.writestr("parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        wheel.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("parcel-1.0.dist-info/RECORD", "")
    return path


async def test_pip_installs_from_an_index_that_is_allowed(here: World, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    wheel = make_wheel(tmp_path)

    async def index(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path.endswith(".whl"):
            return web.Response(body=wheel.read_bytes())
        return web.Response(text=f'<a href="/{wheel.name}">{wheel.name}</a>', content_type="text/html")

    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    async with serving(context) as service:
        service.respond = index
        arguments = (
            sys.executable, "-m", "pip", "download", "--isolated", "--no-deps", "--no-cache-dir", "--retries", "0",
            "--disable-pip-version-check", "--cert", str(certificate), "-d", str(tmp_path / "got"),
            "--index-url", f"https://127.0.0.1:{service.port}/simple", "parcel",
        )  # fmt: skip
        refused = await run(here, *arguments)
        here.allow(f"127.0.0.1:{service.port}")
        done = await run(here, *arguments)

    assert refused[0] != 0
    assert done[0] == 0, done
    assert (tmp_path / "got" / wheel.name).exists()
    assert len(here.refused) == 1


async def test_git_and_npm_ask_through_it(here: World, tmp_path: Path) -> None:
    if shutil.which("git") is None or shutil.which("npm") is None:
        pytest.skip("git or npm is not installed")

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path.endswith("/info/refs"):
            head = b"001e# service=git-upload-pack\n0000" + b"003f" + b"1" * 40 + b" refs/heads/main\x00 \n"
            line = b"1" * 40 + b" refs/heads/main\x00 agent=x\n"
            head = b"001e# service=git-upload-pack\n0000" + f"{len(line) + 4:04x}".encode() + line + b"0000"
            return web.Response(body=head, content_type="application/x-git-upload-pack-advertisement")
        return web.json_response({"name": "parcel", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": {
            "name": "parcel", "version": "1.2.3", "dist": {}}}})  # fmt: skip

    here.service.respond = respond
    here.allow(f"127.0.0.1:{here.service.port}")
    git, npm = await asyncio.gather(
        run(here, "git", "ls-remote", f"{here.service.url}/repository.git", GIT_TERMINAL_PROMPT="0"),
        run(here, "npm", "view", "parcel", "version", "--registry", here.service.url,
            npm_config_cache=str(tmp_path / "npm"), npm_config_noproxy="", npm_config_update_notifier="false"),
    )  # fmt: skip

    assert git[1].split() == ["1" * 40, "refs/heads/main"], git
    assert npm[1].strip() == "1.2.3", npm
    assert len(here.service.seen) >= 2
    assert await until(lambda: here.refused == [], "nothing was refused")
