"""Files, both ways: those of people are fetched, those of agents uploaded and shown in the chat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp

from host.channels.file_body import save
from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused
from host.channels.slack.client import SlackApi, asked
from host.routing.event import RemoteFile
from shared_schema.rows import Address

MAX_FILE_BYTES = 1_000_000_000
_MAX_REDIRECTS = 3
_CHUNK = 64 * 1024


async def download(
    api: SlackApi, session: aiohttp.ClientSession, base_url: str, file: RemoteFile, target: Path, limit: int
) -> None:
    """Fetch a file of a person's; `base_url` is where the Web API is. Raises the errors of the protocol."""
    answer = await asked(api.call("files.info", file=file.reference))
    found = answer.get("file")
    url = found.get("url_private_download") or found.get("url_private") if isinstance(found, Mapping) else None
    if not isinstance(url, str):
        raise DeliveryRefused("Slack gives no address for the file: it may lie in another service")
    is_page = isinstance(found, Mapping) and str(found.get("mimetype", "")).startswith("text/html")
    try:
        await _fetch(api, session, base_url, url, target, limit, is_page=is_page)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ChannelUnavailable(f"the file could not be fetched ({type(error).__name__})") from None


async def share(api: SlackApi, session: aiohttp.ClientSession, address: Address, files: Sequence[Path]) -> None:
    """Upload files and show them in the chat, all of them in one message. Raises as the calls, and `SlackError`."""
    uploaded = []
    for path in files:
        size = (await asyncio.to_thread(path.stat)).st_size
        if size == 0:
            raise DeliveryRefused(f"Slack takes no empty file: {path.name}")
        answer = await api.call("files.getUploadURLExternal", filename=path.name, length=size)
        url, file_id = answer.get("upload_url"), answer.get("file_id")
        if not isinstance(url, str) or not isinstance(file_id, str):
            raise ChannelUnavailable("Slack gives no address for a file")
        await _upload(session, url, path)
        uploaded.append({"id": file_id, "title": path.name})
    await api.call(
        "files.completeUploadExternal",
        files=uploaded,
        channel_id=address.platform_id,
        thread_ts=address.thread_id,
    )


async def _upload(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    with await asyncio.to_thread(path.open, "rb") as file:
        try:
            async with session.post(url, data=file) as response:
                if response.status != 200:
                    raise ChannelUnavailable(f"Slack does not take the file (status {response.status})")
                await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ChannelUnavailable(f"the file could not be sent ({type(error).__name__})") from None


async def _fetch(
    api: SlackApi, session: aiohttp.ClientSession, base_url: str, url: str, target: Path, limit: int, *, is_page: bool
) -> None:
    """Fetch with our token, which is shown to Slack alone."""
    head = {"Authorization": f"Bearer {api.token}"}
    for _ in range(_MAX_REDIRECTS):
        _require_of_slack(url, base_url)
        async with session.get(url, headers=head, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise ChannelUnavailable(f"Slack does not give the file (status {response.status})")
            if response.content_type == "text/html" and not is_page:  # a page to log in, where a scope is missing
                raise ChannelRefused("Slack shows a login in place of a file: the app lacks the scope files:read")
            await save(response.content.iter_chunked(_CHUNK), target, limit)
            return
    raise DeliveryRefused("the file lies behind too many redirects")


def _require_of_slack(url: str, base_url: str) -> None:
    parts, own = urlsplit(url), urlsplit(base_url)
    host = parts.hostname or ""
    is_slack = parts.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))
    if not is_slack and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
        raise DeliveryRefused("the file does not lie at Slack")
