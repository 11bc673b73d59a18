"""Channels run beside each other: what one of them does reaches neither the host nor another, and is told."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from host import log as logs
from host.channels.build import FindType, settings_of
from host.channels.health import Health
from host.channels.memory import MemoryChannel
from host.channels.protocol import BaseChannel, ChannelRefused, ChannelUnavailable, Context, Ingest, Outgoing
from host.channels.registry import ChannelSettings, ChannelType, channel_type
from host.channels.running import REFUSED, UNAVAILABLE, RunningChannels
from host.routing.event import Incoming, Receipt
from host.secrets import hidden
from host.sessions.attachments import FileLimits
from shared_schema.clock import Clock, ManualClock
from shared_schema.errors import InvalidValue
from tests.support.host import running
from tests.support.registry import open_central
from tests.support.wait import until

TOKEN = "canary-8f3a91-token"
ROOT = Path(__file__).resolve().parents[2]


class Settings(ChannelSettings):
    token: SecretStr
    rooms: tuple[str, ...] = ()


class Played(BaseChannel):
    """A channel that starts and serves as a test says; what it raises comes with the token in it."""

    type = "played"

    def __init__(self, name: str, on_start: Callable[[], Any] = lambda: None) -> None:
        self.name = name
        self.starts = 0
        self.closes = 0
        self.on_start = on_start
        self.lost = asyncio.Event()

    async def start(self, ingest: Ingest) -> None:
        self.starts += 1
        self.lost.clear()
        result = self.on_start()
        if asyncio.iscoroutine(result):
            await result

    async def serve(self) -> None:
        await self.lost.wait()
        raise ChannelUnavailable("nothing was heard for a minute")

    async def deliver(self, message: Outgoing) -> str | None:
        return "1"

    async def close(self) -> None:
        self.closes += 1


async def ingest(event: Incoming) -> Receipt:
    return Receipt(())


def raising(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@asynccontextmanager
async def channels(
    data: Path, clock: Clock, *given: BaseChannel, find: FindType = channel_type, **tables: dict[str, Any]
) -> AsyncIterator[RunningChannels]:
    central = open_central(data / "central.db", clock)
    limits = FileLimits(1, 1, 1)
    runs = RunningChannels(central, clock, data / "downloads", limits, tables, given=list(given), find=find)  # type: ignore[arg-type]
    try:
        await runs.start(ingest)
        yield runs
    finally:
        await runs.close()
        central.close()


def state(runs: RunningChannels, name: str) -> dict[str, Any]:
    return next(each for each in runs.states() if each["name"] == name)


async def test_a_channel_that_hangs_or_fails_holds_up_no_other(tmp_path: Path, clock: ManualClock) -> None:
    hanging = Played("hanging", lambda: asyncio.Event().wait())
    broken = Played("broken", raising(RuntimeError("nobody foresaw this")))
    down = Played("down", raising(ChannelUnavailable("no route to host")))
    refused = Played("refused", raising(ChannelRefused("the token is refused", hint="make a new one")))
    well = Played("well")
    async with channels(tmp_path, clock, hanging, broken, down, refused, well) as runs:
        found = {each["name"]: (each["state"], each["reason"], each["hint"]) for each in runs.states()}

    assert found == {
        "hanging": ("starting", None, None),
        "broken": ("unavailable", "the channel failed: RuntimeError", "the host's log says more"),
        "down": ("unavailable", "no route to host", None),
        "refused": (
            "refused",
            "the token is refused",
            "make a new one; then type `dumbwaiter channel check refused`",
        ),
        "well": ("connected", None, None),
    }
    assert well.closes == 1


async def test_a_lost_connection_is_made_again_and_counted(tmp_path: Path, clock: ManualClock) -> None:
    channel = Played("one")
    async with channels(tmp_path, clock, channel) as runs:
        assert runs.why_not("one") is None
        channel.lost.set()
        await until(lambda: state(runs, "one")["state"] == "unavailable", "it is known that nothing is heard")
        why = runs.why_not("one")
        runs.try_again("one")
        await until(lambda: channel.starts == 2, "it is started again")
        again = state(runs, "one")

    assert why == "the channel one is not connected: nothing was heard for a minute"
    assert (again["state"], again["reconnects"], channel.closes) == ("connected", 1, 2)


def test_what_is_refused_is_asked_far_less_often_than_what_is_down() -> None:
    assert [UNAVAILABLE.after(failures) for failures in (1, 2, 3, 9, 99)] == [1, 2, 4, 60, 60]
    assert [REFUSED.after(failures) for failures in (1, 2, 9)] == [60, 120, 900]


async def test_a_type_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, clock: ManualClock) -> None:
    async with channels(tmp_path, clock, support={"type": "carrier-pigeon"}) as runs:
        found = state(runs, "support")

    assert (found["state"], found["type"]) == ("refused", "carrier-pigeon")
    assert found["reason"] == "there is no type of channel 'carrier-pigeon'"
    assert runs.channels == {}


def made(make: Callable[[Any, Context], Any], extra: str | None = None) -> ChannelType:
    return ChannelType("played", Settings, make, extra)


def test_a_setting_that_cannot_be_is_named_without_its_value() -> None:
    kind = made(lambda settings, context: None)

    with pytest.raises(InvalidValue, match=r"'token' is missing.*DUMBWAITER_CHANNELS__PLAYED__TOKEN"):
        settings_of(kind, "played", {})
    with pytest.raises(InvalidValue, match="'tokem' is unknown") as caught:
        settings_of(kind, "played", {"token": "t", "tokem": TOKEN})
    assert TOKEN not in str(caught.value)
    with pytest.raises(InvalidValue) as caught:
        settings_of(kind, "played", {"token": [TOKEN]})
    assert TOKEN not in str(caught.value) + repr(caught.value.__cause__)
    assert settings_of(kind, "played", {"token": "1234567", "rooms": '["a", "b"]'}).secrets() == ["1234567"]


SCRIPT = """
import asyncio, sys
from pathlib import Path
from host.channels.registry import installed, channel_type
print(installed(), channel_type("pigeon").name)
"""


def test_a_package_of_anybody_adds_a_type(tmp_path: Path) -> None:
    info = tmp_path / "pigeon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dumbwaiter.channels]\npigeon = pigeon_channel:TYPE\n")
    (tmp_path / "pigeon_channel.py").write_text(
        "from host.channels.registry import ChannelSettings, ChannelType\n"
        "TYPE = ChannelType('pigeon', ChannelSettings, lambda settings, context: None)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "'pigeon'" in result.stdout
    assert result.stdout.rstrip().endswith("pigeon")


def test_a_secret_is_in_no_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logs.keep_out([TOKEN])
    for form in (logs.JsonFormatter(ManualClock()), logs.TextFormatter(colour=False)):
        try:
            raise RuntimeError(f"POST https://api.example/bot{TOKEN}/getMe")
        except RuntimeError:
            record = logging.getLogger("x").makeRecord(
                "x", logging.ERROR, "f", 1, "to %s", (TOKEN,), sys.exc_info(), extra={"url": f"/{TOKEN}"}
            )
        line = form.format(record)
        assert TOKEN not in line
        assert line.count("[secret]") >= 3


def test_a_secret_is_hidden_as_urls_and_json_write_it() -> None:
    secret = 'a"b/c d:e'

    text = hidden('one a"b/c d:e two a%22b%2Fc%20d%3Ae three a\\"b/c d:e', [secret])

    assert text == "one [secret] two [secret] three [secret]"


async def test_what_waits_for_a_channel_goes_out_when_it_is_back(tmp_path: Path) -> None:
    channel = MemoryChannel()
    async with running(tmp_path, channel=channel, delivery_retry_seconds=120.0) as host:
        channel.is_down = True
        await host.say("hello")
        await until(lambda: channel.attempts >= 1, "the platform was tried")
        channel.is_down = False
        host.services.deliverer.channel_is_back("memory")

        assert [message.text for message in await channel.wait_for(1)] == ["scripted: hello"]


async def test_what_a_channel_remembers_outlives_it(tmp_path: Path, clock: ManualClock) -> None:
    async with channels(tmp_path, clock) as runs:
        remembered = runs.context("one", Health(clock)).state
        assert await remembered.get("offset") is None
        await remembered.set("offset", "7")
    async with channels(tmp_path, clock) as runs:
        assert await runs.context("one", Health(clock)).state.get("offset") == "7"
        assert await runs.context("other", Health(clock)).state.get("offset") is None


async def test_what_a_type_needs_and_is_not_there_is_told_with_the_line_to_type(
    tmp_path: Path, clock: ManualClock
) -> None:
    def make(settings: Any, context: Context) -> Any:
        raise ImportError("No module named 'pigeon'")

    async with channels(
        tmp_path, clock, find=lambda name: made(make, extra="telegram"), support={"type": "played", "token": TOKEN}
    ) as runs:
        found = state(runs, "support")

    assert found["reason"] == "what the type of channel 'played' needs is not installed"
    assert re.search(r"`\S+ -m pip install \S*.*\[telegram\]", found["hint"])


async def test_the_secrets_of_a_channel_are_in_nothing_that_is_told(tmp_path: Path, clock: ManualClock) -> None:
    def make(settings: Settings, context: Context) -> Any:
        url = f"https://api.example/bot{settings.token.get_secret_value()}/getMe"
        return Played(context.name, raising(ChannelUnavailable(f"GET {url} failed")))

    async with channels(
        tmp_path, clock, find=lambda name: made(make), support={"type": "played", "token": TOKEN}
    ) as runs:
        found = state(runs, "support")

    assert found["reason"] == "GET https://api.example/bot[secret]/getMe failed"


@pytest.mark.parametrize(
    ("said", "waited"),
    [(None, 60.0), (1e15, 86_400.0), (10**30, 86_400.0), (float("inf"), 86_400.0), (-5.0, 60.0), (float("nan"), 60.0)],
)
async def test_a_channel_is_tried_again_within_a_day_whatever_its_platform_says(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, said: float | None, waited: float
) -> None:
    too_fast = raising(ChannelUnavailable("too fast", retry_after=said))
    async with channels(tmp_path, clock, Played("one", too_fast)):
        pass
    waits = [record.wait for record in caplog.records if record.msg == "a channel is not connected"]
    assert waits
    assert all(wait <= waited for wait in waits)
    assert waited == 60.0 or waits == [waited]
