"""The shipped fake: a provider that does what the message says, one command per line.

    reply N [TEXT]       N replies: `TEXT 1`, `TEXT 2`, … (TEXT: `reply`)
    stream N SECONDS     N messages in mid-turn, `stream 1` …, that many seconds apart
    think SECONDS        wait, then reply `thought for SECONDS s`
    write SECONDS TEXT   say the text, which is shown word by word, each after so many seconds
    tool NAME SECONDS    wait as a tool call that says how long it may take, then reply `NAME is done`
    call NAME [JSON]     call a tool, and reply its result
    touch NAME           make a file in the workspace, then reply `touched NAME`
    attach NAME [BYTES]  reply `attached NAME` with a file of that size (16)
    to DESTINATION TEXT  send TEXT to a named destination, whether it exists or not
    steps N              add N tool steps to the transcript in mid-turn
    recall               reply how many steps there were before, and the last words people said
    hear                 reply the message as the agent hears it
    note                 reply the reset note
    resumed              reply the resume pointer
    session POINTER      report a resume pointer
    refuse-resume        report that the resume pointer is of no use
    use TOKENS           report that many input and output tokens, for the turn
    use-step TOKENS      the same for one step of it, in mid-turn
    use-total TOKENS     the same for the whole session so far
    cost DOLLARS         report a cost, of the turn or the session as the tokens are
    fill TOKENS WINDOW   report how full the model's window is
    errand LINE          when the host asks for a title or summary later, obey LINE before (the last such line counts)
    fail SENTENCE        raise ProviderError with that sentence
    raise                raise something that is no ProviderError
    stall                wait for ever; the heartbeat goes on
    cling                the same, and never mind being cancelled

    crash                the process is gone at once, exit status 70
    crash-once           crash, but only the first time (alias: crash-if-first): a file in the workspace remembers
    exit                 sys.exit(0) in mid-turn
    hang                 block the event loop for ever; the heartbeat stops
    kill-mid-commit      killed in mid-commit: outbound.db keeps a hot journal, and no reader can open it
    bad-row              write rows that no honest agent writes (see faults.py), then reply how many

A title is `Title of ` and the first words people said, a summary `Summary of N messages`.

Of replies and steps there are at most 5,000 to a line, and a file has at most 256 MiB: no line fills the memory.
Anything else is answered with `scripted: <line>`. Every triggering message is obeyed, in order; context is ignored.
Replies that are not sent in mid-turn go out together at the end of the turn, each to its own message. What was heard
and replied so is the transcript.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from container_agent.providers import faults
from container_agent.providers.model_seams import Drafting, SetUpTurn, TurnSetup, bare
from container_agent.providers.protocol import (
    OutgoingFile,
    ProviderError,
    Reply,
    Step,
    TurnOutput,
    TurnRequest,
    TurnResult,
    Usage,
)
from shared_schema.rows import ControlTask, FailureReason

_ATTACHMENT_BYTES = 16
_MOST = 5_000
_MOST_BYTES = 256 * 1024**2
_TITLE_WORDS = 5
_RECALLED = 3
_ERRAND = re.compile(r"^(?:\w+: )?errand (.*)$", re.MULTILINE)  # behind a sender's name, where several take part


class ScriptedProvider:
    """Obeys the words above."""

    name = "scripted"

    def __init__(self, *, set_up: SetUpTurn = bare) -> None:
        self._set_up = set_up

    async def run(self, request: TurnRequest, out: TurnOutput) -> TurnResult:
        """Raises `ProviderError` when told to, and for a command with arguments that make no sense."""
        script = _Script(request, out, self._set_up)
        for message in request.triggering:
            script.answers = message.id
            for line in message.text.splitlines() or [""]:
                await script.obey(line.strip())
        steps = [Step("user", request.attributed(message)) for message in request.messages]
        steps += [Step("assistant", reply.text) for reply in script.replies]
        return script.result(steps)

    async def summarize(self, request: TurnRequest, purpose: ControlTask, out: TurnOutput) -> TurnResult:
        """The words above. Raises `ProviderError` when told to before."""
        said = _said(request)
        script = _Script(request, out)
        told = [match[1] for text in said for match in _ERRAND.finditer(text)]
        if told:
            await script.obey(told[-1])
        first = " ".join(said[0].split()[:_TITLE_WORDS]) if said else "nothing"
        count = sum(step.role in ("user", "assistant") for step in request.history())
        script.replies = [
            Reply(f"Title of {first}" if purpose is ControlTask.TITLE else f"Summary of {count} messages")
        ]
        return script.result(())


class _Script:
    """One turn's worth of obedience; collects what is reported at its end."""

    def __init__(self, request: TurnRequest, out: TurnOutput, set_up: SetUpTurn = bare) -> None:
        self._set_up = set_up
        self._setup: TurnSetup | None = None
        self.replies: list[Reply] = []
        self.answers = ""
        self._reported: dict[str, Any] = {}
        self._cost: float | None = None
        self._tokens: int | None = None
        self._request = request
        self._out = out
        self._words: dict[str, Callable[[str], Awaitable[None]]] = {
            "reply": self._reply,
            "stream": self._stream,
            "think": self._think,
            "write": self._write,
            "tool": self._tool,
            "call": self._call,
            "touch": self._touch,
            "attach": self._attach,
            "to": self._to,
            "steps": self._steps,
            "recall": self._recall,
            "hear": self._hear,
            "note": self._note,
            "resumed": self._resumed,
            "session": self._session,
            "refuse-resume": self._refuse_resume,
            "use": self._use,
            "use-step": self._use_step,
            "use-total": self._use_total,
            "cost": self._count_cost,
            "fill": self._fill,
            "fail": self._fail,
            "raise": self._raise,
            "stall": self._stall,
            "cling": self._cling,
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

    def result(self, steps: Sequence[Step]) -> TurnResult:
        usage = Usage(input_tokens=self._tokens, output_tokens=self._tokens, cost_usd=self._cost)
        return TurnResult(replies=self.replies, steps=steps, usage=usage, **self._reported)

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

    async def _write(self, rest: str) -> None:
        """Say the words one by one, in so many seconds each, as a model does."""
        seconds, _, text = rest.partition(" ")
        words = text.split()
        for count in range(1, len(words) + 1):
            await asyncio.sleep(float(seconds))
            if isinstance(self._out, Drafting):
                self._out.draft(lambda: " ".join(words[:count]))  # noqa: B023 (asked at once)
        self.say(text)

    async def _tool(self, rest: str) -> None:
        name, seconds = rest.split()
        self._out.set_tool(name, float(seconds) + 1)
        await asyncio.sleep(float(seconds))
        self._out.set_tool(None)
        self.say(f"{name} is done")

    async def _call(self, rest: str) -> None:
        name, _, arguments = rest.partition(" ")
        if self._setup is None:
            self._setup = await self._set_up(self._request, self._out)
        await self._flush()
        self.say(await self._setup.toolbox.call(name, arguments or "{}"))

    async def _touch(self, rest: str) -> None:
        (self._request.workspace / rest).touch()
        self.say(f"touched {rest}")

    async def _attach(self, rest: str) -> None:
        name, _, size = rest.partition(" ")
        data = b"x" * (_number(size, _MOST_BYTES) if size else _ATTACHMENT_BYTES)
        self.replies.append(Reply(f"attached {name}", in_reply_to=self.answers, files=(OutgoingFile(name, data),)))

    async def _to(self, rest: str) -> None:
        destination, _, text = rest.partition(" ")
        self.replies.append(Reply(text, in_reply_to=self.answers, destination=destination))

    async def _steps(self, rest: str) -> None:
        self._out.append_steps([Step("tool", f"step {number}") for number in range(1, _number(rest, _MOST) + 1)])

    async def _recall(self, rest: str) -> None:
        last = " | ".join(_said(self._request)[-_RECALLED:])
        self.say(f"{len(self._request.history())} steps: {last}")

    async def _hear(self, rest: str) -> None:
        message = next(message for message in self._request.messages if message.id == self.answers)
        self.say(f"heard {self._request.attributed(message)}")

    async def _note(self, rest: str) -> None:
        self.say(f"note: {self._request.note or 'none'}")

    async def _resumed(self, rest: str) -> None:
        self.say(f"resumed: {self._request.resume or 'none'}")

    async def _session(self, rest: str) -> None:
        self._reported["provider_session_id"] = rest

    async def _refuse_resume(self, rest: str) -> None:
        self._reported["resume_refused"] = True

    async def _use(self, rest: str) -> None:
        self._tokens = int(rest)

    async def _use_step(self, rest: str) -> None:
        usage = {"input_tokens": int(rest), "output_tokens": int(rest)}
        self._out.append_steps([Step("assistant", "thought", usage=json.dumps(usage))])

    async def _use_total(self, rest: str) -> None:
        self._tokens = int(rest)
        self._reported["cumulative"] = True

    async def _count_cost(self, rest: str) -> None:
        self._cost = float(rest)

    async def _fill(self, rest: str) -> None:
        tokens, window = rest.split()
        self._reported |= {"context_tokens": int(tokens), "context_window": int(window)}

    async def _fail(self, rest: str) -> None:
        raise ProviderError(FailureReason.PROVIDER_ERROR, rest or "told to fail")

    async def _raise(self, rest: str) -> None:
        raise RuntimeError(rest)

    async def _stall(self, rest: str) -> None:
        await asyncio.Event().wait()

    async def _cling(self, rest: str) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()


def _said(request: TurnRequest) -> list[str]:
    """What people said before, in order."""
    return [step.content or "" for step in request.history() if step.role == "user"]


def _number(text: str, most: int) -> int:
    """A whole number up to `most`. Raises `ValueError`."""
    number = int(text)
    if number > most:
        raise ValueError(f"{number} is more than {most}")
    return number
