"""What may follow what was typed so far; a pure function of line and commands."""

from __future__ import annotations

from conclave.errors import BadInput
from conclave.lunash.grammar import HELP_WORDS, Node, find_option, match_words
from conclave.operations.commands import Command, Kind, Option
from conclave.shell_words import Word, split_words


def completions(typed: str, root: Node) -> tuple[str, list[str]]:
    """Return the unfinished last word and all that it may become."""
    try:
        words = split_words(typed)
    except BadInput:
        return "", []
    begun = words.pop() if words and not typed[-1:].isspace() else Word("")
    if begun.quoted:
        return "", []
    node, rest = _walk(words, root)
    if node is None:
        return "", []
    candidates = _options(node.command, rest, begun) if node.command else []
    if not rest:
        candidates = [child.words[-1] for child in node.children.values()] + candidates
    lower = begun.text.lower()
    return begun.text, [each for each in candidates if each.lower().startswith(lower)]


def _walk(words: list[Word], root: Node) -> tuple[Node | None, list[Word]]:
    if words and words[0].text.lower() in HELP_WORDS:
        words = words[1:]
    node = root
    for place, word in enumerate(words):
        found = match_words(node, word.text.lower()) if not word.quoted else []
        if len(found) != 1:
            return (node, words[place:]) if node.command else (None, [])
        node = found[0]
    return node, []


def _options(command: Command, given: list[Word], begun: Word) -> list[str]:
    used: set[str] = set()
    awaiting: Option | None = None
    for word in given:
        if awaiting is not None:
            awaiting = None
            continue
        if word.text.startswith("-") and not word.quoted:
            try:
                option = find_option(command, word)
            except BadInput:
                continue
            used.add(option.name)
            awaiting = None if option.kind is Kind.FLAG else option
    if awaiting is not None:
        return list(awaiting.choices)
    places = [option for option in command.options if option.positional]
    choices = [choice for option in places for choice in option.choices]
    names = [f"-{o.name}" for o in command.all_options if o.name not in used and not o.positional]
    return names if begun.text.startswith("-") or not choices else choices + names
