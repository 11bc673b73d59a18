"""From the inside of a real container without network: the way out works, and no key is anywhere in reach."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from host.gateway.grant import Grant
from host.gateway.policy import parse_rule
from host.gateway.server import Gateway
from host.gateway.upstreams import Kind, Upstream
from host.runtime.docker import DockerRuntime
from host.sessions.folder import Owner
from shared_schema.clock import SystemClock
from tests.gateway.service import serving
from tests.gateway.world import CANARY, GROUP
from tests.runtime.agents import UID, eventually, session_folder, specification

pytestmark = pytest.mark.docker

AGENT = """
    import asyncio, json, os, sys, urllib.error, urllib.request
    from container_agent.forwarder import Forwarder, environment
    from shared_schema.layout import SessionLayout

    CANARY = "sk-" + "canary-0123456789abcdef"

    def ask(url, body=None):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as answer:
                return [answer.status, answer.read().decode()]
        except urllib.error.HTTPError as error:
            return [error.code, error.read().decode()]

    def found():
        \"\"\"Files in reach that have the key in them.\"\"\"
        places, read = [], 0
        for top in ("/proc", "/session", "/workspace", "/tmp", "/etc", "/app", "/run", "/var", "/dev/shm"):
            for folder, folders, names in os.walk(top):
                for name in names:
                    path = os.path.join(folder, name)
                    try:
                        if not (os.path.isfile(path) or top == "/proc") or path.endswith(("kmsg", "agent.py")):
                            continue
                        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                            content = file.read(1_000_000) or b""
                    except OSError:
                        continue
                    read += 1
                    if CANARY.encode() in content:
                        places.append(path)
        return places, read

    async def main():
        forwarder = Forwarder(SessionLayout(__import__("pathlib").Path("/session")))
        os.environ.update(environment(await forwarder.port()))
        call = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
        results = {
            "call": await asyncio.to_thread(ask, call, b"{}"),
            "listed": await asyncio.to_thread(ask, SERVICE + "/listed"),
            "not listed": await asyncio.to_thread(ask, "http://example.com/"),
        }
        places, read = await asyncio.to_thread(found)
        results |= {"environment": dict(os.environ), "found": places, "read": read}
        print("result " + json.dumps(results), flush=True)
        await forwarder.aclose()

    asyncio.run(main())
"""


async def test_a_container_without_network_calls_a_model_and_finds_no_key(
    docker_runtime: DockerRuntime, script_image: str, tmp_path: Path
) -> None:
    refused: list[tuple[str, str, str]] = []
    async with serving() as service:
        port = service.port
        layout = session_folder(tmp_path, AGENT.replace("SERVICE", f'"http://localtest.invalid:{port}"'))
        upstream = Upstream("anthropic", service.url, SecretStr(CANARY), Kind.ANTHROPIC)
        grant = Grant(GROUP, (parse_rule(f"localtest.invalid:{port}"),), {"anthropic": upstream})

        async def grant_of(session_id: str) -> Grant:
            return grant

        # The folder of these tests is anybody's to enter, and so is the socket when the host is not root.
        owner = Owner(UID, UID) if os.geteuid() == 0 else Owner.of_agents(UID)
        gateway = Gateway(
            grant_of, owner, SystemClock(), refused=lambda *told: refused.append(told), used=lambda *told: None
        )
        await gateway.open(layout.folder.name, layout)
        if os.geteuid() != 0:
            layout.gateway.chmod(0o666)
        agent = specification(layout, docker_runtime.install_id, image=script_image, uid=UID)
        handle = await docker_runtime.start(agent)

        async def ended() -> bool:
            return not (await docker_runtime.poll(handle)).alive

        await eventually(ended, limit=60)
        output = (await docker_runtime.logs(handle)).decode()
        await gateway.aclose()

    results = [line.removeprefix("result ") for line in output.splitlines() if line.startswith("result ")]
    assert results, output
    result = json.loads(results[-1])
    assert result["call"][0] == 200, result["call"]
    assert service.seen[0].headers["x-api-key"] == CANARY
    assert result["listed"][0] == 502  # it was let through, and nobody has that name
    assert result["not listed"][0] == 403
    assert [what for _, what, _ in refused] == ["http://example.com:80"]
    assert result["read"] > 100
    assert result["found"] == []
    assert CANARY not in output
