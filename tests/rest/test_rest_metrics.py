"""Rule D7: what monitoring reads, with a monitor's login and any media type."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from conclave.appliance.metrics import Snapshot, render
from conclave.service.meters import Reading, Use
from tests.rest.conftest import Town
from tests.support.rest_house import MONITOR, Client, House

ACCEPT = {"Accept": "application/openmetrics-text, text/plain;version=0.0.4", "Content-Type": None}


def families(client: Client) -> dict[str, dict[tuple[str, ...], float]]:
    answer = client.get("/metrics", headers=ACCEPT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    return parsed(answer.text)


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_d7_a_monitor_sees_members_keyrings_and_certificate(town: Town) -> None:
    shown = families(town.house.client(MONITOR))
    assert shown["conclave_service_running"] == {(): 1.0}
    assert shown["conclave_authorized"] == {(): 1.0}
    assert shown["conclave_certificate_days"][()] > 30
    (member,) = shown["conclave_member_primary"]
    assert "local" in member
    for gauge in ("primary", "visible", "read_write", "authorized"):
        assert shown[f"conclave_member_{gauge}"] == {member: 1.0}
    assert shown["conclave_keyrings"][()] >= 0
    assert shown["conclave_keyrings_locked"] == {(): 0.0}


def test_a_fresh_appliance_says_that_nothing_runs(house: House) -> None:
    shown = families(house.client(MONITOR))
    assert shown["conclave_service_running"] == {(): 0.0}
    assert shown["conclave_member_visible"] == {}
    assert "conclave_keyrings" not in shown


def test_nobody_reads_without_a_login(house: House) -> None:
    assert house.client(None).get("/metrics", headers=ACCEPT).status_code == 401


def test_latency_is_a_histogram_of_each_mechanism() -> None:
    reading = Reading(Use.SIGN, 0x1041, (5, 1, 0, 0, 0, 0, 2), 0.75, 3)
    snapshot = Snapshot(
        version="1", package="2", service_running=True, authorized=True, certificate_days=1.5,
        readings={0: [reading]},
    )  # fmt: skip
    (family,) = (
        family
        for family in text_string_to_metric_families(render(snapshot))
        if family.name == "conclave_operation_seconds"
    )
    samples = {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for sample in family.samples
    }
    assert family.samples[0].labels["mechanism"] == "CKM_ECDSA"
    assert samples["bucket", "0.0001"] == 5
    assert samples["bucket", "0.0003"] == 6
    assert samples["bucket", "+Inf"] == samples["count", None] == 8
    assert samples["sum", None] == 0.75
