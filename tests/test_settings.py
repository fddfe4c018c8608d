"""Settings: strict reading, and what is written is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.crypto.password_hash import DEFAULT_COST, LOW_COST_FOR_TESTS, Argon2Cost
from conclave.errors import BadInput
from conclave.settings import (
    ApplianceConfig,
    Limits,
    RestSettings,
    Strictness,
    load_config,
    render_config,
    write_config,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = ApplianceConfig(
        state_dir=tmp_path / 'with "quotes" and ü',
        host_name="member-a.example",
        interfaces={"eth0": "127.0.0.2", "eth1": "::1"},
        workers=3,
        argon2=Argon2Cost(memory_kib=32768, iterations=2, lanes=1),
        so_lockout="backoff",
        missing_right_status=401,
        limits=Limits(max_objects=0, label_separator="-"),
        rest=RestSettings(
            strictness=Strictness.JSON, task_status_204=True, body_seconds=2.5, max_connections=9
        ),
    )
    path = tmp_path / "conclave.toml"
    write_config(config, path)
    assert load_config(path) == config
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["conclave.toml"]


def test_an_empty_file_means_the_defaults_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "conclave.toml"
    path.write_text("")
    assert load_config(path) == ApplianceConfig(state_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", ["colour"]),
        ("[limits]\nmax_keys = 1", ["max_keys"]),
        ('rest_port = "8443"', ["rest_port", "8443"]),
        ("rest_port = 0", ["rest_port", "65535", "0"]),
        ("workers = true", ["workers"]),
        ("cache_mib = 0", ["cache_mib", "65536", "0"]),
        ("cache_idle_seconds = 86401", ["cache_idle_seconds", "86400"]),
        ("[limits]\nmax_objects = -1", ["limits.max_objects", "-1"]),
        ("[limits]\nuncounted_up_to = 8", ["limits.uncounted_up_to", "8"]),
        ('[limits]\nlabel_separator = "\\n"', ["limits.label_separator"]),
        ('so_lockout = "never"', ["so_lockout", "never"]),
        ("missing_right_status = 404", ["missing_right_status", "404"]),
        ('[interfaces]\neth0 = "localhost"', ["interfaces.eth0", "localhost"]),
        ("interfaces = {}", ["interfaces"]),
        ('host_name = "a b"', ["host_name", "a b"]),
        ('crypto_socket = "run/crypto.sock"', ["crypto_socket", "run/crypto.sock", "absolute"]),
        (f'crypto_socket = "/{"a" * 107}"', ["crypto_socket", "107"]),
        ('server_common_name = ""', ["server_common_name"]),
        ("[argon2]\nmemory_kib = 64", ["argon2.memory_kib", "64"]),
        ("[argon2]\nmemory_kib = 1048576\niterations = 9", ["argon2.iterations", "4194304"]),
        ('[rest]\nstrictness = "loose"', ["rest.strictness", "loose"]),
        ("[rest]\nmax_connections = 0", ["rest.max_connections", "10000", "0"]),
        ("[rest]\nmax_body_bytes = 1", ["rest.max_body_bytes", "4096"]),
        ("[rest]\nbody_seconds = 0.5", ["rest.body_seconds", "0.5"]),
        ("[rest]\nbody_seconds = nan", ["rest.body_seconds", "nan"]),
        ("[rest]\ntask_status_204 = 1", ["rest.task_status_204"]),
        ("not toml", ["TOML"]),
    ],
)
def test_a_refusal_names_field_and_value(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "conclave.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load_config(path)
    for word in words:
        assert word in error.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_rule_g2_the_low_cost_must_be_asked_for() -> None:
    assert ApplianceConfig(state_dir=Path("/")).password_cost == DEFAULT_COST
    low = ApplianceConfig(state_dir=Path("/"), low_cost_for_tests=True)
    assert low.password_cost == LOW_COST_FOR_TESTS
    assert "low_cost_for_tests = true" in render_config(low)
