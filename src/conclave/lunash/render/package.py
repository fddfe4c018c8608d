"""Layouts of the package family: the titles are the product's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from conclave.operations.packages import PackageList

_RULE: Final = "-------------------"


def package_list(system: Sequence[str], installed: PackageList) -> list[str]:
    """Return what belongs to the system, and what was installed."""
    software = [package.id for package in installed.packages]
    return [
        "RPM LIST (SYSTEM)", _RULE, *system, "",
        "RPM LIST (SOFTWARE)", _RULE, *software,
    ]  # fmt: skip
