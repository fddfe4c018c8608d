"""Turn a command's options into an operation's path and arguments; pure functions.

A target is a field's place in the arguments, as JSON has it: `authentication[0].password`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

from conclave import faults
from conclave.errors import BadInput
from conclave.operations.commands import PATH, Answers, Command, Kind, Option

_SUPERFLUOUS: Final = re.compile(r".*Object contains unknown field `(-\w+)`")
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def fill(command: Command, answers: Answers) -> dict[str, Any]:
    """Return the arguments that options and the command's fixed fields come to."""
    document: dict[str, Any] = {}
    for target, value in command.fixed.items():
        put(document, target, value)
    for option in command.all_options:
        if option.name in answers and option.target and not option.target.startswith(PATH):
            sent = option.sends if option.kind is Kind.FLAG else answers[option.name]
            put(document, option.target, sent)
    return document


def path_of(command: Command, answers: Answers) -> dict[str, tuple[Option, str]]:
    """Return what options say of the path's placeholders."""
    return {
        option.target.removeprefix(PATH): (option, str(answers[option.name]))
        for option in command.all_options
        if option.name in answers and option.target.startswith(PATH)
    }


def put(document: dict[str, Any], target: str, value: object) -> None:
    """Set a field; what leads to it is made."""
    steps = [name or int(index) for name, index in _STEP.findall(target)]
    place: Any = document
    for step, following in itertools.pairwise(steps):
        made: Any = [] if isinstance(following, int) else {}
        if isinstance(place, list):
            place.extend({} for _ in range(step + 1 - len(place)) if isinstance(step, int))
            place = place[step]
        else:
            place = place.setdefault(step, made)
    if isinstance(place, list):
        place.append(value)
    else:
        place[steps[-1]] = value


def in_the_words_of(command: Command, error: BadInput) -> BadInput:
    """Return a refusal of the arguments that names options where it named fields."""
    message = error.message
    for option in command.all_options:
        # Commands of several calls name their options as the calls name their fields.
        field = option.target or option.name
        if not field.startswith(PATH):
            shown = f"<{option.value}>" if option.positional else f"-{option.name}"
            message = _field(field, message).sub(shown, message)
    superfluous = _SUPERFLUOUS.match(message)
    if superfluous is not None:
        message = f"{superfluous[1]} does not go with the other options of '{command.words}'."
    return BadInput(error.fault, message)


def _field(target: str, message: str) -> re.Pattern[str]:
    """Return what names a field in a refusal; `log`, alone in a sentence, is a word like others."""
    anywhere = not target.isalpha() or not target.islower() or message.startswith("Give ")
    before = r"\b" if anywhere else r"(?:^|(?<=`))"
    return re.compile(rf"(?:\bField |{before}){re.escape(target)}(?![\w.\[])")


def missing(command: Command, option: Option) -> BadInput:
    """Return the refusal of a command without an option that it needs."""
    instead = [each for each in command.all_options if each.name in option.unless]
    shown = " or ".join(_shown(each) for each in (option, *instead))
    return BadInput(faults.COMMAND_LINE, f"'{command.words}' needs {shown}.")


def require_one_each(command: Command, answers: Answers) -> None:
    """Refuse two options that say the same thing in two ways."""
    by_target: dict[str, Option] = {}
    for option in command.all_options:
        if option.name in answers and option.target:
            other = by_target.setdefault(option.target, option)
            if other is not option:
                message = f"'{command.words}' takes -{other.name} or -{option.name}, not both."
                raise BadInput(faults.COMMAND_LINE, message)


def _shown(option: Option) -> str:
    if option.positional:
        return f"<{option.value}>"
    return f"-{option.name}" + (f" <{option.value}>" if option.kind is not Kind.FLAG else "")


def given(answers: Mapping[str, object], names: tuple[str, ...]) -> bool:
    """Tell whether any of some options was given."""
    return any(name in answers for name in names)
