"""Memory of a process and all its descendants, as the kernel counts it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def tree_pss_mb(root: int) -> dict[int, float]:
    """Return the proportional set size of each process below and including `root`, in MB."""
    found = {}
    for directory in _PROC.iterdir():
        if directory.name.isdigit() and _descends(int(directory.name), root):
            rollup = (directory / "smaps_rollup").read_text()
            kib = sum(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
            found[int(directory.name)] = kib / 1024
    return found


def alone_mb(pids: Iterable[int]) -> float:
    """Return what processes take together if no other process shares a page with them, in MB.

    Their proportional set size is lower as long as, say, other programs of the same Python run.
    Of one part of a file, the processes are taken to share the same pages: an estimate.
    """
    private, shared = 0, dict[str, int]()
    for pid in pids:
        part = ""
        for line in (_PROC / str(pid) / "smaps").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.startswith("Private_") and "Hugetlb" not in name:
                private += int(value.split()[0])
            elif name in ("Shared_Clean", "Shared_Dirty"):
                shared[f"{part} {name}"] = max(
                    shared.get(f"{part} {name}", 0), int(value.split()[0])
                )
            elif "-" in name.split(" ")[0]:
                _addresses, _rights, offset, device, inode = line.split()[:5]
                part = f"{device} {inode} {offset}" if inode != "0" else f"{pid} {line}"
    return (private + sum(shared.values())) / 1024


def command_of(pid: int) -> str:
    """Return the module that a Python process runs, or its command line."""
    words = (_PROC / str(pid) / "cmdline").read_bytes().decode().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else " ".join(words[:3]).strip()


def _descends(pid: int, root: int) -> bool:
    while pid > 1:
        if pid == root:
            return True
        try:
            pid = int((_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            return False
    return False
