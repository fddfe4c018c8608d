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


def test_no_test_tells_mypy_to_look_away() -> None:
    told = subprocess.run(
        ["git", "grep", "-n", "# type: [i]gnore", "--", "tests"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout) == (1, "")


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


def packages_of_setup() -> list[str]:
    setup = (ROOT / "tools/setup").read_text()
    block = re.search(r"^packages=\((.*?)\)", setup, re.DOTALL | re.MULTILINE)
    assert block is not None
    return block.group(1).split()


def test_setup_installs_only_packages_that_the_documentation_names() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text()
    assert [name for name in packages_of_setup() if name not in page] == []


def test_setup_keeps_each_service_that_it_installs_from_starting() -> None:
    named = re.search(r"^declare -A services=\((.*)\)$", (ROOT / "tools/setup").read_text(), re.M)
    assert named is not None
    masked = dict(re.findall(r"\[(\S+?)\]=(\S+)", named.group(1)))
    units: dict[str, set[str]] = {}
    # PostgreSQL's starts no more than the clusters that exist, and setup has none made.
    for package in set(packages_of_setup()) - {"systemd", "postgresql"}:
        query = ["dpkg", "--listfiles", package, f"{package}-common"]
        listing = subprocess.run(query, check=False, capture_output=True, text=True).stdout
        found = re.findall(r"/(?:systemd/system/([^/@]+)\.service|init\.d/(\S+))$", listing, re.M)
        for unit, script in found:
            units.setdefault(package, set()).add(unit or script)
    assert "nginx" in units
    assert {package: {unit} for package, unit in masked.items()} == units
