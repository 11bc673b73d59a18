"""Talking to an agent through the running host, for the prompt and for `chat -m`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import field
from typing import Any

from host.api.client import HostClient
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError

# The host ends the wait itself; a host that is silent for so much longer is gone.
_GRACE_SECONDS = 30.0


class NoReply(DumbwaiterError):
    """The turn failed, was cancelled, or took too long."""


@dataclass(frozen=True, slots=True)
class TerminalReply:
    """One message for the person: of the agent, or (`from_host`) a notice of the host's own."""

    text: str
    files: tuple[str, ...] = ()
    from_host: bool = False
    created_at: str | None = None

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> TerminalReply:
        """The reply in an entry of the stream, or in a letter of `terminal.unread`."""
        return cls(
            text=str(entry.get("text") or ""),
            files=tuple(str(file) for file in entry.get("files") or ()),
            from_host=bool(entry.get("from_host")),
            created_at=entry.get("created_at"),
        )


@dataclass(slots=True)
class Exchange:
    """What was asked and what came of it, filled while the replies come. `is_command`: the host itself answers."""

    message_id: str | None = None
    session_id: str | None = None
    status: str | None = None
    error: str | None = None
    replies: list[TerminalReply] = field(default_factory=list)
    is_command: bool = False
    more: str | None = None
    agent_group: str | None = None

    def is_notice(self, reply: TerminalReply) -> bool:
        """Whether a reply is not the answer, but something the host has to say beside it."""
        return reply.from_host and not self.is_command

    def to_json(self) -> dict[str, Any]:
        """The exchange as `--json` prints it."""
        return {
            "message_id": self.message_id,
            "session_id": self.session_id,
            "status": self.status,
            "error": self.error,
            "replies": [
                {"text": each.text, "files": list(each.files), "from_host": each.from_host} for each in self.replies
            ],
        }

    def failure(self, seconds: float) -> NoReply | None:
        """Why there is no answer; None when there is one."""
        match self.status:
            case "completed":
                return None
            case "timeout":
                return NoReply(
                    f"no answer within {seconds:g} seconds",
                    hint=f"it is not lost: `dumbwaiter session transcript {self.session_id}` shows what comes",
                )
            case "cancelled":
                shows = f"`dumbwaiter session transcript {self.session_id}` shows what was said before"
                return NoReply(f"the message was cancelled{_because(self.error)}", hint=shows)
            case _ if self.is_command:
                return NoReply("the command failed", hint="the log of the host says why")
            case _ if self.more == "archived":
                opens, begins = (
                    f"dumbwaiter session resume {self.session_id}",
                    f"dumbwaiter session new {self.session_id}",
                )
                return NoReply(
                    "the conversation is archived", hint=f"`{opens}` opens it again, `{begins}` begins another one"
                )
            case _ if self.more == "budget":  # no agent was asked
                return NoReply(f"the message is not answered{_because(self.error)}", hint=self._where_more)
            case _:
                return NoReply(f"the turn failed{_because(self.error)}", hint=self._where_more)

    @property
    def _where_more(self) -> str | None:
        """Where more of a failure stands; nothing where nothing more does."""
        return {
            "logs": f"`dumbwaiter session logs {self.session_id}` shows what the agent printed",
            "show": f"`dumbwaiter session show {self.session_id}` shows what the service said",
            "budget": f"`dumbwaiter agent-group set {self.agent_group} --budget-tokens N` gives it more",
        }.get(self.more or "")


class Conversation:
    """Messages to one agent group or session, one after the other."""

    def __init__(
        self, client: HostClient, *, agent_group: str | None = None, session: str | None = None, seconds: float
    ) -> None:
        self._client = client
        self._where = {
            key: value for key, value in (("agent_group", agent_group), ("session", session)) if value is not None
        }
        self._seconds = seconds

    def ask(self, text: str, exchange: Exchange | None = None) -> Generator[TerminalReply, None, None]:
        """Send a message; the replies as they come. Close the generator to stop waiting: the agent goes on.

        Raises `NoReply` when the turn ends without success, and `NoHost` or another `DumbwaiterError`.
        """
        exchange = exchange or Exchange()
        params = {**self._where, "text": text, "timeout": self._seconds}
        entries = self._client.stream("chat", params, seconds=self._seconds + _GRACE_SECONDS)
        with closing(entries):
            for entry in entries:
                match entry.get("type"):
                    case "accepted":
                        exchange.message_id, exchange.session_id = entry["message_id"], entry["session_id"]
                        exchange.is_command = bool(entry.get("command"))
                    case "message":
                        reply = TerminalReply.from_entry(entry)
                        exchange.replies.append(reply)
                        yield reply
                    case "done":
                        exchange.status, exchange.error = entry["status"], entry.get("error")
                        exchange.more, exchange.agent_group = entry.get("more"), entry.get("agent_group")
                        if failure := exchange.failure(self._seconds):
                            raise failure
                        return
        raise self._client.gone_in_mid_answer()


def _because(error: str | None) -> str:
    return f": {error.rstrip('.')}" if error else ""
