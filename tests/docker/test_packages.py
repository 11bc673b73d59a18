"""Packages that an agent asks for, installed by a real engine from an index on this machine, and taken back."""

from __future__ import annotations

import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from host.runtime.layers import REPOSITORY
from tests.conftest import AgentImage
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

pytestmark = pytest.mark.docker

WHEEL = "teapot-1.0-py3-none-any.whl"
SAYS = 'call bash {"command": "python3 -c \\"import teapot; print(teapot.SAID)\\" 2>&1 | tail -1"}'


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """A package index with one package; its URL."""
    package = folder / "simple" / "teapot"
    package.mkdir(parents=True)
    with zipfile.ZipFile(package / WHEEL, "w") as wheel:
        wheel.writestr("teapot.py", 'SAID = "short and stout"\n')
        about = "teapot-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: teapot\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (package / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.fixture
def clean() -> Iterator[None]:
    """Whatever layers a test has left are removed."""
    before = layers()
    yield
    for image in layers() - before:
        subprocess.run(["docker", "rmi", "-f", image], check=True, capture_output=True)


def layers() -> set[str]:
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]
    return set(subprocess.check_output(command, text=True).split())


def install(package: str, manager: str = "pip") -> str:
    return f"call install_packages {json.dumps({manager: [package], 'reason': 'tea'})}"


async def said(host: Host, beginning: str) -> None:
    """Wait for what comes of a build, which takes a while on a busy machine."""
    await until(lambda: [text for text in host.texts() if text.startswith(beginning)], f"'{beginning}' is said", 300)


async def answer(host: Host, text: str) -> str:
    """What the agent answers to one line, when everything before is settled."""
    await host.settled()
    return await host.ask(text)


@pytest.mark.usefixtures("clean")
async def test_a_package_is_installed_is_there_after_the_turn_and_can_be_taken_back(
    tmp_path: Path, agent_image: AgentImage
) -> None:
    with index(tmp_path / "index") as url:
        options = {"image": agent_image.name, "build_network": "host", "pip_index": url}
        async with running(tmp_path / "data", make_runtime=DockerRuntime, **options) as host:
            await host.do("agent_group.set", name=AGENT, policies=["packages=allow"])
            assert "No module named 'teapot'" in await answer(host, SAYS)
            await host.say(install("teapot"))
            await said(host, "scripted: Your container was replaced by one that has what you asked for: teapot.")
            assert await answer(host, SAYS) == "short and stout"
            await host.say(install("coffeepot"))
            await said(host, "scripted: coffeepot cannot be installed: No matching distribution found for coffeepot.")
            assert await answer(host, SAYS) == "short and stout"
            failed, ready = await host.do("agent_image.list", name=AGENT)
            assert (failed["state"], ready["state"], ready["in_use"]) == ("failed", "ready", True)
            shown = await host.do("agent_image.log", name=AGENT, number=failed["number"])
            assert "No matching distribution found for coffeepot" in shown["log"]
            await host.do("agent_image.rollback", name=AGENT)
            assert "No module named 'teapot'" in await answer(host, SAYS)


@pytest.mark.full
@pytest.mark.usefixtures("clean")
async def test_a_package_of_debian_is_installed_and_one_that_debian_has_not_is_said(
    tmp_path: Path, agent_image: AgentImage
) -> None:
    """Debian's own mirror is asked, in the network of this machine."""
    options = {"image": agent_image.name, "build_network": "host"}
    async with running(tmp_path / "data", make_runtime=DockerRuntime, **options) as host:
        await host.do("agent_group.set", name=AGENT, policies=["packages=allow"])
        await host.say(install("hello", "apt"))
        await said(host, "scripted: Your container was replaced by one that has what you asked for: hello.")
        assert await answer(host, 'call bash {"command": "hello -t"}') == "hello, world"
        await host.say(install("no-such-package", "apt"))
        await said(host, "scripted: no-such-package cannot be installed: Unable to locate package no-such-package")
        assert await answer(host, 'call bash {"command": "hello -t"}') == "hello, world"
        failed, ready = await host.do("agent_image.list", name=AGENT)
        assert (failed["state"], ready["state"], ready["in_use"]) == ("failed", "ready", True)
