"""The client alone on a host: what is installed works from its default paths, without Python."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

from conclave.client.clusters import registered_clusters
from conclave.client.configuration import read_document
from conclave.client.installation import CLIENT_DIRECTORY, P11_KIT_FILE, TIMER, UNIT
from tests.support.client_package import make_client_package
from tests.support.registering import CLUSTER_ID, PASSWORD, Member

SYSTEM_LIBRARY = r"(libssl|libcrypto|libc|libpthread|ld-linux[\w-]*)\.so\.\d+"


def install(root: Path) -> Path:
    """Install below `root` by the command; return the client's directory there."""
    command = [".venv/bin/conclave", "client", "install", "--root", str(root)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    client = root / CLIENT_DIRECTORY.relative_to("/")
    assert str(client / "lib/libconclave_pkcs11.so") in done.stdout
    return client


def test_d8_a_clean_host_gets_what_a_client_needs_and_no_python(tmp_path: Path) -> None:
    client = install(tmp_path)
    module = client / "lib/libCryptoki2_64.so"
    assert module.readlink() == Path("libconclave_pkcs11.so")
    dynamic = subprocess.run(
        ["readelf", "-d", str(module)], check=True, capture_output=True, text=True, timeout=60
    )
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic.stdout)
    assert needed
    assert all(re.fullmatch(SYSTEM_LIBRARY, name) for name in needed)
    functions = ctypes.c_void_p()
    assert ctypes.CDLL(str(module)).C_GetFunctionList(ctypes.byref(functions)) == 0
    assert functions.value
    script = client / "bin/LNHClientRegistration.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert (client / "bin/LNHClientRegistration.ps1").is_file()
    named = tmp_path / P11_KIT_FILE.relative_to("/")
    assert named.read_text() == f"module: {CLIENT_DIRECTORY}/lib/libconclave_pkcs11.so\n"
    unit = (tmp_path / UNIT.relative_to("/")).read_text()
    assert f"ExecStart={CLIENT_DIRECTORY}/bin/LNHClientRegistration.sh --renew all\n" in unit
    assert "OnCalendar=daily" in (tmp_path / TIMER.relative_to("/")).read_text()


def test_d8_the_installed_script_registers_and_a_new_install_leaves_it(
    member: Member, tmp_path: Path
) -> None:
    client = install(tmp_path)
    (tmp_path / "etc").mkdir()
    command = [str(client / "bin/LNHClientRegistration.sh"), "-n", "192.0.2.5", "-i", "127.0.0.1"]
    outcome = subprocess.run(
        [
            *command,
            *("-c", CLUSTER_ID, "--admin-port", str(member.port)),
            *("--fingerprint", member.authority.fingerprint),
        ],
        check=False,
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "ChrystokiConfigurationPath": str(tmp_path / "etc"),
            "CONCLAVE_ADMIN_PASSWORD": PASSWORD,
        },
    )
    assert outcome.returncode == 0, outcome.stderr
    path = tmp_path / "etc" / "Chrystoki.conf"
    (entry,) = registered_clusters(read_document(path))
    assert entry.key_file == client.resolve() / "cert/client" / CLUSTER_ID / "192.0.2.5Key.pem"
    before = {each: each.read_bytes() for each in (path, entry.key_file, entry.certificate_file)}
    install(tmp_path)
    assert {each: each.read_bytes() for each in before} == before


def test_d8_the_package_leaves_the_hosts_directories_alone(tmp_path: Path) -> None:
    with tarfile.open(make_client_package(tmp_path)) as packed:
        entries = {entry.name: entry for entry in packed}
    directories = {name for name, entry in entries.items() if entry.isdir()}
    own = str(CLIENT_DIRECTORY.relative_to("/"))
    assert directories == {"usr/safenet", own, f"{own}/bin", f"{own}/lib"}
    assert {entries[name].mode for name in directories} == {0o755}
    assert entries[f"{own}/bin/LNHClientRegistration.sh"].mode == 0o755
    assert entries[str(UNIT.relative_to("/"))].mode == 0o644
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
