"""Throw mutated headers, bodies, packages and lines at the readers of what administrators send.

A finding is anything but a result or one of our refusals: another exception, a file outside the
directory that was given, or a case that takes longer than a second.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import random
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conclave.appliance.user_files import UserFiles
from conclave.errors import ConclaveError
from conclave.operations.model import Media
from conclave.packages.container import (
    PayloadReader,
    check_code,
    check_payload,
    read_signed,
    sealed_chunks,
    signed_head,
)
from conclave.packages.files import pack, unpack
from conclave.packages.manifest import Manifest, Requirements
from conclave.rest.media_types import check_media_type
from conclave.rest.uploads import received
from conclave.settings import Strictness
from tests.support.line_fuzzer import LineTrial

Trial = Callable[[random.Random, Path], None]
SLOW_SECONDS: Final = 1.0
MAX_UPLOAD_BYTES: Final = 4096
CODE: Final = b"0123456789abcdef"
SALT: Final = bytes(range(32))
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))
HEADERS: Final = (
    b"application/vnd.safenetinc.lunasa+json;version=",
    b'application/vnd.safenetinc.lunasa+json; version="17"; charset=utf-8',
    b"application/vnd.safenetinc.lunasa+octet-stream;version=*",
    b"application/json",
    b"text/html, application/xhtml+xml;q=0.9, */*;q=0.8",
    b"multipart/form-data; boundary=----x",
)
BODIES: Final = (
    b'------x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\nHello\r\n------x--\r\n",
    b'------x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n'
    b'------x\r\nContent-Disposition: form-data; name="g"; filename="b"\r\n\r\n\r\n------x--\r\n',
)
INTERESTING: Final = (b"\x00", b"\xff", b"\r\n", b";", b'"', b"=", b"--", b"../", b"\x7f" * 8)
NAMES: Final = (
    *("conclave/one.py", "conclave/one.py", "conclave/one.py/two.py", "conclave", "conclave/a/b"),
    *("../one.py", "/tmp/one.py", "conclave/../../one.py", "", ".", "a" * 300, "/".join("a" * 40)),
    *("conclave/\x00", "conclave/\udcff", "conclave/ü.py"),
)
TYPES: Final = (
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
    *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"?"),
)
VALUES: Final = ("-1", "0", "9" * 30, "x", "../one.py", "nan")


@dataclass
class Tally:
    """What was tried and found."""

    inputs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """`taken`, or the id of the refusal."""
    findings: list[str] = field(default_factory=list)


def mutated(source: bytes, rng: random.Random) -> bytes:
    """Return bytes with up to eight changes: bits, cuts, repeats, values that parsers dislike."""
    data = bytearray(source)
    for _ in range(rng.randint(0, 8)):
        at = rng.randint(0, len(data))
        length = rng.choice((1, 1, 2, 4, rng.randint(0, max(1, len(data)))))
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = rng.choice(INTERESTING)
            case _:
                data[at : at + 4] = rng.randbytes(4)
    return bytes(data)


# ---------------------------------------------------------------- media types and uploads


def check_headers(rng: random.Random, _directory: Path) -> None:
    """Check mutated headers, as the door gets them: text of single bytes."""
    content_type, accept = (
        rng.choice((None, mutated(rng.choice(HEADERS), rng).decode("latin-1"))) for _ in range(2)
    )
    check_media_type(
        content_type,
        accept,
        has_body=rng.random() < 0.5,
        strictness=rng.choice(list(Strictness)),
        kinds=frozenset(rng.sample(list(Media), rng.randint(1, len(Media)))),
    )


async def receive(rng: random.Random, directory: Path) -> None:
    """Receive a mutated multipart body in pieces of any length."""
    body = mutated(rng.choice(BODIES), rng)
    header = rng.choice(HEADERS[-2:])
    header = mutated(header, rng) if rng.random() < 0.3 else header
    await receive_body(body, header, rng, directory)


async def receive_body(body: bytes, header: bytes, rng: random.Random, directory: Path) -> bytes:
    """Return the file that a body holds, received in pieces under a content type."""

    async def pieces() -> AsyncIterator[bytes]:
        at = 0
        while at < len(body):
            length = rng.randint(1, len(body))
            yield body[at : at + length]
            at += length

    receiving = received(
        pieces(),
        header.decode("latin-1"),
        files=UserFiles(directory, MAX_UPLOAD_BYTES, 2 * MAX_UPLOAD_BYTES),
        user_id="admin",
        chunk_seconds=SLOW_SECONDS,
    )
    async with receiving as upload:
        upload.incoming.stream.flush()
        size_bytes = upload.incoming.path.stat().st_size
        assert upload.incoming.stream_bytes == size_bytes <= MAX_UPLOAD_BYTES
        return upload.incoming.path.read_bytes()


@contextmanager
def upload_trial(_directory: Path) -> Iterator[Trial]:
    """Yield a trial of uploads; all run in one event loop."""
    with asyncio.Runner() as runner:
        yield lambda rng, inside: runner.run(receive(rng, inside))


# ---------------------------------------------------------------- packages


@dataclass(frozen=True, slots=True)
class Seeds:
    """The parts of a good package."""

    archive: bytes
    tar: bytes
    manifest: Manifest

    @classmethod
    def made(cls, directory: Path) -> Seeds:
        """Pack a small tree."""
        tree = directory / "tree"
        (tree / "inner").mkdir(parents=True)
        (tree / "one.py").write_text("one = 1\n")
        (tree / "inner" / "two.py").write_text("two = 2\n" * 40)
        packed = pack(tree, "conclave")
        manifest = Manifest(
            format=1,
            name="lnh_cluster",
            version="1.0.4",
            build=17,
            architecture="x86_64",
            release="1",
            requires=Requirements(appliance="7.8.5", firmware="7.8.4"),
            file_count=packed.file_count,
            unpacked_bytes=packed.unpacked_bytes,
            payload_bytes=1,
            payload_sha256="0" * 64,
            payload_salt=SALT.hex(),
        )
        return cls(packed.archive, gzip.decompress(packed.archive), manifest)


def odd_tar(rng: random.Random) -> tuple[bytes, int, int]:
    """Return a tar of entries that no builder makes, with its number of files and bytes."""
    target, total = io.BytesIO(), 0
    number = rng.randint(1, 4)
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for _ in range(number):
            entry = tarfile.TarInfo(rng.choice(NAMES))
            entry.type = rng.choice((tarfile.REGTYPE,) * 6 + TYPES)
            entry.linkname = rng.choice(NAMES)
            entry.size = rng.randint(0, 9) if entry.isreg() else 0
            if rng.random() < 0.2:
                entry.pax_headers = {rng.choice(("path", "size", "mtime")): rng.choice(VALUES)}
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
            total += entry.size
    return target.getvalue(), number, max(1, total)


def package(seeds: Seeds, rng: random.Random) -> bytes:
    """Return a package with its damage at one depth: file, manifest, archive, tar or its files."""
    depth = rng.randrange(5)
    archive, counts = seeds.archive, (seeds.manifest.file_count, seeds.manifest.unpacked_bytes)
    if depth == 2:
        archive = mutated(archive, rng)
    elif depth == 3:
        archive = gzip.compress(mutated(seeds.tar, rng), compresslevel=1)
    elif depth == 4:
        tar, *odd = odd_tar(rng)
        archive, counts = gzip.compress(tar, compresslevel=1), (odd[0], odd[1])
    whole = assembled(seeds, archive, counts, rng if depth == 1 else None)
    return mutated(whole, rng) if depth == 0 else whole


def assembled(
    seeds: Seeds, archive: bytes, counts: tuple[int, int], damage: random.Random | None = None
) -> bytes:
    """Return a signed package of an archive of so many files and bytes, its manifest damaged."""
    payload = b"".join(sealed_chunks([archive], CODE, SALT))
    manifest = msgspec.structs.replace(
        seeds.manifest,
        file_count=counts[0],
        unpacked_bytes=counts[1],
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )
    encoded = msgspec.json.encode(manifest)
    return signed_head(mutated(encoded, damage) if damage else encoded, KEY) + payload


def read_package(content: bytes, directory: Path) -> None:
    """Do what an installation does with a file, into a fresh directory below `directory`."""
    stream = io.BytesIO(content)
    signed = read_signed(stream, [KEY.public_key()])
    check_payload(stream, signed)
    check_code(stream, signed, CODE)
    stream.seek(signed.payload_offset)
    reader = PayloadReader(stream, signed, CODE)
    with tempfile.TemporaryDirectory(dir=directory) as inside:
        try:
            unpack(io.BufferedReader(reader), signed.manifest, Path(inside))
            reader.finish()
        finally:
            strays = [each for each in directory.iterdir() if each != Path(inside)]
            assert not strays, f"outside the directory: {strays}"


@contextmanager
def package_trial(directory: Path) -> Iterator[Trial]:
    """Yield a trial of packages, all made of one good one."""
    with tempfile.TemporaryDirectory(dir=directory) as workplace:
        seeds = Seeds.made(Path(workplace))
    yield lambda rng, inside: read_package(package(seeds, rng), inside)


# ---------------------------------------------------------------- the run

TARGETS: Final[dict[str, Callable[[Path], AbstractContextManager[Trial]]]] = {
    "media-types": lambda _directory: nullcontext(check_headers),
    "uploads": upload_trial,
    "packages": package_trial,
    "command-lines": lambda _directory: nullcontext(LineTrial()),
}


def fuzz(target: str, *, seed: int, seconds: float, inputs: int | None = None) -> Tally:
    """Try inputs until the time is over, or so many were tried."""
    tally = Tally()
    ends_at = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="conclave-fuzz-") as workplace:
        directory = Path(workplace)
        with TARGETS[target](directory) as trial:
            while time.monotonic() < ends_at and tally.inputs != inputs:
                # Of the seed and its number, so that one case can be tried again alone.
                _try(trial, random.Random(f"{seed}/{tally.inputs}"), directory, tally)
    return tally


def _try(trial: Trial, rng: random.Random, inside: Path, tally: Tally) -> None:
    began = time.process_time()
    try:
        trial(rng, inside)
        end = "taken"
    except ConclaveError as refusal:
        end = refusal.fault.rest_id
    except Exception as crash:  # noqa: BLE001 - whatever else it is, it is a finding
        end = "crash"
        tally.findings.append(f"case {tally.inputs}: {type(crash).__name__}: {crash}")
    if time.process_time() - began > SLOW_SECONDS:
        tally.findings.append(f"case {tally.inputs}: slower than {SLOW_SECONDS:g} s")
    tally.inputs += 1
    tally.ends[end] += 1
