"""The module with several members: which it asks, and what it does when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from conclave.errors import Ckr
from tests.native.driver import Driver
from tests.native.members import NOT_AUTHORIZED, NOT_VISIBLE, READ_ONLY, Members
from tests.native.waiting import SOON_MS, wait_until

ECHO = 40
DESTROY = 25
LOGIN = 10
CONTEXT_LOGIN = 37

Cluster = Callable[..., Members]


@pytest.fixture
def cluster(directory: Path) -> Iterator[Cluster]:
    """Start members in the groups that are named."""
    started: list[Members] = []

    def start(*groups: str, workers: int = 1) -> Members:
        members = Members(directory, list(groups), workers)
        started.append(members.__enter__())
        return members

    yield start
    for members in started:
        members.__exit__()


@pytest.fixture
def client(plain_driver: Path, directory: Path) -> Iterator[Driver]:
    """Run a driver that has not been started."""
    with Driver(plain_driver, directory) as driver:
        yield driver


def begin(client: Driver) -> None:
    """Start, and call often enough to have learned the members."""
    client.do("start")
    for _ in range(3):
        assert client.call(ECHO)["value"] == Ckr.OK


def hints(directory: Path) -> str:
    return (directory / "client.pem.members").read_text()


# --- learning -------------------------------------------------------------------------------


def test_the_members_are_learned_and_kept_beside_the_certificate(
    client: Driver, cluster: Cluster, directory: Path
) -> None:
    members = cluster("a", "the second group")
    begin(client)
    port = members.servers[1].port
    assert f"member member-1 127.0.0.1 {port} 0 the second group\n" in hints(directory)
    assert [path.name for path in directory.glob("*.members*")] == ["client.pem.members"]


def test_s7_a_changed_port_is_used_for_the_next_connection(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a")
    begin(client)
    old = members.servers[0]
    members.servers[0] = members.start(0)
    members.version += 1
    assert old.told is not None
    old.told.members_version = members.told(0).members_version = members.version
    assert client.call(ECHO)["value"] == client.call(ECHO)["value"] == Ckr.OK
    assert members.servers[0].greeted == []
    old.stop()
    assert client.call(ECHO)["value"] == Ckr.OK
    assert members.servers[0].served[ECHO] == 1


@pytest.mark.parametrize(
    "text", [b"", b"\0\xff" * 3000, b"member a b\nmember x y 99999 7 z\n" * 40]
)
def test_a_file_of_garbage_does_no_harm(
    client: Driver, cluster: Cluster, directory: Path, text: bytes
) -> None:
    cluster("a", "a")
    (directory / "client.pem.members").write_bytes(text)
    begin(client)
    assert "member member-1 " in hints(directory)


# --- choice ---------------------------------------------------------------------------------


def until_shared(client: Driver, members: Members, places: list[int]) -> None:
    """Load them until each is connected and has served: a load spreads once calls overlap."""
    assert wait_until(
        lambda: (
            client.do("stress 8 100 100")["good"] == 800
            and all(members.served(ECHO)[place] for place in places)
        )
    )


def test_the_members_of_a_group_share_a_load(client: Driver, cluster: Cluster) -> None:
    members = cluster("a", "a", "b", workers=2)
    begin(client)
    until_shared(client, members, [0, 1])
    before = members.served(ECHO)
    assert client.do("stress 8 400 100")["good"] == 3200
    served = members.served(ECHO)
    first, second, third = (now - early for now, early in zip(served, before, strict=True))
    assert first + second == 3200
    assert 0.35 <= first / 3200 <= 0.65
    assert third == 0


@pytest.mark.parametrize("groups", ["aab", "aba", "aabbb", "aaab"])
def test_idle_members_of_a_group_take_turns_whoever_else_is_listed(
    client: Driver, cluster: Cluster, groups: str
) -> None:
    members = cluster(*groups)
    begin(client)
    equals = [place for place, group in enumerate(groups) if group == "a"]
    until_shared(client, members, equals)
    before = members.served(ECHO)
    for _ in range(60):
        assert client.call(ECHO)["value"] == Ckr.OK
    more = [now - early for now, early in zip(members.served(ECHO), before, strict=True)]
    assert [more[place] for place in equals] == [60 // len(equals)] * len(equals)


def test_section_8_rule_8_another_group_serves_while_the_whole_group_is_down(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b")
    begin(client)
    members.servers[0].stop()
    assert client.call(ECHO)["value"] == Ckr.OK
    assert members.served(ECHO) == [3, 1]
    members.restart(0)
    assert wait_until(
        lambda: client.call(ECHO)["value"] == Ckr.OK and members.servers[0].served[ECHO] > 0
    )


def test_b5_changes_go_to_a_read_write_member_of_any_group(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b")
    members.told(0).read_write = False
    members.standing[0] = READ_ONLY
    begin(client)
    assert client.call(DESTROY, b"object")["value"] == Ckr.OK
    assert client.call(ECHO)["value"] == Ckr.OK
    assert members.served(DESTROY) == [0, 1]
    assert members.served(ECHO) == [4, 0]


def test_b5_with_one_entry_point_a_read_only_one_refuses_changes(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "a")
    members.configure(direct=False)
    members.told(0).read_write = False
    begin(client)
    assert client.call(DESTROY, b"object")["value"] == Ckr.TOKEN_WRITE_PROTECTED
    assert client.do("stress 8 100 100")["good"] == 800
    assert members.served(ECHO) == [803, 0]
    assert members.servers[0].hellos[0][2] is False


def test_b5_with_one_entry_point_another_member_stands_in_for_a_dead_one(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b", "a")
    members.configure(direct=False)
    begin(client)
    members.servers[0].stop()
    assert client.do("stress 4 100 100")["good"] == 400
    assert members.served(ECHO) == [3, 0, 400]


def test_a_member_without_authorization_is_passed_over(client: Driver, cluster: Cluster) -> None:
    members = cluster("a", "b")
    begin(client)
    members.servers[0].refuses = int(Ckr.KEYRING_NOT_AUTHORIZED)
    assert client.call(ECHO)["value"] == Ckr.OK
    members.servers[1].refuses = int(Ckr.KEYRING_NOT_AUTHORIZED)
    assert client.call(ECHO)["value"] == Ckr.KEYRING_NOT_AUTHORIZED


def test_a_member_cut_off_for_too_long_is_passed_over(client: Driver, cluster: Cluster) -> None:
    members = cluster("a", "b")
    members.told(0).read_write = False
    begin(client)
    members.servers[0].refuses = int(Ckr.DEVICE_ERROR)
    assert client.call(ECHO)["value"] == Ckr.OK
    members.servers[1].refuses = int(Ckr.DEVICE_ERROR)
    assert client.call(ECHO)["value"] == Ckr.DEVICE_ERROR


def test_listed_standings_decide_who_stands_in(client: Driver, cluster: Cluster) -> None:
    members = cluster("a", "b", "b", "b")
    members.standing = {1: NOT_VISIBLE, 2: NOT_AUTHORIZED}
    begin(client)
    members.servers[0].stop()
    assert client.call(ECHO)["value"] == Ckr.OK
    assert members.served(ECHO) == [3, 0, 0, 1]


def test_a_member_with_another_key_than_listed_is_not_trusted(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "a", "b")
    members.keys[1] = b"k" * 32
    begin(client)
    members.servers[0].stop()
    assert client.call(ECHO)["value"] == Ckr.OK
    assert members.served(ECHO) == [3, 0, 1]


# --- epochs and positions -------------------------------------------------------------------


def test_c17_a_member_that_is_behind_what_was_seen_is_not_asked_twice(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b")
    begin(client)
    members.told(0).position = 700
    assert client.call(DESTROY, b"object")["value"] == Ckr.OK
    members.servers[0].stop()
    client.begin(f"call {ECHO} 90")
    assert wait_until(lambda: len(members.servers[1].least_positions) > 2)
    assert set(members.servers[1].least_positions) == {700}
    members.told(1).position = 701
    assert client.end()["value"] == Ckr.OK
    before = len(members.servers[1].least_positions)
    assert client.call(ECHO)["value"] == Ckr.OK
    assert len(members.servers[1].least_positions) == before


def test_c17_a_position_that_no_member_has_is_a_device_error(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b")
    begin(client)
    members.told(0).position = 700
    assert client.call(ECHO)["value"] == Ckr.OK
    members.servers[0].stop()
    assert client.call(ECHO)["value"] == Ckr.DEVICE_ERROR


@pytest.mark.parametrize(("behind", "unauthorized"), [(1, 2), (2, 1)])
def test_c17_a_member_that_may_catch_up_is_waited_for_beside_one_without_authorization(
    client: Driver, cluster: Cluster, behind: int, unauthorized: int
) -> None:
    """What the cluster campaign found: whoever refused last decided, so signatures failed."""
    members = cluster("a", "b", "b")
    begin(client)
    for index in (0, unauthorized):
        members.told(index).position = 700
    assert client.call(DESTROY, b"object")["value"] == Ckr.OK
    members.servers[unauthorized].refuses = int(Ckr.KEYRING_NOT_AUTHORIZED)
    members.servers[0].stop()
    client.begin(f"call {ECHO} 90")
    assert wait_until(lambda: len(members.servers[behind].least_positions) > 2)
    members.told(behind).position = 701
    assert client.end()["value"] == Ckr.OK


@pytest.mark.parametrize("epoch", [(1, "member-0"), (2, "member-0")])
def test_c17_a_member_of_an_older_epoch_is_refused(
    client: Driver, cluster: Cluster, epoch: tuple[int, str]
) -> None:
    members = cluster("a", "a")
    begin(client)
    members.told(1).epoch, members.told(1).promoter = 2, "member-1"
    members.servers[0].stop()
    assert client.call(ECHO)["value"] == Ckr.OK
    members.told(0).epoch, members.told(0).promoter = epoch
    members.restart(0)
    for _ in range(2):
        assert wait_until(
            lambda: (
                client.do("stress 4 50 50")["good"] == 200 and len(members.servers[0].greeted) > 0
            )
        )
    assert members.servers[0].served[ECHO] == 0


def test_c17_an_answer_from_an_epoch_that_is_over_is_not_taken(
    client: Driver, cluster: Cluster
) -> None:
    """The member tells nothing, since for it nothing has changed."""
    members = cluster("a", "a")
    client.do("start")
    assert client.do("stress 8 100 100")["good"] == 800
    assert all(members.served(ECHO))
    members.told(1).epoch = 2
    for _ in range(20):
        assert client.call(ECHO)["value"] == Ckr.OK
    before = members.servers[0].served[ECHO]
    for _ in range(20):
        assert client.call(ECHO)["value"] == Ckr.OK
    assert members.servers[0].served[ECHO] == before


def test_an_epoch_of_the_hints_alone_is_doubted_when_no_member_has_it(
    client: Driver, cluster: Cluster, directory: Path
) -> None:
    cluster("a", "a")
    (directory / "client.pem.members").write_text("epoch 9 member-7\n")
    begin(client)
    assert "epoch 1 member-0" in hints(directory)


def learn_epoch_two(client: Driver, members: Members, directory: Path) -> None:
    """Have one process keep what it learned; the first member stays in the epoch before."""
    members.told(1).epoch, members.told(1).promoter = 2, "member-1"
    client.do("start")
    assert client.do("stress 8 100 100")["good"] == 800
    assert "epoch 2 member-1" in hints(directory)
    client.do("stop")


def test_c17_a_new_process_waits_for_the_members_of_the_hints_epoch(
    client: Driver, cluster: Cluster, directory: Path
) -> None:
    """The entry member was deleted while it was cut off, and the others are slow to greet."""
    members = cluster("a", "a")
    learn_epoch_two(client, members, directory)
    first, second = members.servers
    second.hang()
    served, accepted = first.served[ECHO], second.accepted
    client.do("start")
    client.begin(f"call {ECHO} 90")
    # It is dialled three times in one attempt: this is another one.
    assert wait_until(lambda: second.accepted > accepted + 4 or first.served[ECHO] > served)
    second.resume()
    assert client.end()["value"] == Ckr.OK
    assert first.served[ECHO] == served


def test_c17_members_of_an_epoch_that_is_over_are_asked_again_until_the_deadline(
    plain_driver: Path, cluster: Cluster, directory: Path
) -> None:
    """What the applications' campaign found: after 5 s a new process gave up."""
    members = cluster("a", "a")
    with Driver(plain_driver, directory, call_time_ms=9000) as client:
        learn_epoch_two(client, members, directory)
        client.do("start")
        assert client.call(ECHO)["value"] == Ckr.OK
        members.servers[1].stop()
        answer = client.call(ECHO)
    assert answer["value"] == Ckr.DEVICE_ERROR
    assert answer["milliseconds"] > 8000


# --- failover -------------------------------------------------------------------------------


def test_c25_a_process_finds_the_others_while_its_entry_member_is_down(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "a")
    begin(client)
    client.do("stop")
    members.servers[0].stop()
    client.do("start")
    assert client.call(ECHO)["value"] == Ckr.OK
    client.do("stop")
    members.servers[0] = members.start(0, members.servers[0].port)
    members.servers[0].hang()
    client.do("start")
    answer = client.call(ECHO)
    assert answer["value"] == Ckr.OK
    assert answer["milliseconds"] < SOON_MS


def test_c25_the_first_process_finds_the_members_that_the_registration_left(
    client: Driver, cluster: Cluster, directory: Path
) -> None:
    members = cluster("a", "a")
    entry, other = (server.port for server in members.servers)
    (directory / "client.pem.members").write_text(
        f"entry 127.0.0.1 {entry} member-0 a\n"
        f"member member-0 127.0.0.1 {entry} 0 a\nmember member-1 127.0.0.1 {other} 0 a\n"
    )
    members.servers[0].stop()
    client.do("start")
    assert client.call(ECHO)["value"] == Ckr.OK


def test_c25_a_process_that_knows_members_waits_for_one_to_be_there(
    client: Driver, cluster: Cluster, directory: Path
) -> None:
    members = cluster("a", "a")
    begin(client)
    client.do("stop")
    for server in members.servers:
        server.stop()
    trace = directory / "trace.log"
    client.do("start")
    client.begin(f"call {ECHO} 90")
    assert wait_until(lambda: trace.read_text().count(": unreachable") > 1)
    members.restart(1)
    assert client.end()["value"] == Ckr.OK


def test_c25_members_may_be_named_by_the_environment(
    plain_driver: Path, directory: Path, cluster: Cluster
) -> None:
    members = cluster("a", "a")
    members.servers[0].stop()
    names = f"127.0.0.1:1,nonsense,127.0.0.1:{members.servers[1].port}"
    environment = {"CONCLAVE_MEMBERS": names}
    with Driver(plain_driver, directory, environment=environment) as driver:
        driver.do("start")
        assert driver.call(ECHO)["value"] == Ckr.OK


@pytest.mark.parametrize("operation", [ECHO, DESTROY, LOGIN])
def test_a_hung_member_delays_a_call_by_no_longer_than_it_takes_to_ask_another(
    client: Driver, cluster: Cluster, operation: int
) -> None:
    members = cluster("a", "a")
    begin(client)
    members.servers[0].hang()
    answer = client.call(operation, b"x")
    assert answer["value"] == Ckr.OK
    assert answer["milliseconds"] < SOON_MS
    assert client.call(operation, b"x")["milliseconds"] < SOON_MS
    members.servers[0].resume()
    assert wait_until(
        lambda: (client.call(ECHO)["value"], members.servers[0].served[ECHO] > 4) == (Ckr.OK, True)
    )


def test_the_first_answer_counts(client: Driver, cluster: Cluster) -> None:
    """The first member answers after all, while the second has been asked and is silent too."""
    members = cluster("a", "a")
    begin(client)
    members.servers[0].hang()
    members.servers[1].hang()
    client.begin(f"call {ECHO} 9107")
    assert wait_until(lambda: members.servers[1].connections == 1)
    members.servers[0].resume()
    answer = client.end()
    assert (answer["value"], answer["result"]) == (Ckr.OK, "9107")


@pytest.mark.parametrize("direct", [False, True])
def test_c21_a_refusal_proves_nothing_while_a_silent_member_may_have_done_it(
    client: Driver, cluster: Cluster, direct: bool
) -> None:
    members = cluster("a", "a")
    members.configure(direct=direct)
    members.told(1).read_write = False
    members.standing[1] = READ_ONLY
    begin(client)
    members.servers[0].hang()
    client.begin(f"call {DESTROY} 9107")
    assert wait_until(lambda: members.servers[1].refused[DESTROY] > 0)
    members.servers[0].resume()
    assert client.end()["value"] == Ckr.OK


@pytest.mark.parametrize("direct", [False, True])
def test_c21_nor_while_it_may_have_been_done_by_a_member_that_died(
    client: Driver, cluster: Cluster, direct: bool
) -> None:
    members = cluster("a", "a")
    members.configure(direct=direct)
    members.told(1).read_write = False
    members.standing[1] = READ_ONLY
    begin(client)
    members.servers[0].hang()
    client.begin(f"call {DESTROY} 9107")
    assert wait_until(lambda: members.servers[1].refused[DESTROY] > 0)
    members.servers[0].stop()
    refused = members.servers[1].refused[DESTROY]
    assert wait_until(lambda: members.servers[1].refused[DESTROY] > refused)
    members.restart(0)
    assert client.end()["value"] == Ckr.OK


@pytest.mark.parametrize("operation", [LOGIN, CONTEXT_LOGIN])
def test_a_refused_login_is_answered_whatever_became_of_the_member_that_died(
    client: Driver, cluster: Cluster, operation: int
) -> None:
    """A login is no change: whoever is refused logs in again, which does no harm."""
    members = cluster("a", "a")
    begin(client)
    members.servers[0].hang()
    members.servers[1].refuses = int(Ckr.KEYRING_NOT_AUTHORIZED)
    client.begin(f"call {operation} 9107")
    assert wait_until(lambda: members.servers[1].refused[operation] > 0)
    members.servers[0].stop()
    assert client.end()["value"] == Ckr.KEYRING_NOT_AUTHORIZED


def test_the_group_of_an_entry_member_that_is_gone_still_decides(
    client: Driver, cluster: Cluster
) -> None:
    members = cluster("a", "b", "a")
    begin(client)
    members.listed = [1, 2]
    members.change_list()
    for _ in range(3):
        assert client.call(ECHO)["value"] == Ckr.OK
    client.do("stop")
    members.servers[0].stop()
    client.do("start")
    assert client.do("stress 4 50 50")["good"] == 200
    assert members.served(ECHO)[1:] == [0, 200]


def test_no_member_to_write_on_shows_and_passes(client: Driver, cluster: Cluster) -> None:
    members = cluster("a", "a")
    begin(client)
    assert client.do("readonly")["read_only"] is False
    for index in range(2):
        members.told(index).read_write = False
    assert wait_until(lambda: client.do("readonly")["read_only"])
    assert client.call(DESTROY, b"x")["value"] == Ckr.TOKEN_WRITE_PROTECTED
    members.told(0).read_write = True
    assert wait_until(lambda: not client.do("readonly")["read_only"])
    assert client.call(DESTROY, b"x")["value"] == Ckr.OK


# --- under load -----------------------------------------------------------------------------


def has_served(members: Members, calls: int) -> bool:
    return sum(members.served(ECHO)) > calls


def test_members_that_die_and_hang_in_turn_lose_no_call(
    any_driver: Path, directory: Path, cluster: Cluster
) -> None:
    members = cluster("a", "a", "a", workers=2)
    with Driver(any_driver, directory) as client:
        begin(client)
        client.begin("stress 8 2000 200")
        for turn in range(4):
            victim = turn % 3
            served = sum(members.served(ECHO))
            if turn % 2:
                members.servers[victim].hang()
            else:
                members.servers[victim].stop()
            wait_until(partial(has_served, members, served + 500), 3)
            if turn % 2:
                members.servers[victim].resume()
            else:
                members.restart(victim)
        answer = client.end()
        client.do("stop")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (16000, 0, 0)
    assert answer["slowest_us"] < SOON_MS * 1000
