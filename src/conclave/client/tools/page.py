"""Print the tools' commands as the documentation page: `python -m conclave.client.tools.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

from conclave.client import vtl
from conclave.client.cmu import grammar as cmu
from conclave.client.lunacm import grammar as lunacm
from conclave.client.multitoken import main as multitoken
from conclave.client.multitoken.modes import MODES
from conclave.client.tools.grammar import Command, Option, option_usage
from conclave.client.tools.statuses import STATUSES

_HEAD: Final = """# LunaCM, cmu, vtl, multitoken: the commands

Made from the tables that the tools read: `python -m conclave.client.tools.page > docs/tools.md`.
How they are used, with examples, stands in [client.md](client.md).

## What the four have in common

An option begins with one dash or two, ignores case, and has its value behind `=` or as the next
word. The names of options and commands are those below and their short forms; an unknown one is
refused with the nearest. A password option has three forms and none is needed: without one the
password is asked for at the terminal, and without a terminal it is the next line of standard input.

| form | where the password comes from |
|---|---|
| `-passwordfd=<descriptor>` | a line from that descriptor |
| `-passwordenv=<variable>` | the environment |
| `-password=<password>` | the command line, with a warning: others see the list of processes |

`-h`, `-help` or `--help` as the last word tells of the command before it.

Before the command of LunaCM, cmu and vtl may stand:

| option | effect |
|---|---|
| `-q` | no banner |
| `-json` | one line of JSON for each command; behind a command, for that one |
| `-c "<command>"` | a command in quotes; may be given several times |
| `-f <file>` | commands as the lines of a file; `#` begins a comment |

Without any of these, commands follow as words, parted by `--`; without words they are read as lines
of standard input, where the answers to questions stand below their command. A batch shares one
login for each slot and ends at the first command that fails, with its status:

| status | name in JSON | meaning | run it again as it is? |
|---|---|---|---|
"""
_JSON: Final = """
A line of JSON is ASCII. It has `command`, `status` and `statusName`; `result` when the command was
carried out (and `complaints` if something has to be told); `error` when it was not, with `name` and
`value` of the return value, `message`, and `next`, which says what to do.
"""


def markdown() -> str:
    """Return the page."""
    statuses = [
        f"| {int(row.status)} | `{row.status.name}` | {row.meaning} | {row.again} |"
        for row in STATUSES
    ]
    parts = [
        _HEAD + "\n".join(statuses) + "\n" + _JSON,
        *_tool("LunaCM", "lunacm", lunacm.COMMANDS),
        "### Commands that keyrings have no use for\n",
        "They are refused with what there is instead:\n",
        "| command | instead |\n|---|---|",
        *(f"| `{name}` | {instead} |" for name, instead in lunacm.NOT_FOR_KEYRINGS.items()),
        "",
        *_tool("cmu", "cmu", cmu.COMMANDS),
        *_tool("vtl", "vtl", vtl.COMMANDS),
        "## multitoken\n",
        *_options(multitoken.COMMAND.options),
        "",
        "| mode | does, with key sizes |\n|---|---|",
        *(f"| `{name}` | {mode.summary} |" for name, mode in MODES.items()),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _tool(title: str, program: str, commands: Sequence[Command]) -> Iterator[str]:
    yield f"## {title}\n"
    for command in commands:
        short = " ".join(command.short)
        yield f"### {program} {command.name}\n"
        yield f"{_sentence(command.summary)} Short: `{short}`.\n"
        if command.options:
            yield from _options(command.options)
            yield ""


def _options(options: Sequence[Option]) -> Iterator[str]:
    yield "| option | short | |\n|---|---|---|"
    for option in options:
        short = "" if option.short == option.name.lower() else f"`-{option.short}`"
        need = "; needed" if option.required else ""
        yield f"| {_code(option_usage(option))} | {short} | {option.summary}{need} |"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


if __name__ == "__main__":
    sys.stdout.write(markdown())
