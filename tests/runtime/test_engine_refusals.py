"""What ssh and TLS say, as sentences. The words are those of OpenSSL 3, OpenSSH 9 and docker 20.10."""

from __future__ import annotations

import pytest

from host.runtime.engine_refusals import refusal_of_ssh, refusal_of_tls

_CHANGED = """
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer", "authority"),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '10.0.0.2'", "another name"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'two'", "another name"),
        ("certificate verify failed: certificate has expired (_ssl.c:1006)", "has expired"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "refuses this host's"),
        ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate", "refuses this host's"),
        ("Client sent an HTTP request to an HTTPS server.", "wants TLS"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "speaks no TLS"),
    ],
)
def test_a_refusal_of_tls_is_a_sentence_with_what_to_type(words: str, sentence: str) -> None:
    refusal = refusal_of_tls(f"HTTPSConnectionPool(host='two', port=2376): Max retries exceeded (Caused by {words})")
    assert refusal is not None
    assert sentence in refusal.what
    assert refusal.hint


def test_another_error_of_a_connection_is_left_as_it_is() -> None:
    assert refusal_of_tls("Connection refused") is None
    assert refusal_of_tls("Connection reset by peer", is_tls=False) is None


def test_a_connection_that_is_ended_may_be_a_refusal_of_the_certificate() -> None:
    refusal = refusal_of_tls("EOF occurred in violation of protocol (_ssl.c:2427)")
    assert refusal is not None
    assert "this host's certificate" in refusal.what


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        ("No ED25519 host key is known for [two]:22\nHost key verification failed.", "is not known here", "ssh u@two"),
        (_CHANGED, "has another ssh key", "ssh-keygen -R"),
        ("u@two: Permission denied (publickey).", "accepts no ssh key of this user", "ssh-copy-id u@two"),
        ("sh: 1: docker: not found", "has no command `docker`", "install docker there"),
        ("permission denied while trying to connect to the docker daemon socket", "does not answer that user", "group"),
        ("ssh: connect to host two port 22: Connection refused", "port 22: Connection refused", "ssh u@two docker"),
        ("", "it says nothing", "ssh u@two docker"),
    ],
)
def test_what_ssh_prints_is_a_sentence_with_what_to_type(words: str, sentence: str, hint: str) -> None:
    refusal = refusal_of_ssh(words, "u@two")
    assert sentence in refusal.what
    assert hint in refusal.hint
