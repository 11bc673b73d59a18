"""A conversation as plain text, and the prompts for what the host wants of it: a title, a summary. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from container_agent.providers import model_images
from container_agent.providers.protocol import Step
from shared_schema.rows import Errand

_TITLE = """\
Give the conversation below a title: at most six words, in the language of the conversation, without quotation marks and
without a full stop. Answer with the title alone.
"""
_SUMMARY = """\
Sum up the conversation below, so that somebody can go on with it who has not seen it: what it is about, what was
decided, what was done and where it is to be found, what is still open, and what matters about the people in it. Write
in the language of the conversation, in at most 500 words. Answer with the summary alone.
"""
_FOR_TITLE = 4_000
_MOST_TITLE = 100
_MOST_RESULT = 1_000


def prompt(errand: Errand, steps: Sequence[Step], most: int) -> str:
    """What to ask; the conversation is in it with at most `most` characters, for a title with its beginning alone."""
    text = told(steps)
    if errand is Errand.TITLE:
        return f"{_TITLE}\n<conversation>\n{text[:_FOR_TITLE]}\n</conversation>"
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n\n[…]\n\n{text[-half:]}"
    return f"{_SUMMARY}\n<conversation>\n{text}\n</conversation>"


def tidied(errand: Errand, text: str) -> str:
    """The answer as it can be used: of a title the first line, without quotation marks."""
    if errand is not Errand.TITLE:
        return text.strip()
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.strip("\"'“”„«»*# ").rstrip(".")[:_MOST_TITLE].strip()


def told(steps: Sequence[Step]) -> str:
    """What was said and done, a paragraph for each step; of results the beginning."""
    return "\n\n".join(line for step in steps if (line := _line(step)))


def _line(step: Step) -> str:
    content = step.content or ""
    parts = model_images.parts_of(content)
    if parts is not None:
        content = "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if step.role == "tool":
        return f"result of {step.tool_name}: {content[:_MOST_RESULT]}"
    called = f" [calls tools: {step.tool_calls[:_MOST_RESULT]}]" if step.tool_calls else ""
    return f"{step.role}: {content}{called}" if content.strip() or called else ""
