"""docs/api.md is what a reader can type: its lines are run, and its tables are compared with the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from tests.http_api.programs import Api

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8384"


def blocks(language: str) -> list[str]:
    """The examples of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def run(*command: str, **environment: str) -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_lines_for_a_shell_are_answered(api: Api) -> None:
    token = await api.token(rights="admin")
    for block in blocks("sh"):
        printed = await run("sh", "-ec", block.replace(ADDRESS, api.address), TOKEN=token)
        while printed.strip():
            answer, end = json.JSONDecoder().raw_decode(printed)
            assert isinstance(answer, list) or not (answer.get("error") or answer.get("detail")), answer
            printed = printed[end:].lstrip()


async def test_the_lines_of_python_say_what_they_promise(api: Api) -> None:
    token = await api.token(rights="admin")
    for block in blocks("python"):
        printed = await run(sys.executable, "-c", f"TOKEN = {token!r}\n" + block.replace(ADDRESS, api.address))
        assert "scripted: What is the capital of France?" in printed
        assert printed.endswith("scripted: Tell me more")


async def test_every_path_of_openais_api_has_its_row(api: Api) -> None:
    from host.http_api.api import api_of

    there = {
        f"{route.method} {re.sub('{[a-z]+}', 'ID', route.path)}"
        for route in api_of(api.host.services).routes
        if route.path.startswith("/v1/")
    }
    said = set(re.findall(r"^\| `((?:GET|POST) /v1/[^`]+)`", PAGE, re.MULTILINE))
    assert said == there - {"GET /v1/models/ID"}
