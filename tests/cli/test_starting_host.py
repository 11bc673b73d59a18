"""The second terminal is often quicker than the host in the first: a conversation waits for a host that is starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.api.client import NoHost
from host.cli.invocation import Invocation
from host.lock import held
from shared_schema.layout import DataLayout
from tests.cli.host import PlayedHost


def test_one_that_takes_too_long_is_said_to_be_starting_and_not_to_be_missing(tmp_path: Path) -> None:
    with (
        held(DataLayout(tmp_path), wait_seconds=0),
        pytest.raises(NoHost, match=r"still starting.*says that it is ready"),
    ):
        Invocation(tmp_path, starting_seconds=0.2).started_client()


def test_where_none_starts_nothing_is_waited_for(tmp_path: Path) -> None:
    client = Invocation(tmp_path, starting_seconds=3600).started_client()

    with pytest.raises(NoHost, match="no host is running"):
        client.call("status", {})


def test_one_that_answers_is_talked_to(data: Path, host: PlayedHost) -> None:
    host.operations["status"] = {"fine": True}
    with held(DataLayout(data), wait_seconds=0):
        assert Invocation(data).started_client().call("status", {}) == {"fine": True}
