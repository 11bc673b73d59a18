"""From the inside of a real container without network: the way out works, and no key is anywhere in reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from host.gateway.grant import Grant
from host.gateway.policy import parse_rule
from host.gateway.upstreams import Upstream, UpstreamKind
from host.runtime.docker import DockerRuntime
from tests.gateway import inside
from tests.gateway.service import serving
from tests.gateway.world import CANARY, GROUP, open_to_container
from tests.runtime.agents import UID, eventually, session_folder, specification

pytestmark = pytest.mark.docker

AGENT = """
    import asyncio, json, os, sys, urllib.error, urllib.request
    import inside  # beside this file
    from container_agent.forwarder import Forwarder, environment
    from shared_schema.layout import SessionLayout

    CANARY = "sk-" + "canary-0123456789abcdef"  # in two parts: this file is searched, too

    def ask(url, body=None):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as answer:
                return [answer.status, answer.read().decode()]
        except urllib.error.HTTPError as error:
            return [error.code, error.read().decode()]

    async def main():
        forwarder = Forwarder(SessionLayout(__import__("pathlib").Path("/session")))
        os.environ.update(environment(await forwarder.port()))
        call = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
        results = {
            "call": await asyncio.to_thread(ask, call, b"{}"),
            "listed": await asyncio.to_thread(ask, SERVICE + "/listed"),
            "not listed": await asyncio.to_thread(ask, "http://example.com/"),
        }
        places, read = await asyncio.to_thread(inside.files_with, CANARY)
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
        shutil.copy(inside.__file__, layout.folder)
        (layout.folder / "inside.py").chmod(0o644)
        upstream = Upstream("anthropic", service.url, SecretStr(CANARY), UpstreamKind.ANTHROPIC)
        grant = Grant(GROUP, (parse_rule(f"localtest.invalid:{port}"),), {"anthropic": upstream})

        async with open_to_container(layout, grant, lambda *told: refused.append(told)):
            agent = specification(layout, docker_runtime.install_id, image=script_image, uid=UID)
            handle = await docker_runtime.start(agent)

            async def ended() -> bool:
                return not (await docker_runtime.poll(handle)).alive

            await eventually(ended, limit=60)
            output = (await docker_runtime.logs(handle)).decode()

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
