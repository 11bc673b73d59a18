"""One turn of the SDK: what it is told, and what comes of it.

Invariant: however a turn ends, what was said until then is in the transcript, and nothing of it twice.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from container_agent.providers import claude_transcript, model_control_tasks, model_images
from container_agent.providers.claude_conversation import ClaudeConversation, NeverBegan
from container_agent.providers.claude_failures import ProgramDied
from container_agent.providers.claude_tools import Watch
from container_agent.providers.claude_transcript import Transcript
from container_agent.providers.model_chain import ModelChain
from container_agent.providers.model_seams import Drafting, WayOut
from container_agent.providers.our_side import OurSide
from container_agent.providers.protocol import (
    ProviderError,
    Reply,
    Step,
    TurnInterrupted,
    TurnOutput,
    TurnRequest,
    TurnResult,
)
from container_agent.providers.spoken import has_answered
from shared_schema.layout import SessionLayout
from shared_schema.rows import FailureReason, MessageIn
from shared_schema.text import without_lone_surrogates

_MOST_HISTORY = 60_000  # characters, about 15,000 tokens
_MOST_IMAGES = 20
_GO_ON_ELSEWHERE = "[Another model goes on from here. Go on where this stopped, and answer what was asked.]"
_GO_ON = "[The connection was lost for a while. Go on where you stopped, and answer what was asked.]"
_CUT = {
    "max_tokens": "[This answer was cut off: the model had written as much as it may at once. Ask it to go on.]",
    "model_context_window_exceeded": "[This answer was cut off: the conversation has filled what the model can keep in "
    "mind. /compress goes on from a summary.]",
}
"""What a person has to know of an end, by the service's word for it."""


class ClaudeTurn:
    """Runs once. `chain` says which model `talk` asks."""

    def __init__(self, request: TurnRequest, out: TurnOutput, way_out: WayOut, chain: ModelChain) -> None:
        self._request = request
        self._chain = chain
        self._out = out
        self._our_side = OurSide(way_out, out)
        self._show = out.draft if isinstance(out, Drafting) else None
        self._heard = Transcript(out.append_steps, self._show)
        self._resume = request.resume
        self._is_refused = False
        self.watch = Watch(out, request.context.turn_seconds, self._said_meanwhile)

    async def run(self, talk: Callable[[str], ClaudeConversation], asked: str = "") -> TurnResult:
        """The whole turn. `talk` starts a conversation, which goes on with the session of the id it is given.

        `asked` is what to say when there are no messages. Raises `ProviderError`.
        """
        steps = [self._step_of(message) for message in self._request.messages]
        content = await asyncio.to_thread(_blocks, steps, self._request.session)
        if asked:
            content = [_text(asked)]
        self._resume = self._request.resume
        while True:
            await self._our_side.ready()
            try:
                return await self._converse(talk, content, steps)
            except ProviderError as error:
                error.stop_reason = error.stop_reason or self._stop_reason
                has_died = await self._has_died(error)
                if not has_died and isinstance(error, ProgramDied) and self._heard.session_id:
                    self._keep(True)
                    raise TurnInterrupted(error.what, error.reason) from error
                if not has_died and not self._chain.falls_back(error):
                    self._keep(error.is_to_be_remembered)
                    if (failed := self._chain.failed(error)) is not error:
                        raise failed from error
                    raise
                if self._heard.has_worked and self._heard.session_id:
                    # Its tools have done something: the same conversation goes on, and nothing is done twice.
                    self._out.append_steps(self._heard.take())
                    go_on = _GO_ON if has_died else _GO_ON_ELSEWHERE
                    self._resume, content, steps = self._heard.session_id, [_text(go_on)], [Step("system", go_on)]
            except asyncio.CancelledError:
                self._keep(True)
                raise

    async def _has_died(self, error: ProviderError) -> bool:
        try:
            return await self._our_side.has_died(error)
        except BaseException:
            self._keep(True)
            raise

    async def _converse(
        self, talk: Callable[[str], ClaudeConversation], content: Sequence[dict[str, Any]], steps: Sequence[Step]
    ) -> TurnResult:
        """One conversation with the program, which goes on with the one before where it can."""
        self._is_refused = bool(self._resume) and not await self._try(talk(self._resume), content, steps)
        if (self._is_refused or not self._resume) and not await self._try(talk(""), [*self._before(), *content], steps):
            raise ProgramDied
        return self._result()

    async def _try(self, talk: ClaudeConversation, content: Sequence[dict[str, Any]], steps: Sequence[Step]) -> bool:
        """Whether the program took the messages at all."""
        self._heard = Transcript(self._out.append_steps, self._show)
        for step in steps:
            self._heard.add(step)
        try:
            await talk.ask(content, self._heard)
        except NeverBegan:
            return False
        return True

    def _result(self) -> TurnResult:
        heard = self._heard
        reply = heard.reply
        # A tool may have sent every message itself; and a control task of the host's needs no words.
        is_answered = has_answered(self._request, self._out) if self._request.triggering else heard.has_worked
        if not reply and not is_answered:
            after = " after it had used its tools" if heard.has_worked else ""
            raise ProviderError(FailureReason.PROVIDER_ERROR, f"the model had nothing to say{after}")
        if self._stop_reason in _CUT:
            reply = "\n\n".join(part for part in (reply, _CUT[self._stop_reason]) if part)
        return TurnResult(
            replies=[Reply(reply)] if reply else [],
            steps=heard.take(),
            usage=claude_transcript.totals(heard.result),
            provider_session_id=heard.session_id,
            cumulative=True,
            context_tokens=heard.context_tokens,
            context_window=claude_transcript.window(heard.result),
            resume_refused=self._is_refused,
            stop_reason=self._stop_reason,
            model=self._chain.answered_by,
            fallback=self._chain.why,
        )

    @property
    def _stop_reason(self) -> str | None:
        """Why the last answer ended, in the service's word."""
        said = getattr(self._heard.result, "stop_reason", None)
        return said if isinstance(said, str) and said else None

    def _keep(self, is_remembered: bool) -> None:
        """Put what was said into the transcript.

        What was used is counted with the next turn that goes on with this session; if none will, it is counted here.
        """
        steps = self._heard.take() if is_remembered else []
        if self._heard.result is not None and (self._is_refused or not self._request.resume):
            used = asdict(claude_transcript.totals(self._heard.result))
            steps.append(Step("assistant", usage=json.dumps(used)))
        if steps:
            self._out.append_steps(steps)

    def _said_meanwhile(self, message: MessageIn) -> str:
        step = self._step_of(message)
        self._heard.add_later(step)
        parts = model_images.parts_of(step.content or "") or [_text(step.content or "")]
        return "\n".join(str(part["text"]) for part in parts if "text" in part)

    def _step_of(self, message: MessageIn) -> Step:
        said = self._request.spoken(message)
        return Step("user", model_images.content_of(message, said, self._request.session))

    def _before(self) -> list[dict[str, Any]]:
        """For a fresh start in the middle of a conversation: what was said before, the newest of it."""
        text = model_control_tasks.told(self._request.history())
        if not text:
            return []
        if len(text) > _MOST_HISTORY:
            text = f"[…]\n{text[-_MOST_HISTORY:]}"
        return [_text(f"<conversation-so-far>\n{text}\n</conversation-so-far>\n\nNow go on with it:")]


def _blocks(steps: Sequence[Step], session: SessionLayout) -> list[dict[str, Any]]:
    """What was said, with its images. Blocks for as long as reading those takes."""
    found: list[dict[str, Any]] = []
    images = 0
    for step in steps:
        for part in model_images.parts_of(step.content or "") or [_text(step.content or "")]:
            image = model_images.data(session, str(part.get("path"))) if part["type"] == "image" else None
            if image is not None and images < _MOST_IMAGES:
                data = base64.b64encode(image[0]).decode("ascii")
                found.append({"type": "image", "source": {"type": "base64", "media_type": image[1], "data": data}})
                images += 1
            elif str(part.get("text") or "").strip():
                found.append(_text(str(part["text"])))
    return found or [_text("(empty message)")]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": without_lone_surrogates(text)}
