"""An engine on another machine, over TCP with TLS and over ssh: a check, a conversation, and refusals in sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from host.runtime.engine_address import EngineAddress, of_node
from host.runtime.nodes import Node, NodesRuntime
from host.runtime.protocol import RuntimeUnavailable
from shared_schema.ids import Prefix, new_id
from tests.cluster.remote import Remote, a_remote
from tests.conftest import AgentImage
from tests.support.host import running

pytestmark = [
    pytest.mark.full,
    pytest.mark.docker,
    # docker-py leaves the pipes of its ssh to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.fixture(scope="module")
def remote(agent_image: AgentImage) -> Iterator[Remote]:
    with a_remote(agent_image.name) as found:
        yield found


def ssh_with(remote: Remote, **files: str) -> None:
    """From now on `ssh` is one with these files."""
    os.environ["PATH"] = f"{remote.command(**files)}:{os.environ['PATH']}"


@pytest.mark.parametrize("way", ["tls", "ssh"])
async def test_a_check_and_a_conversation(remote: Remote, way: str, agent_image: AgentImage, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.environ["REQUESTS_CA_BUNDLE"] = str(remote.folder / "other-ca.pem")  # another authority, for everything else
    ssh_with(remote)
    address = remote.tls() if way == "tls" else remote.ssh
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


async def refusal(address: EngineAddress) -> str:
    """With what an engine is refused, and the hint."""
    runtime = DockerRuntime(new_id(Prefix.INSTALL), address)
    try:
        with pytest.raises(RuntimeUnavailable) as refused:
            await runtime.facts()
    finally:
        await runtime.close()
    return str(refused.value)


async def test_certificates_that_do_not_fit_are_refused_in_sentences(remote: Remote) -> None:
    of_another = await refusal(remote.tls(authority="other-ca"))
    assert "the engine's certificate is not signed by the authority that is set" in of_another
    assert "--authority ca.pem" in of_another
    for certificate in ("stranger", None):
        ours = await refusal(remote.tls(certificate=certificate))
        assert "refuses this host's certificate" in ours
        assert "--certificate cert.pem --key key.pem" in ours
    assert "the engine wants TLS there" in await refusal(of_node("far", remote.url))


@pytest.mark.parametrize(
    ("files", "sentence", "hint"),
    [
        ({"known": "unknown"}, "the ssh key of root@127.0.0.1 is not known here", "ssh root@127.0.0.1 true"),
        ({"known": "changed"}, "root@127.0.0.1 has another ssh key than the one that is known", "ssh-keygen -R"),
        ({"key": "other-key"}, "root@127.0.0.1 accepts no ssh key of this user", "ssh-copy-id root@127.0.0.1"),
    ],
)
async def test_keys_that_do_not_fit_are_refused_in_sentences(
    remote: Remote, files: dict[str, str], sentence: str, hint: str
) -> None:
    ssh_with(remote, **files)
    said = await refusal(remote.ssh)
    assert sentence in said
    assert hint in said
