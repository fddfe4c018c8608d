"""Size limits: a new file is cheaper than a longer one."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULE_LINES = 600
MAX_CLASS_LINES = 300
MAX_FUNCTION_LINES = 60


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).exists()]


PYTHON_FILES = tracked("*.py")
SOURCES = [*PYTHON_FILES, *tracked("*.c", "*.h")]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def spans(path: Path) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = MAX_FUNCTION_LINES
        elif isinstance(node, ast.ClassDef):
            limit = MAX_CLASS_LINES
        else:
            continue
        assert node.end_lineno is not None
        yield node.name, node.end_lineno - node.lineno + 1, limit


def shell_spans(text: str) -> Iterator[tuple[str, int]]:
    for found in re.finditer(r"^(\w+)\(\) \{$.*?^\}$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[0].count("\n") + 1


def test_there_is_something_to_measure() -> None:
    assert len(PYTHON_FILES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", PYTHON_FILES, ids=named)
def test_functions_and_classes_stay_small(path: Path) -> None:
    too_long = [f"{name}: {lines}" for name, lines, limit in spans(path) if lines > limit]
    assert not too_long


@pytest.mark.parametrize("path", tracked("*.sh"), ids=named)
def test_functions_of_scripts_stay_small(path: Path) -> None:
    found = list(shell_spans(path.read_text()))
    assert found
    assert [(name, lines) for name, lines in found if lines > MAX_FUNCTION_LINES] == []
