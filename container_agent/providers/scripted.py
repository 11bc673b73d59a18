"""The shipped fake: a provider that does what the message says, one command per line.

    reply N [TEXT]       N replies: `TEXT 1`, `TEXT 2`, … (TEXT: `reply`)
    stream N SECONDS     N messages in mid-turn, `stream 1` …, that many seconds apart
    think SECONDS        wait, then reply `thought for SECONDS s`
    tool NAME SECONDS    wait as a tool call that says how long it may take, then reply `NAME is done`
    touch NAME           make a file in the workspace, then reply `touched NAME`
    attach NAME [BYTES]  reply `attached NAME` with a file of that size (16)
    to DESTINATION TEXT  send TEXT to a named destination, whether it exists or not
    steps N              add N tool steps to the transcript in mid-turn
    use TOKENS           report that many input and output tokens
    fail SENTENCE        raise ProviderError with that sentence
    raise                raise something that is no ProviderError
    stall                wait for ever; the heartbeat goes on

    crash                the process is gone at once, exit status 70
    crash-once           crash, but only the first time (alias: crash-if-first): a file in the workspace remembers
    exit                 sys.exit(0) in mid-turn
    hang                 block the event loop for ever; the heartbeat stops
    kill-mid-commit      killed in mid-commit: outbound.db keeps a hot journal, and no reader can open it
    bad-row              write rows that no honest agent writes (see faults.py), then reply how many

Of replies and steps there are at most 5,000 to a line, and a file has at most 256 MiB: nobody can fill the memory.
Anything else is answered with `scripted: <line>`. Every triggering message is obeyed, in order; context is ignored.
Replies that are not sent in mid-turn go out together at the end of the turn, each to its own message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from container_agent.providers import faults
from container_agent.providers.protocol import (
    Attachment,
    FailureReason,
    ProviderError,
    Reply,
    Step,
    TurnOutput,
    TurnRequest,
    TurnResult,
    Usage,
)

_ATTACHMENT_BYTES = 16
_MOST = 5_000
_MOST_BYTES = 256 * 1024**2


class ScriptedProvider:
    """Obeys the words above."""

    name = "scripted"

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Raises `ProviderError` when told to, and for a command with arguments that make no sense."""
        script = _Script(request, out)
        for message in request.triggering:
            script.answers = message.id
            for line in message.text.splitlines() or [""]:
                await script.obey(line.strip())
        tokens = script.tokens
        return TurnResult(replies=script.replies, usage=Usage(input_tokens=tokens, output_tokens=tokens))


class _Script:
    """One turn's worth of obedience; collects the replies for its end."""

    def __init__(self, request: TurnRequest, out: TurnOutput) -> None:
        self.replies: list[Reply] = []
        self.tokens: int | None = None
        self.answers = ""
        self._request = request
        self._out = out
        self._words: dict[str, Callable[[str], Awaitable[None]]] = {
            "reply": self._reply,
            "stream": self._stream,
            "think": self._think,
            "tool": self._tool,
            "touch": self._touch,
            "attach": self._attach,
            "to": self._to,
            "steps": self._steps,
            "use": self._use,
            "fail": self._fail,
            "raise": self._raise,
            "stall": self._stall,
        }
        self._faults: dict[str, Callable[[], str]] = {
            "crash": faults.crash,
            "crash-once": lambda: faults.crash_once(request.workspace),
            "crash-if-first": lambda: faults.crash_once(request.workspace),
            "exit": faults.leave,
            "hang": faults.hang,
            "kill-mid-commit": lambda: faults.kill_mid_commit(request.session),
            "bad-row": lambda: faults.bad_rows(request.session, request.context.generation, self.answers),
        }

    async def obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        try:
            if word in self._words:
                await self._words[word](rest.strip())
            elif line in self._faults:
                self.say(self._faults[line]())
            else:
                self.say(f"scripted: {line}")
        except (ValueError, IndexError) as error:
            raise ProviderError(FailureReason.BAD_INPUT, f"cannot obey '{line[:200]}'") from error

    def say(self, text: str) -> None:
        self.replies.append(Reply(text, in_reply_to=self.answers))

    async def _reply(self, rest: str) -> None:
        count, _, text = rest.partition(" ")
        for number in range(1, _number(count, _MOST) + 1):
            self.say(f"{text or 'reply'} {number}")

    async def _stream(self, rest: str) -> None:
        count, seconds = rest.split()
        await self._flush()
        for number in range(1, int(count) + 1):
            await self._out.send(Reply(f"stream {number}", in_reply_to=self.answers))
            await asyncio.sleep(float(seconds))

    async def _flush(self) -> None:
        """Send what earlier messages of the batch are answered with, so that answers keep the order of questions."""
        for reply in self.replies:
            await self._out.send(reply)
        self.replies.clear()

    async def _think(self, rest: str) -> None:
        await asyncio.sleep(float(rest))
        self.say(f"thought for {rest} s")

    async def _tool(self, rest: str) -> None:
        name, seconds = rest.split()
        self._out.set_tool(name, float(seconds) + 1)
        await asyncio.sleep(float(seconds))
        self._out.set_tool(None)
        self.say(f"{name} is done")

    async def _touch(self, rest: str) -> None:
        (self._request.workspace / rest).touch()
        self.say(f"touched {rest}")

    async def _attach(self, rest: str) -> None:
        name, _, size = rest.partition(" ")
        data = b"x" * (_number(size, _MOST_BYTES) if size else _ATTACHMENT_BYTES)
        self.replies.append(Reply(f"attached {name}", in_reply_to=self.answers, files=(Attachment(name, data),)))

    async def _to(self, rest: str) -> None:
        destination, _, text = rest.partition(" ")
        self.replies.append(Reply(text, in_reply_to=self.answers, destination=destination))

    async def _steps(self, rest: str) -> None:
        self._out.append_steps([Step("tool", f"step {number}") for number in range(1, _number(rest, _MOST) + 1)])

    async def _use(self, rest: str) -> None:
        self.tokens = int(rest)

    async def _fail(self, rest: str) -> None:
        raise ProviderError(FailureReason.PROVIDER_ERROR, rest or "told to fail")

    async def _raise(self, rest: str) -> None:
        raise RuntimeError(rest)

    async def _stall(self, rest: str) -> None:
        await asyncio.Event().wait()


def _number(text: str, most: int) -> int:
    """A whole number up to `most`. Raises `ValueError`."""
    number = int(text)
    if number > most:
        raise ValueError(f"{number} is more than {most}")
    return number
