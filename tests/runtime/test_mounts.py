"""Extra mounts: only what the allow-list names, however it is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.runtime.mounts import AllowedFolder, MountRequest, allowed_mount, read_allow_list
from host.runtime.protocol import Mount
from shared_schema.errors import Conflict, InvalidValue


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    (folder / "poems").mkdir(parents=True)
    (tmp_path / "books-private").mkdir()
    (tmp_path / "secrets").mkdir()
    return folder


def test_an_allowed_folder_and_what_is_beneath_it_may_be_mounted(books: Path) -> None:
    allow_list = [AllowedFolder(books)]
    assert allowed_mount(MountRequest(books, "books"), allow_list) == Mount(books, "books")
    assert allowed_mount(MountRequest(books / "poems", "poems"), allow_list) == Mount(books / "poems", "poems")


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("requested", [False, True])
def test_a_mount_is_writable_only_when_list_and_request_say_so(books: Path, listed: bool, requested: bool) -> None:
    mount = allowed_mount(MountRequest(books, "books", requested), [AllowedFolder(books, listed)])
    assert mount.writable is (listed and requested)


def test_the_closest_entry_decides_about_writing(books: Path) -> None:
    allow_list = [AllowedFolder(books, writable=True), AllowedFolder(books / "poems")]
    assert not allowed_mount(MountRequest(books / "poems", "poems", writable=True), allow_list).writable


@pytest.mark.parametrize("name", ["secrets", "books-private", "."])
def test_other_folders_are_refused(books: Path, name: str) -> None:
    with pytest.raises(Conflict, match=r"mounts\.toml"):
        allowed_mount(MountRequest(books.parent / name, "x"), [AllowedFolder(books)])


def test_an_empty_list_allows_nothing(books: Path) -> None:
    with pytest.raises(Conflict):
        allowed_mount(MountRequest(books, "books"), [])


def test_a_link_that_points_out_of_the_allowed_folder_is_refused(books: Path) -> None:
    (books / "way-out").symlink_to(books.parent / "secrets")
    with pytest.raises(Conflict):
        allowed_mount(MountRequest(books / "way-out", "x"), [AllowedFolder(books)])


def test_a_link_into_the_allowed_folder_mounts_what_it_points_to(books: Path) -> None:
    link = books.parent / "link"
    link.symlink_to(books / "poems")
    assert allowed_mount(MountRequest(link, "x"), [AllowedFolder(books)]).source == books / "poems"


def test_relative_paths_steps_up_files_and_missing_folders_are_refused(books: Path) -> None:
    (books / "file").touch()
    for path in (Path("books"), books / "poems" / ".." / ".." / "secrets", books / "file", books / "missing"):
        with pytest.raises(InvalidValue):
            allowed_mount(MountRequest(path, "x"), [AllowedFolder(books)])


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/etc", "-x", "a\n", "x" * 65])
def test_names_that_are_not_one_plain_component_are_refused(books: Path, name: str) -> None:
    with pytest.raises(InvalidValue):
        allowed_mount(MountRequest(books, name), [AllowedFolder(books)])


def test_the_list_is_read_from_a_file_and_its_paths_are_resolved(books: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf").symlink_to(books)
    file = tmp_path / "mounts.toml"
    file.write_text(f'[[allow]]\npath = "{tmp_path}/shelf"\n[[allow]]\npath = "/nowhere"\nwritable = true\n')
    assert read_allow_list(file) == (AllowedFolder(books), AllowedFolder(Path("/nowhere"), writable=True))


def test_a_missing_list_is_an_empty_one(tmp_path: Path) -> None:
    assert read_allow_list(tmp_path / "mounts.toml") == ()


@pytest.mark.parametrize(
    "content",
    [
        "not toml",
        'allow = "x"',
        "[[allow]]",
        "[[allow]]\npath = 1",
        '[[allow]]\npath = "relative"',
        '[[allow]]\npath = "/a/../etc"',
        '[[allow]]\npath = "/a"\nwritable = "yes"',
        '[[allow]]\npath = "/a"\nwriteable = true',
        '[[allowed]]\npath = "/a"',
    ],
)
def test_a_malformed_list_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mounts.toml"
    file.write_text(content)
    with pytest.raises(InvalidValue, match=r"mounts\.toml"):
        read_allow_list(file)


def test_a_list_that_lies_in_a_folder_it_allows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mounts.toml"
    file.write_text(f'[[allow]]\npath = "{tmp_path}"\n')
    with pytest.raises(Conflict):
        read_allow_list(file)
