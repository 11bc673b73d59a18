"""How the SDK and its program are set up: their environment, their folder, their options.

Invariant: what the workspace holds sets up nothing. The program reads no settings, no `CLAUDE.md`, no MCP servers and
no memory but ours; it asks for no permission, since the container is the limit of what it may do; and it connects to
the model service alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from container_agent.providers import model_names
from container_agent.providers.claude_tools import BASH_SECONDS, MOST_BASH_SECONDS
from container_agent.providers.model_names import ModelChoice
from container_agent.providers.protocol import ProviderError, TurnRequest
from shared_schema.layout import SessionLayout
from shared_schema.models import ModelKind
from shared_schema.rows import FailureReason

_FOLDER = ".claude"
_PROMPT = "system-prompt.md"
_TRANSCRIPTS = "projects"
_MOST_TRANSCRIPTS = 10
_LINE_BYTES = 64 * 1024**2  # of the program's output: a line may hold an image
_SETTINGS = json.dumps(
    {"skipWebFetchPreflight": True, "includeCoAuthoredBy": False, "attribution": {"commit": "", "pr": ""}}
)
_SWITCHED_OFF = {
    name: "1"
    for name in (
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
        "CLAUDE_CODE_DISABLE_CLAUDE_MDS",
        "DISABLE_AUTOUPDATER",
        "DISABLE_TELEMETRY",
        "DISABLE_ERROR_REPORTING",
    )
}


def chosen(model: str, environment: Mapping[str, str]) -> ModelChoice:
    """The model of that name; an empty one leaves the choice to the SDK. Raises `ProviderError` for others."""
    said = model.strip()
    if not said:
        return ModelChoice(
            ModelKind.ANTHROPIC, "", ModelKind.ANTHROPIC.value, environment.get("ANTHROPIC_BASE_URL", ""), ""
        )
    prefix = said.partition(":")[0]
    if prefix in set(ModelKind) - {ModelKind.ANTHROPIC}:
        raise ProviderError(FailureReason.BAD_INPUT, f"the provider claude has no model '{said[:100]}', only Claude's")
    return model_names.chosen(said if prefix == ModelKind.ANTHROPIC else f"anthropic:{said}", environment)


def prepare(session: SessionLayout, resume: str) -> Path:
    """The program's folder, with its transcripts and nothing else that an earlier turn has left there.

    Of the transcripts only the newest are kept, and the one to go on with.
    """
    folder = session.out / _FOLDER
    folder.mkdir(mode=0o770, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name != _TRANSCRIPTS:
            _remove(entry)
    files = sorted(folder.glob(f"{_TRANSCRIPTS}/*/*.jsonl"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for file in files[_MOST_TRANSCRIPTS:]:
        if file.stem != resume:
            _remove(file)
            _remove(file.with_suffix(""))  # the folder with its long results
    return folder


def options(
    sdk: Any,
    request: TurnRequest,
    choice: ModelChoice,
    environment: Mapping[str, str],
    folder: Path,
    *,
    prompt: str,
    tools: Sequence[str],
    **others: Any,
) -> Any:
    """The SDK's options for one turn. Writes the prompt into the folder: it may be too long for a command line."""
    (folder / _PROMPT).write_text(prompt or "You are an assistant.", "utf-8", "replace")
    return sdk.ClaudeAgentOptions(
        model=choice.name or None,
        cwd=request.workspace,
        add_dirs=[request.session.inbox],
        tools=list(tools),
        permission_mode="bypassPermissions",
        system_prompt={"type": "file", "path": str(folder / _PROMPT)},
        setting_sources=[],
        settings=_SETTINGS,
        strict_mcp_config=True,
        verbatim_prompts=True,  # what people write is text: no commands, no @files
        max_buffer_size=_LINE_BYTES,
        include_partial_messages=True,  # so that people see an answer while it is written
        env=_environment(request, choice, environment, folder),
        **others,
    )


def _environment(
    request: TurnRequest, choice: ModelChoice, environment: Mapping[str, str], folder: Path
) -> dict[str, str]:
    found = {
        **environment,  # the way out among it, for what the program's tools start
        **_SWITCHED_OFF,
        "CLAUDE_CONFIG_DIR": str(folder),
        "IS_SANDBOX": "1",  # the program may run as root, where an agent does
        "ANTHROPIC_API_KEY": environment.get("ANTHROPIC_API_KEY") or model_names.NO_KEY,
        "CLAUDE_CODE_MAX_RETRIES": environment.get("CLAUDE_CODE_MAX_RETRIES", "2"),
        "BASH_DEFAULT_TIMEOUT_MS": str(int(BASH_SECONDS * 1000)),
        "BASH_MAX_TIMEOUT_MS": str(int(MOST_BASH_SECONDS * 1000)),
        "MCP_TOOL_TIMEOUT": str(int(request.context.turn_seconds * 1000)),  # our tools know their own limits
    }
    if choice.url:
        found["ANTHROPIC_BASE_URL"] = choice.url
    if not choice.is_vendor:  # another service has no other models of Claude's
        found |= {"ANTHROPIC_SMALL_FAST_MODEL": choice.name, "ANTHROPIC_DEFAULT_HAIKU_MODEL": choice.name}
    return found


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
