"""The recipes, run from the pages that print them, with the distribution's own programs."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.demo.options import free_loopback_addresses
from tests.support.demo import Demo, start_demo, stop_demo
from tests.support.procedures import Step, read_steps, run_steps, shell_complaints

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
INDEX = RECIPES / "README.md"
RUN = sorted(page.stem for page in RECIPES.glob("*.md") if page != INDEX and read_steps(page))
NOT_RUN = "not run by any test"


def steps_of(recipe: str) -> list[Step]:
    """Return the preparations, which the index has, and the recipe."""
    return [*read_steps(INDEX), *read_steps(RECIPES / f"{recipe}.md")]


@pytest.fixture(scope="module")
def keyrings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run one installation with a keyring for each recipe."""
    state = tmp_path_factory.mktemp("recipes") / "state"
    running = start_demo(state, "--keyrings", str(len(RUN)))
    yield running
    stop_demo(running)


def windows_program() -> Path:
    """Return a small program of Windows: setuptools has them, to start scripts there."""
    spec = importlib.util.find_spec("setuptools")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("cli-64.exe")


@pytest.mark.system
@pytest.mark.timeout(600)
@pytest.mark.parametrize("recipe", RUN)
def test_recipe_as_its_page_prints_it(keyrings: Demo, tmp_path: Path, recipe: str) -> None:
    keyring = keyrings.keyring(RUN.index(recipe))
    variables = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
        "HOME": str(tmp_path),
        "MODULE": keyrings.module,
        "TOKEN": keyring["label"],
        "PIN": keyring["pin"],
        "ADDRESS": free_loopback_addresses(1)[0],
        "PYTHON": sys.executable,
        "PROGRAM": str(windows_program()),
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # it runs briefly
        **keyrings.document["client"]["environment"],
    }
    run_steps(
        [*read_steps(INDEX), *read_steps(RECIPES / f"{recipe}.md")], tmp_path, variables, print
    )


@pytest.mark.parametrize("recipe", RUN)
def test_recipe_is_sound_shell(recipe: str) -> None:
    assert shell_complaints(steps_of(recipe)) == ""


def test_the_index_has_each_recipe_and_says_which_are_not_run() -> None:
    index = INDEX.read_text()
    rows = "\n".join(line for line in index.splitlines() if line.startswith("| ["))
    listed = re.findall(r"\]\(([\w-]+)\.md\)", rows)
    assert sorted(listed) == sorted({page.stem for page in RECIPES.glob("*.md")} - {"README"})
    assert len(RUN) > 4
    for recipe in set(listed) - set(RUN):
        assert NOT_RUN in (RECIPES / f"{recipe}.md").read_text(), recipe
