"""Files that come in and files that go out; no name and no link is trusted (FAILURES 45, 46)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from host.sessions.attachments import Attachment, AttachmentRefused, FileLimits, spool, take, unspool
from host.sessions.folder import Owner, make_session_folder
from host.sessions.untrusted_files import copy_file, folder_size, opened_file, opened_folder
from shared_schema.errors import DumbwaiterError, FileDamaged, FileTrouble, InvalidValue
from shared_schema.layout import SessionLayout

OWNER = Owner.of_agents(10001)
LIMITS = FileLimits(max_files=3, max_bytes=1_000, max_total_bytes=1_000_000)
MESSAGE = "msg_0123456789abcdef"
SENT = "out-7"


@pytest.fixture
def session(tmp_path: Path) -> SessionLayout:
    """A session folder whose agent has an outbox for one message."""
    layout = SessionLayout(tmp_path / "agr_1" / "ses_1")
    make_session_folder(layout, OWNER)
    (layout.outbox / MESSAGE).mkdir(parents=True)
    return layout


def source(folder: Path, content: bytes = b"bytes", name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def keep(folder: Path, *attachments: Attachment) -> list[str]:
    return spool(attachments, folder / "spool-1", LIMITS)


def test_files_are_kept_under_safe_names_nobody_else_can_read(tmp_path: Path) -> None:
    path = source(tmp_path)
    names = keep(tmp_path, *(Attachment(name, path) for name in ("../../x", "/etc/X", "con")))
    assert names == ["x", "X-2", "file-con"]
    assert files(tmp_path / "spool-1") == dict.fromkeys(names, b"bytes")
    assert stat.S_IMODE((tmp_path / "spool-1").stat().st_mode) == 0o700


@pytest.mark.parametrize("size", [0, 999, 1_000])
def test_a_file_up_to_the_limit_is_kept(tmp_path: Path, size: int) -> None:
    keep(tmp_path, Attachment("a", source(tmp_path, b"x" * size)))
    assert files(tmp_path / "spool-1") == {"a": b"x" * size}


def refused_too_many(folder: Path) -> Sequence[Attachment]:
    return [Attachment("a", source(folder))] * 4


def refused_too_large(folder: Path) -> Sequence[Attachment]:
    return [Attachment("good", source(folder)), Attachment("a", source(folder, b"x" * 1_001, "large"))]


def refused_folder(folder: Path) -> Sequence[Attachment]:
    return [Attachment("good", source(folder)), Attachment("a", folder)]


def refused_missing(folder: Path) -> Sequence[Attachment]:
    return [Attachment("good", source(folder)), Attachment("a", folder / "missing")]


def refused_pipe(folder: Path) -> Sequence[Attachment]:
    os.mkfifo(folder / "pipe")
    return [Attachment("good", source(folder)), Attachment("a", folder / "pipe")]


@pytest.mark.parametrize(
    ("attachments", "error", "what"),
    [
        (refused_too_many, AttachmentRefused, "4 files came with one message, and 3 are allowed"),
        (refused_too_large, AttachmentRefused, "the file has 1001 bytes, and 1000 are allowed"),
        (refused_folder, InvalidValue, "it is not a file"),
        (refused_missing, InvalidValue, "the file cannot be read: No such file or directory"),
        (refused_pipe, InvalidValue, "it is not a file"),
    ],
)
def test_files_that_cannot_be_taken_leave_nothing_behind(
    tmp_path: Path, attachments: Callable[[Path], Sequence[Attachment]], error: type[DumbwaiterError], what: str
) -> None:
    with pytest.raises(error, match=what):
        keep(tmp_path, *attachments(tmp_path))
    assert not (tmp_path / "spool-1").exists()


def test_without_a_folder_to_keep_files_in_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileTrouble, match="the files cannot be kept: No such file or directory"):
        spool([Attachment("a", source(tmp_path))], tmp_path / "gone" / "spool-1", LIMITS)


def test_files_reach_the_inbox_and_the_agent_can_read_and_not_change_them(
    session: SessionLayout, tmp_path: Path
) -> None:
    names = keep(tmp_path, Attachment("a.txt", source(tmp_path)), Attachment("b", source(tmp_path, b"two", "two")))
    unspool(tmp_path / "spool-1", names, session, MESSAGE, OWNER)
    target = session.inbox / MESSAGE
    assert files(target) == {"a.txt": b"bytes", "b": b"two"}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [target, *target.iterdir()]} == {
        MESSAGE: "0o750",
        "a.txt": "0o640",
        "b": "0o640",
    }
    for path in (target, *target.iterdir()):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), OWNER.gid)


def test_bringing_files_in_can_be_repeated_and_mends_a_half_made_folder(session: SessionLayout, tmp_path: Path) -> None:
    names = keep(tmp_path, Attachment("a", source(tmp_path)), Attachment("b", source(tmp_path, b"two", "two")))
    half = session.inbox / MESSAGE
    half.mkdir()
    (half / "a").write_bytes(b"ha")
    (half / "left over").write_bytes(b"")
    for _ in range(3):
        unspool(tmp_path / "spool-1", names, session, MESSAGE, OWNER)
        assert files(half) == {"a": b"bytes", "b": b"two"}


def outbox(session: SessionLayout, name: str, content: bytes = b"out") -> Path:
    path = session.outbox / MESSAGE / name
    path.write_bytes(content)
    return path


def test_what_the_agent_sends_is_copied_before_it_is_sent(session: SessionLayout) -> None:
    path = outbox(session, "chart.png")
    assert take(session, 7, MESSAGE, ["chart.png"], LIMITS) == [f"sent/{SENT}/chart.png"]
    path.write_bytes(b"changed after it was checked")
    assert files(session.sent / SENT) == {"chart.png": b"out"}


def test_odd_names_are_made_safe_in_the_copy(session: SessionLayout) -> None:
    for name in ("a:b", "a|b", "\x1b[31m.txt"):
        outbox(session, name)
    assert take(session, 7, MESSAGE, ["a:b", "a|b", "\x1b[31m.txt"], LIMITS) == [
        f"sent/{SENT}/{name}" for name in ("a_b", "a_b-2", "[31m.txt")
    ]


def test_another_message_of_the_same_id_replaces_nothing_that_is_queued(session: SessionLayout) -> None:
    outbox(session, "a")
    take(session, 7, MESSAGE, ["a"], LIMITS)
    outbox(session, "a", b"swapped")
    assert take(session, 8, MESSAGE, ["a"], LIMITS) == ["sent/out-8/a"]
    assert files(session.sent / SENT) == {"a": b"out"}


def test_what_a_session_sends_is_bounded_in_all(session: SessionLayout) -> None:
    tight = FileLimits(max_files=3, max_bytes=100_000, max_total_bytes=150_000)
    outbox(session, "a", b"x" * 100_000)
    take(session, 7, MESSAGE, ["a"], tight)
    with pytest.raises(AttachmentRefused, match="the session has sent more files than it may"):
        take(session, 8, MESSAGE, ["a"], tight)
    assert [path.name for path in session.sent.iterdir()] == ["out-7"]


def test_taking_again_makes_the_copy_anew(session: SessionLayout) -> None:
    outbox(session, "a")
    (session.sent / SENT).mkdir()
    (session.sent / SENT / "of an earlier attempt").write_bytes(b"")
    for _ in range(2):
        assert take(session, 7, MESSAGE, ["a"], LIMITS) == [f"sent/{SENT}/a"]
        assert files(session.sent / SENT) == {"a": b"out"}


def link_file(session: SessionLayout, secret: Path) -> list[str]:
    (session.outbox / MESSAGE / "a").symlink_to(secret)
    return ["a"]


def link_folder(session: SessionLayout, secret: Path) -> list[str]:
    (session.outbox / MESSAGE).rmdir()
    (session.outbox / MESSAGE).symlink_to(secret.parent)
    return [secret.name]


def link_outbox(session: SessionLayout, secret: Path) -> list[str]:
    (session.outbox / MESSAGE).rmdir()
    session.outbox.rmdir()
    (secret.parent / MESSAGE).mkdir()
    (secret.parent / MESSAGE / "a").write_bytes(secret.read_bytes())
    session.outbox.symlink_to(secret.parent)
    return ["a"]


def step_up(session: SessionLayout, secret: Path) -> list[str]:
    return ["../" * 5 + secret.name]


def absolute(session: SessionLayout, secret: Path) -> list[str]:
    return [str(secret)]


def pipe(session: SessionLayout, secret: Path) -> list[str]:
    os.mkfifo(session.outbox / MESSAGE / "a")
    return ["a"]


def folder(session: SessionLayout, secret: Path) -> list[str]:
    (session.outbox / MESSAGE / "a").mkdir()
    return ["a"]


def large(session: SessionLayout, secret: Path) -> list[str]:
    outbox(session, "a", b"x" * 1_001)
    return ["a"]


def sparse(session: SessionLayout, secret: Path) -> list[str]:
    os.truncate(outbox(session, "a"), 1 << 40)
    return ["a"]


@pytest.mark.parametrize(
    "attack", [link_file, link_folder, link_outbox, step_up, absolute, pipe, folder, large, sparse]
)
def test_nothing_but_the_agent_s_own_small_files_goes_out(
    session: SessionLayout, tmp_path: Path, attack: Callable[[SessionLayout, Path], list[str]]
) -> None:
    (tmp_path / "host").mkdir()
    secret = source(tmp_path / "host", b"a secret of the host's", "secret")
    with pytest.raises(FileDamaged):
        take(session, 7, MESSAGE, attack(session, secret), LIMITS)
    assert list(session.sent.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\x00b", "missing"])
def test_what_is_no_name_of_a_file_is_refused(session: SessionLayout, name: str) -> None:
    with pytest.raises(FileDamaged):
        take(session, 7, MESSAGE, [name], LIMITS)


def test_too_many_files_are_refused(session: SessionLayout) -> None:
    outbox(session, "a")
    with pytest.raises(AttachmentRefused, match="it has 4 files, and 3 are allowed"):
        take(session, 7, MESSAGE, ["a"] * 4, LIMITS)


def test_a_file_that_is_too_large_is_not_even_opened_for_reading(tmp_path: Path) -> None:
    os.truncate(source(tmp_path), 1 << 40)
    with (
        opened_folder(tmp_path) as opened,
        pytest.raises(FileDamaged, match="'source' has 1099511627776 bytes, and 1000 are allowed"),
        opened_file(opened, "source", max_bytes=1_000),
    ):
        pytest.fail("there is nothing to read")


def test_a_file_that_grows_while_it_is_copied_is_cut_off(tmp_path: Path) -> None:
    descriptor = os.open(source(tmp_path, b"x" * 1_001), os.O_RDONLY)
    try:
        with pytest.raises(FileDamaged, match="grew beyond 1000 bytes"):
            copy_file(descriptor, tmp_path / "copy", max_bytes=1_000)
    finally:
        os.close(descriptor)
    assert not (tmp_path / "copy").exists()


def test_a_copy_never_overwrites_and_never_follows_a_link(tmp_path: Path) -> None:
    path = source(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for target in (path, tmp_path / "link"):
            with pytest.raises(FileExistsError):
                copy_file(descriptor, target, max_bytes=1_000)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"bytes"
    assert not (tmp_path / "elsewhere").exists()


def test_trouble_on_the_host_s_side_is_not_blamed_on_the_agent_s_file(tmp_path: Path) -> None:
    source(tmp_path)

    def copy_to_a_full_disk() -> None:
        with opened_folder(tmp_path) as opened, opened_file(opened, "source", max_bytes=1_000):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        copy_to_a_full_disk()


def test_a_name_of_half_characters_is_refused_like_any_other(session: SessionLayout) -> None:
    with pytest.raises(FileDamaged):
        take(session, 7, MESSAGE, ["\ud800"], LIMITS)


def test_the_size_of_a_folder_follows_no_link_and_has_a_limit(tmp_path: Path) -> None:
    inside = tmp_path / "out"
    (inside / "deep").mkdir(parents=True)
    large_file = source(tmp_path, b"x" * 5_000_000)
    (inside / "deep" / "link").symlink_to(large_file)
    (inside / "loop").symlink_to(inside)
    size = folder_size(inside)
    assert size is not None
    assert size < 100_000
    source(inside / "deep", b"x" * 300_000)
    grown = folder_size(inside)
    assert grown is not None
    assert grown - size >= 300_000
    assert folder_size(inside, max_entries=3) is None
    assert folder_size(inside, max_entries=4) == grown
