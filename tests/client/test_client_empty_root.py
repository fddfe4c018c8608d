"""The client's package on a host that has nothing else: unpacked, registered, used to sign.

The host is a root directory of its own (chroot) with a few programs and the libraries they need; of
this machine it has the network and /dev.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from conclave.client.clusters import registered_clusters
from conclave.client.configuration import client_configuration
from conclave.client.installation import CLIENT_DIRECTORY
from tests.support.client_package import make_client_package
from tests.support.demo import Demo

pytestmark = pytest.mark.system

NEEDED = ("sh", "openssl", "curl", "awk", "sed", "grep", "timeout")
"""What docs/client.md says of a host: OpenSSL 3, sh, curl, openssl and awk; timeout to renew."""
CORE = (
    *("basename", "cat", "chmod", "cp", "dirname", "ln", "mkdir", "mv", "readlink", "rm", "rmdir"),
    *("sleep", "tail", "tr", "wc"),
)
APPLICATION = "pkcs11-tool"
SCRIPT = f"{CLIENT_DIRECTORY}/bin/LNHClientRegistration.sh"
MODULE = f"{CLIENT_DIRECTORY}/lib/libCryptoki2_64.so"
ENTER = 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
SECONDS = 120.0


class Host:
    """A root directory that programs run in, in a mount namespace of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("usr/bin", "usr/lib", "usr/lib64", "etc", "dev", "tmp"):
            (root / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        for name in (*NEEDED, *CORE, APPLICATION):
            self._take(name)

    def _take(self, name: str) -> None:
        """Copy a program of this machine with its libraries."""
        program = Path(shutil.which(name) or name).resolve()
        shutil.copy(program, self.root / "usr/bin" / name)
        listing = subprocess.run(
            ["ldd", str(program)], check=True, capture_output=True, text=True, timeout=SECONDS
        )
        for library in re.findall(r"(/\S+) \(0x", listing.stdout):
            target = self.root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(library, target)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program there, of whose environment nothing comes from here."""
        user = () if os.geteuid() == 0 else ("--map-root-user",)
        return subprocess.run(
            ["unshare", "--mount", *user, "sh", "-c", ENTER, str(self.root), *words],
            check=False,
            input="",
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", **environment},
        )

    def done(self, *words: str, **environment: str) -> str:
        """Do as `run` with what must succeed; return what it printed."""
        outcome = self.run(*words, **environment)
        assert outcome.returncode == 0, (words, outcome.stdout, outcome.stderr)
        return outcome.stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Unpack the package at the root of an empty host."""
    host = Host(tmp_path / "root")
    package = make_client_package(tmp_path)
    unpack = ["tar", "--directory", str(host.root), "-xzf", str(package)]
    subprocess.run(unpack, check=True, timeout=SECONDS)
    return host


def fingerprint(demo: Demo) -> str:
    """Return what the administrator tells: the CA of the demonstration's own client."""
    (entry,) = registered_clusters(client_configuration(demo.environment))
    certificate = x509.load_pem_x509_certificate(entry.ca_file.read_bytes())
    return certificate.fingerprint(hashes.SHA256()).hex()


def test_d8_an_empty_host_registers_and_signs(host: Host, demo: Demo) -> None:
    assert host.run("python3", "--version").returncode == 127
    member, keyring = demo.member, demo.keyring(3)
    told = host.done(
        *(SCRIPT, "-n", "empty-host", "-i", member["address"], "-c", demo.document["clusterId"]),
        *("--admin-port", str(member["adminPort"]), "--fingerprint", fingerprint(demo)),
        CONCLAVE_ADMIN_PASSWORD=demo.document["adminPassword"],
    )
    assert "Client empty-host is registered" in told
    assert "configuration /etc/Chrystoki.conf (index 00: " in told
    assert "empty-host" in host.done(SCRIPT, "--list")
    port = ("--admin-port", str(member["adminPort"]))
    due = ("--renew", "all", "--renew-before", "9999")
    assert "renewed: valid until" in host.done(SCRIPT, *port, *due)

    def tool(*words: str) -> str:
        token = ("--module", MODULE, "--token-label", keyring["label"])
        login = ("--login", "--pin", "env:TOKEN_PIN")
        return host.done("pkcs11-tool", *token, *login, *words, TOKEN_PIN=keyring["pin"])

    key, data = ("--label", "empty-host", "--id", "e0"), host.root / "tmp/data"
    data.write_bytes(b"signed on an empty host")
    tool("--keypairgen", "--key-type", "EC:prime256v1", *key)
    try:
        tool(
            *("--sign", "--mechanism", "ECDSA-SHA256", "--signature-format", "openssl", *key),
            *("--input-file", "/tmp/data", "--output-file", "/tmp/signature"),
        )
        tool("--read-object", "--type", "pubkey", *key, "--output-file", "/tmp/public.der")
        check = ("openssl", "dgst", "-sha256", "-verify", "/tmp/public.der", "-keyform", "DER")
        verified = host.done(*check, "-signature", "/tmp/signature", "/tmp/data")
        assert verified == "Verified OK\n"
        data.write_bytes(b"another text")
        assert host.run(*check, "-signature", "/tmp/signature", "/tmp/data").returncode == 1
    finally:
        for kind in ("privkey", "pubkey"):
            tool("--delete-object", "--type", kind, *key)
