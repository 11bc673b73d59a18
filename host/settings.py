"""The settings: one frozen object, read once, passed down. The only module that reads the environment.

Sources, the first one wins: command-line options, environment variables `DUMBWAITER_<NAME>`, `dumbwaiter.toml` in the
data folder, the defaults here. Every field's description is its documentation (`docs/settings.md` is checked against
it). An unknown or malformed setting is an error that names it.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

import tzlocal
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from host.gateway import proxies
from host.gateway.upstreams import VARIABLES, UpstreamSetting
from host.kubernetes_settings import KubernetesSetting
from host.runtime.engine_address import VARIABLES as ENGINE_VARIABLES
from host.runtime.engine_address import EngineAddress, resolve
from host.runtime.protocol import (
    LARGEST_CPUS,
    LARGEST_MEMORY,
    LARGEST_PIDS,
    SMALLEST_CPUS,
    SMALLEST_MEMORY,
    SMALLEST_PIDS,
)
from host.secrets import is_private, make_private, secrets_in
from host.sessions.reset import zone
from host.telemetry_settings import TelemetrySetting
from host.validation import misfit_of
from host.web_settings import WebSetting
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.foreign_text import decoded
from shared_schema.layout import DataLayout
from shared_schema.system_errors import words_of

PREFIX = "DUMBWAITER_"
CHANNEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""The name of a channel stands before the colon of an address (`central.messaging_groups.ADDRESS`)."""
RESERVED = frozenset({"cli", "agent", "web", "api"})
"""Channels that are always there: the terminal, the one between agents, the browser, and programs with a token."""
_MEND = "mend it or take it away; `dumbwaiter doctor` checks it"
_MIB = 1024**2


class BadSetting(DumbwaiterError):
    """A setting is unknown or malformed."""


class _SettingsFile(TomlConfigSettingsSource):
    """`dumbwaiter.toml`, in the encoding that an editor has marked it with."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(decoded(file_path.read_bytes()))


class _Environment(EnvSettingsSource):
    """The environment, where a variable has an underscore in place of the hyphen in a name (`my-bot`: `MY_BOT`).

    `tables` has what dumbwaiter.toml sets. A name that stands there as the variable writes it is that one; what stands
    nowhere there is a name of the environment's own.
    """

    def __init__(self, settings: type[BaseSettings], tables: _SettingsFile) -> None:
        super().__init__(settings)
        self._tables = tables

    def __call__(self) -> dict[str, Any]:
        given = super().__call__()
        for table in ("channels", "upstreams"):
            ours, known = given.get(table), self._tables.toml_data.get(table)
            if isinstance(ours, dict) and isinstance(known, dict):
                given[table] = {_meant(name, known): value for name, value in ours.items()}
        return given


def _meant(name: str, known: dict[str, Any]) -> str:
    """The name that a variable means. Raises `ValueError` where it may be one of two."""
    if name in known:
        return name
    found = [each for each in known if variable_part(each) == variable_part(name)]
    if len(found) > 1:
        raise ValueError(f"a variable with {variable_part(name)} may mean {' or '.join(found)}: rename one of them")
    return found[0] if found else name


def variable_part(name: str) -> str:
    """A name as it stands in the environment: capitals, and underscores in place of hyphens."""
    return name.upper().replace("-", "_")


class NodeSetting(BaseModel):
    """A machine on which agents may run, `[[nodes]]` in dumbwaiter.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="what it is called here: small letters, digits, . _ -"
    )
    address: str = Field(description="its docker engine: `ssh://user@host`, `tcp://host:2376` or `unix:///…`")
    labels: dict[str, str] = Field(
        default={}, description="what agent groups can ask for with --node-label, such as `gpu` = `yes`"
    )
    max_agents: int = Field(default=10, ge=1, description="how many agents may run there at the same time")
    certificate: Path | None = Field(default=None, description="file with this host's TLS certificate for `tcp`")
    key: Path | None = Field(default=None, description="file with the key of that certificate")
    authority: Path | None = Field(default=None, description="file with the certificate that signed the engine's")


class Settings(BaseSettings):
    """Everything that can be set. Times are seconds, sizes bytes, unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data: Path = Field(Path("data"), description="the data folder; also the option --data")

    runtime: Literal["auto", "docker", "process", "nodes", "swarm", "kubernetes"] = Field(
        "auto",
        description="what runs agents: docker, process (no isolation), nodes (several docker engines), swarm (a Docker "
        "Swarm, docker_host is a manager), kubernetes, or auto: nodes where there are any, else docker where it can be "
        "used",
    )
    nodes: tuple[NodeSetting, ...] = Field(
        (),
        description="machines for agents: `name`, `address`, `labels`, `max_agents` and files for TLS of each, see "
        "cluster.md",
    )
    kubernetes: KubernetesSetting = Field(
        KubernetesSetting(),
        description="the cluster of runtime = kubernetes: `namespace`, `volumes`, `template` and more, see cluster.md",
    )
    docker_host: str | None = Field(
        None, description="address of the docker engine, or of podman (podman.md); none: as for the docker command line"
    )
    image: str = Field("dumbwaiter-agent:0.1.0", description="the image of agents")
    base_image: str = Field("python:3.12-slim-bookworm", description="what the image is built on when it is missing")
    build_network: str | None = Field(
        None,
        description="docker's --network while packages are installed for an agent, such as host; none: docker's own",
    )
    pip_index: str | None = Field(
        None, description="the package index that pip takes then, a URL without a password; none: PyPI"
    )
    oci_runtime: str | None = Field(None, description="docker's --runtime, for instance runsc for gVisor")
    agent_uid: int = Field(
        10001, ge=1, description="user and group id of agents when the host runs as root; else they are the host's own"
    )
    agent_memory_bytes: int = Field(
        2048 * _MIB, ge=SMALLEST_MEMORY, le=LARGEST_MEMORY, description="memory of one agent"
    )
    agent_cpus: float = Field(2.0, ge=SMALLEST_CPUS, le=LARGEST_CPUS, description="CPUs of one agent")
    agent_pids: int = Field(256, ge=SMALLEST_PIDS, le=LARGEST_PIDS, description="processes of one agent")
    agent_file_bytes: int = Field(1024 * _MIB, ge=_MIB, description="the largest file an agent can write")
    out_bytes: int = Field(
        2048 * _MIB,
        ge=_MIB,
        description="what a session may keep in out/ (more stops its agent), and send as files in all",
    )

    max_agents: int = Field(10, ge=1, description="agents running at the same time; more wait, the longest first")
    idle_seconds: float = Field(600, ge=0, description="an agent without work is stopped after this time")
    background_seconds: float = Field(
        14_400, ge=0, description="the same for an agent in whose background a process of its own runs"
    )
    start_seconds: float = Field(60, gt=0, description="an agent that shows no sign of life by then is stopped")
    heartbeat_seconds: float = Field(5, gt=0, le=3600, description="how often an agent touches its heartbeat file")
    silent_seconds: float = Field(
        30,
        gt=0,
        description="an agent whose heartbeat is older is stopped as hanging; at least twice heartbeat_seconds",
    )
    turn_seconds: float = Field(1800, gt=0, description="a turn that takes longer fails")
    title_seconds: float = Field(
        2, ge=0, description="how long a conversation rests before its agent is asked what it is about"
    )
    engine_seconds: float = Field(
        600, gt=0, description="how long an engine that does not answer is waited for before messages fail"
    )
    fault_seconds: float = Field(
        60,
        gt=0,
        description="how long a session is tried again whose files cannot be used, before its messages fail",
    )
    stop_seconds: float = Field(5, ge=0, le=3600, description="time an agent gets to finish or give back its turn")
    max_batch: int = Field(10, ge=1, le=1000, description="messages in one turn")
    max_retries: int = Field(3, ge=0, description="how often a message whose turn died is tried again")
    retry_seconds: float = Field(1, ge=0, description="wait before the first retry; four times longer each time")

    timezone: str | None = Field(
        None,
        description="the time zone of chats that have none of their own, such as Europe/Berlin; none: the machine's",
    )
    save_memory: bool = Field(
        True,
        description="before `/new`, a reset and a compression an agent may save to its memory what is worth it, in a "
        "turn that no chat shows; an agent group can say otherwise",
    )
    redact_ids: bool = Field(
        False,
        description="agents see short hashes in place of phone numbers and of the ids of people and chats, on "
        "platforms where no mention needs them",
    )

    notify: Literal["auto", "watchfiles", "off"] = Field(
        "auto",
        description="file notifications on both sides; on the host auto is inotify on Linux and watchfiles elsewhere; "
        "off: polling alone, for mounts that carry no events",
    )
    shared: bool = Field(
        False,
        description="the data folder lies on a mount that several machines share: no event, no time of a file and no "
        "lock between machines is relied on, and files are looked at more often just after a message; see cluster.md",
    )
    standby: bool = Field(
        False,
        description="a host that finds another one serving the data folder waits, and takes its place when that one "
        "has ended, see cluster.md; otherwise it refuses",
    )
    poll_seconds: float = Field(1, gt=0, le=3600, description="how often files are looked at without a notification")

    upstreams: dict[str, UpstreamSetting] = Field(
        {}, description="model services by name: `url`, `key`, `kind` and `paths` of each, see gateway.md"
    )
    channels: dict[str, dict[str, Any]] = Field(
        {}, repr=False, description="bots on chat platforms by name: `type`, secrets and more, see channels/README.md"
    )

    web: WebSetting = Field(
        WebSetting(),
        description="the page in the browser: `enabled`, `address`, `port`, `hosts`, `certificate`, `key`, `url`, "
        "`oidc`, see web.md",
    )

    telemetry: TelemetrySetting = Field(
        TelemetrySetting(),
        description="traces for OpenTelemetry: `endpoint`, `headers`, `service_name`, see traces.md",
    )

    transcription: dict[Literal["upstream", "model"], str] = Field(
        {}, description="who writes down voice messages: `upstream`, a model service by name, and its `model`"
    )

    gateway: Literal["unix", "tcp"] = Field(
        "unix",
        description="how agents reach the gateway; tcp, with runtime = process alone, where the data folder takes no "
        "Unix sockets",
    )
    gateway_address: str | None = Field(
        None,
        pattern=r"^.+:\d{1,5}$",
        description="where agents on other machines reach the gateway, over TLS: an address of this machine that they "
        "can reach, and a port, such as 10.0.0.1:8443; none: they have no way out, see cluster.md",
    )
    gateway_listen: str | None = Field(
        None,
        pattern=r"^.+:\d{1,5}$",
        description="where the gateway listens for them, if gateway_address is no address of this machine and leads to "
        "it, such as 0.0.0.0:8443 behind a Service",
    )
    calls_per_minute: int | None = Field(None, ge=0, description="model calls of one agent group in a minute")
    tokens_per_minute: int | None = Field(None, ge=0, description="tokens of one agent group in a minute")

    answer_tokens: int = Field(
        128_000,
        ge=1,
        description="tokens that an answer is taken to have at most, in budgets, while it is under way: for models "
        "that are not known, in calls that do not say it",
    )

    delivery_seconds: float = Field(60, gt=0, description="time limit of one attempt to send a message")
    delivery_retry_seconds: float = Field(1, gt=0, description="wait before the second attempt; doubles up to a minute")
    delivery_hours: float = Field(6, ge=0, description="how long sending is tried before it fails")

    max_waiting: int = Field(
        1_000, ge=1, description="messages of one session that may wait to be sent; more are refused, and it is told"
    )
    kept_rows: int = Field(
        1_000_000,
        ge=100,
        description="rows that the host keeps of one session, in central.db and in history.db; then it takes no more",
    )
    kept_bytes: int = Field(2048 * _MIB, ge=_MIB, description="the same in bytes")
    kept_rows_per_hour: int = Field(
        100_000,
        ge=100,
        description="rows that the host takes of one session in an hour, into central.db and into history.db",
    )
    kept_bytes_per_hour: int = Field(256 * _MIB, ge=_MIB, description="the same in bytes")

    schedule_run_days: float = Field(30, ge=0, description="how long the conversation of a schedule's run is kept")
    schedule_runs_kept: int = Field(50, ge=0, description="how many of them are kept of one schedule, the newest")
    deleted_hours: float = Field(24, ge=0, description="how long a deleted session can be restored")

    max_text: int = Field(100_000, ge=1, le=200_000, description="characters in one message, either way")
    max_file_bytes: int = Field(25 * _MIB, ge=1, description="size of one file, either way")
    max_files: int = Field(20, ge=0, description="files with one message, either way")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="text, json lines, or auto: text on a terminal and json otherwise"
    )

    @field_validator("channels")
    @classmethod
    def _are_named(cls, channels: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in channels:
            if not CHANNEL_NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(
                    f"'{name}' cannot be the name of a channel: a name is 1 to 32 small letters, digits, hyphens and "
                    f"underscores, begins with a letter, and is not {' or '.join(sorted(RESERVED))}"
                )
        return channels

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            return zone(name).key
        except InvalidValue as error:
            raise ValueError(error.what) from error

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.silent_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("silent_seconds must be at least twice heartbeat_seconds")
        if self.gateway == "tcp" and self.runtime != "process":
            raise ValueError(
                "gateway = tcp needs runtime = process: a container has no network in which to reach a port"
            )
        names = [node.name for node in self.nodes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two nodes are called {twice[0]}")
        if self.runtime == "nodes" and not names:
            raise ValueError("runtime = nodes needs [[nodes]]: `dumbwaiter node add` adds one")
        if self.runtime == "kubernetes" and not any(
            self.data.absolute().is_relative_to(volume.folder) for volume in self.kubernetes.volumes
        ):
            raise ValueError(
                "runtime = kubernetes needs a volume with the data folder: [[kubernetes.volumes]], then folder = "
                f'"{self.data.absolute()}", then claim = "NAME"'
            )
        return self

    @property
    def zone(self) -> str:
        """The name of the time zone of chats that have none of their own."""
        return self.timezone or machine_zone()

    @property
    def layout(self) -> DataLayout:
        """The paths of the data folder."""
        return DataLayout(self.data, self.shared)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = DataLayout(init_settings()["data"]).settings
        tables = _SettingsFile(settings_cls, toml_file=file)
        return init_settings, _Environment(settings_cls, tables), tables


@functools.cache
def machine_zone() -> str:
    """The name of the machine's time zone; UTC where it has none that is known."""
    try:
        name = tzlocal.get_localzone_name()
        return "UTC" if name in ("Etc/UTC", "local") else zone(name).key
    except (InvalidValue, LookupError, ValueError, OSError):
        return "UTC"


def vendor_variables() -> dict[str, str]:
    """The vendors' own variables with keys and URLs, as far as they are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def proxy_variables() -> dict[str, str]:
    """The variables that name proxies, as far as they are set."""
    names = (*proxies.VARIABLES, *(name.upper() for name in proxies.VARIABLES))
    return {name: os.environ[name] for name in names if name in os.environ}


def engine_address(settings: Settings) -> EngineAddress:
    """The docker engine that setting, environment and docker's own files name; never raises."""
    return resolve(settings.docker_host, {name: os.environ[name] for name in ENGINE_VARIABLES if name in os.environ})


def kubeconfig(settings: Settings) -> Path | None:
    """The file that says how the cluster is reached; None for the service account of this host's own pod."""
    if settings.kubernetes.kubeconfig is not None:
        return settings.kubernetes.kubeconfig
    if given := os.environ.get("KUBECONFIG"):
        return Path(given.split(os.pathsep)[0])
    return None if "KUBERNETES_SERVICE_HOST" in os.environ else Path.home() / ".kube/config"


def configuration_folder() -> Path:
    """Where a person's programs keep their configuration (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def shared_data_folder() -> Path:
    """Where a person's programs keep what they bring, such as completions of commands (the same specification)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")


def login_shell() -> str:
    """The person's shell, as a path; '' where it is not known."""
    return os.environ.get("SHELL", "")


def of_the_shell() -> list[str]:
    """The variables of this process that a host would take and a service does not see; but the data folder's."""
    ours = [name for name in os.environ if name.startswith(PREFIX) and name != f"{PREFIX}DATA"]
    return sorted([*ours, *vendor_variables(), *proxy_variables()])


def notify_socket() -> str | None:
    """Where systemd, if it started this process, wants to be told how far it is (`man sd_notify`)."""
    return os.environ.get("NOTIFY_SOCKET")


def load(options: dict[str, Any] | None = None, *, only_look: bool = False) -> Settings:
    """The settings from all sources. `options` are those given on the command line (None values are not given).

    A dumbwaiter.toml with keys that others could read is made its owner's alone, unless `only_look`. Raises
    `BadSetting`, which names the setting and where it was set.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    given["data"] = Path(given.get("data") or os.environ.get(f"{PREFIX}DATA") or "data").absolute()
    file = DataLayout(given["data"]).settings
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and _field(variable) not in Settings.model_fields:
            raise BadSetting(f"the setting '{_field(variable)}' is unknown", where=variable, hint="unset the variable")
    if not only_look and not is_closed(file) and not make_private(file):
        raise BadSetting(
            "others may read the file, and it has keys", where=file, hint=f"chmod 600 {shlex.quote(str(file))}"
        )
    try:
        return Settings(**given)
    except OSError as error:
        raise BadSetting(f"the file cannot be read: {words_of(error)}", where=file) from error
    except SettingsError as error:
        raise BadSetting(f"the settings cannot be read: {error}", hint=_MEND) from error
    except ValidationError as error:
        first = error.errors()[0]
        said = misfit_of(first)
        if not first["loc"]:
            raise BadSetting(f"the settings do not fit together: {said}", hint=_MEND) from error
        name = ".".join(str(part) for part in first["loc"])
        what = "is unknown" if first["type"] == "extra_forbidden" else f"is not valid: {said}"
        where = _origin(str(first["loc"][0]), given, file)
        raise BadSetting(f"the setting '{name}' {what}", where=where, hint=_MEND) from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, endless digits, endless brackets
        raise BadSetting(f"the file is malformed: {error}", where=file, hint="mend it, or move it away") from error


def in_environment(variable: str) -> bool:
    """Whether a variable is set for this process."""
    return variable in os.environ


def is_closed(file: Path) -> bool:
    """Whether its owner alone can read the keys in a dumbwaiter.toml, if it has any."""
    try:
        return is_private(file) or not secrets_in(file)
    except OSError:  # it is not there, or cannot be looked at: its reader says so
        return True


def _field(variable: str) -> str:
    name = variable[len(PREFIX) :].lower()
    table, nested, _ = name.partition("__")
    return (
        table
        if nested and table in ("upstreams", "channels", "transcription", "web", "kubernetes", "telemetry")
        else name
    )


def _origin(name: str, given: dict[str, Any], file: Path) -> str:
    if name in given:
        return "the command line"
    variable = f"{PREFIX}{name.upper()}"
    return variable if variable in os.environ else str(file)
