"""Which model answers a turn: the agent group's own, and where its service refuses, the next one of its list.

Each turn begins with the first model again. What a service refused is kept as a sentence, for the turn and for the
person who asked. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from container_agent.context import SessionContext
from container_agent.providers.protocol import ProviderError

_LONGEST = 900


class ModelChain:
    """The models of one turn, one after the other."""

    def __init__(self, models: Sequence[str]) -> None:
        self._models = list(models)
        self._at = 0
        self._refusals: list[str] = []
        self._details: list[str] = []

    @classmethod
    def of(cls, context: SessionContext) -> ModelChain:
        """The models that a session's context names."""
        return cls([context.model, *context.fallbacks])

    @property
    def current(self) -> str:
        """The model that is asked now."""
        return self._models[self._at]

    def falls_back(self, error: ProviderError) -> bool:
        """Whether the next model is asked now, because of this failure of the present one."""
        if not error.elsewhere or self._at + 1 == len(self._models):
            return False
        self._note(error)
        self._at += 1
        return True

    @property
    def answered_by(self) -> str | None:
        """The model that is asked, where it is not the first."""
        return self.current if self._at else None

    @property
    def why(self) -> str:
        """Why it is not the first: what the services of those before it refused. Empty for the first."""
        return "; ".join(self._refusals)[:_LONGEST]

    def failed(self, error: ProviderError) -> ProviderError:
        """The failure of a turn that the last model of several has failed as well; of one model its own."""
        if not self._at:
            return error
        self._note(error)
        sentence = f"no model of this agent answered: {self.why}"
        detail = "\n".join(self._details)[:2000]
        return ProviderError(error.reason, sentence, detail=detail, stop_reason=error.stop_reason)

    def _note(self, error: ProviderError) -> None:
        for known, new in ((self._refusals, error.what), (self._details, error.detail)):
            if new and new not in known:
                known.append(new)
