"""Packages and folders that agents ask for: made in the background, told, and taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.access.agent_acts import ACTS
from host.central.agent_groups import get_by_name
from host.runtime.layers import BuiltLayer, LayerRequest, dockerfile, name_of
from host.runtime.process import ProcessRuntime
from host.runtime.protocol import BuildFailed
from shared_schema import packages
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.packages import Packages
from tests.access.test_agents_ask import card, said
from tests.support.host import AGENT, Host, running
from tests.support.wait import until

PLAIN = "dumbwaiter-agent:0.1.0"


class Images:
    """What a builder of images has made; it outlives the hosts that use it."""

    def __init__(self) -> None:
        self.ids = {PLAIN: "sha256:plain"}
        self.built: list[LayerRequest] = []
        self.removed: list[str] = []
        self.fails = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()


class LayeredProcesses(ProcessRuntime):
    """Agents as processes, in a runtime that has images as well."""

    name = "layered"

    def __init__(self, install_id: str, folder: Path, images: Images) -> None:
        super().__init__(install_id, folder)
        self._images = images

    async def image_id(self, image: str) -> str | None:
        return self._images.ids.get(image)

    async def build_layer(self, request: LayerRequest) -> BuiltLayer:
        await self._images.goes_on.wait()
        if self._images.fails:
            raise BuildFailed(
                "the command returned 100", "Reading package lists…\nE: Unable to locate package nosuch\n"
            )
        self._images.built.append(request)
        self._images.ids[request.image] = f"sha256:{len(self._images.built)}"
        return BuiltLayer(self._images.ids[request.base], "Successfully installed")

    async def remove_image(self, image: str) -> None:
        self._images.ids.pop(image, None)
        self._images.removed.append(image)


@asynccontextmanager
async def with_images(data: Path, images: Images, *, policy: str = "allow", **settings: Any) -> AsyncIterator[Host]:
    """A host whose owner is ann, in the chat memory:one, and whose agents have images."""

    def make(install_id: str) -> LayeredProcesses:
        return LayeredProcesses(install_id, data / "run", images)

    async with running(data, make_runtime=make, **settings) as host:
        if not await host.do("role.list"):
            await host.do("role.grant", user="memory:ann", role="owner")
        await host.do("agent_group.set", name=AGENT, policies=[f"packages={policy}", f"mounts={policy}"])
        yield host


def install(**wanted: list[str]) -> str:
    return f"call install_packages {json.dumps({**wanted, 'reason': 'for the report'})}"


async def runs(host: Host) -> list[str]:
    return [row["run_id"] for row in await host.central("SELECT run_id FROM sessions WHERE kind = 'chat'")]


async def history(host: Host) -> list[tuple[int, str, bool, list[str], list[str]]]:
    found = await host.do("agent_image.list", name=AGENT)
    return [(each["number"], each["state"], each["in_use"], each["apt"], each["pip"]) for each in found]


async def test_packages_are_built_after_a_yes_while_the_agent_goes_on_and_then_it_is_replaced_and_told(
    tmp_path: Path,
) -> None:
    images = Images()
    images.goes_on.clear()
    async with with_images(tmp_path, images, policy="ask") as host:
        await host.say(install(apt=["ffmpeg"], pip=["pandas>=2,<3"]))
        text, code = await card(host)
        assert "Apt: ffmpeg" in text
        assert "Pip: pandas>=2,<3" in text
        await host.say(f"/approve {code}")
        await said(host, "Approved")
        await host.say("meanwhile")
        await said(host, "scripted: meanwhile")
        (before,) = await runs(host)
        images.goes_on.set()
        await said(
            host, "scripted: Your container was replaced by one that has what you asked for: ffmpeg, pandas>=2,<3."
        )
        await host.settled()
        assert await runs(host) != [before]
        assert await history(host) == [(1, "ready", True, ["ffmpeg"], ["pandas>=2,<3"])]
        (built,) = images.built
        (row,) = await host.central("SELECT layer, layer_image FROM agent_groups")
        assert (row["layer"], row["layer_image"]) == (1, built.image)
        assert built.base == PLAIN
        told = [text for text in host.texts() if "Your request is approved" in text]
        assert told == []  # one message, when all is there


async def test_a_build_that_fails_is_told_with_its_log_and_the_image_stays_as_it_was(tmp_path: Path) -> None:
    images = Images()
    async with with_images(tmp_path, images) as host:
        await host.say(install(apt=["ffmpeg"]))
        await said(host, "scripted: Your container was replaced")
        images.fails = True
        await host.say(install(apt=["nosuch"]))
        await said(host, "scripted: nosuch cannot be installed: the command returned 100. Your container is as it was.")
        await said(host, "scripted: E: Unable to locate package nosuch")
        await host.settled()
        assert await history(host) == [
            (2, "failed", False, ["ffmpeg", "nosuch"], []),
            (1, "ready", True, ["ffmpeg"], []),
        ]
        shown = await host.do("agent_image.log", name=AGENT, number=2)
        assert "Unable to locate" in shown["log"]
        assert shown["why"] == "the command returned 100"
        images.fails = False
        await host.say(install(pip=["pandas"]))
        await until(lambda: len(images.built) == 2, "the next one is built")
        assert images.built[-1].packages == Packages(("ffmpeg",), ("pandas",))


async def test_a_host_that_ends_over_a_build_goes_on_with_it_and_tells_once(tmp_path: Path) -> None:
    images = Images()
    images.goes_on.clear()
    async with with_images(tmp_path, images) as host:
        await host.say(install(pip=["pandas"]))
        await said(host, "The image of assistant is being built with pandas")

        async def is_built() -> bool:
            return [state for _, state, *_ in await history(host)] == ["building"]

        await until(is_built, "it is being built")
    images.goes_on.set()
    async with with_images(tmp_path, images) as host:
        await said(host, "scripted: Your container was replaced")
        await host.settled()
        assert len(images.built) == 1
        heard = await host.central("SELECT 1 FROM ingest WHERE sender_name = 'Dumbwaiter'")
        assert len(heard) == 1


async def test_a_container_is_replaced_between_turns_and_never_in_one(tmp_path: Path) -> None:
    images = Images()
    async with with_images(tmp_path, images) as host:
        asking = 'call ask_user_question {"question": "Go on?"}'
        await host.say(f"{install(pip=['pandas'])}\n{asking}\nreply 1 through")

        async def is_made() -> bool:
            return [state for _, state, *_ in await history(host)] == ["made"]

        await until(is_made, "it is built")
        (before,) = await runs(host)
        await until(lambda: any("Go on?" in text for text in host.texts()), "it asks")
        assert await runs(host) == [before]
        await host.say("yes")
        await said(host, "through 1")
        await said(host, "scripted: Your container was replaced")
        await host.settled()
        turns = await host.central("SELECT status FROM turns ORDER BY started_at")
        assert [row["status"] for row in turns] == ["completed", "completed"]
        assert await runs(host) != [before]


async def test_an_operator_goes_back_to_an_earlier_image_and_old_ones_are_removed(tmp_path: Path) -> None:
    images = Images()
    async with with_images(tmp_path, images) as host:
        for number, name in enumerate(["aa", "bb", "cc"], 1):
            await host.say(install(pip=[name]))
            await until(lambda number=number: _ready(host, number), f"{name} is there")  # type: ignore[misc]
        assert (await host.do("agent_image.rollback", name=AGENT))["pip"] == ["aa", "bb"]
        assert [number for number, _, used, *_ in await history(host) if used] == [2]
        assert (await host.do("agent_image.rollback", name=AGENT, number=3))["pip"] == ["aa", "bb", "cc"]
        assert (await host.do("agent_image.rollback", name=AGENT, number=0))["pip"] == []
        assert (await host.central("SELECT layer_image FROM agent_groups"))[0]["layer_image"] is None
        with pytest.raises(Conflict, match="there is none before it"):
            await host.do("agent_image.rollback", name=AGENT)
        with pytest.raises(NotFound, match="has no image 77"):
            await host.do("agent_image.rollback", name=AGENT, number=77)
        with pytest.raises(Conflict, match="has that image already"):
            await host.do("agent_image.rollback", name=AGENT, number=0)


async def _ready(host: Host, number: int) -> bool:
    return any(each[0] == number and each[1] == "ready" for each in await history(host))


async def test_another_image_below_gets_the_packages_anew(tmp_path: Path) -> None:
    images = Images()
    images.ids["mine:1"] = "sha256:mine"
    async with with_images(tmp_path, images) as host:
        await host.say(install(pip=["pandas"]))
        await until(lambda: _ready(host, 1), "it is there")
        await host.do("agent_group.set", name=AGENT, image="mine:1")
        await until(lambda: _ready(host, 2), "it is built on the other one")
        assert [request.base for request in images.built] == [PLAIN, "mine:1"]
        assert images.built[1].packages == Packages(pip=("pandas",))
        images.ids["mine:1"] = "sha256:newer"
    async with with_images(tmp_path, images) as host:
        await until(lambda: _ready(host, 3), "it is built anew on what is newer")


async def test_what_is_no_package_is_refused_on_both_sides_and_so_is_a_policy_of_no(tmp_path: Path) -> None:
    images = Images()
    async with with_images(tmp_path, images, policy="deny") as host:
        assert "is no package of pip" in await host.ask(install(pip=["--index-url=http://evil"]))
        assert "name the packages" in await host.ask(install())
        assert "its operator has set packages=deny" in await host.ask(install(pip=["pandas"]))
        group = await host.services.central.read(get_by_name, AGENT)
        for bad in ("$(reboot)", "-o=APT::x", "a;b", "x" * 200, ""):
            asked = {"apt": bad, "pip": None, "reason": "why"}
            with pytest.raises(InvalidValue):
                await host.services.central.write(lambda tx, asked=asked: ACTS["packages"].wish(tx, group, asked))
        assert images.built == []


async def test_agents_without_images_are_told_so(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        assert "agents run without images here" in await host.ask(install(pip=["pandas"]))
        mount = 'call request_mount {"path": "/srv", "name": "srv", "reason": "why"}'
        assert "agents run without containers here" in await host.ask(mount)


async def test_a_folder_is_mounted_after_a_yes_where_the_operator_allows_it(tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir(mode=0o755)
    data = tmp_path / "data"
    async with with_images(data, Images(), policy="ask") as host:
        (data / "mounts.toml").write_text(f'[[allow]]\npath = "{books}"\n')
        mount = {"path": str(books), "name": "books", "reason": "to read"}
        refused = "this folder may not be mounted under that name"
        assert refused in await host.ask(f"call request_mount {json.dumps(mount | {'path': '/etc'})}")
        assert refused in await host.ask(f"call request_mount {json.dumps(mount | {'path': '/nowhere'})}")
        assert "for reading only" in await host.ask(f"call request_mount {json.dumps(mount | {'access': 'write'})}")
        count = len(host.channel.sent)
        await host.say(f"call request_mount {json.dumps(mount)}")
        text, code = await card(host, count)
        assert f"Folder: {books}" in text
        await host.say(f"/approve {code}")
        await said(host, f"scripted: Your container was replaced: {books} is there as /mnt/books, for reading.")
        shown = await host.do("agent_group.show", name=AGENT)
        assert shown["mounts"] == [{"path": str(books), "name": "books", "writable": False}]


@pytest.mark.parametrize("package", ["ffmpeg", "libc6", "g++", "python3.11", "ffmpeg=7:5.1.6-0+deb12u1"])
def test_these_are_packages_of_debian(package: str) -> None:
    assert packages.problem("apt", package) is None


@pytest.mark.parametrize("package", ["pandas", "zope.interface", "pandas>=2,<3", "uvicorn[standard]==0.30.1", "a"])
def test_these_are_packages_of_python(package: str) -> None:
    assert packages.problem("pip", package) is None


@pytest.mark.parametrize("manager", packages.MANAGERS)
@pytest.mark.parametrize(
    "package",
    ["", " ", "-r", "--help", "a b", "a\nb", "./x", "/x", "../x", "a;b", "a|b", "$(x)", "`x`", "a&b", "git+https://x/y",
     "https://x/y.whl", "a @ https://x", "x" * 200, "ä", "a\0", "'a'", 'a"', "a\\b", "~/x", "*"],
)  # fmt: skip
def test_these_are_none(manager: packages.Manager, package: str) -> None:
    assert packages.problem(manager, package) is not None


def test_of_two_of_one_name_the_later_counts() -> None:
    first = Packages(("ffmpeg",), ("Pandas==1", "zope_interface"))
    assert first.with_more(Packages(pip=("pandas>=2", "zope-interface"))) == Packages(
        ("ffmpeg",), ("pandas>=2", "zope-interface")
    )


def test_a_build_is_what_was_asked_for_as_root_and_then_the_agents_user_again() -> None:
    request = LayerRequest(
        name_of("ins_00112233445566aa", "agr_ffeeddccbbaa9988", 3),
        "dumbwaiter-agent:0.1.0",
        Packages(("ffmpeg",), ("pandas>=2,<3",)),
        "ins_00112233445566aa",
        "10001:10001",
    )
    lines = dockerfile(request).splitlines()
    assert request.image == "dumbwaiter-layer:001122334455-ffeeddccbbaa9988-3"
    assert lines[:2] == ["FROM dumbwaiter-agent:0.1.0", "USER 0:0"]
    assert lines[2].startswith("RUN apt-get update -q && ")
    assert " ffmpeg && rm -rf" in lines[2]
    assert "'pandas>=2,<3'; rm -rf" in lines[4]
    assert lines[-1] == "USER 10001:10001"
    with pytest.raises(ValueError, match="is no package"):
        dockerfile(LayerRequest("i", "b", Packages(apt=("a; reboot",)), "ins_0", "1:1"))
