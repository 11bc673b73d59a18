"""Chats on Telegram and by webhook, beside those of the soak's own platforms: written in, edited, cut off, and judged.

Both platforms live outside the host and speak to it over sockets; they remember everything when it dies. What is asked
for has a word of its own, so that every answer is known wherever it comes: once, in its chat, in its order.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.channels.contract import Fault
from tests.channels.test_webhook_contract import WebhookPlatform
from tests.platforms import telegram
from tests.platforms.telegram import TelegramServer
from tests.soak.plan import Plan
from tests.soak.verdict import Verdict

BOT_GROUP = "bellboy"
_FIRST_CHAT = 5_000
_EDITED_SHARE = 0.2
_LONGEST_BURST = 4
_ROWS = """
SELECT i.platform_message_id, i.status, i.error, i.session_id, i.trigger, EXISTS (
    SELECT 1 FROM deliveries d WHERE d.session_id = i.session_id AND d.in_reply_to = i.message_id
    AND d.status = 'uncertain') AS in_doubt
FROM ingest i JOIN agent_groups a ON a.id = i.agent_group_id
WHERE a.name = ? AND i.channel_type = ? AND i.platform_id = ?
ORDER BY i.position
"""


@dataclass
class Said:
    """A message of a person's: the platform's id of it, and the words of its texts (two when it was edited)."""

    platform: str
    chat: str
    id: str
    words: list[str]


@dataclass
class Bots:
    """Both platforms, and the people there."""

    plan: Plan
    open_messages: Callable[[], int]
    said: list[Said] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._source = self.plan.stream("bots")
        self._numbers = itertools.count(1)
        self._telegram = TelegramServer()
        self._webhook = WebhookPlatform()

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """`[channels]` of the host."""
        if not self.plan.bot_chats:
            return {}
        quick = {"poll_seconds": 3.0, "probe_seconds": 1.0, "timeout_seconds": 4.0}
        return {
            "telegram": {"token": self._telegram.token, "api_url": self._telegram.url, **quick},
            "webhook": self._webhook.settings(),
        }

    async def open(self) -> None:
        """Serve."""
        if self.plan.bot_chats:
            await self._telegram.start()
            await self._webhook.start()

    async def close(self) -> None:
        """Serve no more."""
        await self._telegram.stop()
        await self._webhook.end()

    async def set_up(self, call: Callable[..., Awaitable[Any]]) -> None:
        """Their agent group, and the chats of both."""
        if not self.plan.bot_chats:
            return
        await call("agent_group.add", name=BOT_GROUP, provider="scripted")
        for chat in (*(f"telegram:{chat}" for chat in self._chats), f"webhook:{self._webhook.chat}"):
            await call("messaging_group.add", address=chat, unknown_sender="public")
            await call("wiring.add", messaging_group=chat, agent_group=BOT_GROUP)

    async def write(self) -> None:
        """Burst after burst until cancelled; some messages are edited a moment later."""
        async with asyncio.TaskGroup() as edits:
            while self.plan.bot_chats:
                await asyncio.sleep(self._source.expovariate(1 / self.plan.between_bursts) * 2)
                while self.open_messages() > 2 * self.plan.sessions:
                    await asyncio.sleep(0.2)
                is_hook = self._source.random() < 0.3
                chat = self._source.choice(self._chats)
                for _ in range(self._source.randint(1, _LONGEST_BURST)):
                    if is_hook:
                        await self._post()
                    else:
                        self._say(chat, edits)

    async def trouble(self) -> None:
        """One outage or bad answer after the other until cancelled."""
        while self.plan.bot_chats:
            await asyncio.sleep(self._source.uniform(1.0, 8.0))
            what = self._source.choice(("telegram down", "webhook down", "bad answers", "bad answers"))
            self.happened[what] += 1
            match what:
                case "telegram down":
                    await self._telegram.stop()
                    await asyncio.sleep(self._source.uniform(0.5, 6.0))
                    await self._telegram.start()
                case "webhook down":
                    await self._webhook.stop()
                    await asyncio.sleep(self._source.uniform(0.5, 6.0))
                    await self._webhook.start()
                case _:
                    faults = (telegram.drop_before, telegram.drop_after, telegram.status(500), telegram.status(429, 1))
                    bad = (Fault.DROPS_BEFORE, Fault.DROPS_AFTER, Fault.FAILS, Fault.TOO_MANY)
                    fault, other = self._source.choice(faults), self._source.choice(bad)
                    # One at a time: what nobody calls must not pile faults up, which would outlive the trouble.
                    if not self._telegram.send_faults:
                        self._telegram.send_faults.append(fault)
                    if not self._webhook.has_faults:
                        await self._webhook.fault(other, seconds=1)

    async def heal(self) -> None:
        """From now on both are well."""
        if self.plan.bot_chats:
            self._telegram.send_faults.clear()
            self._webhook.heal()
            await self._telegram.stop()
            await self._telegram.start()
            await self._webhook.stop()
            await self._webhook.start()

    @property
    def unaccepted(self) -> int:
        """What people have done that the host has not taken yet."""
        return len(self._telegram.pending) + self._webhook.unposted

    async def judge(self, central: Path, left: set[str], verdict: Verdict) -> None:
        """Add what became of every message. `left` are the sessions that were stopped or reset by somebody."""
        if not self.plan.bot_chats:
            return
        heard: dict[tuple[str, str], list[str]] = defaultdict(list)
        for message in self._telegram.sent:
            heard["telegram", str(message["chat"]["id"])].append(message.get("text", ""))
        for arrived in await self._webhook.arrived():
            heard["webhook", arrived.chat].append(arrived.text)
        places = sorted({(each.platform, each.chat) for each in self.said})
        rows = await asyncio.to_thread(_ledger, central, places)
        for place in places:
            judge_chat([each for each in self.said if (each.platform, each.chat) == place], rows[place], heard[place],
                       left, verdict)  # fmt: skip
        verdict.fault("a bot: calls that Telegram does not know", self._telegram.complaints)

    @property
    def _chats(self) -> list[int]:
        return [_FIRST_CHAT + number for number in range(self.plan.bot_chats)]

    def _say(self, chat: int, edits: asyncio.TaskGroup) -> None:
        word = f"word-{next(self._numbers)}"
        message = self._telegram.say(f"reply 1 {word}", chat=chat)
        said = Said("telegram", str(chat), str(message["message_id"]), [word])
        self.said.append(said)
        if self._source.random() < _EDITED_SHARE:
            edits.create_task(self._edit(said, message, self._source.choice((0.0, 0.05, 1.0))))

    async def _edit(self, said: Said, message: dict[str, Any], seconds: float) -> None:
        await asyncio.sleep(seconds)
        said.words.append(f"{said.words[0]}-changed")
        self._telegram.edit(message, f"reply 1 {said.words[1]}")
        self.happened["edits"] += 1

    async def _post(self) -> None:
        word = f"word-{next(self._numbers)}"
        message_id = await self._webhook.write(f"reply 1 {word}")
        self.said.append(Said("webhook", self._webhook.chat, message_id, [word]))


def judge_chat(
    said: Sequence[Said], rows: Sequence[dict[str, Any]], heard: Sequence[str], left: set[str], verdict: Verdict
) -> None:
    """What became of the messages of one chat. Pure."""
    times = Counter(heard)
    of_message: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["trigger"]:  # what was changed after it was answered is context
            of_message[row["platform_message_id"].partition("/")[0]].append(row)
    places: list[int] = []
    for each in said:
        answers = sum(times[f"{word} 1"] for word in each.words)
        standing = [row for row in of_message[each.id] if not (row["status"] == "cancelled" and row["error"])]
        what = f"{each.platform}:{each.chat} {each.words[0]}"
        verdict.outcomes["of a bot: said"] += 1
        if answers > 1:
            verdict.fault("a bot: doubled", [what])
        if len(standing) != 1:
            verdict.fault("a bot: not in the ledger once", [f"{what}: {len(standing)}"])
            continue
        (row,) = standing
        verdict.outcomes[f"of a bot: {row['status']}"] += 1
        if row["status"] == "completed" and not answers and not row["in_doubt"] and row["session_id"] not in left:
            verdict.fault("a bot: lost", [what])
        if row["status"] == "cancelled" and row["session_id"] not in left:
            verdict.fault("a bot: cancelled unasked", [what])
        if len(each.words) == 1 and answers:
            places.append(heard.index(f"{each.words[0]} 1"))
    verdict.fault("a bot: out of order", (str(pair) for pair in pairwise(places) if pair[0] > pair[1]))
    for name in ("a bot: doubled", "a bot: not in the ledger once", "a bot: lost", "a bot: cancelled unasked"):
        verdict.fault(name, ())


def _ledger(central: Path, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    with closing(sqlite3.connect(f"file:{central}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return {place: [dict(row) for row in connection.execute(_ROWS, (BOT_GROUP, *place))] for place in places}
