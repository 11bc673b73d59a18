"""Sending mail over SMTP: the one module that imports aiosmtplib."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosmtplib

from host.channels.email.addresses import domain_of
from host.channels.email.certificates import bad_certificate
from host.channels.email.settings import WHERE, EmailSettings
from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, TokenRefused
from host.channels.unreachable import unreachable
from shared_schema.text import one_line

_SECONDS = 60.0
_FAREWELL_SECONDS = 5.0
_LONGEST_ANSWER = 200


async def check(settings: EmailSettings) -> None:
    """Connect and log in. Raises `ChannelUnavailable` and `ChannelRefused`."""
    async with _connected(settings):
        pass


async def send(settings: EmailSettings, recipient: str, data: bytes) -> None:
    """Send a mail to a person, and in the same step to the mailbox itself.

    The copy is the proof that it was sent: one server takes both or neither. Raises as `Channel.deliver`.
    """
    async with _connected(settings) as client:
        options = [f"SIZE={len(data)}"] if client.supports_extension("size") else []
        try:
            await client.mail(settings.address, options=options)
        except aiosmtplib.SMTPSenderRefused as error:
            if error.code == 552:
                raise DeliveryRefused(f"the mail is too large for {settings.smtp_host}") from None
            _raise(error, settings, ChannelRefused)
        try:
            # The person first: without that one there must be no copy, which would say that it was sent.
            await client.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            _raise(error, settings, DeliveryRefused)
        if recipient != settings.address:
            try:
                await client.rcpt(settings.address)
            except aiosmtplib.SMTPRecipientRefused as error:
                _raise(error, settings, ChannelRefused)
        try:
            await client.data(data)
        except aiosmtplib.SMTPDataError as error:
            _raise(error, settings, DeliveryRefused)
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # it is sent, however the farewell goes
            await client.quit(timeout=_FAREWELL_SECONDS)


@asynccontextmanager
async def _connected(settings: EmailSettings) -> AsyncIterator[aiosmtplib.SMTP]:
    logging.getLogger("aiosmtplib").setLevel(logging.WARNING)
    client = aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=(settings.user or settings.address) if settings.smtp_login else None,
        password=settings.password.get_secret_value() if settings.smtp_login else None,
        local_hostname=domain_of(settings.address),
        timeout=_SECONDS,
        use_tls=settings.smtp_security == "tls",
        start_tls=settings.smtp_security == "starttls",
    )
    place = f"{settings.smtp_host}:{settings.smtp_port} (SMTP)"
    try:
        await client.connect()
        yield client
    except aiosmtplib.SMTPAuthenticationError:
        raise TokenRefused(
            f"{settings.smtp_host} does not let {settings.address} send",
            setting="password",
            hint="take the password of the mailbox, or one that the provider makes for programs",
        ) from None
    except (TimeoutError, aiosmtplib.SMTPTimeoutError):
        raise ChannelUnavailable(f"{place} does not answer", hint=WHERE.format("smtp")) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        for each in (error, error.__cause__, error.__context__):  # the library puts it into an error of its own
            if isinstance(each, ssl.SSLCertVerificationError):
                raise bad_certificate(settings.smtp_host, each, "smtp_host") from None
        raise unreachable(place, error, WHERE.format("smtp")) from None
    finally:
        client.close()


def _raise(
    error: aiosmtplib.SMTPResponseException,
    settings: EmailSettings,
    final: type[ChannelRefused | DeliveryRefused],
) -> None:
    """A refusal as the error that it means: 5xx is for good, 4xx passes."""
    what = f"{settings.smtp_host} answered {error.code} {one_line(error.message, _LONGEST_ANSWER)}"
    what = what.replace(settings.password.get_secret_value(), "…")
    if error.code >= 500:
        raise final(what) from None
    raise ChannelUnavailable(what) from None
