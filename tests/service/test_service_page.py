"""The shared page: one writer, readers in other processes, words where they are documented."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest

from conclave.errors import InternalFault
from conclave.ids import KeyringId, LoginId, MemberId
from conclave.service.page import (
    DENIED_LOGINS,
    LAYOUT_VERSION,
    MAGIC,
    NO_LEASE_END,
    PAGE_BYTES,
    SharedPage,
)

MEMBER = MemberId("2f1c6d1e-8a8b-4c0e-9d3f-0123456789ab")


@pytest.fixture
def page() -> Iterator[SharedPage]:
    made = SharedPage.create(boot_time_ms=lambda: 1000)
    yield made
    made.close()


def word(page: SharedPage, index: int) -> int:
    return int(struct.unpack("=Q", os.pread(page.fd, 8, 8 * index))[0])


def test_words_stand_where_the_architecture_puts_them(page: SharedPage) -> None:
    keyring = KeyringId(bytes.fromhex("0000f001") + bytes(12))
    page.bump_global()
    page.bump_clients()
    page.bump_clients()
    page.set_cluster_time_offset(500)
    page.set_epoch(7, MEMBER)
    page.bump_members()
    page.bump_users()
    page.bump_users()
    page.set_visible(True)
    page.set_authorized(True)
    page.bump_keyring(keyring)
    assert [word(page, index) for index in range(9)] == [
        MAGIC, LAYOUT_VERSION, 1, 2, 500, NO_LEASE_END, 7, 1, 0,
    ]  # fmt: skip
    promoter = UUID(MEMBER).int
    assert [word(page, index) for index in range(11, 16)] == [
        1, 2, 1, promoter >> 64, promoter & (1 << 64) - 1,
    ]  # fmt: skip
    assert word(page, 4096 + 0xF001 % 61440) == page.keyring_generation(keyring) == 1


def test_a_reader_in_another_process_sees_a_bump_and_cannot_write(page: SharedPage) -> None:
    page.bump_global()
    script = (
        "import sys; from conclave.service.page import SharedPage\n"
        "page = SharedPage.attach(int(sys.argv[1]), writable=False)\n"
        "print(page.global_generation(), page.authorized())\n"
        "page.bump_global()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(page.fd)],
        pass_fds=[page.fd], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "1 False\n"
    assert "TypeError" in done.stderr
    assert page.global_generation() == 1


def test_time_and_lease_follow_the_boot_clock(page: SharedPage) -> None:
    assert page.lease_valid()
    page.set_lease_end(1001)
    assert page.lease_valid()
    page.set_lease_end(1000)
    assert not page.lease_valid()
    page.set_cluster_time_offset(-400)
    assert page.cluster_time_ms() == 600
    page.set_appliance_offset(-86_400_000)
    assert page.appliance_offset_ms() == -86_400_000


def test_denied_logins_are_a_bounded_ring(page: SharedPage) -> None:
    ids = [LoginId(os.urandom(16)) for _ in range(DENIED_LOGINS + 10)]
    page.deny_login(ids[0])
    assert page.denied_since(0) == (1, ids[:1])
    assert page.denied_since(1) == (1, [])
    for login_id in ids[1:]:
        page.deny_login(login_id)
    head, denied = page.denied_since(0)
    assert head == len(ids)
    assert denied == ids[10:]


def test_a_foreign_descriptor_is_refused() -> None:
    small, other = os.memfd_create("small"), os.memfd_create("other")
    os.ftruncate(other, PAGE_BYTES)
    for fd in (small, other):
        with pytest.raises(InternalFault):
            SharedPage.attach(fd, writable=False)
    os.close(small)


def test_an_epoch_that_is_being_written_is_none_yet(page: SharedPage) -> None:
    assert page.epoch() == (0, "")
    page.set_epoch(7, MEMBER)
    assert page.epoch() == (7, MEMBER)
    page.words[6] = 0
    assert page.epoch() == (0, "")
