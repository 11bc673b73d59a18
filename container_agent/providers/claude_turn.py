"""One turn of the SDK: what it is told, and what comes of it.

Invariant: whatever ends a turn, what was said until then is in the transcript, and nothing of it twice.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from container_agent.providers import claude_transcript, model_errands, model_images
from container_agent.providers.claude_failures import broken_off
from container_agent.providers.claude_talk import NeverBegan, Talk
from container_agent.providers.claude_tools import Watch
from container_agent.providers.claude_transcript import Transcript
from container_agent.providers.protocol import ProviderError, Reply, Step, TurnOutput, TurnRequest, TurnResult
from shared_schema.layout import SessionLayout
from shared_schema.rows import FailureReason, MessageIn

_MOST_HISTORY = 60_000  # characters, about 15,000 tokens
_MOST_IMAGES = 20


class ClaudeTurn:
    """Runs once."""

    def __init__(self, request: TurnRequest, out: TurnOutput) -> None:
        self._request = request
        self._out = out
        self._heard = Transcript(out.append_steps)
        self.watch = Watch(out, request.context.turn_seconds, self._said_meanwhile)

    async def run(self, talk: Callable[[str], Talk], asked: str = "") -> TurnResult:
        """The whole turn. `talk` starts a conversation, which goes on with the session of the id it is given.

        `asked` is what to say when there are no messages. Raises `ProviderError`.
        """
        steps = [self._step_of(message) for message in self._request.messages]
        content = await asyncio.to_thread(_blocks, steps, self._request.session)
        if asked:
            content = [_text(asked)]
        is_refused = False
        try:
            if self._request.resume:
                is_refused = not await self._try(talk(self._request.resume), content, steps)
            if (is_refused or not self._request.resume) and not await self._try(
                talk(""), [*self._before(), *content], steps
            ):
                raise broken_off()
            return self._result(is_refused)
        except ProviderError as error:
            self._keep(error.is_to_be_remembered, is_refused)
            raise
        except asyncio.CancelledError:
            self._keep(True, is_refused)
            raise

    async def _try(self, talk: Talk, content: Sequence[dict[str, Any]], steps: Sequence[Step]) -> bool:
        """Whether the program took the messages at all."""
        self._heard = Transcript(self._out.append_steps)
        for step in steps:
            self._heard.add(step)
        try:
            await talk.ask(content, self._heard)
        except NeverBegan:
            return False
        return True

    def _result(self, is_refused: bool) -> TurnResult:
        heard = self._heard
        if not heard.reply and not heard.has_worked:  # a tool may have done all the talking
            raise ProviderError(FailureReason.PROVIDER_ERROR, "the model had nothing to say")
        return TurnResult(
            replies=[Reply(heard.reply)] if heard.reply else [],
            steps=heard.take(),
            usage=claude_transcript.totals(heard.result),
            provider_session_id=heard.session_id,
            cumulative=True,
            context_tokens=heard.context_tokens,
            context_window=claude_transcript.window(heard.result),
            resume_refused=is_refused,
        )

    def _keep(self, is_remembered: bool, is_refused: bool) -> None:
        """Put what was said into the transcript.

        What was used is counted with the next turn that goes on with this session; if none will, it is counted here.
        """
        steps = self._heard.take() if is_remembered else []
        if self._heard.result is not None and (is_refused or not self._request.resume):
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
        text = model_errands.told(self._request.history())
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
    return {"type": "text", "text": text.encode("utf-8", "replace").decode("utf-8")}
