"""While an agent works its chat is shown that; an answer that grows is one whole message in the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from host.channels.memory import MemoryChannel
from host.channels.protocol import Capabilities, ChannelUnavailable, Outgoing
from shared_schema.rows import Address
from tests.support.host import AGENT, CHAT, running
from tests.support.wait import until


@dataclass
class Showing(MemoryChannel):
    """A platform that shows typing and lets replies grow. `now` is each message as people see it at the moment."""

    can: Capabilities = field(
        default_factory=lambda: Capabilities(typing_seconds=1.0, draft_seconds=(0.2, 0.2), edits=True)
    )
    typed: int = 0
    now: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    typing_fails: bool = False
    is_away: bool = False
    refused: int = 0
    """How often a draft could not be brought to its end."""

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return self.can

    async def typing(self, address: Address) -> None:
        self.typed += 1
        if self.typing_fails:
            raise ChannelUnavailable("later", retry_after=0.1)

    async def deliver(self, message: Outgoing) -> str | None:
        if message.draft_id is not None and self.is_away:
            self.refused += 1
            raise ChannelUnavailable("later", retry_after=0.05)
        if message.draft_id is not None:
            self.now[message.draft_id] = message.text
            await super().deliver(message)
            return message.draft_id
        made = await super().deliver(message)
        assert made is not None
        self.now[made] = message.text
        self.seen.append(message.text)
        return made

    async def edit(self, address: Address, platform_message_id: str, text: str, buttons: Any) -> None:
        self.now[platform_message_id] = text
        self.seen.append(text)


async def test_typing_is_shown_until_the_answer_and_renewed(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        receipt = await host.say("think 2.5")
        await until(lambda: channel.typed >= 2, "it is shown again")
        await host.outcome(receipt.accepted[0].message_id)
        await host.settled()
        await until(lambda: not host.services.progress.at_work, "nothing is shown any more")


async def test_a_wiring_can_switch_it_off(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, progress="off")
        await host.ask("think 1.2")

    assert channel.typed == 0


async def test_a_platform_that_cannot_show_it_holds_up_nothing(tmp_path: Path) -> None:
    channel = Showing(typing_fails=True)
    async with running(tmp_path, channel=channel) as host:
        assert await host.ask("hello") == "scripted: hello"


WORDS = "Once upon a time there was a lift between two floors which carried trays"


async def drafting(host: Any) -> None:
    await host.do("wiring.add", messaging_group=CHAT, agent_group=AGENT, progress="draft")


async def test_an_answer_grows_in_one_message_and_is_whole_in_the_end(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        receipt = await host.say(f"write 0.3 {WORDS}")
        await host.outcome(receipt.accepted[0].message_id)
        await host.settled()
        rows = await host.central("SELECT platform_message_id FROM deliveries")
        left = await host.central("SELECT * FROM drafts")

    assert channel.now == {"mem-1": WORDS}
    assert channel.seen
    assert all(WORDS.startswith(text) and len(text) < len(WORDS) for text in channel.seen)
    assert rows == [{"platform_message_id": "mem-1"}]
    assert left == []


async def test_after_a_restart_the_answer_still_is_one_whole_message(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        receipt = await host.say(f"write 0.3 {WORDS}")
        await until(lambda: channel.seen, "the answer grows")
    async with running(tmp_path, channel=channel) as host:
        await host.outcome(receipt.accepted[0].message_id)
        await host.settled()

    assert channel.now == {"mem-1": WORDS}


async def test_an_answer_that_is_stopped_says_so(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        await host.say(f"write 0.3 {WORDS}")
        await until(lambda: channel.seen, "the answer grows")
        await host.say("/stop")
        await until(lambda: channel.now["mem-1"].endswith("(This answer was interrupted.)"), "it says so", 60)
        await until(lambda: not host.services.progress.at_work, "nothing is shown any more")
        assert await host.central("SELECT * FROM drafts") == []


async def test_an_answer_that_is_stopped_says_so_once_its_platform_is_back(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        await host.say(f"write 0.3 {WORDS}")
        await until(lambda: channel.seen, "the answer grows")
        channel.is_away = True
        await host.say("/stop")
        await until(lambda: channel.refused >= 3, "it is tried again", 30)
        assert not channel.now["mem-1"].endswith("(This answer was interrupted.)")
        channel.is_away = False
        await until(lambda: channel.now["mem-1"].endswith("(This answer was interrupted.)"), "it says so", 30)
        await until(lambda: not host.services.progress.at_work, "nothing is shown any more")
        assert await host.central("SELECT * FROM drafts") == []


async def test_an_answer_does_not_grow_in_one_that_was_stopped_while_its_platform_was_away(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        await host.say(f"write 0.3 {WORDS}")
        await until(lambda: channel.seen, "the answer grows")
        channel.is_away = True
        await host.say("/stop")
        await until(lambda: channel.refused >= 1, "its end cannot be said", 30)
        await host.say(f"write 0.1 {WORDS}")
        await until(lambda: _has_no_draft(host), "it is left as it is", 30)
        channel.is_away = False
        await until(lambda: WORDS in channel.now.values(), "the next answer is there", 30)
        assert channel.now["mem-1"] != WORDS


async def _has_no_draft(host: Any) -> bool:
    return await host.central("SELECT * FROM drafts") == []


async def test_a_turn_that_fails_leaves_no_half_answer(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel, max_retries=0) as host:
        await drafting(host)
        receipt = await host.say(f"write 0.3 {WORDS}\nfail the model is away")
        assert await host.outcome(receipt.accepted[0].message_id) == "failed"
        await host.settled()
        await until(lambda: not host.services.progress.at_work, "nothing is shown any more", 60)

    assert not any(text != WORDS and WORDS.startswith(text) for text in channel.now.values()), channel.now


async def test_a_long_tool_run_says_what_it_does(tmp_path: Path) -> None:
    channel = Showing()
    async with running(tmp_path, channel=channel) as host:
        await drafting(host)
        receipt = await host.say("tool tests 8")
        await host.outcome(receipt.accepted[0].message_id)
        await host.settled()

    assert any(text.startswith("⏳ tests, ") for text in channel.seen)
    assert channel.now == {"mem-1": "tests is done"}


async def test_an_answer_grows_as_often_as_the_platform_allows_and_less_in_groups(tmp_path: Path) -> None:
    """A platform that is edited too often refuses the last edit as well."""
    times: dict[str, list[float]] = {"direct": [], "team": []}

    class Timed(Showing):
        async def edit(self, address: Address, platform_message_id: str, text: str, buttons: Any) -> None:
            times[address.platform_id].append(time.monotonic())
            await super().edit(address, platform_message_id, text, buttons)

    pace = (0.4, 2.5)
    channel = Timed(can=Capabilities(typing_seconds=1.0, draft_seconds=pace, edits=True))
    async with running(tmp_path, channel=channel) as host:
        for chat in times:
            address = f"memory:{chat}"
            await host.do("messaging_group.add", address=address, is_group=chat == "team", unknown_sender="public")
            await host.do("wiring.add", messaging_group=address, agent_group=AGENT, progress="draft")
        said = [await host.say(f"write 0.3 {WORDS} {WORDS}", chat=chat, message_id=f"m-{chat}") for chat in times]
        for receipt in said:
            await host.outcome(receipt.accepted[0].message_id)
        await host.settled()

    for chat, least in zip(times, pace, strict=True):
        assert times[chat], chat
        assert all(after - before >= least - 0.05 for before, after in pairwise(times[chat])), chat
    assert len(times["team"]) < len(times["direct"])
