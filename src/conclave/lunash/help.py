"""Help on LunaSH's commands: what `?`, `help` and `<command> help` print; pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from conclave.lunash.grammar import Node
from conclave.operations.commands import Command, Kind, Option

_COLUMN = 22


def help_lines(node: Node) -> list[str]:
    """Return help on a node: its subcommands, its own command, or both."""
    lines: list[str] = []
    if node.children:
        title = f"Subcommands of '{' '.join(node.words)}':" if node.words else "Commands:"
        lines += ["", title, ""]
        lines += [f"    {child.words[-1]:<{_COLUMN}}{_about(child)}" for child in _sorted(node)]
    if node.command is not None:
        lines += ["", *command_lines(node.command)]
    return [*lines, ""]


def command_lines(command: Command) -> list[str]:
    """Return what a command does, its syntax and its options."""
    lines = [command.summary, "", f"    {synopsis(command)}"]
    if command.all_options:
        lines += ["", "Options:", ""]
        lines += [
            f"    {option_syntax(option):<34}{shortcut(option):<8}{option_summary(option)}"
            for option in command.all_options
        ]
    return lines


def synopsis(command: Command) -> str:
    """Return a command's syntax on one line."""
    parts = [command.words]
    done: set[str] = set()
    for option in command.all_options:
        if option.name not in done:
            either = _either(command, option)
            parts.append(_alternatives(either) if len(either) > 1 else _bracketed(option))
            done.update(each.name for each in either)
    return " ".join(parts)


def option_syntax(option: Option) -> str:
    """Return `-name <value>`."""
    if option.positional:
        return f"<{option.value}>"
    return f"-{option.name}" + ("" if option.kind is Kind.FLAG else f" <{option.value}>")


def shortcut(option: Option) -> str:
    """Return an option's fixed shortcut."""
    return f"-{option.short}" if option.short else ""


def option_summary(option: Option) -> str:
    """Return what an option is, what it may be, and whether it is asked for."""
    notes = []
    if option.choices:
        notes.append(" | ".join(option.choices))
    if option.prompt:
        notes.append("asked for when absent")
    return option.summary + (f" ({'; '.join(notes)})" if notes else "")


def _either(command: Command, option: Option) -> list[Option]:
    """Return an option with those of which one is needed in its place."""
    others = [
        each
        for each in command.all_options
        if each.name in option.unless and option.name in each.unless
    ]
    return [option, *others]


def _alternatives(options: list[Option]) -> str:
    return "{" + " | ".join(option_syntax(option) for option in options) + "}"


def _bracketed(option: Option) -> str:
    needed = option.required and not option.prompt and not option.unless
    return option_syntax(option) if needed else f"[{option_syntax(option)}]"


def _about(node: Node) -> str:
    if node.command is not None and not node.children:
        return node.command.summary
    return ", ".join(_leaves(node))


def _leaves(node: Node) -> Iterator[str]:
    for child in _sorted(node):
        yield child.words[-1]


def _sorted(node: Node) -> list[Node]:
    return sorted(node.children.values(), key=lambda child: child.words[-1].lower())
