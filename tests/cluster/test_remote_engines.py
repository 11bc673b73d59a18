"""An engine on another machine, over TCP with TLS: a check, a conversation, and certificates that are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.ids import Prefix, new_id
from tests.cluster.remote import Remote, a_remote
from tests.conftest import AgentImage
from tests.support.host import running

pytestmark = [pytest.mark.full, pytest.mark.docker]


@pytest.fixture(scope="module")
def remote(agent_image: AgentImage) -> Iterator[Remote]:
    with a_remote(agent_image.name) as found:
        yield found


async def test_a_check_and_a_conversation(remote: Remote, agent_image: AgentImage, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.environ["REQUESTS_CA_BUNDLE"] = str(remote.folder / "other-ca.pem")  # another authority, for everything else
    address = remote.tls()
    made: list[NodesRuntime] = []

    def make(install_id: str) -> NodesRuntime:
        run = tmp_path / "data" / "run"
        made.append(NodesRuntime(install_id, [Node("far", address)], run_folder=run, image=agent_image.name))
        return made[-1]

    settings = {"image": agent_image.name, "shared": True, "poll_seconds": 0.2, "silent_seconds": 60.0}
    async with running(tmp_path / "data", make_runtime=make, provider="echo", **settings) as host:
        assert (await made[0].check("far"))[0].isdigit()
        for number in range(3):
            assert (await host.ask(f"message {number}")).startswith(f"message {number}")
        (agent,) = (await host.do("status"))["agents"]
        assert agent["node"] == "far"


@pytest.mark.parametrize("files", [{"authority": "other-ca"}, {"certificate": "stranger"}, {"certificate": None}])
async def test_certificates_that_do_not_fit_are_refused(remote: Remote, files: dict[str, str | None]) -> None:
    runtime = DockerRuntime(new_id(Prefix.INSTALL), remote.tls(**files))  # type: ignore[arg-type]
    with pytest.raises(RuntimeUnavailable, match="no engine answers"):
        await runtime.facts()
    await runtime.close()
