"""What a model is asked with: prompt, tools and the conversation, without what its service was found not to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic_ai import exceptions
from pydantic_ai.messages import BinaryContent, InstructionPart, ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from container_agent.providers import model_abilities, model_control_tasks, model_history, model_images
from container_agent.providers.model_abilities import Abilities, RefusedRequest
from container_agent.providers.model_names import ModelChoice
from container_agent.providers.model_seams import Memo, TurnSetup
from container_agent.providers.protocol import ProviderError, Step, TurnOutput, TurnRequest
from shared_schema.rows import FailureReason
from shared_schema.text import without_lone_surrogates

_MOST_LESSONS = 8
_MOST_PLAIN = 60_000  # characters, about 15,000 tokens
_ABOUT_THE_REQUEST = frozenset(
    {FailureReason.BAD_INPUT, FailureReason.PROVIDER_ERROR, FailureReason.MODEL_NOT_FOUND, FailureReason.OTHER}
)


class ModelPrompt:
    """The prompt of one turn. `lessons` are sentences about what was left out for the first time, `refusals` the words
    in which the service refused it.
    """

    def __init__(self, choice: ModelChoice, request: TurnRequest, out: TurnOutput, setup: TurnSetup) -> None:
        self._model = f"'{choice.name}'"
        self._memo = out if isinstance(out, Memo) else None
        self._memo_name = f"abilities {choice.kind}/{choice.service}/{choice.name}"
        self._session = request.session
        self._tools = list(setup.toolbox.definitions)
        self._instructions = [
            InstructionPart(content=text, dynamic=is_dynamic)
            for text, is_dynamic in ((setup.instructions, False), (setup.notes, True))
            if text.strip()
        ]
        self._abilities = Abilities.from_text("" if self._memo is None else self._memo.recall(self._memo_name))
        self._taken = self._abilities  # what is known to help; the rest may be a guess
        self._tried: frozenset[str] = frozenset()
        self._learned = 0
        self._pending: list[tuple[str, str]] = []  # sentence and guess of what was not taken yet
        self._history: Sequence[Step] = ()
        self._now: Sequence[Step] = ()
        self._later: list[ModelMessage] = []
        self.messages: list[ModelMessage] = []
        self.lessons: list[str] = []
        self.refusals: list[str] = []
        self.is_alone = False  # a prompt without a conversation

    @property
    def parameters(self) -> ModelRequestParameters:
        """Tools and instructions, for the library."""
        return ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters)
                )
                for tool in self._abilities.offered(self._tools)
            ],
            instruction_parts=self._instructions,
        )

    def begin(self, history: Sequence[Step], now: Sequence[Step]) -> None:
        """The conversation so far, and what is said now. Reads images; blocks for as long as that takes."""
        self._history, self._now = history, now
        self._build()

    def say_alone(self, prompt: str) -> None:
        """A prompt without a conversation."""
        self.is_alone = True
        self.messages = [ModelRequest([UserPromptPart(without_lone_surrogates(prompt))])]

    def add(self, *messages: ModelMessage) -> None:
        """What came in the course of the turn."""
        self._later += messages
        self.messages += messages

    def user_part(self, content: str) -> UserPromptPart:
        """Returns what a person says in the course of the turn as a prompt part."""
        abilities = self._abilities
        return model_history.user_part(content, self._session, hidden=None if abilities.no_images else abilities.images)

    def learn(self, error: ProviderError) -> bool:
        """Whether the request may be taken without something that it had: then it is left out from now on."""
        cause = error.__cause__
        if not isinstance(cause, exceptions.ModelHTTPError) or error.reason not in _ABOUT_THE_REQUEST:
            return False
        if self._learned >= _MOST_LESSONS:
            return False
        request = RefusedRequest(
            self._abilities.offered(self._tools),
            frozenset(self._shown()),
            bool(self._history) and not self._later,
            self._tried,
        )
        known = self._abilities if not any(guess for _, guess in self._pending) else self._taken
        lesson = model_abilities.learn(known, cause.status_code, error.detail, request, self._model)
        if lesson is None:
            return False
        self._learned += 1
        if lesson.guess:
            self._tried |= {lesson.guess}
        self._pending = [each for each in self._pending if not each[1]] + [(lesson.sentence, lesson.guess)]
        self._abilities = lesson.abilities
        if error.detail and error.detail not in self.refusals:
            self.refusals.append(error.detail)
        self._build()
        return True

    def was_taken(self) -> None:
        """The service has answered: what was left out is left out in this session."""
        if self._abilities != self._taken:
            self._taken = self._abilities
            if self._memo is not None:
                self._memo.remember(self._memo_name, self._abilities.to_text())
        self.lessons += [f"[{sentence}]" for sentence, _ in self._pending]
        self._pending = []

    def _shown(self) -> list[str]:
        """The images that the request shows, by their paths."""
        return [
            part.identifier
            for message in self.messages
            if isinstance(message, ModelRequest)
            for prompt in message.parts
            if isinstance(prompt, UserPromptPart) and not isinstance(prompt.content, str)
            for part in prompt.content
            if isinstance(part, BinaryContent)
        ]

    def _build(self) -> None:
        if not self._now:
            return
        abilities, history = self._abilities, list(self._history)
        if abilities.plain_history and history:
            told = model_control_tasks.told(history)[-_MOST_PLAIN:]
            history = [Step("user", f"<conversation-so-far>\n{told}\n</conversation-so-far>")]
        hidden = None if abilities.no_images else abilities.images
        self.messages = model_history.messages_of([*history, *self._now], self._session, hidden=hidden)
        self.messages += [_without_images(message, hidden) for message in self._later]


def _without_images(message: ModelMessage, hidden: frozenset[str] | None) -> ModelMessage:
    """A message of this turn without the images that are not shown any more."""
    if not isinstance(message, ModelRequest):
        return message
    parts = [
        replace(
            part,
            content=[
                model_images.not_shown(each.identifier)
                if isinstance(each, BinaryContent) and (hidden is None or each.identifier in hidden)
                else each
                for each in part.content
            ],
        )
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)
