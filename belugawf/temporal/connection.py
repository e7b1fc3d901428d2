"""The connection to the server, what its errors mean to the person at the keyboard, and who else
is connected."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from datetime import timedelta
from functools import cache
from pathlib import Path

from temporalio.client import Client
from temporalio.runtime import (
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import KeepAliveConfig, RPCError, RPCStatusCode, TLSConfig

from belugawf.config import TemporalSettings, TlsFiles
from belugawf.executor import Owner
from belugawf.model.errors import (
    BelugaError,
    ConfigurationError,
    QueryFailedError,
    QueryNotFoundError,
    UnavailableError,
)
from belugawf.model.shell import quoted
from belugawf.replay.calling import QUERY_HINT
from belugawf.temporal.passing import Passing

# A server that does not answer within this is told to be unreachable.
CONNECT_S = 5.0
# Every call after that; the SDK repeats what failed for a passing reason.
CALL_TIMEOUT = timedelta(seconds=10)


class ServerError(BelugaError):
    """The server refused for a reason that has no exception of its own here."""

    code = "temporal"
    exit_code = 12


class UnreachableError(UnavailableError):
    """Nobody answers at the server's address, now."""


@cache
def _runtime() -> Runtime:
    """The SDK's core, which writes errors alone: its warnings are told as problems and failures."""
    levels = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=levels)))


async def connect(settings: TemporalSettings, passing: Passing) -> Client:
    """A connected client. Raises `UnavailableError` within seconds if nobody answers."""
    own = passing.own_client()
    if own is not None:
        return own
    tls = _tls(settings)
    try:
        async with asyncio.timeout(CONNECT_S):
            return await Client.connect(
                settings.host,
                namespace=settings.namespace,
                api_key=settings.api_key,
                tls=tls,
                data_converter=passing.converter(),
                interceptors=passing.of_client(),
                runtime=_runtime(),
                connect_timeout=timedelta(seconds=CONNECT_S),
                keep_alive_config=KeepAliveConfig(interval_millis=10_000, timeout_millis=10_000),
            )
    except TimeoutError:
        raise _unreachable(settings, f"no answer within {CONNECT_S:g} s") from None
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreachable(settings, _reason(error)) from None


def _unreachable(settings: TemporalSettings, reason: str) -> UnreachableError:
    return UnreachableError(
        f"the Temporal server at {settings.host} cannot be reached: {reason}",
        hint="start it (temporal server start-dev), or set temporal.host; check: belugawf doctor",
    )


def _reason(error: Exception) -> str:
    """The SDK's message without its layers of wrapping."""
    text = str(error)
    for sign, reason in _REASONS.items():
        if sign in text:
            return reason
    inner = re.search(r'message: \\*"(.*?)\\*"', text)
    return (inner[1] if inner else text.splitlines()[0])[:200] if text else type(error).__name__


# "Cancelled" is what the SDK says when the time of a call is over.
_UNANSWERED = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
)
# All that comes back of a query's error whose text a codec has encoded.
_ENCODED = "Encoded failure"
# What the SDK says of a connection that breaks, with no status of its own.
_BROKEN = ("transport error", "h2 protocol error", "connection error", "error reading a body")
# What an error of the connection's is recognised by.
_REASONS = {
    "Connection refused": "connection refused",
    "dns error": "its name cannot be looked up",
    "nknownIssuer": "its certificate is not trusted; see temporal.tls.ca",
    "NotValidForName": "its certificate is for another name; see temporal.tls.server_name",
    "CertificateRequired": "it wants a client certificate; see temporal.tls.cert",
    "InvalidMessage": "it does not speak TLS; see temporal.tls",
    "InvalidUri": "that isn't an address; write host:port",
    "Timeout expired": "no answer",
    "invalid authority": "that isn't an address; write host:port",
}


def _tls(settings: TemporalSettings) -> bool | TLSConfig:
    if not isinstance(settings.tls, TlsFiles):
        # A key is never sent in the clear.
        return settings.tls or settings.api_key is not None
    files = settings.tls
    return TLSConfig(
        server_root_ca_cert=_content(files.ca),
        domain=files.server_name,
        client_cert=_content(files.cert),
        client_private_key=_content(files.key),
    )


def _content(file: Path | bytes | None) -> bytes | None:
    if not isinstance(file, Path):
        return file
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {str(file)!r}: {error.strerror}", hint="see temporal.tls"
        ) from None


def server_error(error: RPCError, settings: TemporalSettings) -> BelugaError:
    """The exception for an answer of the server that no caller expected."""
    if error.status in _UNANSWERED or any(sign in error.message for sign in _BROKEN):
        return _unreachable(settings, _reason(error))
    if error.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
        return UnavailableError(
            f"the Temporal server at {settings.host} refuses: {error.message}",
            hint="check temporal.api_key, temporal.tls and temporal.namespace",
        )
    if error.status is RPCStatusCode.NOT_FOUND and "amespace" in error.message:
        return UnavailableError(
            f"the Temporal server at {settings.host} has no namespace {settings.namespace!r}",
            hint=f"temporal operator namespace create --namespace {quoted(settings.namespace)}",
        )
    return ServerError(f"the Temporal server answered: {error.message}")


def query_error(error: Exception) -> BelugaError:
    """A query that the workflow could not answer."""
    message = str(error)
    if "has no query" in message:
        text, _, hint = message.partition("; ")
        return QueryNotFoundError(text, hint=hint or None)
    if message == _ENCODED:
        message = "why is encoded, and the server does not pass it on"
    text = message if message.startswith("query ") else f"the query failed: {message}"
    return QueryFailedError(text, hint=QUERY_HINT)


def owner_of(identity: str, since: int) -> Owner:
    """The process behind a worker's identity, "pid@host" as the SDK makes it.

    Whether it lives can be seen on this host alone; elsewhere it is taken to.
    """
    pid, _, host = identity.partition("@")
    if not pid.isdecimal():
        return Owner(pid=0, host=identity, since=since)
    alive = host != socket.gethostname() or _is_alive(int(pid))
    return Owner(pid=int(pid), host=host, since=since, alive=alive)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A process that nobody has waited for yet still has its number.
        stat = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
