"""A database and a state directory copied away give no key without both passwords."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.demo import Demo
from tests.support.token import Token, serial_of

pytestmark = pytest.mark.system


@pytest.fixture
def marked_key(demo: Demo) -> bytes:
    """Import an AES key whose bytes can be searched for."""
    keyring = demo.keyring(2)
    token = Token(
        module=demo.module,
        label=keyring["label"],
        serial=serial_of(demo.module, keyring["label"], demo.environment),
        pin=keyring["pin"],
        environment=demo.environment,
    )
    value = b"conclave-test-key-to-search-for!"
    script = (
        "import os,sys,pkcs11 as p;A=p.Attribute;"
        "t=p.lib(sys.argv[1]).get_token(token_label=sys.argv[2]);"
        "s=t.open(rw=True,user_pin=os.environ['TOKEN_PIN']);"
        "s.create_object({A.CLASS:p.ObjectClass.SECRET_KEY,A.KEY_TYPE:p.KeyType.AES,"
        "A.TOKEN:True,A.LABEL:'searched',A.VALUE:sys.argv[3].encode()});s.close()"
    )
    import sys

    token.run(sys.executable, "-c", script, token.module, token.label, value.decode())
    return value


def test_no_file_of_a_running_member_holds_a_key_or_a_password(
    demo: Demo, marked_key: bytes, tmp_path: Path
) -> None:
    state = Path(demo.member.get("stateDir", demo.directory))
    copied = tmp_path / "copy"
    shutil.copytree(state, copied, ignore=lambda _, names: [n for n in names if n == "run"])
    secrets = [
        marked_key,
        *(demo.keyring(index)["pin"].encode() for index in range(4)),
        *(demo.document[name].encode() for name in ("coPassword", "poPassword", "hsmSoPassword")),
    ]
    files = [path for path in copied.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    found = [
        (path.name, index)
        for path in files
        for index, secret in enumerate(secrets)
        if secret in path.read_bytes()
    ]
    assert found == []


def test_state_files_are_for_their_owner_only(demo: Demo) -> None:
    state = Path(demo.member.get("stateDir", demo.directory))
    open_to_others = [
        str(path.relative_to(state))
        for path in state.rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o077 and path.is_file()
        if "client" not in path.parts
    ]
    assert open_to_others == []


def test_the_cluster_database_is_what_was_copied(demo: Demo, marked_key: bytes) -> None:
    state = Path(demo.member.get("stateDir", demo.directory))
    database = next(state.rglob("cluster.db"))
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM objects").fetchone()
    connection.close()
    assert count > 0
    assert marked_key
