"""TLS to Redis: what the knobs ask of a connection, and in our own words why one could not be made.

Redis' certificate is always verified, for its name too, by the system's CAs and the one that is named. Knows no command.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.errors import SettingsError
from shared.settings import RedisSettings

HANDSHAKE_TIMEOUT_S = 3
NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")  # OpenSSL's words before 3.2, and since


class UnansweredError(ssl.SSLError):
    """The greeting was not answered: Redis is held up, or one that does not speak TLS waits for more of it."""


class CutOffError(ssl.SSLError):
    """The connection was closed in the first exchange after the handshake. In TLS 1.3 a client that lacks a certificate hears of
    it only then, if the server's word for it comes before the end of the connection.
    """


class TlsConnection(SSLConnection):
    """redis-py's own, which would wait for ever for the end of the handshake where answers are waited for without limit, and
    does not tell that it was cut off right after it.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        limit = sock.gettimeout()
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        try:
            encrypted: ssl.SSLSocket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise UnansweredError(f"no answer to a TLS greeting within {HANDSHAKE_TIMEOUT_S} s") from error
        encrypted.settimeout(limit)
        return encrypted

    def on_connect_check_health(self, check_health: bool = True) -> None:
        try:
            super().on_connect_check_health(check_health)
        except RedisConnectionError as error:
            told_why = type(error) is not RedisConnectionError or why_no_tls(error) is not None
            if told_why:  # as of a wrong password, which is an error of that kind, too
                raise
            raise RedisConnectionError(str(error)) from CutOffError("closed right after the handshake")


def tls_options(settings: RedisSettings) -> dict[str, Any]:
    """What redis-py is told beside a rediss:// address; nothing beside another. Raises SettingsError where a file cannot be
    used, so that a service does not wait for ever with it.
    """
    if not settings.encrypted:
        return {}
    probe = ssl.create_default_context()
    options: dict[str, Any] = {"connection_class": TlsConnection}
    if ca_file := settings.ca_file:
        try:
            probe.load_verify_locations(ca_file)
        except OSError as error:
            raise _unusable("redis.ca_file (KRONOS_REDIS__CA_FILE)", ca_file, "certificates of CAs", error) from None
        options["ssl_ca_certs"] = ca_file
    if cert_file := settings.cert_file:
        named = f"{cert_file} with {settings.key_file}"
        try:
            probe.load_cert_chain(cert_file, settings.key_file, password=_no_password)
        except OSError as error:
            knobs = "redis.cert_file with redis.key_file (KRONOS_REDIS__CERT_FILE, KRONOS_REDIS__KEY_FILE)"
            raise _unusable(knobs, named, "a certificate and its key without a passphrase", error) from None
        options |= {"ssl_certfile": cert_file, "ssl_keyfile": settings.key_file}
    return options


def why_no_tls(error: BaseException) -> str | None:
    """One sentence for an error of a connection that TLS is to blame for; None where it is not."""
    reason = _tls_error_behind(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"Redis' certificate is not trusted ({reason.verify_message.rstrip('.')}): name the CA that signed it by "
            f"redis.ca_file (KRONOS_REDIS__CA_FILE), and in redis.url (KRONOS_REDIS__URL) the host that it is made out to."
        )
    name = getattr(reason, "reason", None) or ""
    if isinstance(reason, UnansweredError):
        return (
            f"Redis has not answered within {HANDSHAKE_TIMEOUT_S} s where redis.url (KRONOS_REDIS__URL) leads: either it is held "
            f"up, or it does not speak TLS there; then name its TLS port."
        )
    if name in NO_TLS_THERE:
        return (
            "Redis does not speak TLS where redis.url (KRONOS_REDIS__URL) leads: name its TLS port, or write redis:// where "
            "the network between is yours alone."
        )
    if "ALERT" in name or isinstance(reason, CutOffError):
        said = name.replace("_", " ").lower() or "it was closed right after the handshake"
        return (
            f"Redis has refused the TLS connection ({said}): where it asks for a certificate, name "
            f"one that it trusts by redis.cert_file and redis.key_file (KRONOS_REDIS__CERT_FILE, KRONOS_REDIS__KEY_FILE)."
        )
    return None


def _tls_error_behind(error: BaseException) -> ssl.SSLError | None:
    """redis-py raises its own error while it handles that of a socket, and again while it tries another time."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _no_password() -> Any:
    """Else OpenSSL asks for one on the terminal."""
    return ""


def _unusable(knob: str, value: str, wanted: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"{knob} is {value}, which cannot be used ({error.strerror or error}): allowed is a PEM file with {wanted}."
    )
