"""The names of the providers. The host refuses others when they are set, the agent knows how to import each."""

from __future__ import annotations

PROVIDERS = ("echo", "model", "claude", "scripted")
"""All providers; the first is what a new agent group gets: it needs no key."""

WITH_MODELS = "model"
"""The one that answers with a model of any service; what an agent gets that is given a model alone."""

VARIANTS = {"model": "model", "claude": "claude"}
"""The variant of the agents' image that has what a provider needs; the others need nothing."""

SUMMARIZERS = frozenset({"claude", "model", "scripted"})
"""Those that can say what a conversation is about: they are asked for titles and summaries."""

REMEMBERERS = frozenset({"claude", "model"})
"""Those that can save to memory what is worth it, before a conversation is over."""
