"""The files of a package, and the readers of what administrators send, with mutated inputs."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import msgspec
import pytest

from conclave.errors import BadInput
from conclave.packages.files import unpack
from tests.support.input_fuzzer import TARGETS, Seeds, fuzz


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_taken_or_refused(target: str) -> None:
    tally = fuzz(target, seed=1, seconds=120, inputs=400)
    assert tally.findings == []
    assert tally.inputs == 400
    assert 0 < tally.ends["taken"] < 400


@pytest.mark.parametrize("second", ["conclave/one.py", "conclave/one.py/two.py"])
def test_two_files_of_one_path_are_refused(tmp_path: Path, second: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("conclave/one.py", second):
            archive.addfile(tarfile.TarInfo(name))
    made = Seeds.made(tmp_path / "seeds").manifest
    manifest = msgspec.structs.replace(made, file_count=2)
    with pytest.raises(BadInput, match="two files of one path"):
        unpack(io.BytesIO(gzip.compress(packed.getvalue())), manifest, tmp_path / "fresh")
