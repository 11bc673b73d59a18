"""The errors of Dumbwaiter.

    DumbwaiterError            what happened, where, and what to do about it
    ├── InvalidValue           a name, id or option that cannot be right (the user's mistake: exit status 2)
    ├── NotFound               a well-formed name of something that does not exist
    ├── Conflict               it exists already, or is in a state that forbids this
    └── FileTrouble            a database file could not be used
        ├── NewerSchema        it was written by a newer version
        ├── FileBusy           locked, half-made or in mid-commit: try again soon
        └── FileDamaged        not a database, or one with a hostile or broken content

An error's message is one sentence for a person. It is logged once, at the edge, never on the way.
"""

from __future__ import annotations

from pathlib import Path

from shared_schema.system_errors import how_to_mend

EXIT_FILES = 74
"""The exit status of an agent that could not use the session's files (EX_IOERR of sysexits.h)."""


class DumbwaiterError(Exception):
    """Something went wrong. `hint` says what to do next; `where` names the file, session or platform.

    One without a hint of its own that an error of the system caused has what that error's number tells: it names paths,
    so it is for the operator and not for a chat, where `own_hint` alone is shown.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = str(where) if where is not None else None
        self.own_hint = hint

    @property
    def hint(self) -> str | None:
        """What to do next."""
        return how_to_mend(self.__cause__, self.where) if self.own_hint is None else self.own_hint

    @property
    def told(self) -> str:
        """What happened as a sentence by itself, for a chat. A hint that names the command line is of no use there."""
        hint = self.own_hint or ""
        sentence = self.what[:1].upper() + self.what[1:]
        if hint and not any(of_the_terminal in hint for of_the_terminal in ("dumbwaiter", "--", "docs/", ".toml")):
            sentence = f"{sentence}: {hint}"
        return sentence if sentence.endswith((".", "…", "!", "?")) else f"{sentence}."

    def __str__(self) -> str:
        sentence = self.what if self.where is None else f"{self.what} ({self.where})"
        return sentence if self.hint is None else f"{sentence}: {self.hint}"


class InvalidValue(DumbwaiterError):
    """A name, id or option that cannot be right."""


class NotFound(DumbwaiterError):
    """A well-formed name of something that does not exist."""


class Conflict(DumbwaiterError):
    """It exists already, or is in a state that forbids this."""


class FileTrouble(DumbwaiterError):
    """A database file could not be used."""


class NewerSchema(FileTrouble):
    """A database file was written by a newer version of Dumbwaiter."""


class FileBusy(FileTrouble):
    """A database file is locked, half-made or in mid-commit; a later attempt may succeed."""


class FileDamaged(FileTrouble):
    """A database file is not a database, or has broken or hostile content."""
