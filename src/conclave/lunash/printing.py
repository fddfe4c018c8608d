"""What LunaSH prints around a command's own output; pure functions.

The shapes are those of the product that is modelled, so that programs that read them go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conclave import __version__
from conclave.errors import ConclaveError

SUCCEEDED: Final = "Command Result : 0 (Success)"
FAILED: Final = "Command Result : 65535 (Luna Shell execution)"
PROCEEDING: Final = "Proceeding..."
PASSWORD_RULES: Final = (
    "A valid password should be a mix of upper and lower case letters, digits, and other",
    "characters.  You can use an 8 character long password with characters from at least 3 of",
    "these 4 classes.",
)
_STARS: Final = "*" * 78


def banner(last_login: str) -> list[str]:
    """Return the greeting of an interactive session."""
    product = f"Luna Network HSM Command Line Shell, as Conclave v{__version__} speaks it."
    return [*([f"Last login: {last_login}", ""] if last_login else []), product, ""]


def prompt(host_name: str) -> str:
    """Return the prompt of an interactive session."""
    return f"[{host_name}] lunash:>"


def change_banner(user_id: str) -> list[str]:
    """Return what a user reads who must change the first password."""
    text = (
        "",
        "For security purposes, you must change your password.",
        "",
        "Please ensure you store your new password in a secure location.",
        "",
        "DO NOT LOSE IT!",
        "",
    )
    box = [_STARS, *(f"**{line:^74}**" for line in text), _STARS]
    return [*box, "", f"Changing password for user {user_id}.", "", *PASSWORD_RULES, ""]


def failed(words: str, error: ConclaveError) -> list[str]:
    """Return the refusal of a command that was understood."""
    fault = error.fault
    code = f"({fault.luna_code:X} : {fault.luna_name})"
    return [
        "",
        "",
        f"Error:  '{words}' failed. {code}",
        "",
        f"Error:  {error.message}",
        "",
        "",
        FAILED,
    ]


def misunderstood(error: ConclaveError) -> list[str]:
    """Return the refusal of a line that is no command."""
    return ["", f"Error:  {error.message}", "", FAILED]


def aborted(words: str) -> list[str]:
    """Return what is printed when the user does not proceed."""
    return ["", f"'{words}' aborted by the user.", "", FAILED]


def confirmation(text: str) -> str:
    """Return the question before something is destroyed or changed for good."""
    return f"{text}\n" if text.endswith("quit now.") else text


def succeeded(lines: Sequence[str]) -> list[str]:
    """Return a command's output with its trailer."""
    return ["", *lines, "", SUCCEEDED]
