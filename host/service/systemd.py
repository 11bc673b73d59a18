"""Puts the host's unit where systemd finds it, and asks systemd about it. The only module that runs `systemctl`."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from host.service.unit import Scope, Unit, data_of, text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, DumbwaiterError, NotFound
from shared_schema.system_errors import words_of

SYSTEM_UNITS = Path("/etc/systemd/system")
_SECONDS = 90.0
_BY_OTHER_MEANS = "have `dumbwaiter run` started by what starts services here"
_SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "ActiveEnterTimestamp", "MainPID", "Result")


class ServiceFailed(DumbwaiterError):
    """systemd does not do what it is asked."""


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """A unit's file and whose systemd reads it."""

    scope: Scope
    folder: Path
    name: str

    @property
    def file(self) -> Path:
        """The unit file."""
        return self.folder / f"{self.name}.service"

    @property
    def journal(self) -> str:
        """What a person types to read the service's log."""
        return f"journalctl {'' if self.scope is Scope.SYSTEM else '--user '}-u {self.name} -n 50"


def is_there() -> bool:
    """Whether this machine was started by systemd (sd_booted(3)), and can be asked."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def user_units(configuration: Path) -> Path:
    """The folder of a person's own units, in that of all their configuration."""
    return configuration / "systemd/user"


def install(place: UnitPlace, unit: Unit, *, start: bool) -> None:
    """Write the unit, have it started at boot, and (`start`) start it now, or anew if it runs.

    Raises `Conflict` when a unit of that name is not ours or serves another folder, and `ServiceFailed`.
    """
    before = _read(place)
    if before is not None and data_of(before) != unit.data:
        served = data_of(before)
        what = "was not made by dumbwaiter" if served is None else f"serves {served}"
        raise Conflict(f"{place.file} {what}", hint="choose another name: --name NAME")
    _require_systemctl()
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        place.file.write_text(text(unit), encoding="utf-8")
        place.file.chmod(0o644)
    except OSError as error:
        hint = "use sudo, or --user" if place.scope is Scope.SYSTEM else None
        raise ServiceFailed(f"the unit cannot be written: {words_of(error)}", where=place.file, hint=hint) from error
    try:
        _systemctl(place, "daemon-reload")
        _systemctl(place, "enable", place.file.name)
    except ServiceFailed:
        _put_back(place, before)  # or the unit stands there as if it were installed
        raise
    if start:
        _systemctl(place, "restart", place.file.name)


def uninstall(place: UnitPlace) -> None:
    """Stop the service, and remove its unit; the data folder stays. Raises `NotFound`, `Conflict`, `ServiceFailed`."""
    before = _read(place)
    if before is None:
        raise NotFound(f"there is no service {place.file}", hint="see `dumbwaiter service status`")
    if data_of(before) is None:
        raise Conflict(f"{place.file} was not made by dumbwaiter", hint="remove it yourself")
    _systemctl(place, "disable", "--now", place.file.name)
    try:
        place.file.unlink()
    except OSError as error:
        raise ServiceFailed(f"the unit cannot be removed: {words_of(error)}", where=place.file) from error
    _systemctl(place, "daemon-reload")


def status(place: UnitPlace) -> dict[str, str | None]:
    """What systemd says of the unit: `{unit, data, state, enabled, since, process, result}`, times in its words."""
    content = _read(place)
    shown: dict[str, str] = {}
    if content is not None and shutil.which("systemctl") is not None:
        output = _systemctl(place, "show", place.file.name, f"--property={','.join(_SHOWN)}")
        shown = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    data = None if content is None else data_of(content)
    return {
        "unit": str(place.file),
        "data": None if data is None else str(data),
        "state": "not installed" if content is None else shown.get("ActiveState", "unknown"),
        "enabled": shown.get("UnitFileState") or None,
        "since": shown.get("ActiveEnterTimestamp") or None,
        "process": shown["MainPID"] if shown.get("MainPID", "0") != "0" else None,
        "result": shown.get("Result") or None,
    }


def may_linger(user: str) -> bool:
    """Whether a person's services start at boot, and go on when they log out."""
    return (Path("/var/lib/systemd/linger") / user).exists()


def linger(user: str) -> None:
    """Let a person's services start at boot. Raises `ServiceFailed`."""
    _run(["loginctl", "enable-linger", user], hint=f"sudo loginctl enable-linger {user}")


def _read(place: UnitPlace) -> str | None:
    try:
        return place.file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceFailed(f"the unit cannot be read: {words_of(error)}", where=place.file) from error


def _put_back(place: UnitPlace, before: str | None) -> None:
    with suppress(OSError):
        if before is None:
            place.file.unlink()
        else:
            place.file.write_text(before, encoding="utf-8")


def _systemctl(place: UnitPlace, *words: str) -> str:
    _require_systemctl()
    scope = () if place.scope is Scope.SYSTEM else ("--user",)
    return _run(["systemctl", "--no-pager", *scope, *words], hint=f"see `{place.journal}`")


def _require_systemctl() -> None:
    if shutil.which("systemctl") is None:
        raise ServiceFailed(
            "this machine has no systemd",
            hint=_BY_OTHER_MEANS,
        )


def _run(command: list[str], hint: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceFailed(f"`{' '.join(command)}` does not end well: {words_of(error)}", hint=hint) from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        if "not been booted with systemd" in said:  # a container, WSL: the program is there, and no service manager
            raise ServiceFailed("systemd does not run on this machine", hint=_BY_OTHER_MEANS)
        raise ServiceFailed(f"`{' '.join(command)}` fails: {said}", hint=hint)
    return done.stdout
