"""What was measured of the mount is heeded at the next start, as long as it is that mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.operations.mount_verdict import MountVerdict
from host.operations.mount_verdicts import LosesData, keep, read, require_safe
from shared_schema.clock import SystemClock
from shared_schema.layout import DataLayout

OLD = "a listing is old (4.0 s): mount it without caches of names and contents"


def kept(data: Path, verdict: MountVerdict, *sentences: str, of: Path | None = None) -> DataLayout:
    layout = DataLayout(data, shared=True)
    keep(layout, of or data, [("two", verdict, sentences)], SystemClock())
    return layout


def test_a_mount_that_loses_data_is_refused_in_a_sentence_with_what_to_type(tmp_path: Path) -> None:
    layout = kept(tmp_path, MountVerdict.LOSES, OLD)
    with pytest.raises(LosesData) as refused:
        require_safe(layout)
    assert str(refused.value.what).startswith(
        "the data folder lies on a mount that loses data, as was measured with two"
    )
    assert OLD in refused.value.what
    line = f"`dumbwaiter mount check {tmp_path} --with two --data {tmp_path}`"
    assert refused.value.hint is not None
    assert refused.value.hint.endswith(f"then type {line}")


def test_a_newer_verdict_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    kept(tmp_path, MountVerdict.LOSES, OLD)
    layout = kept(tmp_path, MountVerdict.LATE)
    require_safe(layout)
    assert [(each.other, each.verdict) for each in read(layout)] == [("two", MountVerdict.LATE)]


def test_a_verdict_of_another_mount_says_nothing(tmp_path: Path) -> None:
    layout = kept(tmp_path, MountVerdict.LOSES, OLD)
    text = layout.mount_verdicts.read_text()
    layout.mount_verdicts.write_text(text.replace('"mount": "', '"mount": "nfs4 elsewhere:/'))
    assert read(layout) == []
    require_safe(layout)
    assert read(kept(tmp_path / "there", MountVerdict.LOSES, of=Path("/proc"))) == []


def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    for text in ("", "[1]", '{"a": 1}', '[{"other": 1}]'):
        layout.mount_verdicts.write_text(text)
        assert read(layout) == []
