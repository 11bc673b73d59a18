"""File names from outside, made safe (FAILURES 45)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from host.sessions.filename import MAX_BYTES, is_safe_component, safe_name
from shared_schema.text import JOINERS

# learn.microsoft.com/windows/win32/fileio/naming-a-file; superscript digits count as digits there.
DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789"}

TABLE = [
    ("report.pdf", "report.pdf"),
    ("żółw 龜.txt", "żółw 龜.txt"),
    ("archive.tar.gz", "archive.tar.gz"),
    ("../../x", "x"),
    ("..\\..\\x.exe", "x.exe"),
    ("/etc/passwd", "passwd"),
    ("C:\\Windows\\system.ini", "system.ini"),
    ("folder/", "folder"),
    ("", "file"),
    (".", "file"),
    ("..", "file"),
    ("/", "file"),
    (" . ", "file"),
    (".bashrc", "bashrc"),
    ("...hidden", "hidden"),
    ("trailing. . ", "trailing"),
    ("a\x00b\n\r\tc", "abc"),
    ("\x1b[31mred", "[31mred"),
    ("invoice\u202efdp.exe", "invoicefdp.exe"),
    ("zero\u200bwidth", "zerowidth"),
    ("half\ud800", "half"),
    ('a:b*c?d"e<f>g|h', "a_b_c_d_e_f_g_h"),
    ("CON", "file-CON"),
    ("nul.txt", "file-nul.txt"),
    ("Aux.tar.gz", "file-Aux.tar.gz"),
    ("com1", "file-com1"),
    ("LPT9.log", "file-LPT9.log"),
    ("CON ", "file-CON"),
    ("console", "console"),
    ("com10", "com10"),
    ("x" * 5_000, "x" * 120),
    ("x" * 5_000 + ".pdf", "x" * 116 + ".pdf"),
    ("x." + "y" * 5_000, "x." + "y" * 118),
    ("é" * 5_000, "é" * 60),
]


@pytest.mark.parametrize(("name", "safe"), TABLE, ids=[repr(name)[:30] for name, _ in TABLE])
def test_a_name_becomes_one_that_resembles_it(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("a.txt", {"a.txt"}, "a-2.txt"),
        ("a.txt", {"a.txt", "a-2.txt"}, "a-3.txt"),
        ("A.TXT", {"a.txt"}, "A-2.TXT"),
        ("straße", {"STRASSE"}, "straße-2"),
        ("e\u0301.txt", {"\u00e9.txt"}, "\u00e9-2.txt"),
        ("x" * 200, {"x" * 120}, "x" * 118 + "-2"),
        ("con", {"file-con"}, "file-con-2"),
    ],
)
def test_a_name_that_is_taken_gets_a_number(name: str, taken: set[str], expected: str) -> None:
    assert safe_name(name, taken) == expected


def is_device(name: str) -> bool:
    return name.split(".")[0].strip(" ").lower() in DEVICES


def assert_safe(name: str) -> None:
    assert 0 < len(name.encode()) <= MAX_BYTES
    assert not set(name) & set('/\\<>:"|?*')
    shown = "".join(character for character in name if character not in JOINERS)  # as words of some scripts need them
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)
    assert name == name.strip(" ")
    assert not name.startswith(".")
    assert not name.endswith(".")


NAMES = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="con.txaul/\\ \u202e", max_size=12),
    st.builds("{}{}{}".format, st.sampled_from(["a", "../", "nul", " "]), st.text(max_size=130), st.just(".txt")),
)


@settings(deadline=None, max_examples=500)
@given(NAMES)
@example("x" * 119 + " .txt")
@example("." * 200)
@example("a. .b")
@example("é" * 59 + " . x")
def test_whatever_the_name_the_result_is_one_safe_component(name: str) -> None:
    assert_safe(safe_name(name))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="conula.12 -_x", max_size=10))
def test_no_ordinary_name_becomes_a_device(name: str) -> None:
    assert not is_device(safe_name(name))


@settings(deadline=None)
@given(st.lists(NAMES, max_size=30))
def test_no_two_files_of_a_message_share_a_name(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        safe = safe_name(name, taken)
        assert_safe(safe)
        assert safe.casefold() not in {other.casefold() for other in taken}
        taken.add(safe)
    assert len(taken) == len(names)


@pytest.mark.parametrize("name", ["nul .txt", "CON  .tar", "com1 .log"])
def test_a_device_with_a_space_before_its_extension_is_still_a_device(name: str) -> None:
    assert not is_device(safe_name(name))


@pytest.mark.parametrize("name", ["CONIN$", "conout$", "COM\u00b9", "lpt\u00b3.txt"])
def test_the_less_known_devices_are_devices_too(name: str) -> None:
    assert safe_name(name).startswith("file-")


@pytest.mark.parametrize("name", ["a", "a b.txt", ".hidden", "...", "龜", "x" * 255, "-rf", "a\nb"])
def test_a_plain_component_can_be_opened_as_it_is(name: str) -> None:
    assert is_safe_component(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../x", "a\x00", "x" * 256, "é" * 128])
def test_anything_else_cannot(name: str) -> None:
    assert not is_safe_component(name)
