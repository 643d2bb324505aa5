"""Protects how the issuer's keys are fetched: over TLS that is verified, from the issuer alone."""

import asyncio
import datetime as dt
import ipaddress
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.local import secrets
from deploy.local.ports import free_ports
from shared.clock import ManualClock
from shared.errors import UnavailableError
from shared.issuer_keys import KEYS_BYTES_MAX, PAUSE_SECONDS, IssuerKeys
from tests.backends import ROOT

pytestmark = pytest.mark.slow

FIND = """
import asyncio, sys
from shared.clock import SystemClock
from shared.errors import UnavailableError
from shared.issuer_keys import IssuerKeys

for source in sys.argv[1:]:
    try:
        found = asyncio.run(IssuerKeys(source, SystemClock()).find("local", "EdDSA"))
        print(found.key_id if found else "none")
    except UnavailableError:
        print("unavailable")
"""


def certificate(folder: Path) -> Path:
    """A self-signed certificate of this machine, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "issuer.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


@asynccontextmanager
async def issuer(folder: Path, contents: str) -> AsyncIterator[tuple[str, Path]]:
    """An issuer's server: its base URL, and the certificate by which it is known."""
    file = certificate(folder)

    async def keys(_: web.Request) -> web.Response:
        return web.Response(text=contents)

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/keys")

    async def endless(_: web.Request) -> web.Response:
        return web.Response(text=contents + " " * KEYS_BYTES_MAX)

    app = web.Application()
    app.router.add_get("/keys", keys)
    app.router.add_get("/elsewhere", elsewhere)
    app.router.add_get("/endless", endless)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    yield f"https://127.0.0.1:{port}", file
    await runner.cleanup()


async def test_keys_come_from_the_issuer_itself_and_nobody_else(tmp_path):
    """A redirection, an error, too much, or an unknown certificate: no keys at all."""
    contents = secrets.ensure(tmp_path / "secrets").jwks.read_text()
    async with issuer(tmp_path, contents) as (url, trusted):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FIND),
            *(f"{url}{path}" for path in ("/keys", "/elsewhere", "/missing", "/endless")),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(trusted)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await child.communicate()
        assert out.decode().split() == ["local", "unavailable", "unavailable", "unavailable"]
        with pytest.raises(UnavailableError):
            await IssuerKeys(f"{url}/keys", ManualClock()).find("local", "EdDSA")


async def test_who_knows_a_key_does_not_wait_for_a_slow_issuer(tmp_path):
    """While one caller reads the set anew, the others go on with what is known and young enough."""
    file = secrets.ensure(tmp_path / "secrets").jwks
    pipe, clock = tmp_path / "pipe", ManualClock()
    source = tmp_path / "jwks.json"
    source.symlink_to(file)
    keys = IssuerKeys(str(source), clock)
    assert await keys.find("local", "EdDSA")
    os.mkfifo(pipe)  # an issuer that takes the call and says nothing
    source.unlink()
    source.symlink_to(pipe)
    clock.advance(601)
    async with asyncio.timeout(30):
        reading = asyncio.create_task(keys.find("local", "EdDSA"))
        await asyncio.sleep(0)
        while not reading.done() and not keys._reading.locked():
            await asyncio.sleep(0)
        assert await keys.find("local", "EdDSA")
        assert not reading.done()
        await asyncio.to_thread(pipe.write_text, json.dumps({"keys": []}))
        assert await reading is None
        clock.advance(PAUSE_SECONDS)
        source.unlink()
        source.symlink_to(file)
        assert await keys.find("local", "EdDSA")
