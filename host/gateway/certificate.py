"""The certificate of an install, with which agents on other machines know its gateway; and the tokens of their runs.

It is made once and lies in the data folder, for the host alone. Relays are given the certificate, and trust no other. A
token is made from the key and the run's id, so that a host that was restarted knows those of the runs it takes over,
and nothing has to be kept.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import ssl
from pathlib import Path

from host.private_file import replace_private
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.provisions import how_to_install_extra
from shared_schema.system_errors import words_of

_NAME = "dumbwaiter gateway"
_DAYS = 3650


@dataclass(frozen=True, slots=True)
class InstallCertificate:
    """`file` holds key and certificate; `certificate` is the latter alone (PEM), for those who are to trust it."""

    file: Path
    certificate: str
    secret: bytes

    def context(self) -> ssl.SSLContext:
        """For the server. Raises `FileTrouble`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.file)
        except (OSError, ssl.SSLError) as error:
            raise FileTrouble(
                f"the gateway's certificate cannot be used: {words_of(error)}", where=self.file
            ) from error
        return context

    def token(self, run_id: str) -> str:
        """What a connection of that run begins with."""
        return hmac.new(self.secret, run_id.encode(), hashlib.sha256).hexdigest()


def certificate_of(path: Path) -> InstallCertificate:
    """The certificate in a file, which is made where it is missing. Blocks. Raises `DumbwaiterError`."""
    if not path.exists():
        replace_private(path, _made())
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise FileTrouble(f"the gateway's certificate cannot be read: {words_of(error)}", where=path) from error
    key, begin, certificate = text.partition("-----BEGIN CERTIFICATE-----")
    if not begin or not key.strip():
        raise FileTrouble("the file has no key and certificate", where=path, hint="remove it: another one is made")
    secret = hashlib.sha256(b"dumbwaiter run token\n" + key.encode()).digest()
    return InstallCertificate(path, begin + certificate, secret)


def _made() -> str:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise DumbwaiterError(
            "a certificate cannot be made without the package cryptography", hint=how_to_install_extra("nodes")
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(16), "big") >> 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (private + certificate.public_bytes(pem)).decode("ascii")
