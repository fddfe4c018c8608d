"""The hsm family through OpenSSH: logins, policies, clock, firmware, the file for support."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave import __version__
from conclave.lunash.render.hsm import attempts_left, login_caution
from conclave.operations.hsm import HsmView
from conclave.versions import BUILD
from tests.support.rest_house import open_house, settle_users
from tests.support.ssh_house import TRAILER, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
SO = "Sophie-Officer-1"
NEXT = "Sophie-Officer-2"
INIT = f"hsm init -label again -defaultdomain -password {NEXT} -force"
LOGIN = f"hsm login -password {SO}"
WRONG = "hsm login -password Wrong-Officer-1"
ZEROIZED = "   HSM Admin login attempts left:      HSM IS ZEROIZED !!!!"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("hsm")) as opened:
        yield opened


def done(answer: Answer) -> Answer:
    assert answer.status == 0, answer
    assert answer.lines[-2:] == [TRAILER, ""], answer
    return answer


def initialize(house: SshHouse) -> None:
    hsm = house.appliance.hsm
    house.loop.run(hsm.initialize("lab", SO.encode(), b"domain", confirmed=True))


def left(count: int) -> str:
    return f"   HSM Admin login attempts left:      {count} before HSM zeroization!"


def test_d6_hsm_show_has_emulated_versions_with_conclaves_own_beside(house: SshHouse) -> None:
    initialize(house)
    lines = done(house.ssh("hsm show")).lines
    emulated = house.appliance.config.emulated
    serial = house.appliance.hsm.info().serial
    for line in (
        "   Appliance Details:",
        "   ==================",
        f"   Software Version:                {emulated.appliance}-{BUILD}",
        f"   Conclave Version:                {__version__}",
        "   HSM Label:                          lab",
        f"   Serial #:                           {serial}",
        f"   Firmware:                           {emulated.firmware}",
        "   Authentication Method:              Password",
        "   HSM Admin login status:             Not Logged In",
        left(3),
        "   There are no partitions.",
        "   Number of partitions created:        0",
        "   The HSM is NOT in FIPS 140-2 approved operation mode.",
        "   Maximum HSM Storage Space (Bytes):   33554432",
    ):
        assert line in lines, line


def test_hsm_show_follows_login_and_logout_within_a_session(house: SshHouse) -> None:
    initialize(house)
    create = "partition create -partition par -force"
    answer = done(house.ssh(stdin=f"{LOGIN}\nhsm show\n{create}\nhsm show\nhsm logout\nhsm show\n"))
    status = "HSM Admin login status:"
    states = [line.split(":")[1].strip() for line in answer.lines if status in line]
    assert states == ["Logged In", "Logged In", "Not Logged In"]
    (partition,) = house.appliance.hsm.partitions()
    shown = f"   Partition: {partition.partition_id},     Name: par"
    assert answer.lines.count(shown) == 2


def test_section_8_rule_21_three_wrong_so_passwords_zeroize_after_two_cautions(
    house: SshHouse, caplog: pytest.LogCaptureFixture
) -> None:
    initialize(house)
    first = house.ssh(WRONG)
    assert (first.status, "Caution" in first.out) == (1, False)
    assert "(A00000 : LUNA_RET_UM_PIN_INCORRECT)" in first.out
    assert left(2) in house.ssh("hsm show").lines
    second = house.ssh(WRONG)
    assert "Caution:  You have only TWO HSM Admin logins attempts left (including" in second.lines
    assert "          be ZEROIZED!!!" in second.lines
    done(house.ssh(LOGIN))
    assert left(3) in house.ssh("hsm show").lines
    for _ in range(2):
        assert house.ssh(WRONG).status == 1
    with caplog.at_level(logging.WARNING):
        last = house.ssh(WRONG)
    assert "Caution:  This is your LAST available HSM Admin login attempt" in last.lines
    assert "(30000F : LUNA_RET_SO_LOGIN_FAILURE_THRESHOLD)" in last.out
    assert "HSM Admin Login: incorrect password or PED key" in caplog.messages
    assert any("HSM Zeroized due to three consecutive" in each for each in caplog.messages)
    assert ZEROIZED in house.ssh("hsm show").lines
    assert house.ssh(LOGIN).status == 1


def test_k5_nothing_threatens_where_wrong_passwords_only_slow_down() -> None:
    hsm = HsmView(
        id="1",
        serial_number="1",
        label="lab",
        initialized=True,
        zeroized=False,
        so_logins_left=1,
        storage_space={},
        partitions="",
        policies="",
        roles="",
        firmware="",
        firmware_version="",
        licenses="",
        metrics="",
    )
    assert "zeroization" not in attempts_left(hsm, zeroizes=False)
    assert attempts_left(hsm) == "1 before HSM zeroization!"
    assert login_caution(3) == []


def test_the_login_prompt_is_the_products(house: SshHouse) -> None:
    initialize(house)
    answer = done(house.ssh("hsm login", stdin=f"{SO}\n"))
    assert "Please enter the HSM Administrators' password:" in answer.lines
    assert "'hsm login' successful." in answer.lines
    assert SO not in answer.out


def test_an_initialised_hsm_is_initialised_anew_by_its_security_officer_alone(
    house: SshHouse,
) -> None:
    initialize(house)
    refused = house.ssh(INIT)
    assert (refused.status, "The HSM SO is not logged in" in refused.out) == (1, True)
    assert house.appliance.hsm.info().label == "lab"
    assert house.ssh(stdin=f"{WRONG}\n{INIT}\n").status == 1
    assert house.appliance.hsm.info().label == "lab"
    done(house.ssh(stdin=f"{LOGIN}\n{INIT}\n"))
    assert house.appliance.hsm.info().label == "again"
    # That login was to the HSM as it was.
    both = house.ssh(stdin=f"hsm login -password {NEXT}\n{INIT}\n{INIT}\n")
    assert (both.status, "The HSM SO is not logged in" in both.out) == (1, True)
    for _ in range(3):
        assert house.ssh(WRONG).status == 1
    assert house.appliance.hsm.info().zeroized
    done(house.ssh(INIT))


def test_policies_are_shown_and_set_by_the_security_officer(house: SshHouse) -> None:
    initialize(house)
    lines = done(house.ssh("hsm showPolicies")).lines
    assert "   HSM Label:                          lab" in lines
    (title,) = [
        line for line in lines if line.split() == ["Description", "Value", "Code", "Destructive"]
    ]
    (row,) = [line for line in lines if "Force user PIN change after set/reset" in line]
    assert row.split()[-3:] == ["On", "21", "No"]
    assert row.index("21") + 2 == title.index("Code") + 4
    assert house.ssh("hsm changePolicy -policy 21 -value 0").status == 1
    answer = done(house.ssh(stdin=f"{LOGIN}\nhsm changepolicy -policy 21 -value 0\n"))
    assert "'hsm changePolicy' successful." in answer.lines
    assert "Policy Force user PIN change after set/reset is now set to value: 0" in answer.lines
    assert house.ssh(stdin=f"{LOGIN}\nhsm changePolicy -policy 21 -value 7\n").status == 1
    assert house.ssh(stdin=f"{LOGIN}\nhsm changePolicy -policy 99 -value 1\n").status == 1
    found = json.loads(house.ssh("hsm showPolicies -json").out)["policies"]
    assert [(each["id"], each["value"]) for each in found] == [("21", 0)]


def test_the_security_officers_password_is_changed_at_the_prompts(house: SshHouse) -> None:
    initialize(house)
    answer = done(house.ssh("hsm changePw", stdin=f"{SO}\n{NEXT}\n{NEXT}\n"))
    assert "'hsm changePw' successful." in answer.lines
    assert (SO in answer.out, NEXT in answer.out) == (False, False)
    assert house.ssh(LOGIN).status == 1
    done(house.ssh(f"hsm login -password {NEXT}"))


def test_t3_the_hsm_has_a_clock_of_its_own(house: SshHouse) -> None:
    warning = "the HSM's clock is not synchronized"
    assert warning in done(house.ssh("hsm show")).out
    assert warning in house.ssh("service start cluster").out
    for command in ("cluster enable", f"cluster create -label lab -password {SO}"):
        assert warning in house.ssh(command).out, command
    created = house.ssh(f"cluster create -label lab -password {SO} -json")
    assert (warning in created.out, warning in created.err) == (False, True)
    before = json.loads(house.ssh("hsm time get -json").out)
    assert (before["synchronized"], warning in before["warning"]) == (False, True)
    assert house.ssh("hsm time sync", user="monitor").status == 1
    assert "'hsm time sync' successful." in done(house.ssh("hsm time sync")).lines
    assert warning not in done(house.ssh("hsm show")).out
    assert warning not in house.ssh("service start cluster").out
    assert "   Synchronized:                        Yes" in done(house.ssh("hsm time get")).lines
    house.loop.run(house.appliance.time.synchronize(3_600_000))
    shown = json.loads(house.ssh("hsm time get -json").out)
    assert (shown["synchronized"], "3600 s from it" in shown["warning"]) == (False, True)
    assert shown["hsmTime"] < shown["applianceTime"]
    done(house.ssh("hsm time sync"))
    assert json.loads(house.ssh("hsm time get -json").out)["synchronized"]
    house.loop.run(house.appliance.time.synchronize())


def test_t3_the_start_of_the_cluster_service_warns_of_an_unsynchronized_hsm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = "/api/lunasa/services/cluster/actions/start"
    with open_house(tmp_path) as house:
        settle_users(house)
        client = house.client()
        assert client.post(start).status_code == 409
        warned = [each for each in caplog.messages if "'hsm time sync'" in each]
        assert len(warned) == 1
        assert client.post(f"{house.hsm_url}/time/actions/synchronize").status_code == 204
        assert client.get(f"{house.hsm_url}/time").json()["synchronized"] is True
        caplog.clear()
        assert client.post(start).status_code == 409
        assert not any("'hsm time sync'" in each for each in caplog.messages)


def test_support_info_is_a_file_with_the_cluster_service_and_no_secret(
    house: SshHouse, tmp_path: Path
) -> None:
    initialize(house)
    answer = done(house.ssh("hsm supportInfo"))
    assert answer.lines[1:5] == [
        "'hsm supportInfo' successful.",
        "",
        "Use 'scp' from a client machine to get file named:",
        "supportInfo.txt",
    ]
    assert "supportInfo.txt" in done(house.ssh("my file list")).out
    assert house.scp("{}:supportInfo.txt", str(tmp_path / "info")).status == 0
    text = (tmp_path / "info").read_text()
    assert "\ncluster_service-" in text
    assert SO not in text


def test_the_firmware_is_shown_and_no_other_can_be_had(house: SshHouse) -> None:
    initialize(house)
    lines = done(house.ssh("hsm firmware show")).lines
    version = house.appliance.config.emulated.firmware
    assert f"   Current Firmware:                    {version}" in lines
    assert "   Upgrade Firmware:                    Not available" in lines
    refused = house.ssh(stdin=f"{LOGIN}\nhsm firmware upgrade -force\n")
    assert (refused.status, "There is no other firmware" in refused.out) == (1, True)
    assert "'hsm login'" in house.ssh("hsm firmware upgrade -force").out


def information(house: SshHouse) -> dict[str, int]:
    rows = [line.split(":") for line in done(house.ssh("hsm information show")).lines[1:7]]
    return {name.strip(): int(count) for name, count in rows}


def test_information_counts_requests_errors_and_events(house: SshHouse) -> None:
    initialize(house)
    before = information(house)
    assert list(before) == [
        "Operation Requests",
        "Operation Errors",
        "Crypto Operation Requests",
        "Crypto Operation Errors",
        "Critical Events",
        "Non-Critical Events",
    ]
    done(house.ssh(LOGIN))
    for _ in range(3):
        assert house.ssh(WRONG).status == 1
    after = information(house)
    assert {name: after[name] - count for name, count in before.items()} == {
        "Operation Requests": 4,
        "Operation Errors": 3,
        # The cluster service is stopped.
        "Crypto Operation Requests": 0,
        "Crypto Operation Errors": 0,
        "Critical Events": 1,
        "Non-Critical Events": 2,
    }


@pytest.mark.parametrize(
    "line", ["hsm show", "hsm shwo", "hsm", "hsm login -password x", "partition show -partition no"]
)
def test_section_8_rule_24_every_command_ends_with_its_result(house: SshHouse, line: str) -> None:
    answer = house.ssh(line)
    result = answer.lines[-2]
    assert (result == TRAILER) == (answer.status == 0)
    assert result in (TRAILER, "Command Result : 65535 (Luna Shell execution)")
    assert answer.lines[-1] == ""
