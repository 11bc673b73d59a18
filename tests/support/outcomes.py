"""What became of everything that was asked in two chats, looked at from outside: the files of a data folder.

The rules: what was accepted has one outcome; the replies came once, in the order of the questions; every file of the
host and of the agent says the same; nothing is damaged, and nothing is left over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.api.client import HostGone, NoHost
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout
from tests.support.failpoints import MortalDaemon
from tests.support.host import rows
from tests.support.wait import until_sync

AGENT = "assistant"
_UNSETTLED = """
SELECT (SELECT count(*) FROM ingest WHERE status = 'pending' OR (recorded = 0 AND session_id IS NOT NULL))
     + (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending') OR recorded = 0) AS n
"""
_LEDGER = "SELECT * FROM ingest WHERE channel_type = ? AND platform_id = ? ORDER BY position"
_OUT = """
SELECT * FROM deliveries WHERE channel_type = ? AND platform_id = ? AND from_host = 0 ORDER BY position
"""
_LETTERS = "SELECT * FROM terminal_mailbox WHERE platform_id = ? ORDER BY position"

Row = dict[str, Any]
Said = tuple[str, str]
"""The id of the message that is answered, and the text."""


@dataclass
class Asked:
    """One question. `message_id` once somebody was told that it is accepted."""

    chat: str
    text: str
    key: str
    file: Path | None = None
    message_id: str | None = None


class Conversation:
    """Two chats of a host, wired to an agent group whose provider is `scripted`."""

    def __init__(self, host: MortalDaemon, *, channel: str = "cli", agent_group: str = AGENT) -> None:
        self.host = host
        self.asked: list[Asked] = []
        self._channel = channel
        self.one, self.two = (new_id(Prefix.MESSAGE) for _ in range(2))
        for chat in (self.one, self.two):
            host.call("messaging_group.add", address=self.address(chat), is_group=True, unknown_sender="public")
            host.call("wiring.add", messaging_group=self.address(chat), agent_group=agent_group)

    def address(self, chat: str) -> str:
        return f"{self._channel}:{chat}"

    def talk(self) -> None:
        """Ask several things in both chats, one of them with a file, some with several or streamed replies."""
        picture = self.host.folder / "picture.png"
        picture.write_bytes(b"a picture")
        self.ask(self.one, "stream 2 0.02")
        self.ask(self.two, "look at this", picture)
        self.ask(self.one, "attach report.txt")
        self.ask(self.two, "reply 2 word")
        self.ask(self.one, "good night")
        self.ask(self.two, "stream 2 0")

    def ask(self, chat: str, text: str, file: Path | None = None) -> None:
        self.asked.append(Asked(chat, text, new_id(Prefix.MESSAGE), file))
        self.send()

    def send(self) -> None:
        """Send what nobody has acknowledged yet, as a platform does; as far as the host lives."""
        for asked in self.asked:
            if asked.message_id is not None:
                continue
            try:
                receipt = self.host.call(
                    "message.inject",
                    messaging_group=self.address(asked.chat),
                    text=asked.text,
                    platform_message_id=asked.key,
                    files=[str(asked.file)] if asked.file is not None else [],
                )
            except (NoHost, HostGone):
                return
            (accepted,) = receipt["accepted"]
            asked.message_id = accepted["message_id"]

    def session(self, chat: str) -> str | None:
        """The active session of a chat, if there is one."""
        found = self.host.call("session.list", messaging_group=self.address(chat), status="active")
        assert len(found) <= 1
        return found[0]["id"] if found else None

    def settle(self) -> None:
        """Wait until everything has its outcome, and all files know of it; or until the host is dead."""
        until_sync(lambda: self.host.is_dead() or self._is_settled(), "everything has its outcome", 30)

    def _is_settled(self) -> bool:
        return bool(self.host.rows(_UNSETTLED)[0]["n"] == 0)

    def finish(self, **allowed: bool) -> int:
        """Settle; see that the rules are kept; have what was not acknowledged sent again; see again; stop the agents.

        How many replies came a second time.
        """
        self.settle()
        self.verify(**allowed)
        self.send()
        assert all(asked.message_id for asked in self.asked)
        self.settle()
        again = self.verify(**allowed)
        for chat in (self.one, self.two):
            if (session := self.session(chat)) is not None:
                assert self.host.call("session.stop", session=session)["cancelled"] == 0
        assert self.host.living() == []
        assert list(self.host.layout.spool.iterdir()) == []
        return again

    def verify(self, *, cancels: bool = False, repeats: bool = False) -> int:
        """Compare everything. `cancels`: messages may have been cancelled. `repeats`: a turn that died may have been
        run again, and may have said once more what it had said in mid-turn.

        How many came again.
        """
        assert _is_sound(self.host.layout.central)
        return sum(self._verify_chat(chat, cancels, repeats) for chat in (self.one, self.two))

    def _verify_chat(self, chat: str, cancels: bool, repeats: bool) -> int:
        ledger = self.host.rows(_LEDGER, self._channel, chat)
        asked = [asked for asked in self.asked if asked.chat == chat]
        accepted = {asked.key: asked.message_id for asked in asked if asked.message_id is not None}
        assert [row["platform_message_id"] for row in ledger] == [asked.key for asked in asked][: len(ledger)]
        assert accepted.items() <= {row["platform_message_id"]: row["message_id"] for row in ledger}.items()
        assert {row["status"] for row in ledger} <= ({"completed", "cancelled"} if cancels else {"completed"})
        out = self.host.rows(_OUT, self._channel, chat)
        kept = {row["in_reply_to"] for row in out if row["status"] == "suppressed"}
        assert cancels or not kept
        texts = {asked.key: asked.text for asked in asked}
        due = [
            (row["message_id"], reply)
            for row in ledger
            if row["status"] == "completed" and row["session_id"] is not None and row["message_id"] not in kept
            for reply in replies(texts[row["platform_message_id"]])
        ]
        uncertain = [_said(row) for row in out if row["status"] == "uncertain"]
        said = self.said(chat)
        once = list(dict.fromkeys(said))
        twice = {each for each in once if said.count(each) == 2}
        assert len(said) == len(once) + len(twice)
        dead = {row["id"] for row in self.host.rows("SELECT id FROM turns WHERE status = 'failed'") if repeats}
        assert twice <= {_said(row) for row in out if row["turn_id"] in dead}
        assert [each for each in once if each not in uncertain] == [each for each in due if each not in uncertain]
        self._verify_sessions(ledger, asked, out)
        return len(twice)

    def said(self, chat: str) -> list[Said]:
        """What the chat was sent, in order."""
        if self._channel == "cli":
            return [_said(row) for row in self.host.rows(_LETTERS, chat)]
        sent = self.host.data.with_name(f"{self.host.data.name}.sent")
        lines = map(json.loads, sent.read_text().splitlines() if sent.exists() else [])
        return [(line["in_reply_to"], line["text"]) for line in lines if line["chat"] == chat]

    def _verify_sessions(self, ledger: list[Row], asked: list[Asked], out: list[Row]) -> None:
        for session in {row["session_id"] for row in ledger} - {None}:
            (group,) = {row["agent_group_id"] for row in ledger}
            layout = self.host.layout.session(group, session)
            taken = [row for row in ledger if row["session_id"] == session and row["state"] == "written"]
            sent = [row for row in out if row["session_id"] == session and row["status"] != "suppressed"]
            _verify_files(layout, taken, sent)
            for row in taken:
                (file,) = [each.file for each in asked if each.key == row["platform_message_id"]]
                if file is not None:
                    assert (layout.inbox / row["message_id"] / file.name).read_bytes() == file.read_bytes()


def replies(text: str) -> list[str]:
    """What `scripted` answers."""
    word, *rest = text.split()
    match word:
        case "stream":
            return [f"stream {number}" for number in range(1, int(rest[0]) + 1)]
        case "reply":
            return [f"{rest[1]} {number}" for number in range(1, int(rest[0]) + 1)]
        case "crash-once":
            return ["did not crash this time"]
        case "attach":
            return [f"attached {rest[0]}"]
        case "think":
            return [f"thought for {rest[0]} s"]
    return [f"scripted: {text}"]


def _verify_files(layout: SessionLayout, taken: list[Row], sent: list[Row]) -> None:
    """The files of a session say what the ledger says."""
    assert _is_sound(layout.inbound)
    assert _is_sound(layout.outbound)
    noted = rows(layout.inbound, "SELECT id, status, tries FROM messages_in ORDER BY seq")
    assert noted == [{"id": row["message_id"], "status": row["status"], "tries": row["tries"]} for row in taken]
    delivered = rows(layout.inbound, "SELECT message_out_id, status FROM delivered")
    assert _pairs(delivered) == _pairs(sent)
    acks = {row["message_id"]: row["status"] for row in rows(layout.outbound, "SELECT * FROM processing_ack")}
    done = {row["message_id"] for row in taken if row["status"] == "completed"}
    assert {message_id for message_id, status in acks.items() if status == "completed"} >= done
    for row in sent:
        for file in json.loads(row["content"]).get("files", []):
            assert (layout.folder / file).read_bytes() == b"x" * 16


def _pairs(delivered: list[Row]) -> dict[str, str]:
    return {row["message_out_id"]: row["status"] for row in delivered}


def _said(row: Row) -> Said:
    return row["in_reply_to"], json.loads(row["content"])["text"]


def _is_sound(path: Path) -> bool:
    return rows(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
