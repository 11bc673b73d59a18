"""`dumbwaiter init`: from nothing to an agent that answers, in five questions. Every question has an option."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from host.cli.command import Command, json_option
from host.cli.init_trial import TrialHost, provide, say_hello
from host.cli.invocation import Invocation
from host.cli.output import print_json
from host.cli.plain import one_line
from host.cli.root import say_error
from shared_schema.errors import DumbwaiterError, InvalidValue

TERMINAL = "cli:terminal"
_FIRST = "assistant"
_SERVICES = {
    "anthropic": "Anthropic (Claude): needs a key",
    "openai": "OpenAI (GPT): needs a key",
    "google": "Google (Gemini): needs a key",
    "ollama": "Ollama, on this machine or another one: needs no key",
    "other": "another service that speaks as OpenAI does",
    "echo": "none yet: the agent repeats what you say",
}
_KEY_PAGES = {
    "anthropic": "https://console.anthropic.com/settings/keys",
    "openai": "https://platform.openai.com/api-keys",
    "google": "https://aistudio.google.com/apikey",
}
_LIKED = {
    "anthropic": ("claude-sonnet-5", "claude-sonnet", "claude"),
    "openai": ("gpt-5", "gpt-4.1", "gpt-4o", "gpt"),
    "google": ("gemini-3", "gemini-2.5-pro", "gemini-2.5", "gemini"),
    "ollama": ("qwen3", "llama3", "gpt-oss"),
}
"""What is offered first of the models that a service has: the first beginning of a name that fits."""
_SHOWN = 12


@click.command("init", cls=Command)
@click.option("--agent", metavar="NAME", help="The agent that is set up; made when it is not there yet.")
@click.option(
    "--model",
    metavar="MODEL",
    help="SERVICE:NAME such as ollama:qwen3, a service alone (anthropic, openai, google, ollama), or echo for none.",
)
@click.option("--url", metavar="URL", help="Where the service is, for Ollama and for others than the vendors' own.")
@click.option("--key-file", type=click.File("r"), metavar="FILE", help="A file with the key; - is standard input.")
@click.option("--key", metavar="KEY", help="The key; others on this machine may see it here, so rather --key-file.")
@click.option("--check/--no-check", default=True, help="Whether the service is asked if key and model are right.")
@click.option("--install/--no-install", default=None, help="Whether what the model needs is installed or built.")
@click.option("--try/--no-try", "do_try", default=None, help="Whether to say hello to the agent now.")
@click.option("--chat", metavar="ADDRESS", help=f"Where it answers: {TERMINAL}, or the address of another chat.")
@click.option("--boot/--no-boot", default=None, help="Whether the host starts at boot (a service of systemd).")
@click.option("--completion/--no-completion", default=None, help="Whether your shell completes this command.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: what no option says is left as it usually is.")
@json_option
@click.pass_context
def init(
    context: click.Context,
    agent: str | None,
    model: str | None,
    url: str | None,
    key_file: TextIO | None,
    key: str | None,
    check: bool,
    install: bool | None,
    do_try: bool | None,
    chat: str | None,
    boot: bool | None,
    completion: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Set up an agent that answers: which model, its key, where, and at boot.

    It asks, and does all of it; each question has an option, and with --yes
    nothing is asked. It can be run again at any time, also while the host runs.
    Keys go into upstreams.toml in the data folder, which only you can read.
    """
    if key_file is not None and key is not None:
        raise click.UsageError("--key and --key-file say the same: give one of them")
    say = partial(click.echo, err=as_json)
    secret = key_file.read().strip() if key_file is not None else key
    setup = _Setup(context.obj, say, asks=not yes, checks=check)
    say(f"Setting up {context.obj.data}.")
    setup.prepare(agent)
    setup.choose(model, url, secret)
    setup.store()
    setup.provide(install)
    setup.wire(chat)
    setup.try_it(do_try)
    _boot(context, boot, asks=not yes)
    _complete(completion, say, asks=not yes)
    if as_json:
        print_json(setup.result())
    else:
        setup.say_what_is_next()
    if setup.was_in_vain:
        context.exit(1)


class _Setup:
    """One run: what was chosen so far."""

    def __init__(self, invocation: Invocation, say: Callable[[str], None], *, asks: bool, checks: bool) -> None:
        self._invocation = invocation
        self._say = say
        self._asks = asks
        self._checks = checks
        self._agent = _FIRST
        self._service = "echo"
        self._url: str | None = None
        self._key: str | None = None
        self._model: str | None = None
        self._chat = TERMINAL
        self._answered: bool | None = None

    def prepare(self, agent: str | None) -> None:
        """The data folder, and the agent."""
        self._invocation.call("first_run")
        names = [group["name"] for group in self._invocation.call("agent_group.list")]
        self._agent = agent or (_FIRST if _FIRST in names or not names else names[0])
        if self._agent not in names:
            self._invocation.call("agent_group.add", name=self._agent)
            self._say(f"Made the agent {self._agent}.")

    def choose(self, model: str | None, url: str | None, key: str | None) -> None:
        """Questions 1 and 2: the model, and its key or address. What is refused is asked again."""
        if model is None:
            self._service, name = self._ask_service(), ""
        else:
            self._service, name = _parsed(model)
        if self._service == "echo":
            return
        if self._service == "other":
            self._service = click.prompt("  A short name for it, such as groq", type=str).strip()
        while True:
            try:
                self._ask_access(url, key)
                models = self._models()
                self._model = self._ask_model(name, models)
                return
            except DumbwaiterError as error:
                if not self._asks or (url is not None and key is not None):
                    raise
                say_error(str(error))
                url, key = None, None

    def store(self) -> None:
        """Keep key and address, and give the agent its model."""
        if self._model is None:
            return
        if self._url is not None or self._key is not None:
            kept = self._invocation.call("model_service.set", name=self._service, url=self._url, key=self._key)
            self._say(f"Kept in {kept['file']}, which only you can read.")
        self._invocation.call("agent_group.set", name=self._agent, provider="model", model=self._model)
        self._say(f"{self._agent} answers with {one_line(self._model)}.")

    def provide(self, install: bool | None) -> None:
        """What the provider needs: packages for processes, an image for docker."""
        if self._model is not None:
            provide(self._invocation, "model", lambda text: self._agree(install, text, default=True), self._say)

    def wire(self, chat: str | None) -> None:
        """Question 4: where it answers."""
        if chat is None and self._asks:
            known = [group["address"] for group in self._invocation.call("messaging_group.list")]
            others = ", ".join(each for each in known if each != TERMINAL)
            also = f" (others known: {others})" if others else ""
            chat = click.prompt(f"Where do you want to talk to it? A chat's address{also}", default=TERMINAL)
        self._chat = (chat or TERMINAL).strip()
        known = [group["address"] for group in self._invocation.call("messaging_group.list")]
        if self._chat not in known:
            self._invocation.call("messaging_group.add", address=self._chat)
        wired = [
            each for each in self._invocation.call("wiring.list")
            if each["messaging_group"] == self._chat and each["agent_group"] == self._agent
        ]  # fmt: skip
        if not wired:
            self._invocation.call("wiring.add", messaging_group=self._chat, agent_group=self._agent)
            self._say(f"{self._agent} answers in {self._chat}.")

    def try_it(self, wanted: bool | None) -> None:
        """Question 3: one message, and its answer."""
        if self._chat != TERMINAL and wanted is None:
            return  # a message of a try would go to other people
        if not self._agree(wanted, "Say hello to it now?", default=True):
            return
        with TrialHost(self._invocation):
            self._answered = say_hello(self._invocation, self._agent, self._say)

    def result(self) -> dict[str, Any]:
        """What was set up, for scripts. `answered` is None when nothing was tried."""
        return {
            "agent_group": self._agent,
            "model": self._model,
            "messaging_group": self._chat,
            "answered": self._answered,
            "data": str(self._invocation.data),
            "lacking": self._invocation.call("agent_group.show", name=self._agent)["lacking"],
        }

    @property
    def was_in_vain(self) -> bool:
        """Whether the agent was asked something and did not answer."""
        return self._answered is False

    def say_what_is_next(self) -> None:
        """What to type from here."""
        called = f"{_called()}{self._data_option()}"
        here = [each for each in self._invocation.call("wiring.list") if each["messaging_group"] == TERMINAL]
        chat = f"chat {self._agent}" if len(here) > 1 else "chat"
        if self.was_in_vain:
            click.echo(f"\n{self._agent} is set up but has not answered: see above, and what this finds:")
            click.echo(f"    {called} doctor\nThen try again:\n    {called} init")
        elif _runs(self._invocation):
            click.echo(f"\nReady. Talk to it:\n    {called} {chat}")
        else:
            click.echo(f"\nReady. Start the host, and in a second terminal talk to it:\n    {called} run")
            click.echo(f"    {called} {chat}")

    def _ask_service(self) -> str:
        if not self._asks:
            with_key = [
                name for name in _KEY_PAGES if self._invocation.call("model_service.show", name=name)["has_key"]
            ]
            return with_key[0] if with_key else "echo"
        self._say("Which model shall answer?")
        names = list(_SERVICES)
        for number, name in enumerate(names, 1):
            self._say(f"  {number}  {_SERVICES[name]}")
        while True:
            said = click.prompt("A number or a name", default="1").strip().lower()
            if said.isdecimal() and 1 <= int(said) <= len(names):
                return names[int(said) - 1]
            if said in names:
                return said
            say_error(f"'{said}' is none of them: type a number from 1 to {len(names)}")

    def _ask_access(self, url: str | None, key: str | None) -> None:
        """The key or the address, as far as they are not given or known."""
        self._url, self._key = url, key
        is_vendor = self._service in _KEY_PAGES
        if self._service == "ollama":
            if url is None and self._asks:
                here = self._invocation.call("model_service.show", name="ollama")["url"]
                said = click.prompt("Where is Ollama?", default=here).strip()
                self._url = None if said == here else said
            return
        if not is_vendor and url is None and self._asks and not self._is_known():
            self._url = click.prompt("Its address, such as https://api.groq.com/openai/v1").strip()
        if key is not None:
            return
        has_key = self._is_known() and self._invocation.call("model_service.show", name=self._service)["has_key"]
        if self._asks and not (has_key and click.confirm(f"{self._service} has a key already. Use it?", default=True)):
            page = f" (from {_KEY_PAGES[self._service]})" if is_vendor else "; Enter if it needs none"
            self._key = click.prompt(
                f"The key{page}", hide_input=True, default=None if is_vendor else "", show_default=False
            ).strip() or None  # fmt: skip
        elif not self._asks and not has_key and is_vendor:
            raise InvalidValue(
                f"{self._service} needs a key", hint=f"`{_called()} init --model {self._service} --key-file FILE`"
            )

    def _is_known(self) -> bool:
        try:
            self._invocation.call("model_service.show", name=self._service)
        except InvalidValue:
            return False
        return True

    def _models(self) -> list[str]:
        """What the service has, which also shows that key and address are right."""
        if not self._checks:
            return []
        click.echo(f"Asking {self._service} …", err=True)
        found: list[str] = self._invocation.call(
            "model_service.ask", name=self._service, url=self._url, key=self._key
        )["models"]  # fmt: skip
        return found

    def _ask_model(self, name: str, models: list[str]) -> str:
        """The model as the agent group takes it, `SERVICE:NAME`. Raises `InvalidValue` for one that is not there."""
        liked = _first_liked(self._service, models)
        if not name and self._asks:
            if models:
                self._say(f"It has {', '.join(_some(models, liked))}{', …' if len(models) > _SHOWN else ''}.")
            name = click.prompt("Which of its models?", default=liked).strip()
        name = name or liked or ""
        if not name:
            hint = "pull one: `ollama pull qwen3`" if self._service == "ollama" else "name one: --model SERVICE:NAME"
            raise InvalidValue(f"{self._service} names no model", hint=hint)
        if models and not any(each in (name, f"{name}:latest") for each in models):
            hint = (
                f"`ollama pull {name}` gets it"
                if self._service == "ollama"
                else f"it has {', '.join(_some(models, liked))}"
            )
            raise InvalidValue(f"{self._service} has no model '{name}'", hint=hint)
        known = self._service in ("anthropic", "openai", "google", "ollama")
        return f"{self._service}:{name}" if known else f"openai:{name}@{self._service}"

    def _agree(self, given: bool | None, question: str, *, default: bool) -> bool:
        if given is not None:
            return given
        return click.confirm(question, default=default) if self._asks else default

    def _data_option(self) -> str:
        data = self._invocation.data
        return "" if data == Path("data").absolute() else f" --data {data}"


def _parsed(model: str) -> tuple[str, str]:
    """The service and the name of a model as --model says it. Raises `InvalidValue`."""
    kind, _, rest = model.strip().partition(":")
    if kind not in _SERVICES or kind == "other" or (kind == "echo" and rest):
        known = ", ".join(name for name in _SERVICES if name not in ("other", "echo"))
        raise InvalidValue(f"'{model}' is no model", hint=f"write SERVICE:NAME with one of {known}, or echo for none")
    name, at, service = rest.rpartition("@")
    return (service, name) if at and kind == "openai" else (kind, rest)


def _first_liked(service: str, models: list[str]) -> str | None:
    for beginning in _LIKED.get(service, ()):
        for model in models:
            if model.startswith(beginning):
                return model
    return models[0] if models else None


def _some(models: list[str], liked: str | None) -> list[str]:
    first = [] if liked is None else [liked]
    return [*first, *(model for model in models if model != liked)][:_SHOWN]


def _boot(context: click.Context, wanted: bool | None, *, asks: bool) -> None:
    """Question 5: whether the host starts at boot."""
    from host.cli.service import install
    from host.service.systemd import is_there

    if wanted is None:
        wanted = asks and is_there() and click.confirm("Start the host at boot?", default=False)
    if wanted:
        context.invoke(install)


def _complete(wanted: bool | None, say: Callable[[str], None], *, asks: bool) -> None:
    from host.cli.completion import file_of, install, shell_of_user

    shell = shell_of_user()
    if shell is None:
        if wanted:
            raise InvalidValue("your shell is not known (SHELL)", hint="bash, zsh and fish can be completed")
        return
    if wanted is None and asks:
        say(f"{shell} can complete this command, by the file\n    {file_of(shell)}")  # a question at its end wraps
        wanted = click.confirm("Write it?", default=True)
    if wanted:
        say(install(shell))


def _runs(invocation: Invocation) -> bool:
    return bool(invocation.call("status")["host"]["running"])


def _called() -> str:
    """How this command was called, for the next one."""
    called = Path(sys.argv[0])
    return sys.argv[0] if "/" in sys.argv[0] and called.name in ("dumbwaiter", "dw") else "dumbwaiter"
