"""Changing what is set of a channel: by the command, and in dumbwaiter.toml by hand, while the host runs."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from host.channels.github.settings import GitHubSettings
from host.channels.next_line import hint_with_line
from host.channels.protocol import ChannelRefused, ChannelUnavailable, TokenRefused
from host.channels.unreachable import unreachable
from host.operations.users import claim_sentence
from host.settings import load
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.support.host import Host, running
from tests.support.ports import free_port

SECRET = "canary-4f1d7a90-of-the-webhook"
OTHER = "canary-4f1d7a90-of-another-one"


async def add(host: Host) -> Path:
    """A channel that needs nothing but the host; its file."""
    settings = {"secret": SECRET, "port": free_port()}
    made = await host.do("channel.add", name="webhook", settings=settings)
    assert (made["state"], made["missing"], made["has_direct_chats"]) == ("connected", [], False)
    return Path(made["file"])


async def test_a_setting_is_changed_in_a_running_host_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        file = await add(host)
        file.write_text(file.read_text().replace("[channels.webhook]", "# of mine\n[channels.webhook]  # for alerts"))
        port = free_port()

        made = await host.do("channel.set", name="webhook", settings={"secret": OTHER, "port": port, "path": "/in"})

        assert made["state"] == "connected"
        assert (await host.do("channel.check", name="webhook"))["id"] == f"http://127.0.0.1:{port}/in"
        written = {"secret": OTHER, "port": port, "path": "/in"}
        assert load({"data": tmp_path}).channels == {"webhook": written}
        assert "# of mine" in file.read_text()
        assert "# for alerts" in file.read_text()
        await host.do("channel.set", name="webhook", settings={}, unset=["path"])
        assert load({"data": tmp_path}).channels == {"webhook": {"secret": OTHER, "port": port}}


async def test_what_cannot_be_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as host:
        before = (await add(host)).read_text()
        with pytest.raises(InvalidValue, match=r"'port' is not valid.*`dumbwaiter channel set webhook` again"):
            await host.do("channel.set", name="webhook", settings={"port": 70_000})
        with pytest.raises(InvalidValue, match="a channel keeps its type"):
            await host.do("channel.set", name="webhook", settings={"type": "telegram"})
        with pytest.raises(NotFound, match="'path' of the channel 'webhook' is not set"):
            await host.do("channel.set", name="webhook", settings={}, unset=["path"])
        with pytest.raises(NotFound, match="there is no channel 'phone'"):
            await host.do("channel.set", name="phone", settings={"port": 1})
        monkeypatch.setenv("DUMBWAITER_CHANNELS__WEBHOOK__SECRET", OTHER)
        with pytest.raises(Conflict, match="unset DUMBWAITER_CHANNELS__WEBHOOK__SECRET"):
            await host.do("channel.set", name="webhook", settings={"secret": "canary-of-a-third-one"})
        assert (tmp_path / "dumbwaiter.toml").read_text() == before


async def test_a_check_reads_what_was_written_into_the_file_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        file = await add(host)
        port = free_port()
        lines = [line for line in file.read_text().splitlines() if not line.startswith("port")]
        file.write_text("\n".join([*lines, f"port = {port}"]))

        found = await host.do("channel.check", name="webhook")

        assert found["id"] == f"http://127.0.0.1:{port}"
        (state,) = [each for each in await host.do("channel.list") if each["name"] == "webhook"]
        assert state["state"] == "connected"
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            pass


def test_an_error_says_the_line_to_type_next() -> None:
    refused = TokenRefused("no", setting="app_token", hint="make another one")
    assert (
        hint_with_line(refused, "work") == "make another one; then type `dumbwaiter channel set work --ask app_token`"
    )
    assert hint_with_line(refused, "work", is_kept=False) == (
        "make another one; then type `dumbwaiter channel add work` again, nothing is kept yet"
    )
    assert hint_with_line(ChannelRefused("no"), "work") == "type `dumbwaiter channel check work`"
    own = ChannelUnavailable("no", hint="type `dumbwaiter doctor`")
    assert hint_with_line(own, "work") == "type `dumbwaiter doctor`"


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name is not known here"),
        (ConnectionRefusedError(111, "Connection refused"), "nothing takes connections there"),
        (ConnectionResetError(104, "Connection reset by peer"), "it has dropped the connection"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "it does not speak TLS there"),
        (TimeoutError(), "it does not answer"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
        (ValueError("https://host/bot123:TOKEN"), "RuntimeError"),
    ],
)
def test_why_a_server_cannot_be_reached_is_said_in_words_and_without_its_text(behind: Exception, words: str) -> None:
    error = RuntimeError("https://host/bot123:TOKEN")
    error.__cause__ = behind
    told = unreachable("Pigeon", error)
    assert told.what == f"Pigeon cannot be reached: {words}"
    assert told.hint
    assert "TOKEN" not in str(told)


def test_a_repository_may_be_given_as_the_address_of_its_page() -> None:
    given = ["https://github.com/acme/rocket", "github.com/acme/moon.git", "acme/mars/", "acme/rocket"]
    settings = GitHubSettings.model_validate({"type": "github", "token": "t", "repositories": given})
    assert settings.repositories == ("acme/rocket", "acme/moon", "acme/mars")


def test_who_owns_the_host_on_another_platform_is_told_how_to_say_so() -> None:
    said = claim_sentence({"has_owner": True, "code": None, "expires_at": None, "locked_until": None})
    assert "`dumbwaiter user link NEW OLD`" in said
