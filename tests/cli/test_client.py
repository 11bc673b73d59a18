from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from host.api.client import HostClient, HostGone, NoHost, PathTooLong
from shared_schema.errors import Conflict, DumbwaiterError, FileDamaged, InvalidValue, NotFound
from tests.cli.host import PlayedHost, Raw


@pytest.fixture
def client(data: Path) -> HostClient:
    return HostClient(data / "host.sock", seconds=5)


def test_an_operation_gives_its_result(host: PlayedHost, client: HostClient) -> None:
    host.operations["agent_group.show"] = lambda params: {"name": params["name"]}

    assert client.call("agent_group.show", {"name": "assistant"}) == {"name": "assistant"}


@pytest.mark.parametrize("kind", [InvalidValue, NotFound, Conflict, FileDamaged, DumbwaiterError])
def test_an_error_of_the_host_is_raised_as_itself(
    host: PlayedHost, client: HostClient, kind: type[DumbwaiterError]
) -> None:
    host.operations["status"] = kind("it is so", where="there", hint="do this")

    with pytest.raises(kind) as raised:
        client.call("status", {})

    assert type(raised.value) is kind
    assert str(raised.value) == "it is so (there): do this"


def test_an_error_of_unknown_type_is_still_a_sentence(host: PlayedHost, client: HostClient) -> None:
    class Novelty(DumbwaiterError):
        """What a newer host may say."""

    host.operations["status"] = Novelty("something new")

    with pytest.raises(DumbwaiterError, match="something new"):
        client.call("status", {})


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b""])
def test_an_answer_that_is_not_the_hosts_is_refused(host: PlayedHost, client: HostClient, body: bytes) -> None:
    host.operations["status"] = Raw(body)

    with pytest.raises(HostGone, match="cannot be understood"):
        client.call("status", {})


def test_without_a_socket_there_is_no_host(client: HostClient, data: Path) -> None:
    with pytest.raises(NoHost, match=f"no host is running for {data}: start it with `dumbwaiter run --data {data}`"):
        client.call("status", {})


def test_a_stale_socket_is_no_host(client: HostClient, data: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(data / "host.sock"))

    with pytest.raises(NoHost):
        client.call("status", {})


def test_a_path_too_long_for_a_socket_is_said(data: Path) -> None:
    with pytest.raises(PathTooLong, match=r"longer than 107 bytes.*--data"):
        HostClient(data / ("x" * 100) / "host.sock").call("status", {})


def test_a_silent_host_is_not_waited_for_for_ever(data: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(data / "host.sock"))
        silent.listen()

        with pytest.raises(HostGone, match=r"did not answer within 0\.05 seconds"):
            HostClient(data / "host.sock", seconds=0.05).call("status", {})


def test_a_host_that_leaves_without_an_answer_is_said(host: PlayedHost, client: HostClient) -> None:
    def leave(_params: object) -> None:
        raise ConnectionResetError

    host.operations["status"] = leave

    with pytest.raises(HostGone, match="went away") as gone:
        client.call("status", {})
    assert "dumbwaiter run --data" in str(gone.value)


def test_a_stream_gives_its_entries_and_ends(host: PlayedHost, client: HostClient) -> None:
    host.streams["session.tail"] = [{"text": "one"}, Raw(b"\n"), {"text": "two"}]

    assert list(client.stream("session.tail", {"session": "s"})) == [{"text": "one"}, {"text": "two"}]


def test_a_stream_that_breaks_raises_after_what_came(host: PlayedHost, client: HostClient) -> None:
    def breaking(_params: object):  # type: ignore[no-untyped-def]
        yield {"text": "one"}
        raise NotFound("the session is gone")

    host.streams["session.tail"] = breaking
    stream = client.stream("session.tail", {})

    assert next(stream) == {"text": "one"}
    with pytest.raises(NotFound, match="the session is gone"):
        next(stream)


def test_a_stream_can_be_left_early(host: PlayedHost, client: HostClient) -> None:
    host.streams["session.tail"] = lambda _params: ({"number": number} for number in range(1_000_000))

    with closing(client.stream("session.tail", {})) as stream:
        assert next(stream) == {"number": 0}
