"""A client of a homeserver: the one module that imports nio.

Invariants: the library never tries again by itself and never waits for ever (the host does that, and tells of it), and
neither the token nor what people say gets into an error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nio
import nio.crypto
import nio.store
from nio.api import Api, MessageDirection, RelationshipType
from nio.responses import RoomEventRelationsResponse

from host.channels.bounded_answer import bound
from host.channels.file_body import save
from host.channels.matrix.settings import MatrixSettings
from host.channels.protocol import ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import unreachable
from shared_schema.pages import PageCursors
from shared_schema.text import one_line

_SECONDS = 60.0
_PAGE = 100
_MAX_PAGES = 10
_ROOM_SECONDS, _LOOK_SECONDS = 10.0, 0.25
_LONGEST_SENTENCE = 200
_TOKEN_REFUSED = ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_DEACTIVATED", "M_USER_LOCKED")
_FILTER: dict[str, Any] = {
    "presence": {"types": []},
    "account_data": {"types": []},
    "room": {
        "timeline": {"limit": _PAGE, "lazy_load_members": True},
        "state": {"lazy_load_members": True},
        "account_data": {"types": []},
        "ephemeral": {"types": ["m.receipt"]},
    },
}


class _Nio(nio.AsyncClient):  # type: ignore[misc]
    """The library's client, whose answers are bounded."""

    async def send(self, *arguments: Any, **options: Any) -> Any:
        response = await super().send(*arguments, **options)
        bound(response)
        return response


class MatrixClient:
    """One account. Its methods raise as those of `Channel`."""

    def __init__(self, settings: MatrixSettings, keys: Path | None = None) -> None:
        """`keys` is the folder of the keys for encrypted rooms; None: none of them is read."""
        logging.getLogger("nio").setLevel(logging.ERROR)  # below that it tells what is in events it cannot read
        self._settings = settings
        config = nio.AsyncClientConfig(
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=_SECONDS,
            encryption_enabled=keys is not None and can_decrypt(),
            store=nio.store.SqliteStore if keys is not None and can_decrypt() else None,
            store_sync_tokens=False,
        )
        self._nio = _Nio(settings.homeserver, store_path=str(keys or ""), config=config)
        self._keys = keys
        self._nio.access_token = settings.token.get_secret_value()

    @property
    def me(self) -> str:
        """The user id of the account, once `who` was asked."""
        return str(self._nio.user_id)

    async def who(self) -> tuple[str, str]:
        """The user id and the name of the account."""
        async with self._told():
            answer = self._right(await self._nio.whoami())
        self._nio.user_id = answer.user_id
        self._nio.user = answer.user_id
        if self._keys is not None and can_decrypt() and answer.device_id and self._nio.olm is None:
            self._keys.mkdir(0o700, parents=True, exist_ok=True)
            self._nio.restore_login(answer.user_id, answer.device_id, self._settings.token.get_secret_value())
        return answer.user_id, await self.name_of(answer.user_id) or answer.user_id

    async def name_of(self, user_id: str) -> str | None:
        """How a person is called; None where they have no name, or do not show it."""
        try:
            async with self._told():
                return self._right(await self._nio.get_displayname(user_id)).displayname or None
        except DeliveryRefused:
            return None

    async def sync(self, since: str | None, *, is_first: bool) -> nio.SyncResponse:
        """What is new. The first one after a start brings the state of all rooms, and comes at once."""
        wait = 0 if is_first else int(self._settings.sync_seconds * 1000)
        limits = _FILTER if since is not None else _without_timeline()
        async with self._told(), asyncio.timeout(wait / 1000 + _SECONDS):
            answer = self._right(await self._nio.sync(wait, limits, since=since, full_state=True if is_first else None))
            await self._exchange_keys()
        return answer

    @property
    def reads_encrypted(self) -> bool:
        """Whether encrypted rooms are read."""
        return self._nio.olm is not None

    async def _exchange_keys(self) -> None:
        """Give and get what encryption needs: our keys, those of other devices, and what these were not sent."""
        if self._nio.olm is None:
            return
        if self._nio.should_upload_keys:
            self._right(await self._nio.keys_upload())
        if self._nio.should_query_keys:
            self._right(await self._nio.keys_query())
        if self._nio.should_claim_keys:
            self._right(await self._nio.keys_claim(self._nio.get_users_for_key_claiming()))
        await self._nio.send_to_device_messages()

    def room(self, room_id: str) -> nio.MatrixRoom | None:
        """What is known of a room that we are in."""
        return self._nio.rooms.get(room_id)

    def invitation(self, info: nio.InviteInfo) -> list[Mapping[str, Any]]:
        """The events that describe a room that we are invited to. The library takes the content out of some of them."""
        return [{"content": getattr(event, "content", {}), **event.source} for event in info.invite_state]

    def receipts(self, info: nio.RoomInfo) -> list[tuple[str, str, object]]:
        """What people have read: the type of the receipt, the user, and the thread."""
        events = [event for event in info.ephemeral if isinstance(event, nio.ReceiptEvent)]
        return [(str(each.receipt_type), each.user_id, each.thread_id) for event in events for each in event.receipts]

    async def history(self, room_id: str, before: str, since: str | None, longest: int) -> list[Mapping[str, Any]]:
        """The events between two tokens, oldest first, at most so many of the latest."""
        events: list[Mapping[str, Any]] = []
        token: str | None = before
        tokens = PageCursors(longest // _PAGE * 5)  # of which a server may make smaller ones
        while token is not None and len(events) < longest:
            async with self._told():
                answer = self._right(
                    await self._nio.room_messages(
                        room_id, token, end=since, direction=MessageDirection.back, limit=_PAGE
                    )
                )
            events += [self._readable(event).source for event in answer.chunk]
            token = tokens.next(answer.end) if answer.chunk else None
        return events[:longest][::-1]

    def _readable(self, event: nio.Event) -> nio.Event:
        """An event of the past, decrypted if it must and can be."""
        if self._nio.olm is None or not isinstance(event, nio.MegolmEvent):
            return event
        try:
            return self._nio.decrypt_event(event)
        except nio.EncryptionError:
            return event

    async def send(self, room_id: str, kind: str, content: dict[str, Any], transaction_id: str) -> str:
        """Send an event; its id, which is the same for the same transaction."""
        if self._nio.olm is not None:
            await self._require_room(room_id)
        async with self._told():
            # Whom the room's members let into it with which device is for them to say.
            answer = self._right(
                await self._nio.room_send(room_id, kind, content, tx_id=transaction_id, ignore_unverified_devices=True)
            )
        return str(answer.event_id)

    async def _require_room(self, room_id: str) -> None:
        """Wait until it is known of a room if it is encrypted. Raises `DeliveryRefused` where we are not in it."""
        if room_id in self._nio.rooms:
            return
        async with self._told():
            answer = self._right(await self._nio.joined_rooms())
        if room_id not in answer.rooms:
            raise DeliveryRefused("the bot is not in this room")
        for _ in range(int(_ROOM_SECONDS / _LOOK_SECONDS)):  # it was just made or entered: the next sync brings it
            if room_id in self._nio.rooms:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise ChannelUnavailable("the room is not known yet", retry_after=1.0)

    async def redact(self, room_id: str, event_id: str, transaction_id: str) -> None:
        """Take an event back."""
        async with self._told():
            self._right(await self._nio.room_redact(room_id, event_id, tx_id=transaction_id))

    async def reactions_of_mine(self, room_id: str, event_id: str) -> list[str]:
        """The events by which we have reacted to an event."""
        found: list[str] = []
        token: str | None = None
        tokens = PageCursors(_MAX_PAGES)
        while True:
            # Not the library's own iterator, which follows a server for as long as that names another page.
            method, path = Api.room_get_event_relations(
                self._nio.access_token, room_id, event_id, RelationshipType.annotation, "m.reaction",
                MessageDirection.back, token, None, _PAGE,
            )  # fmt: skip
            async with self._told():
                answer = self._right(
                    await self._nio._send(RoomEventRelationsResponse, method, path, response_data=(room_id, event_id))
                )
            found += [event.event_id for event in answer.events if event.sender == self.me]
            if (token := tokens.next(answer.next_batch)) is None:
                return found

    async def sender_of(self, room_id: str, event_id: str) -> str | None:
        """Who has sent an event; None for one that is not there, or may not be seen."""
        try:
            async with self._told():
                return str(self._right(await self._nio.room_get_event(room_id, event_id)).event.sender)
        except DeliveryRefused:
            return None

    async def upload(self, room_id: str, path: Path, kind: str) -> dict[str, Any]:
        """Put a file of a room on the server; where it is: `url`, or `file` where the room is encrypted."""
        room = self._nio.rooms.get(room_id)
        is_encrypted = self._nio.olm is not None and room is not None and room.encrypted
        with path.open("rb") as file:
            async with self._told():
                answer, keys = await self._nio.upload(
                    file,
                    "application/octet-stream" if is_encrypted else kind,
                    None if is_encrypted else path.name,
                    encrypt=is_encrypted,
                    filesize=path.stat().st_size,
                )
        url = str(self._right(answer).content_uri)
        return {"file": {**keys, "url": url}} if is_encrypted and keys is not None else {"url": url}

    def decrypt(self, path: Path, key: str, sha256: str, iv: str) -> None:
        """Decrypt a file in its place. Blocks. Raises `DeliveryRefused` for one that is not what was sent."""
        if not can_decrypt():
            raise DeliveryRefused("the file is encrypted")
        try:
            plain = nio.crypto.decrypt_attachment(path.read_bytes(), key, sha256, iv)
        except nio.EncryptionError as error:
            path.unlink()
            raise DeliveryRefused("the file is not the one that was sent") from error
        path.write_bytes(plain)

    async def download(self, address: str, target: Path, max_bytes: int) -> None:
        """Fetch a file, never more than so many bytes."""
        server, _, media = address.removeprefix("mxc://").partition("/")
        method, path = Api.download(server, media, access_token=self._nio.access_token)
        bearer = {"Authorization": f"Bearer {self._nio.access_token}"}
        async with self._told(), asyncio.timeout(10 * _SECONDS):
            answer = await self._nio.send(method, path.partition("?")[0], headers=bearer, timeout=0)
            try:
                if answer.status != 200:
                    raise DeliveryRefused(
                        f"the file cannot be fetched: the server answered with status {answer.status}"
                    )
                await save(answer.content.iter_chunked(65_536), target, max_bytes)
            finally:
                answer.close()

    async def typing(self, room_id: str, seconds: float) -> None:
        """Show for so long that we write."""
        async with self._told():
            self._right(await self._nio.room_typing(room_id, True, timeout=int(seconds * 1000)))

    async def mark_read(self, room_id: str, event_id: str) -> None:
        """Show people that everything up to an event is read."""
        async with self._told():
            self._right(await self._nio.room_read_markers(room_id, event_id, event_id))

    async def join(self, room_id: str) -> None:
        """Enter a room."""
        async with self._told():
            self._right(await self._nio.join(room_id))

    async def predecessor(self, room_id: str) -> str | None:
        """The room that a room says it goes on from. Its maker alone could say so, when it was made."""
        try:
            async with self._told():
                answer = self._right(await self._nio.room_get_state_event(room_id, "m.room.create"))
        except DeliveryRefused:
            return None
        content = getattr(answer, "content", None)
        before = content.get("predecessor") if isinstance(content, dict) else None
        found = before.get("room_id") if isinstance(before, dict) else None
        return found if isinstance(found, str) else None

    async def open_direct(self, user_id: str) -> str:
        """Make a room with one person."""
        async with self._told():
            answer = await self._nio.room_create(
                is_direct=True, invite=[user_id], preset=nio.RoomPreset.trusted_private_chat
            )
        return str(self._right(answer).room_id)

    async def close(self) -> None:
        """Drop all connections."""
        await self._nio.close()

    def _right(self, answer: Any) -> Any:
        """An answer that is no error. Raises what the error means."""
        if not isinstance(answer, nio.ErrorResponse):
            return answer
        code = answer.status_code or ""
        status = getattr(answer.transport_response, "status", 0)
        what = f"the homeserver answered {code or status} {one_line(answer.message, _LONGEST_SENTENCE)}"
        what = what.replace(self._settings.token.get_secret_value(), "…")
        if code in _TOKEN_REFUSED or status == 401:
            raise TokenRefused(
                "the homeserver does not take the access token",
                hint="log the account in again, and copy its new access token",
            )
        if code == "M_LIMIT_EXCEEDED" or status == 429:
            raise ChannelUnavailable(what, retry_after=(answer.retry_after_ms or 1_000) / 1000)
        if 400 <= int(status or 0) < 500:
            raise DeliveryRefused(what)
        raise ChannelUnavailable(what)

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """What the library raises as a sentence of ours."""
        try:
            yield
        except TimeoutError as error:
            raise ChannelUnavailable("the homeserver does not answer") from error
        except (nio.EncryptionError, nio.GroupEncryptionError, nio.OlmTrustError) as error:
            raise ChannelUnavailable(f"it cannot be encrypted now: {type(error).__name__}") from None
        except (OSError, nio.ProtocolError) as error:
            raise unreachable(f"the homeserver {self._settings.homeserver}", error) from None
        except nio.TransferCancelledError as error:
            raise ChannelUnavailable("the transfer of a file broke off") from error
        except Exception as error:  # those of aiohttp, which this room does not import; others are raised again
            if type(error).__module__.partition(".")[0] != "aiohttp":
                raise
            raise unreachable(f"the homeserver {self._settings.homeserver}", error) from None


def can_decrypt() -> bool:
    """Whether the library's part for encrypted rooms is installed."""
    return bool(nio.crypto.ENCRYPTION_ENABLED)


def _without_timeline() -> dict[str, Any]:
    """The filter of the very first sync: old messages are not answered."""
    return {**_FILTER, "room": {**_FILTER["room"], "timeline": {"limit": 1, "lazy_load_members": True}}}
