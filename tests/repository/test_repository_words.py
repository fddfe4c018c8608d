"""What the repository must not say, and what it must."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_secret_material_is_committed() -> None:
    key = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{32}")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert len(files) > 200
    found = [str(path) for path in files if path.is_file() and key.search(path.read_bytes())]
    assert found == []


def test_every_link_inside_the_documentation_leads_somewhere() -> None:
    broken = []
    listing = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listing.stdout.splitlines():
        page = ROOT / name
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


def test_each_declared_dependency_is_explained() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text().lower()
    project = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)\]", project, re.DOTALL | re.MULTILINE)
    assert block is not None
    names = re.findall(r'"([a-zA-Z0-9_-]+)', block.group(1))
    assert len(names) > 5
    missing = [name for name in names if name.lower() not in page]
    assert missing == []


def test_setup_installs_only_packages_that_the_documentation_names() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text()
    setup = (ROOT / "tools/setup").read_text()
    block = re.search(r"packages=\((.*?)\)", setup, re.DOTALL)
    assert block is not None
    assert [name for name in block.group(1).split() if name not in page] == []
