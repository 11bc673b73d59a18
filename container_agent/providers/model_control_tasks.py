"""A conversation as plain text, and the prompts for what the host wants of it: a title, a summary. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from container_agent.heading import without_heading
from container_agent.providers import model_images
from container_agent.providers.protocol import ProviderError, Step
from shared_schema.rows import ControlTask, FailureReason

_TITLE = """\
Give the conversation below a title: at most six words, in the language of the conversation, without quotation marks and
without a full stop. Answer with the title alone.
"""
_SUMMARY = """\
Sum up the conversation below for a reader who has not seen it and is to go on with it: what it is about, what was
decided, what was done and where it is to be found, what is still open, and what matters about the people in it. Write
in the language of the conversation, in at most 500 words. Answer with the summary alone.
"""
_REMEMBER = """\
The conversation below is over or will be cut short. Save to your memory what should be known in later conversations and
is not there yet: decisions, facts about people and things, what was promised, where results are. Use the tools for
files:
`memory/MEMORY.md` is the index, with a line for each thing; keep it short, and correct what is wrong. Mostly there is
little to save, and often nothing: then change nothing. Your answer is shown to no person; end with "done".
"""
_FOR_TITLE = 4_000
MOST_TO_REMEMBER = 60_000
"""Characters of a conversation, about 15,000 tokens: its newest part, when it is longer."""
MOST_REQUESTS_TO_REMEMBER = 6
MOST_TOKENS_TO_REMEMBER = 4_000  # of each answer
TOOLS_TO_REMEMBER = frozenset({"read_file", "write_file", "edit_file", "list_files"})
_MOST_TITLE = 100
_MOST_RESULT = 1_000


def prompt(control_task: ControlTask, steps: Sequence[Step], most: int) -> str:
    """What to ask; the conversation is in it with at most `most` characters, for a title with its beginning alone."""
    if control_task is ControlTask.TITLE:
        text = told([replace(step, content=without_heading(step.content or "")) for step in steps])
        return f"{_TITLE}\n<conversation>\n{text[:_FOR_TITLE]}\n</conversation>"
    text = told(steps)
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n\n[…]\n\n{text[-half:]}"
    return f"{_SUMMARY}\n<conversation>\n{text}\n</conversation>"


def to_remember(steps: Sequence[Step], memory: str) -> str:
    """What to say so that an agent saves what is worth it; `memory` is what it keeps now."""
    text = told(steps)
    if len(text) > MOST_TO_REMEMBER:
        text = f"[…]\n\n{text[-MOST_TO_REMEMBER:]}"
    kept = f"<memory>\n{memory}\n</memory>\n\n" if memory else ""
    return f"{_REMEMBER}\n{kept}<conversation>\n{text}\n</conversation>"


def tidied(control_task: ControlTask, text: str) -> str:
    """The answer as it can be used: of a title the first line, without quotation marks."""
    if control_task is not ControlTask.TITLE:
        return text.strip()
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.strip("\"'“”„«»*# ").rstrip(".")[:_MOST_TITLE].strip()


def failed(error: ProviderError) -> ProviderError:
    """The failure of a control task, whose sentence advises nothing that has just failed."""
    if error.reason is not FailureReason.CONTEXT_TOO_LONG:
        return error
    sentence = "the conversation is too long for its model even to be summed up; /new begins afresh"
    return ProviderError(error.reason, sentence, detail=error.detail, stop_reason=error.stop_reason)


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
