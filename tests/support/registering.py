"""The registration script, and a small TLS member for it."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from conclave.client.module_path import registration_script
from tests.support.authority import Authority, pem
from tests.support.terminal import Terminal

CLUSTER_ID = "528b9b72-c305-4dd1-bebc-a4ca24f8c28b"
SERVER_NAME = "lnh.thalesgroup.com"
PASSWORD = 'pass "word\\ %s;`$x`'


@dataclass
class Member:
    """A member that knows two calls, and what it was told."""

    authority: Authority
    presented_by: Authority
    port: int = 0
    cluster_id: str = CLUSTER_ID
    refuse: bool = False
    drop: int = 0
    """Answers that get lost, the first ones."""
    certify_other_key: bool = False
    life: datetime.timedelta = datetime.timedelta(days=365)
    """Of the certificates that it makes."""
    certified_by: Authority | None = None
    """Another authority that it names, and has certify, than at first."""
    shows: tuple[x509.Certificate, ...] = ()
    """After its own certificate."""
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    members: list[dict[str, Any]] = field(default_factory=list)
    meeting: threading.Barrier | None = None
    """Where whoever asks to be certified waits for others."""
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        self.seen.append((method + " " + path, authorization, body))
        if path == "/api/cluster/ca":
            return 200, {
                "clusterUUID": self.cluster_id,
                "caCertificate": self.authority.pem,
            }
        if self.meeting is not None:
            self.meeting.wait(60)
        if self.refuse:
            return 401, {"id": "X", "message": "short", "details": 'Wrong "password".'}
        request = x509.load_pem_x509_csr(json.loads(body)["csr"].encode())
        key = request.public_key()
        if self.certify_other_key:
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        authority = self.certified_by or self.authority
        certificate = authority.issue(
            "client",
            key,
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            ends=datetime.datetime.now(datetime.UTC) + self.life,
        )
        return 200 if path.endswith("/renew") else 201, {
            "note": {"certificate": "a nested one is not meant", "list": ["certificate", 1]},
            "certificate": pem(certificate),
            "caCertificate": authority.pem,
            "cryptoPort": 50055,
            "members": self.members,
            "serverCommonName": SERVER_NAME,
        }


def serve(directory: Path, member: Member) -> Iterator[Member]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            authorization = self.headers.get("Authorization", "")
            status, document = member.answer(self.command, self.path, authorization, body)
            if self.command == "POST" and member.drop:
                member.drop -= 1
                self.close_connection = True
                return
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = handle_one  # noqa: N815

        def log_message(self, *words: object) -> None:
            pass

    key = ec.generate_private_key(ec.SECP256R1())
    certificate = member.presented_by.issue(SERVER_NAME, key.public_key(), usage=member.usage)
    both = directory / "server.pem"
    both.write_bytes(
        pem(certificate).encode()
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + "".join(map(pem, member.shows)).encode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    member.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield member
    server.shutdown()
    thread.join()
    server.server_close()


def register(
    member: Member,
    tmp_path: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    shell: str = "sh",
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    """Register, with a cluster of CLUSTER_ID unless an option names another."""
    return run_script(
        tmp_path,
        *("-n", "192.0.2.5", "-i", "127.0.0.1", "-c", CLUSTER_ID, *options),
        member=member,
        environment=environment,
        shell=shell,
        given=given,
    )


def run_script(
    tmp_path: Path,
    *options: str,
    member: Member | None = None,
    environment: dict[str, str] | None = None,
    shell: str = "sh",
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "etc").mkdir(exist_ok=True)
    return subprocess.run(
        [
            *(shell, str(registration_script()), "--client-dir", str(tmp_path / "client")),
            *("--admin-port", str(member.port if member else 50070), *options),
        ],
        check=False,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "ChrystokiConfigurationPath": str(tmp_path / "etc"),
            **({"CONCLAVE_ADMIN_PASSWORD": PASSWORD} if environment is None else environment),
        },
    )


def stand_in(directory: Path, command: str, text: str) -> dict[str, str]:
    """Return an environment where a shell script comes before a command, which is its $real."""
    real = shutil.which(command)
    directory.mkdir(exist_ok=True)
    path = directory / command
    path.write_text(f"#!/bin/sh\nreal={real}\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def at_terminal(member: Member, tmp_path: Path, *options: str) -> Terminal:
    (tmp_path / "etc").mkdir(exist_ok=True)
    command = ("sh", str(registration_script()), "-n", "192.0.2.5", "-i", "127.0.0.1")
    where = ("-c", CLUSTER_ID, "--admin-port", str(member.port))
    environment = {**os.environ, "ChrystokiConfigurationPath": str(tmp_path / "etc")}
    environment.pop("CONCLAVE_ADMIN_PASSWORD", None)
    client_dir = ("--client-dir", str(tmp_path / "client"))
    return Terminal([*command, *where, *client_dir, *options], environment)
