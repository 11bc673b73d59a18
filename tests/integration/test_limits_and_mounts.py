"""What an engine would refuse when an agent is started is refused when it is set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from host.operations.doctor import check_mounts
from host.sessions.folder import Owner
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.layout import DataLayout
from tests.support.host import AGENT, running


async def test_limits_that_an_engine_will_refuse_are_refused_at_once(tmp_path: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"memory_bytes": 4 * 1024**2},
        {"memory_bytes": 2**60},
        {"cpus": 0.001},
        {"cpus": 1e9},
        {"pids": 1},
        {"pids": 5_000_000},
        {"image": "Not An Image"},
        {"image": "name:"},
        {"image": ""},
    ]
    async with running(tmp_path / "data") as host:
        for limits in refused:
            with pytest.raises(InvalidValue):
                await host.do("agent_group.set", name=AGENT, **limits)
        for limits in (
            {"memory_bytes": 32 * 1024**2, "cpus": 0.01, "pids": 8},
            {"image": "localhost:5000/team/agent:1.0"},
            {"image": f"agent@sha256:{'0' * 64}"},
        ):
            await host.do("agent_group.set", name=AGENT, **limits)


async def test_gpus_of_plain_processes_are_refused_because_they_cannot_be_given(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        with pytest.raises(InvalidValue, match="between 1 and 64"):
            await host.do("agent_group.set", name=AGENT, gpus=100)
        with pytest.raises(Conflict, match="each sees every GPU of this machine"):
            await host.do("agent_group.set", name=AGENT, gpus=1)


async def test_a_folder_in_which_agents_may_not_do_what_is_asked_is_refused(
    tmp_path: Path,
) -> None:
    books = tmp_path / "books"
    books.mkdir()
    books.chmod(0o555 if os.geteuid() != 0 else 0o755)
    data = tmp_path / "data"
    uid = Owner.of_agents(10001).uid
    async with running(data) as host:
        mount = {"path": str(books), "name": "books", "writable": True}
        allow(data, books, writable=False)
        with pytest.raises(Conflict, match=r"for reading only .*leave out ':rw'"):
            await host.do("agent_group.set", name=AGENT, add_mount=mount)
        allow(data, books, writable=True)
        with pytest.raises(Conflict, match=rf"uid {uid}, may not write .*setfacl -m u:{uid}:rwx {books}"):
            await host.do("agent_group.set", name=AGENT, add_mount=mount)
        await host.do("agent_group.set", name=AGENT, add_mount=mount | {"writable": False})
        books.chmod(0o777)
        await host.do("agent_group.set", name=AGENT, add_mount=mount)
        books.chmod(0o700)
        if os.geteuid() == 0:
            (trouble,) = check_mounts(host.services.settings)
            assert f"/mnt/books of '{AGENT}': agents, which are uid {uid}, may not read" in trouble.what


def allow(data: Path, folder: Path, *, writable: bool) -> None:
    text = f'[[allow]]\npath = "{folder}"\nwritable = {str(writable).lower()}\n'
    DataLayout(data).mounts.write_text(text)
