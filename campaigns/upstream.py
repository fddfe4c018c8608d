"""python-pkcs11's own tests, taken from its published source while the campaign runs.

Nothing of theirs is kept here but names: which tests a keyring fails on purpose, and why.  They
make RSA keys of 1024 bits, which a keyring refuses; the copy that runs makes them twice as long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.support.token import Token

PACKAGE: Final = "python-pkcs11"
NAME: Final = f"{PACKAGE} {version(PACKAGE)}, its own tests"
NEEDED: Final = "parameterized"
"""What the tests import beyond the package."""
FETCH_SECONDS: Final = 300.0
PATIENCE_SECONDS: Final = 300.0
MOST_SKIPPED: Final = 45
EXPECTED: Final[Mapping[str, str]] = {
    "DHTests.test_derive_key": "a group of Diffie-Hellman that is none of the published ones",
    "ECCTests.test_derive_key": "the curve P-192",
    "MLKEMTests.test_encapsulate_decapsulate_1_AES_128": "a shared secret cut to 128 bits",
    "MLKEMTests.test_generate_ml_kem_512": "ML-KEM-512",
    "SessionTests.test_seed_random": "C_SeedRandom, which nothing here needs",
    "X509Tests.test_verify_certificate_rsa": "a certificate with an RSA key of 1024 bits",
}
"""Tests that a keyring fails by decision, and what they ask for."""
_LONGER: Final = (
    ("KeyType.RSA, 1024", "KeyType.RSA, 2048"),
    ("assertEqual(1024, self.", "assertEqual(2048, self."),
    ("PKCS1v15())), 128)", "PKCS1v15())), 256)"),
)
_CLEAR: Final = """\
import os, pkcs11
token = pkcs11.lib(os.environ["PKCS11_MODULE"]).get_token(
    token_label=os.environ["PKCS11_TOKEN_LABEL"])
with token.open(rw=True, user_pin=os.environ["PKCS11_TOKEN_PIN"]) as session:
    for each in list(session.get_objects()):
        each.destroy()
"""


def fetch(directory: Path) -> Path:
    """Take the tests from the package's source; return where they run."""
    packed, place = directory / "packed", directory / "upstream"
    wanted = f"{PACKAGE}=={version(PACKAGE)}"
    _pip("download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(packed), wanted)
    _pip("install", "--no-deps", "--target", str(place), NEEDED)
    (source,) = packed.glob("*.tar.gz")
    (place / "tests").mkdir()
    with tarfile.open(source) as archive:
        for member in archive:
            _, *inside = Path(member.name).parts
            if inside[:-1] == ["tests"] and (file := archive.extractfile(member)) is not None:
                (place / "tests" / inside[-1]).write_text(_with_longer_keys(file.read().decode()))
    # This repository is not on the path there: its tests have the same package's name.
    shutil.copy(Path(__file__).with_name("upstream_plugin.py"), place / "upstream_plugin.py")
    return place


def _with_longer_keys(text: str) -> str:
    for short, longer in _LONGER:
        text = text.replace(short, longer)
    return text


def _pip(*arguments: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=FETCH_SECONDS,
    )
    assert outcome.returncode == 0, outcome.stderr


def suite(place: Path) -> Callable[[Token], None]:
    """Return the suite: it clears a keyring, runs all tests, and knows which must fail."""

    def run(token: Token) -> None:
        environment = {
            **token.environment,
            "PKCS11_MODULE": token.module,
            "PKCS11_TOKEN_LABEL": token.label,
            "PKCS11_TOKEN_PIN": token.pin,
            "PKCS11_TOKEN_SO_PIN": token.pin,
            "PYTHONPATH": str(place),
        }
        _python(environment, place, "-c", _CLEAR)
        report = place / "report.xml"
        report.unlink(missing_ok=True)
        said = _python(
            environment,
            place,
            *("-m", "pytest", "-q", "-p", "upstream_plugin", "-p", "no:randomly"),
            *("-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}", "tests"),
            check=False,
        )
        assert report.exists(), said
        _judge(report, said)

    return run


def _python(
    environment: Mapping[str, str], place: Path, *arguments: str, check: bool = True
) -> str:
    outcome = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, **environment},
        timeout=PATIENCE_SECONDS,
    )
    said = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0 or not check, said
    return said


def _judge(report: Path, said: str) -> None:
    """Fail unless exactly the expected tests failed, and no more were skipped than ever."""
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - a report of our own
    failed, skipped = set(), 0
    for case in cases:
        name = f"{case.attrib.get('classname', '').rpartition('.')[2]}.{case.attrib['name']}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        skipped += case.find("skipped") is not None
    assert failed == EXPECTED.keys(), f"{sorted(failed ^ EXPECTED.keys())}\n{said}"
    assert skipped <= MOST_SKIPPED, f"{skipped} of {len(cases)} tests were skipped\n{said}"
