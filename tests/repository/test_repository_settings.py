"""The page of settings: current, whole, and true about the rules it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from conclave.errors import BadInput
from conclave.settings import NUMBER_RULES, WORD_RULES, ApplianceConfig, load_config
from conclave.settings_page import markdown, meanings

ROOT = Path(__file__).parents[2]


def structs() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield "", ApplianceConfig
    for field in msgspec.structs.fields(ApplianceConfig):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield f"{field.name}.", field.type


def test_the_page_of_settings_is_current_and_linked() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    assert page == markdown(), "run: python -m conclave.settings_page > docs/settings.md"
    assert "(docs/settings.md)" in (ROOT / "README.md").read_text()


def test_every_setting_has_a_meaning() -> None:
    for prefix, struct in structs():
        texts = meanings(struct)
        for field in msgspec.structs.fields(struct):
            assert texts.get(field.name), prefix + field.name


def test_every_rule_is_of_a_setting_and_every_number_has_one() -> None:
    names, numbers = set(), set()
    for prefix, struct in structs():
        for field in msgspec.structs.fields(struct):
            names.add(prefix + field.name)
            if field.type in (int, float) and not prefix.startswith("argon2"):
                numbers.add(prefix + field.name)
    assert set(NUMBER_RULES) | set(WORD_RULES) <= names
    assert set(NUMBER_RULES) == numbers


@pytest.mark.parametrize("path", NUMBER_RULES)
def test_the_bounds_on_the_page_are_those_that_are_kept(tmp_path: Path, path: str) -> None:
    low, high = NUMBER_RULES[path]
    file = tmp_path / "conclave.toml"
    table, _, name = path.rpartition(".")
    for value, allowed in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
        file.write_text((f"[{table}]\n" if table else "") + f"{name} = {value}\n")
        assert tomllib.loads(file.read_text())
        refusal = ""
        try:
            load_config(file)
        except BadInput as error:
            refusal = error.message
        # Another rule may refuse a value within the range: fewest characters below the uncounted.
        assert (f"{path} must lie between" in refusal) is not allowed, refusal
