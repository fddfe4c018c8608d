"""The files of a package, and the readers of what administrators send, with mutated inputs."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import tarfile
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from conclave.errors import BadInput
from conclave.operations.model import Media
from conclave.packages.files import unpack
from conclave.rest.media_types import check_media_type
from conclave.settings import Strictness
from tests.support.input_fuzzer import (
    BODIES,
    HEADERS,
    TARGETS,
    Seeds,
    assembled,
    fuzz,
    read_package,
    receive_body,
)

PLAIN_JSON, BROWSER = HEADERS[3:5]


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_taken_or_refused(target: str) -> None:
    tally = fuzz(target, seed=1, seconds=120, inputs=400)
    assert tally.findings == []
    assert tally.inputs == 400
    assert 0 < tally.ends["taken"] < 400


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("strictness", Strictness)
def test_each_header_that_is_mutated_is_taken_where_the_door_knows_it(
    header: bytes, strictness: Strictness
) -> None:
    text = header.decode("latin-1")
    refused: dict[Strictness, dict[str, tuple[bytes, ...]]] = {
        # The vendor's door wants the vendor's template, and no body is said to be HTML.
        Strictness.VENDOR: {
            "Content-Type": (PLAIN_JSON, BROWSER),
            "Accept": (PLAIN_JSON, BROWSER),
        },
        Strictness.JSON: {"Content-Type": (BROWSER,), "Accept": ()},
    }
    for name, given in (("Content-Type", (text, None)), ("Accept", (None, text))):
        is_refused = header in refused[strictness][name]
        with pytest.raises(BadInput, match=f"^{name} is") if is_refused else nullcontext():
            check_media_type(
                *given, has_body=name != "Accept", strictness=strictness, kinds=frozenset(Media)
            )


@pytest.mark.parametrize("header", HEADERS[-2:])
@pytest.mark.parametrize(("body", "content"), list(zip(BODIES, (b"Hello", b""), strict=True)))
def test_each_body_that_is_mutated_is_taken(
    tmp_path: Path, body: bytes, content: bytes, header: bytes
) -> None:
    kept = asyncio.run(receive_body(body, header, random.Random(1), tmp_path))
    assert kept == content


def test_the_package_that_is_mutated_is_taken(tmp_path: Path) -> None:
    seeds = Seeds.made(tmp_path / "seeds")
    counts = (seeds.manifest.file_count, seeds.manifest.unpacked_bytes)
    inside = tmp_path / "inside"
    inside.mkdir()
    read_package(assembled(seeds, seeds.archive, counts), inside)
    with pytest.raises(BadInput, match="its manifest counts 3"):
        read_package(assembled(seeds, seeds.archive, (counts[0] + 1, counts[1])), inside)


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


@pytest.mark.parametrize("flag", [0x02, 0x04, 0x08, 0x10])
def test_an_archive_whose_head_promises_a_field_that_is_not_there_is_refused(
    tmp_path: Path, flag: int
) -> None:
    seeds = Seeds.made(tmp_path / "seeds")
    archive = bytearray(seeds.archive)
    archive[3] |= flag
    with pytest.raises(BadInput, match="cannot be unpacked"):
        unpack(io.BytesIO(archive), seeds.manifest, tmp_path / "fresh")
