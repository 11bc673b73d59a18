"""The host's own API under load: many commands at once, bodies that do not come, connections that say nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from host.api.client import HostClient, HostGone
from host.api.server import ApiServer
from tests.support.daemon import Daemon, daemon
from tests.support.host import running

AT_ONCE = 500
STATUS = b"POST /v1/operations/status HTTP/1.1\r\nHost: dumbwaiter\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"


def _connect(host: Daemon) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(str(host.layout.socket))
    return connection


def _answer(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def test_five_hundred_commands_at_once_are_all_answered(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host, ExitStack() as open_ones:
        assert host.process is not None
        os.kill(host.process.pid, signal.SIGSTOP)  # so that all of them are there at once
        try:
            connections = [open_ones.enter_context(closing(_connect(host))) for _ in range(AT_ONCE)]
            for connection in connections:
                connection.sendall(STATUS + b"{}")
        finally:
            os.kill(host.process.pid, signal.SIGCONT)
        answers = [_answer(connection) for connection in connections]
        assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
        assert all(json.loads(answer.rpartition(b"\r\n\r\n")[2])["result"]["host"]["running"] for answer in answers)


def test_json_is_not_read_in_a_charset_that_its_sender_chooses(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as host, closing(_connect(host)) as connection:
        head = STATUS.replace(
            b"Content-Length: 2", b"Content-Type: application/json; charset=punycode\r\nContent-Length: 2"
        )
        connection.sendall(head + b"{}")
        assert _answer(connection).startswith(b"HTTP/1.1 200 OK")


async def test_bodies_that_do_not_come_are_given_up_and_keep_no_command_from_being_answered(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as host:
        path = host.services.settings.layout.socket
        api = ApiServer(host.services, body_seconds=0.5)
        await api.start()
        try:
            silent = [await asyncio.open_unix_connection(str(path)) for _ in range(40)]
            for number, (_, writer) in enumerate(silent):
                writer.write(STATUS if number % 2 else STATUS.replace(b"Length: 2", b"Length: 4000000"))
            client = HostClient(path, seconds=60)
            answered = await asyncio.to_thread(client.call, "status", {})
            assert answered["host"]["running"]
            for reader, writer in silent:
                async with asyncio.timeout(60):
                    assert b"did not come within 0.5 seconds" in await reader.read()
                writer.close()
        finally:
            await api.close()


async def test_who_changes_something_is_in_the_log_and_who_looks_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path / "data") as host:
        api = ApiServer(host.services)
        await api.start()
        try:
            client = HostClient(host.services.settings.layout.socket, seconds=60)
            await asyncio.to_thread(client.call, "agent_group.add", {"name": "second", "provider": "echo"})
            await asyncio.to_thread(client.call, "agent_group.list", {})
            await asyncio.to_thread(client.call, "status", {})
        finally:
            await api.close()
    (line,) = [record.__dict__ for record in caplog.records if record.message == "something was changed"]
    assert (line["operation"], line["by"], line["of"]) == ("agent_group.add", f"uid {os.getuid()}", "second")


def test_a_client_waits_for_room_where_the_queue_of_the_socket_is_full(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as full, ExitStack() as open_ones:
        full.bind(str(path))
        full.listen(0)
        first = open_ones.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
        first.connect(str(path))
        began = time.monotonic()
        with pytest.raises(HostGone, match="cannot be reached"):
            HostClient(path, seconds=0.3).call("status", {})
        assert time.monotonic() - began >= 0.3
