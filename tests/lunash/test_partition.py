"""The partition family through OpenSSH: chapter 2 of the guide, policies, templates, passwords."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from conclave.lunash.render.partition import partition_list
from conclave.operations.partitions import PartitionView
from tests.support.appliance_bench import make_authorized_cluster
from tests.support.hsm_bench import PO
from tests.support.ssh_house import TRAILER, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
SO = "Sophie-Officer-1"
PSO = "Partition-Officer-1"
FIRST = "First-Crypto-1"
CO = "Second-Crypto-1"
DOMAIN = "domain-of-tests"
INIT = f"hsm init -label lab -defaultdomain -password {SO} -force"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("partitions")) as opened:
        done(opened.ssh(INIT))
        yield opened


def done(answer: Answer) -> Answer:
    assert answer.status == 0, answer
    assert answer.lines[-2:] == [TRAILER, ""], answer
    return answer


def create(house: SshHouse, name: str, version: int = 1) -> None:
    line = f"partition create -partition {name} -version {version} -force"
    done(house.ssh(stdin=f"hsm login -password {SO}\n{line}\n"))


def policies(house: SshHouse, name: str) -> dict[str, int]:
    found = json.loads(house.ssh(f"partition showPolicies -partition {name} -json").out)
    return {each["id"]: each["value"] for each in found["policies"]}


def view(**changes: object) -> PartitionView:
    plain = PartitionView(
        id="157826004",
        serial_number="157826004",
        name="testPar1",
        label="testPar1",
        state="initialized",
        version=1,
        has_pso=True,
        size=102701,
        object_count=0,
        policies="",
        roles="",
    )
    return msgspec.structs.replace(plain, **changes)


def test_partition_list_has_the_layout_of_the_product() -> None:
    assert partition_list([view()]) == [
        "                                                      Storage (bytes)",
        "                                                ----------------------------",
        " Partition    Name                     Objects     Total      Used      Free",
        " ===========================================================================",
        " 157826004    testPar1                       0    102701         0    102701",
    ]


@pytest.mark.parametrize("name", ["par", "p" * 32])
def test_partition_list_keeps_its_columns_under_long_serial_numbers_and_names(name: str) -> None:
    long = view(serial_number="1682975235230", name=name)
    _, rule, titles, double, *rows = partition_list([long, view()])
    assert len({len(titles), len(double), len(rule), *(len(row) for row in rows)}) == 1
    place = titles.index("Name")
    assert [row[place:].split()[0] for row in rows] == [name, "testPar1"]
    assert all(row[place - 2 : place] == "  " for row in rows)


def test_chapter_2_a_partition_is_made_ready_for_a_cluster(tmp_path: Path) -> None:
    answers = [
        f"hsm login\n{SO}\n",
        "partition create -partition ready -version 1\nproceed\n",
        f"partition init -partition ready\n{PSO}\n{PSO}\n{DOMAIN}\n{DOMAIN}\n",
        f"partition changePolicy -partition ready -policy 40 -value 0\n{PSO}\nproceed\n",
        f"partition init co -partition ready\n{PSO}\n{FIRST}\n{FIRST}\nproceed\n",
        f"partition changePw -partition ready\n{FIRST}\n{CO}\n{CO}\n",
    ]
    with open_ssh_house(tmp_path / "house") as house:
        done(house.ssh(INIT))
        answer = done(house.ssh(stdin="".join(answers)))
        for words in ("login", "create", "init", "changePolicy", "init co", "changePw"):
            family = "hsm" if words == "login" else "partition"
            assert f"'{family} {words}' successful." in answer.lines, words
        assert "Policy Require Per-Key Authorization Data is now set to value: 0" in answer.lines
        assert not any(secret in answer.out for secret in (SO, PSO, FIRST, CO, DOMAIN))
        assert house.appliance.hsm.cluster_partition().name == "ready"
        shown = done(house.ssh("partition show -partition ready")).lines
        assert "Partition Owner PIN To Be Changed:         no" in shown
        assert "Partition Owner Locked Out:                no" in shown
        login = house.loop.run(
            house.appliance.hsm.verify_role(
                house.appliance.hsm.cluster_partition().partition_id, "co", CO.encode()
            )
        )
        assert login
        contents = done(house.ssh(f"partition contents -partition ready -password {CO}"))
        assert "Number of objects:                         0" in contents.lines
        assert house.ssh(f"partition contents -partition ready -password {FIRST}").status == 1


def test_a_partition_is_created_with_the_version_that_was_asked_for(house: SshHouse) -> None:
    create(house, "plain", 0)
    create(house, "new", 1)
    shown = [json.loads(house.ssh(f"partition show -pa {n} -js").out) for n in ("plain", "new")]
    assert [each["version"] for each in shown] == [0, 1]
    again = f"hsm login -password {SO}\npartition create -partition new -force\n"
    assert "exists already" in house.ssh(stdin=again).out


def test_d5_a_template_carries_policies_from_one_partition_to_another(
    house: SshHouse, tmp_path: Path
) -> None:
    create(house, "model")
    done(house.ssh(f"partition init -partition model -password {PSO} -domain {DOMAIN}"))
    for number, value in ((40, 0), (20, 7)):
        line = f"partition changePolicy -pa model -po {number} -v {value} -ps {PSO} -f"
        done(house.ssh(line))
    exported = done(house.ssh("partition showPolicies -partition model -exporttemplate pol.txt"))
    assert exported.lines[-5:-3] == [
        "Use 'scp' from a client machine to get file named:",
        "pol.txt",
    ]
    assert house.scp("{}:pol.txt", str(tmp_path / "pol.txt")).status == 0
    template = (tmp_path / "pol.txt").read_text()
    assert '40:"Require Per-Key Authorization Data":0\n' in template
    create(house, "copy")
    line = f"partition init -partition copy -applytemplate pol.txt -password {PSO} -domain {DOMAIN}"
    done(house.ssh(line))
    assert policies(house, "copy") == policies(house, "model")
    assert policies(house, "copy")["20"] == 7


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("40=0\n", "Line 1 of the template"),
        ("# fine\n40:0\n40:1\n", "Line 3 of the template sets policy 40 again"),
        ("99:1\n", "sets policy 99"),
        ('20:"Max failed user logins allowed":11\n', "between 1 and 10"),
    ],
)
def test_d5_a_template_that_cannot_be_applied_leaves_the_partition_alone(
    house: SshHouse, tmp_path: Path, content: str, named: str
) -> None:
    if "bad" not in house.ssh("partition list").out:
        create(house, "bad")
    (tmp_path / "bad.txt").write_text(content)
    assert house.scp(str(tmp_path / "bad.txt"), "{}:").status == 0
    line = f"partition init -pa bad -applytemplate bad.txt -password {PSO} -defaultdomain"
    refused = house.ssh(line)
    assert refused.status == 1
    assert named in refused.out
    shown = json.loads(house.ssh("partition show -partition bad -json").out)
    assert shown["state"] == "uninitialized"


def test_d5_a_policy_is_asked_about_while_a_cluster_exists(tmp_path: Path) -> None:
    line = f"partition changePolicy -partition par -policy 20 -value 8 -psopin {PO.decode()}"
    with open_ssh_house(tmp_path / "cluster") as clustered:
        clustered.loop.run(make_authorized_cluster(clustered.appliance))
        refused = clustered.ssh(line, stdin="quit\n")
        assert refused.status == 1
        assert "CAUTION:  A cluster exists on this appliance" in refused.out
        assert policies(clustered, "par")["20"] == 10
        done(clustered.ssh(line, stdin="proceed\n"))
        assert policies(clustered, "par")["20"] == 8
        clustered.loop.run(clustered.appliance.cluster.stop())
        assert "CAUTION" in clustered.ssh(line, stdin="quit\n").out


def test_a_policy_without_danger_is_set_without_a_question(house: SshHouse) -> None:
    create(house, "calm")
    done(house.ssh(f"partition init -partition calm -password {PSO} -defaultdomain"))
    line = f"partition changePolicy -partition calm -policy 20 -value 9 -psopin {PSO}"
    assert "Type 'proceed'" not in done(house.ssh(line)).out
    destructive = f"partition changePolicy -partition calm -policy 40 -value 0 -psopin {PSO}"
    assert house.ssh(destructive, stdin="quit\n").status == 1
    assert policies(house, "calm") == policies(house, "calm") | {"20": 9, "40": 1}
    assert "no policy '7' here" in house.ssh(line.replace("-policy 20", "-policy 7")).out
    wrong = house.ssh(line.replace(PSO, "Wrong-Officer-1"))
    assert (wrong.status, "LUNA_RET_UM_PIN_INCORRECT" in wrong.out) == (1, True)


def test_section_8_rule_21_the_crypto_officer_is_locked_after_ten_wrong_passwords(
    house: SshHouse,
) -> None:
    create(house, "locks")
    done(house.ssh(f"partition init -partition locks -password {PSO} -defaultdomain"))
    done(house.ssh(f"partition init co -partition locks -psopin {PSO} -copin {FIRST} -force"))
    shown = done(house.ssh("partition show -partition locks")).lines
    assert "Partition Owner PIN To Be Changed:         yes" in shown
    left = "Partition Owner Login Attempts Left:       10 before Partition Owner is Locked Out"
    assert left in shown
    wrong = "partition changePw -partition locks -oldpw Wrong-Officer-1 -newpw Next-Officer-1\n"
    assert house.ssh(stdin=wrong * 10).status == 1
    shown = done(house.ssh("partition show -partition locks")).lines
    assert "Partition Owner Locked Out:                yes" in shown
    assert "Partition Owner Login Attempts Left:       None - Owner is Locked Out" in shown
    right = f"partition changePw -partition locks -oldpw {FIRST} -newpw {CO}"
    assert house.ssh(right).status == 1
    unlock = f"partition resetPw -partition locks -psopin {PSO} -unlock"
    assert "Type 'proceed'" not in done(house.ssh(unlock)).out
    done(house.ssh(right))
    reset = f"partition resetPw -partition locks -psopin {PSO} -newpw {FIRST}"
    assert house.ssh(reset, stdin="quit\n").status == 1
    done(house.ssh(reset, stdin="proceed\n"))
    done(house.ssh(right))


def test_a_partition_is_deleted_by_the_security_officer_who_proceeds(house: SshHouse) -> None:
    create(house, "gone")
    refused = house.ssh("partition delete -partition gone -force")
    assert (refused.status, "'hsm login'" in refused.out) == (1, True)
    login = f"hsm login -password {SO}\n"
    assert house.ssh(stdin=f"{login}partition delete -partition gone\nquit\n").status == 1
    assert "gone" in house.ssh("partition list").out
    answer = done(house.ssh(stdin=f"{login}partition delete -partition gone\nproceed\n"))
    assert "'partition delete' successful." in answer.lines
    assert "gone" not in house.ssh("partition list").out


def test_partition_activate_says_what_to_do_instead(house: SshHouse) -> None:
    create(house, "still")
    refused = house.ssh("partition activate -partition still")
    assert refused.status == 1
    assert "cluster member authorize" in refused.out
