"""`dumbwaiter init`: five questions, each with an option; what is refused is asked again, and keys stay private."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from host.cli.init_trial import install
from tests.cli.conftest import Run

KEY = "sk-the-right-one"
MODELS = {
    "/v1/models": {"data": [{"id": "claude-opus-9"}, {"id": "claude-sonnet-5-5"}]},
    "/models": {"data": [{"id": "gpt-5"}, {"id": "o1"}]},
    "/v1beta/models": {"models": [{"name": "models/gemini-2.5-pro"}]},
    "/api/tags": {"models": [{"name": "qwen3:latest", "model": "qwen3:latest"}]},
}


class _Service(BaseHTTPRequestHandler):
    """Every vendor's list of models; with the wrong key a refusal, at `/moved` a redirect."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        said = self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or self.headers.get("authorization")
        if path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
        elif path != "/api/tags" and KEY not in (said or ""):
            self._send(401, {"error": f"wrong key {said}"})
        else:
            self._send(200, MODELS.get(path, {})) if path in MODELS else self._send(404, {})

    def _send(self, status: int, value: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def service() -> Iterator[str]:
    """The URL of a fake model service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def processes(data: Path) -> None:
    (data / "dumbwaiter.toml").write_text('runtime = "process"\n')


ONLY_SET_UP = ("--no-try", "--no-boot", "--no-completion", "--no-install")


def agent(run: Run) -> dict[str, Any]:
    (group,) = json.loads(run("agent-group", "list", "--json").stdout)
    assert isinstance(group, dict)
    return group


def kept(data: Path) -> dict[str, Any]:
    return tomllib.loads((data / "upstreams.toml").read_text())


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("anthropic", "anthropic:claude-sonnet-5-5"),
        ("openai", "openai:gpt-5"),
        ("google", "google:gemini-2.5-pro"),
        ("ollama", "ollama:qwen3:latest"),
    ],
)
def test_a_service_alone_is_enough_with_yes(name: str, model: str, service: str, run: Run, data: Path) -> None:
    result = run("init", "--yes", *ONLY_SET_UP, "--model", name, "--url", service, "--key-file", "-", stdin=f"{KEY}\n")

    assert (result.exit_code, result.stderr.count("Error")) == (0, 0), result.stderr
    assert (agent(run)["provider"], agent(run)["model"]) == ("model", model)
    assert kept(data)[name] == {"url": service, "key": KEY}
    assert stat.S_IMODE((data / "upstreams.toml").stat().st_mode) == 0o600
    assert KEY not in result.output
    (wiring,) = json.loads(run("wirings", "--json").stdout)
    assert (wiring["messaging_group"], wiring["agent_group"]) == ("cli:terminal", "assistant")
    assert " run\n" in result.stdout
    assert " chat\n" in result.stdout


def test_all_questions_can_be_answered(service: str, run: Run, data: Path) -> None:
    (data / "upstreams.toml").write_text(f'# mine\n[openai]\nurl = "{service}"\n\n[groq]\nurl = "{service}"\n')
    (data / "upstreams.toml").chmod(0o600)

    result = run("init", "--no-try", "--no-boot", "--no-install", stdin=f"2\n{KEY}\no1\ncli:terminal\nn\n")

    assert result.exit_code == 0, result.output
    assert "Which model shall answer?" in result.stdout
    assert all(len(line.rpartition("]: ")[0]) < 80 for line in result.stdout.splitlines()), "a question fits a terminal"
    assert "It has gpt-5, o1." in result.stdout
    assert agent(run)["model"] == "openai:o1"
    assert kept(data) == {"openai": {"url": service, "key": KEY}, "groq": {"url": service}}
    assert (data / "upstreams.toml").read_text().startswith("# mine\n")


def test_a_key_that_is_refused_is_asked_for_again(service: str, run: Run, data: Path) -> None:
    (data / "upstreams.toml").write_text(f'[anthropic]\nurl = "{service}"\n')
    (data / "upstreams.toml").chmod(0o600)

    result = run("init", "--no-try", "--no-boot", "--no-install", stdin=f"anthropic\nwrong\n{KEY}\n\n\nn\n")

    assert result.exit_code == 0, result.output
    assert "anthropic refuses this key (status 401)" in result.stderr
    assert "wrong" not in result.stderr
    assert kept(data)["anthropic"]["key"] == KEY


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--model anthropic --url {service} --key nope", "anthropic refuses this key (status 401)"),
        ("--model anthropic", "anthropic needs a key: `dumbwaiter init --model anthropic --key-file FILE`"),
        ("--model claude", "'claude' is no model: write SERVICE:NAME with one of anthropic, openai, google, ollama"),
        ("--model openai:gpt-9 --url {service} --key " + KEY, "openai has no model 'gpt-9': it has gpt-5, o1"),
        ("--model ollama:llama9 --url {service}", "ollama has no model 'llama9': `ollama pull llama9` gets it"),
        ("--model ollama --url http://127.0.0.1:9", "start it with `ollama serve`"),
        ("--model openai --url {service}/nothing --key " + KEY, "check the address (--url): some end in /v1"),
        ("--model openai --url {service}/moved --key " + KEY, "answers with status 302"),
        ("--model openai --url nonsense --key x", "write http:// or https://"),
        ("--model openai --key x --key-file -", "give one of them"),
    ],
)
def test_what_is_refused_says_what_to_type_and_keeps_nothing(
    line: str, said: str, service: str, run: Run, data: Path
) -> None:
    result = run("init", "--yes", *ONLY_SET_UP, *line.format(service=service).split(), stdin="")

    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (data / "upstreams.toml").exists()


def test_without_a_check_nobody_is_asked(run: Run, data: Path) -> None:
    line = "--model ollama:mine --url http://127.0.0.1:9 --no-check"

    assert run("init", "--yes", *ONLY_SET_UP, *line.split()).exit_code == 0
    assert agent(run)["model"] == "ollama:mine"


def test_another_service_by_a_name_of_its_own(service: str, run: Run, data: Path) -> None:
    line = f"--model openai:o1@groq --url {service} --key {KEY}"

    result = run("init", "--yes", *ONLY_SET_UP, *line.split())

    assert result.exit_code == 0, result.output
    assert agent(run)["model"] == "openai:o1@groq"
    assert kept(data)["groq"] == {"url": service, "key": KEY}


def test_it_can_be_run_again_and_without_a_model_nothing_is_changed(service: str, run: Run, data: Path) -> None:
    run("init", "--yes", *ONLY_SET_UP, "--model", "ollama", "--url", service)

    result = run("init", "--yes", *ONLY_SET_UP, "--model", "echo", "--agent", "second", "--chat", "cli:other")

    assert result.exit_code == 0, result.output
    groups = {group["name"]: group for group in json.loads(run("agent-group", "list", "--json").stdout)}
    assert groups["assistant"]["model"] == "ollama:qwen3:latest"
    assert groups["second"]["provider"] == "echo"
    wirings = {(each["messaging_group"], each["agent_group"]) for each in json.loads(run("wirings", "--json").stdout)}
    assert wirings == {("cli:terminal", "assistant"), ("cli:other", "second")}


def test_a_file_with_keys_that_others_may_read_is_refused(service: str, run: Run, data: Path) -> None:
    (data / "upstreams.toml").write_text("[openai]\n")
    (data / "upstreams.toml").chmod(0o644)

    result = run("init", "--yes", *ONLY_SET_UP, "--model", "openai", "--url", service, "--key", KEY)

    assert f"chmod 600 {data}/upstreams.toml" in result.stderr
    assert (data / "upstreams.toml").read_text() == "[openai]\n"


def test_what_is_installed_can_be_read_by_the_user_of_the_agents(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "library.py"
    program = f"open({str(made)!r}, 'w').close(); print('what pip says')"
    before = os.umask(0o077)  # as a command has it that wrote into the data folder
    try:
        install(f"{sys.executable} -c {shlex.quote(program)}")
    finally:
        os.umask(before)

    assert stat.S_IMODE(made.stat().st_mode) == 0o644
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "what pip says" in printed.err


def test_an_agent_that_does_not_answer_is_not_called_ready(run: Run) -> None:
    line = "--model ollama:mine --url http://127.0.0.1:9 --no-check --no-install --no-boot --no-completion --try"

    result = run("init", "--yes", *line.split())

    assert result.exit_code == 1
    assert "ollama" in result.stderr
    assert "assistant is set up but has not answered" in result.stdout
    assert "Ready" not in result.stdout
