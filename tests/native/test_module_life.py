"""The module through forks, threads, an end under way, and the death of what it talks to."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, place_of, session
from tests.native.waiting import wait_until
from tests.support.cryptoki import Session, Template, mechanism
from tests.support.demo import Demo

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

P256: Template = {Cka.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}
DIGEST = bytes(32)
NOT_INITIALIZED = 0x190


def test_only_the_standard_s_functions_are_exported(demo: Demo) -> None:
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", demo.module],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert names
    assert all(name.startswith("C_") for name in names), names


def test_a_second_initialisation_is_refused(place: Place) -> None:
    assert place.library.value("C_Initialize", None) == 0x191


def test_an_ended_module_says_so_and_begins_again(place: Place) -> None:
    place.library.do("C_Finalize", None)
    count = ctypes.c_ulong()
    assert place.library.value("C_GetSlotList", 1, None, ctypes.byref(count)) == NOT_INITIALIZED
    assert place.library.value("C_WrapKey", 1, None, 0, 0, None, None) == NOT_INITIALIZED
    place.library.do("C_Initialize", None)
    place.logged_in()


def test_a_child_initialises_for_itself(place: Place, session: Session) -> None:
    _, private = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, P256)
    child = os.fork()
    if child == 0:
        _be_a_child(place, session)
    assert os.waitpid(child, 0)[1] == 0
    assert len(session.whole("Sign", mechanism(Ckm.ECDSA), private, DIGEST)) == 64


def _be_a_child(place: Place, session: Session) -> None:
    good = False
    try:
        assert session.value("C_Logout") == NOT_INITIALIZED
        place.library.do("C_Initialize", None)
        mine = place.logged_in()
        _, private = mine.generate_pair(Ckm.EC_KEY_PAIR_GEN, P256)
        assert len(mine.whole("Sign", mechanism(Ckm.ECDSA), private, DIGEST)) == 64
        place.library.do("C_Finalize", None)
        good = True
    finally:
        os._exit(0 if good else 1)


def test_eight_threads_sign_at_once(place: Place, session: Session) -> None:
    public, private = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, P256)
    wrong: list[str] = []

    def sign() -> None:
        mine = place.library.open(place.slot)
        for _ in range(100):
            made = mine.whole("Sign", mechanism(Ckm.ECDSA), private, DIGEST)
            if mine.verified(mechanism(Ckm.ECDSA), public, DIGEST, made) != Ckr.OK:
                wrong.append("a signature does not verify")

    threads = [threading.Thread(target=sign) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_end_under_way_wakes_everybody(place: Place, session: Session) -> None:
    _, private = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, P256)
    signed = threading.Semaphore(0)
    ends: list[int] = []

    # Opened before any of them signs: one that started late would find the end done.
    sessions = [place.library.open(place.slot) for _ in range(4)]

    def sign(mine: Session) -> None:
        cipher = mechanism(Ckm.ECDSA)
        value = 0
        while value == 0:
            out, length = ctypes.create_string_buffer(64), ctypes.c_ulong(64)
            value = mine.value("C_SignInit", ctypes.byref(cipher), private)
            value = value or mine.value("C_Sign", DIGEST, 32, out, ctypes.byref(length))
            signed.release()
        ends.append(value)

    threads = [threading.Thread(target=sign, args=(mine,)) for mine in sessions]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert signed.acquire(timeout=60)
    place.library.do("C_Finalize", None)
    for thread in threads:
        thread.join(timeout=60)
    assert ends == [NOT_INITIALIZED] * 4


def test_an_application_may_exit_without_an_end(place: Place) -> None:
    script = (
        "import ctypes,sys,threading\n"
        "p=ctypes.CDLL(sys.argv[1]);n=ctypes.c_ulong()\n"
        "assert p.C_Initialize(None)==0\n"
        "def f():\n"
        "    while p.C_GetSlotList(1,None,ctypes.byref(n))==0: pass\n"
        "threading.Thread(target=f,daemon=True).start()\n"
        "assert p.C_GetSlotList(1,None,ctypes.byref(n))==0 and n.value>0\n"
    )
    module = place.library.path
    subprocess.run([sys.executable, "-c", script, module], check=True, timeout=90)


def test_the_applications_openssl_configuration_is_not_read_by_c_initialize(
    demo: Demo, tmp_path: Path
) -> None:
    """An engine in it may load this module and call C_Initialize, which would wait for itself."""
    configuration = tmp_path / "openssl.cnf"
    os.mkfifo(configuration)  # whoever opens it waits for a writer
    script = (
        "import ctypes,sys\n"
        "p=ctypes.CDLL(sys.argv[1])\n"
        "assert p.C_Initialize(None)==0\n"
        "assert p.C_Finalize(None)==0\n"
    )
    environment = {**demo.environment, "OPENSSL_CONF": str(configuration)}
    subprocess.run(
        [sys.executable, "-c", script, demo.module], check=True, timeout=60, env=environment
    )


def test_killed_workers_are_survived(
    own_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place_of(own_demo, 0, tmp_path, monkeypatch)
    session = here.logged_in()
    _, private = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, P256)
    pids = own_demo.member["pids"]
    cipher = mechanism(Ckm.ECDSA)
    for name in ("worker-0", "worker-1", "cluster"):
        if name in pids:
            os.kill(pids[name], signal.SIGKILL)
        for _ in range(20):
            assert len(session.whole("Sign", cipher, private, DIGEST)) == 64
    wait_until(lambda: session.find({Cka.LABEL: b"demo-ec"}) != [])
    token: Template = {Cka.VALUE_LEN: 16, Cka.TOKEN: True, Cka.LABEL: b"after the kill"}
    key = session.generate(Ckm.AES_KEY_GEN, token)
    assert session.find({Cka.LABEL: b"after the kill"}) == [key]
    here.library.do("C_Finalize", None)
