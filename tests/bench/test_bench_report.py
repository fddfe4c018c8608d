"""The benchmark's own rules: what may be believed, and what a promise means."""

from __future__ import annotations

from bench.cases import Case
from bench.report import Row, Run, complaints, neighbours, summarise, table


def run(rate: float, p99: float = 100.0, *, ok: bool = True, checked: int = 2) -> Run:
    return Run(operations_per_second=rate, p99_us=p99, max_us=p99, checked=checked, ok=ok)


def test_ratio_is_the_median_of_pairs_so_that_one_bad_minute_does_not_decide() -> None:
    case = Case("rsa2048-sign", 1, 1.2)
    row = summarise(case, [run(100), run(200), run(90)], [run(50), run(100), run(900)])
    assert row.ratio == 2.0
    assert row.holds is True


def test_a_ratio_below_the_floor_does_not_hold() -> None:
    row = summarise(Case("find", 1, 20.0), [run(190)], [run(10)])
    assert row.holds is False
    assert "| NO |" in table([row])


def test_signatures_under_concurrency_also_promise_their_p99() -> None:
    case = Case("p256-sign", 8, 1.0)
    assert summarise(case, [run(20, p99=60)], [run(10, p99=100)]).holds is False
    assert summarise(case, [run(20, p99=50)], [run(10, p99=100)]).holds is True


def test_a_case_without_a_floor_promises_nothing() -> None:
    assert summarise(Case("sha256", 1), [run(1)], [run(100)]).holds is None


def test_unverified_absurd_and_empty_runs_are_not_believed() -> None:
    case = Case("rsa2048-sign", 8, 1.8)
    assert complaints(case, [run(3000)]) == []
    assert len(complaints(case, [run(3000, ok=False)])) == 1
    assert len(complaints(case, [run(3000, checked=0)])) == 1
    assert len(complaints(case, [run(0)])) == 1
    assert len(complaints(case, [run(1e6)])) == 1


def test_neighbouring_cells_a_hundredfold_apart_are_an_artefact() -> None:
    def row(case: Case, rate: float) -> Row:
        return summarise(case, [run(rate)], [run(1)])

    eight, one = Case("p256-sign", 8), Case("p256-sign", 1)
    assert neighbours([row(eight, 20000), row(one, 5000)]) == []
    assert len(neighbours([row(eight, 20000), row(one, 100)])) == 1
    assert neighbours([row(eight, 20000), row(Case("find", 1), 1)]) == []


def test_a_run_is_read_from_the_line_that_p11bench_prints() -> None:
    line: dict[str, object] = {
        "ops_per_s": 12.5,
        "p99_us": 7,
        "max_us": 9,
        "checked_by_openssl": 2,
        "checked_by_module": 1,
        "ok": True,
    }
    assert Run.from_json(line) == Run(12.5, 7.0, 9.0, 3, ok=True)
    assert Run.from_json({}).ok is False
