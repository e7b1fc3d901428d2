"""Reaching the server: TLS in each form, keys, and what is said where nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import trustme

from belugawf import new_executor
from belugawf.config import TlsFiles
from belugawf.executor import DurableExecutor
from belugawf.model.errors import UnavailableError, UsageError
from tests.devserver import DevServer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def tls_in_front(
    address: str, authority: trustme.CA, *, mutual: bool = False
) -> AsyncIterator[str]:
    """A real server that speaks TLS and passes everything on; its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("cluster.example").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    host, _, port = address.partition(":")
    pumps: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        pumps.append(asyncio.create_task(_pump(back_reader, writer)))
        await _pump(reader, back_writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    server.get_loop().set_exception_handler(lambda loop, context: None)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for pump in pumps:
            pump.cancel()


async def is_answered(executor: DurableExecutor) -> bool:
    async with executor:
        return list(await executor.list()) == []


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


async def test_tls(
    authority: trustme.CA, tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """With the authority's file and the certificate's name it connects, without them not."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    files = TlsFiles(ca=ca, server_name="cluster.example")
    async with tls_in_front(temporal_server.address, authority) as host:
        place = {"host": host, "namespace": temporal_namespace}
        assert await is_answered(new_executor("temporal", **place, tls=files))
        with pytest.raises(
            UnavailableError, match=r"certificate is not trusted.*temporal\.tls\.ca"
        ):
            await is_answered(new_executor("temporal", **place, tls=True))


async def test_mutual_tls(
    authority: trustme.CA, tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """A server that wants the client's certificate gets it, from files or as text."""
    mine = authority.issue_cert("client.example")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"
    authority.cert_pem.write_to_path(str(ca))
    mine.cert_chain_pems[0].write_to_path(str(cert))
    mine.private_key_pem.write_to_path(str(key))
    name = "cluster.example"
    async with tls_in_front(temporal_server.address, authority, mutual=True) as host:
        place = {"host": host, "namespace": temporal_namespace}
        with_files = TlsFiles(ca=ca, cert=cert, key=key, server_name=name)
        assert await is_answered(new_executor("temporal", **place, tls=with_files))
        with_text = TlsFiles(
            ca=ca.read_bytes(), cert=cert.read_bytes(), key=key.read_bytes(), server_name=name
        )
        assert await is_answered(new_executor("temporal", **place, tls=with_text))
        without = TlsFiles(ca=ca, server_name=name)
        with pytest.raises(UnavailableError):
            await is_answered(new_executor("temporal", **place, tls=without))


async def test_the_environment_of_temporals_tools(
    authority: trustme.CA, tmp_path: Path, temporal_server: DevServer, temporal_namespace: str
) -> None:
    """TEMPORAL_... alone is enough, for the command line as well, and with an API key."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with tls_in_front(temporal_server.address, authority) as host:
        env = {
            "TEMPORAL_ADDRESS": host,
            "TEMPORAL_NAMESPACE": temporal_namespace,
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(ca),
            "TEMPORAL_TLS_SERVER_NAME": "cluster.example",
            "TEMPORAL_API_KEY": "secret",
        }
        done = await asyncio.to_thread(belugawf, tmp_path, env, "list", "--json")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def belugawf(folder: Path, env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "belugawf", "--provider", "temporal", *args],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("localhost:1", "connection refused"),
        ("no-such-host.invalid:7233", "cannot be looked up"),
        ("not a host", "cannot be reached"),
    ],
)
def test_unreachable(tmp_path: Path, host: str, words: str) -> None:
    """One sentence, exit code 12, within seconds."""
    done = belugawf(tmp_path, {"TEMPORAL_ADDRESS": host}, "status")
    assert done.returncode == 12
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: the Temporal server at {host} cannot be reached: ")
    assert words in error
    assert hint.startswith("hint: ")


def test_silent_server(tmp_path: Path) -> None:
    """A port that takes connections and says nothing is given up within seconds."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        done = belugawf(tmp_path, {"TEMPORAL_ADDRESS": host}, "status")
    assert done.returncode == 12, done.stderr
    assert "cannot be reached" in done.stderr


def test_no_such_namespace(tmp_path: Path, temporal_server: DevServer) -> None:
    """It is named, with the command that creates it."""
    env = {"TEMPORAL_ADDRESS": temporal_server.address, "TEMPORAL_NAMESPACE": "nobody-made-it"}
    done = belugawf(tmp_path, env, "list")
    assert done.returncode == 12
    assert "has no namespace 'nobody-made-it'" in done.stderr
    assert "temporal operator namespace create --namespace nobody-made-it" in done.stderr


def test_the_sdk_is_missing(tmp_path: Path) -> None:
    """Without the extra, one sentence says what to install."""
    (tmp_path / "temporalio").mkdir()
    (tmp_path / "temporalio" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'temporalio'\", name='temporalio')"
    )
    done = belugawf(tmp_path, {"PYTHONPATH": str(tmp_path)}, "list")
    assert done.returncode == 12
    assert "pip install 'belugawf[temporal]'" in done.stderr
    assert "Traceback" not in done.stderr


async def test_prune_is_the_servers_work() -> None:
    """Retention deletes ended runs there; `prune` says so, and asks nobody."""
    with pytest.raises(UsageError, match="deletes ended runs itself"):
        await new_executor("temporal").prune(older_than="30d")
