"""The name of an agent's user, where the image knows none for its number."""

from __future__ import annotations

from pathlib import Path

from host.runtime.accounts import GROUP, PASSWD, AccountFiles, account_in

ROOT = b"root:x:0:0:root:/root:/bin/bash\n"
ROOTS = b"root:x:0:\n"


def test_a_user_without_a_name_gets_a_line_in_both_files() -> None:
    account = account_in(ROOT, ROOTS, uid=4242, gid=4343, home="/tmp")
    assert account.name == "agent"
    assert account.files == {
        PASSWD: ROOT + b"agent:x:4242:4343:agent:/tmp:/bin/sh\n",
        GROUP: ROOTS + b"agent:x:4343:\n",
    }


def test_a_user_that_the_image_knows_keeps_its_name_and_no_file_is_replaced() -> None:
    passwd, group = ROOT + b"node:x:1000:1000::/home/node:/bin/sh\n", ROOTS + b"node:x:1000:\n"
    account = account_in(passwd, group, uid=1000, gid=1000, home="/tmp")
    assert (account.name, account.files) == ("node", {})


def test_only_the_file_that_lacks_the_number_is_replaced() -> None:
    passwd = ROOT + b"node:x:1000:1000::/home/node:/bin/sh\n"
    account = account_in(passwd, ROOTS, uid=1000, gid=100, home="/tmp")
    assert (account.name, [*account.files]) == ("node", [GROUP])


def test_a_name_that_is_taken_gets_the_number() -> None:
    passwd, group = ROOT + b"agent:x:10001:10001::/tmp:/bin/sh\n", ROOTS + b"agent:x:10001:\n"
    account = account_in(passwd, group, uid=4242, gid=4242, home="/tmp")
    assert account.name == "agent-4242"
    assert account.files[PASSWD].endswith(b"\nagent-4242:x:4242:4242:agent:/tmp:/bin/sh\n")
    assert account.files[GROUP].endswith(b"\nagent-4242:x:4242:\n")


def test_a_number_that_is_the_beginning_of_another_or_a_group_is_not_taken_for_the_user() -> None:
    passwd = b"a:x:42420:4242::/:/bin/sh\nb:x:424:4242::/:/bin/sh\n#c:x:4242:1::/:/bin/sh\n"
    assert account_in(passwd, b"", uid=4242, gid=1, home="/tmp").name == "agent"


def test_odd_lines_stay_as_they_are() -> None:
    odd = b"\xff\xfe\n+\n::\nroot:x:0:0"  # not text, of NIS, empty, and without an end of line
    account = account_in(odd, b"", uid=4242, gid=4242, home="/tmp")
    assert account.files[PASSWD] == odd + b"\nagent:x:4242:4242:agent:/tmp:/bin/sh\n"
    assert account.files[GROUP] == b"agent:x:4242:\n"


def test_a_file_is_kept_once_readable_for_all_and_made_again_when_it_is_damaged(tmp_path: Path) -> None:
    files = AccountFiles(tmp_path / "run")
    path = files.keep(ROOT)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (ROOT, 0o644)
    path.write_bytes(b"")  # after a power cut
    assert files.keep(ROOT) == path
    assert path.read_bytes() == ROOT
    assert files.keep(ROOTS) != path
    assert len([*(tmp_path / "run").iterdir()]) == 2
