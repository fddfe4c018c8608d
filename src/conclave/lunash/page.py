"""Print LunaSH's commands as the documentation page: `python -m conclave.lunash.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from conclave.lunash.catalogue import COMMANDS, operations_of
from conclave.lunash.help import option_summary, option_syntax, shortcut, synopsis
from conclave.operations.commands import Command

_HEAD = """# LunaSH: the commands

Made from the declared operations: `python -m conclave.lunash.page > docs/lunash.md`. How the shell
works, how to log in and what it prints stands in [design/lunash.md](design/lunash.md); REST's side
of each operation in [rest.md](rest.md).

Commands and options ignore case and may be abbreviated to any unambiguous beginning. An option in
brackets may be left out; one that is "asked for when absent" is then prompted for. Every list and
show takes `-json`; every command that asks whether to proceed takes `-force`.
"""


def markdown() -> str:
    """Return the page."""
    families = sorted({command.path[0] for command in COMMANDS})
    lines = [_HEAD]
    for family in families:
        lines += [f"## {family}", ""]
        for command in sorted(COMMANDS, key=lambda each: each.words.lower()):
            if command.path[0] == family:
                lines += _section(command)
    return "\n".join(lines).rstrip() + "\n"


def _section(command: Command) -> Iterator[str]:
    yield f"### {command.words}"
    yield ""
    yield command.summary
    yield ""
    yield f"    {synopsis(command)}"
    yield ""
    if command.all_options:
        yield "| option | short | |"
        yield "|---|---|---|"
        for option in command.all_options:
            cells = (_code(option_syntax(option)), _code(shortcut(option)), option_summary(option))
            yield f"| {' | '.join(cells)} |"
        yield ""
    yield _about(command)
    yield ""


def _about(command: Command) -> str:
    called = operations_of(command)
    allowed = set.intersection(*(set(each.roles) for each in called)) if called else set()
    roles = ", ".join(sorted(role.value or "no role" for role in allowed)) or "everybody"
    rest = ", ".join(f"`{each.method} {each.path}`" for each in called if each.method)
    chapter = f" Chapter {command.chapter} of the guide." if command.chapter else ""
    return f"Roles: {roles}. Over REST: {rest or command.only or 'nothing'}.{chapter}"


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if text else ""


if __name__ == "__main__":
    sys.stdout.write(markdown())
