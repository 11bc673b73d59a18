"""What the process runtime knows on disk about its processes: `<run folder>/<run_id>.json` and `.log`.

The invariant: a record is there whole or not at all, so that a host that was killed at any moment can be followed by
one that reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from shared_schema.dataclass import dataclass
from shared_schema.ids import Prefix, require_id


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One started process. `create_time` is what `identity_of` says of it, not a time of day."""

    run_id: str
    session_id: str
    install_id: str
    pid: int
    create_time: str


class RecordFolder:
    """The records of one install; those of any other are as if they were not there.

    Every method raises `InvalidValue` for a run id of another form: it becomes a file name.
    """

    def __init__(self, folder: Path, install_id: str) -> None:
        self.path = folder
        self._install_id = install_id

    def log(self, run_id: str) -> Path:
        """Where that run's output goes. Makes the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / f"{require_id(run_id, Prefix.RUN)}.log"

    def write(self, record: ProcessRecord) -> None:
        """Keep a record; it is on disk when this returns. Raises `OSError`."""
        path = self._file(record.run_id)
        half = path.with_suffix(".half")
        with half.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)

    def read(self, run_id: str) -> ProcessRecord | None:
        """The record of a run, None when there is none. Raises `OSError` when it cannot be read at the moment."""
        return self._read(self._file(run_id))

    def all(self) -> Iterator[ProcessRecord]:
        """All records of this install, in the order of their run ids. Raises `OSError` as `read`."""
        for path in sorted(self.path.glob(f"{Prefix.RUN}_*.json")):
            if (record := self._read(path)) is not None:
                yield record

    def clear_unrecorded(self) -> None:
        """Remove what was made for processes that were never recorded. Only while nothing is being started here."""
        for kind in ("log", "half"):
            for path in self.path.glob(f"{Prefix.RUN}_*.{kind}"):
                if not path.with_suffix(".json").exists():
                    path.unlink(missing_ok=True)

    def forget(self, run_id: str) -> None:
        """Remove a record and its log."""
        if self.read(run_id) is not None:
            self._file(run_id).unlink(missing_ok=True)
            self.log(run_id).unlink(missing_ok=True)

    def _file(self, run_id: str) -> Path:
        return self.path / f"{require_id(run_id, Prefix.RUN)}.json"

    def _read(self, path: Path) -> ProcessRecord | None:
        try:
            record = ProcessRecord(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # any other trouble says nothing of the agent
            return None
        return record if record.install_id == self._install_id else None
