"""The page over TLS, by files, and behind a proxy that has the certificate."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from host.web import server
from shared_schema.errors import DumbwaiterError
from tests.support.ports import free_port
from tests.support.wait import until
from tests.web.browser import Client, open_site


def write_certificate(folder: Path, name: str) -> dict[str, Path]:
    """A certificate of this machine's address under a name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    files = {"certificate": folder / "certificate.pem", "key": folder / "key.pem"}
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files["key"].write_bytes(private)
    files["certificate"].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return files


async def name_shown(address: str) -> str:
    """The name in the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    (name,) = x509.load_der_x509_certificate(shown).subject
    return str(name.value)


async def test_with_files_of_a_certificate_the_page_speaks_tls_and_takes_a_renewed_one(tmp_path: Path) -> None:
    files = write_certificate(tmp_path / "tls", "first")
    async with open_site(tmp_path / "data", web={"port": 0, **files}) as site:
        assert site.address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(files["certificate"]))
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(
            cookie_jar=jar, connector=aiohttp.TCPConnector(ssl=trusted, force_close=True)
        ) as session:
            client = Client(site.address, session)
            token = (await site.link()).partition("#")[2]
            plain = site.address.replace("https", "http")
            assert (await client.post("/sign-in", {"token": token}, csrf=False, Origin=plain))[0] == 403
            status, _, headers = await client.post("/sign-in", {"token": token}, csrf=False)
            assert (status, "Secure" in headers["Set-Cookie"]) == (303, True)
            assert (await client.get("/"))[0] == 200
            with pytest.raises(aiohttp.ClientError):
                await session.get(plain)
        assert await name_shown(site.address) == "first"
        write_certificate(tmp_path / "tls", "second")

        async def is_renewed() -> bool:
            return await name_shown(site.address) == "second"

        await until(is_renewed, "the new certificate is shown", server.RENEWED_SECONDS + 60)


async def test_a_certificate_that_cannot_be_used_is_said_with_what_to_do(tmp_path: Path) -> None:
    missing = {"certificate": tmp_path / "none.pem"}
    with pytest.raises(DumbwaiterError, match="the TLS certificate of the page cannot be used") as failed:
        async with open_site(tmp_path / "data", web={"port": 0, **missing}):
            raise AssertionError("the page is served")
    assert "[web]" in str(failed.value.hint)


async def test_behind_a_proxy_with_tls_the_page_takes_what_its_own_forms_send(tmp_path: Path) -> None:
    """The proxy has the certificate: it passes on the name that a browser asked for, and asks without TLS."""
    url, name = "https://agents.example.org", "agents.example.org"
    port = free_port()
    async with (
        open_site(tmp_path / "data", web={"port": port, "url": url}) as site,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        link = await site.link()
        assert link.startswith(f"{url}/sign-in#")
        client = Client(f"http://127.0.0.1:{port}", session)
        token = {"token": link.partition("#")[2]}
        clear = f"http://{name}"
        assert (await client.post("/sign-in", token, csrf=False, Host=name, Origin=clear))[0] == 403
        status, _, headers = await client.post("/sign-in", token, csrf=False, Host=name, Origin=url)
        assert (status, "Secure" in headers["Set-Cookie"]) == (303, True)
        cookie = headers["Set-Cookie"].partition(";")[0]
        _, page, _ = await client.get("/account", Host=name, Cookie=cookie)
        csrf = page.partition('data-csrf="')[2].partition('"')[0]
        how = {"Host": name, "Origin": url, "Cookie": cookie, "X-CSRF-Token": csrf}
        assert (await client.post("/schedules/do/pause-all", csrf=False, **how))[0] == 303
        assert (await client.get("/account", Host="other.example.org", Cookie=cookie))[0] == 421
