"""What goes through an agent's forwarder, and the file in which an odd host names its gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from container_agent.forwarder import Forwarder, _connect_once, _End
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout
from tests.fuzz.target import Drive, Target
from tests.fuzz.tools import as_json
from tests.fuzz.values import ANY_TEXT, JSON_VALUES


@contextmanager
def _forwarded(folder: Path) -> Iterator[Drive]:
    """What a client sends comes to the gateway as it is, and back."""
    layout = SessionLayout(folder)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def ask(port: int, pieces: Sequence[bytes]) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_unix_server(echo, str(layout.gateway)))
        forwarder = Forwarder(layout)
        port = runner.run(forwarder.port())
        try:

            def drive(pieces: Sequence[bytes]) -> None:
                assert runner.run(ask(port, pieces)) == b"".join(pieces)

            yield drive
        finally:
            runner.run(forwarder.aclose())
            server.close()


@contextmanager
def _gateway_file(folder: Path) -> Iterator[Drive]:
    """Whatever the file says, the gateway is found or it is not."""
    layout = SessionLayout(folder)

    async def connect() -> None:
        (await _connect_once(layout, _End)).transport.abort()
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:

        def drive(said: str) -> None:
            layout.gateway_port.write_bytes(said.encode("utf-8", "surrogatepass"))
            runner.run(connect())

        yield drive


NAMED = st.fixed_dictionaries(
    {
        "host": st.sampled_from(("127.0.0.1", "x" * 70, "a..b", "\0", "\ud800")),
        "port": st.sampled_from((1, "1", 0, -1, 70_000, 10**400, "x", 1.5)) | JSON_VALUES,
    },
    optional={"token": ANY_TEXT | JSON_VALUES},
)


FORWARDING = (
    Target("forwarder", _forwarded, st.lists(st.binary(max_size=50), max_size=4), ()),
    Target("gateway-file", _gateway_file, as_json(NAMED), (OSError, DumbwaiterError)),
)
