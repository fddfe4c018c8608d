"""The language of LunaCM: one table of commands, and pure functions that read a line by it.

Commands and options ignore case, values keep it; only the short names of the table are understood,
no other prefixes.  Help and completion come from the same rows.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

from conclave.client.refusals import misused
from conclave.client.tools.grammar import (
    Command,
    Invocation,
    Option,
    credential,
    option_lines,
    plain_name,
    read_options,
)
from conclave.shell_words import nearest

_ROLE: Final = Option("name", "n", "role", "po (KRSO) or co (KRCO)", required=True)
_SLOT: Final = Option("slot", "s", "number", "the slot to use from now on", required=True)

COMMANDS: Final = (
    Command(("slot", "list"), ("s", "l"), "list the slots: one for each keyring"),
    Command(("slot", "set"), ("s", "s"), "choose the current slot", (_SLOT,)),
    Command(("role", "list"), ("ro", "l"), "list the roles of the current slot"),
    Command(
        ("role", "login"),
        ("ro", "logi"),
        "log a role in to the current slot",
        (_ROLE, *credential("password", "p", "the password")),
    ),
    Command(("role", "logout"), ("ro", "logo"), "log the role of the current slot out"),
    Command(
        ("role", "init"),
        ("ro", "in"),
        "give the KRCO its password; the KRSO must be logged in",
        (_ROLE, *credential("password", "p", "the new password")),
    ),
    Command(
        ("role", "changepw"),
        ("ro", "cpw"),
        "change the password of the role that is logged in",
        (
            _ROLE,
            *credential("oldpw", "old", "the old password"),
            *credential("newpw", "new", "the new password"),
            Option("prompt", "p", None, "ask for both passwords"),
            Option("force", "f", None, "do not ask whether to proceed"),
        ),
    ),
    Command(("role", "show"), ("ro", "sh"), "show the state of a role", (_ROLE,)),
    Command(("partition", "contents"), ("par", "con"), "list the objects of the current slot"),
    Command(("partition", "showinfo"), ("par", "si"), "show the keyring of the current slot"),
    Command(
        ("partition", "showmechanism"),
        ("par", "smech"),
        "list the mechanisms that the cluster's policy leaves, or show one",
        (Option("mechanism", "m", "name", "this one only, as CKM_AES_GCM or its number"),),
    ),
    Command(
        ("partition", "init"),
        ("par", "init"),
        "destroy all objects and the KRCO's password, and give the keyring a label",
        (
            Option("label", "l", "label", "the new label", required=True),
            *credential("password", "p", "the KRSO's password"),
            Option("force", "f", None, "do not ask whether to proceed"),
        ),
    ),
    Command(
        ("partition", "login"),
        ("par", "logi"),
        "the former name of role login -name co",
        credential("password", "p", "the KRCO's password"),
    ),
    Command(("partition", "logout"), ("par", "logo"), "the former name of role logout"),
    Command(
        ("partition", "clear"),
        ("par", "clear"),
        "destroy all objects of the current slot that the role sees",
        (Option("force", "f", None, "do not ask whether to proceed"),),
    ),
    Command(("help",), ("?",), "list the commands, or explain one"),
    Command(("exit",), ("e",), "leave"),
)

_POLICY: Final = (
    "a keyring has no policies of its own; partition showmechanism shows what the cluster's leaves"
)
_APPLIANCE: Final = "administrators do that on an appliance, with LunaSH or REST"
NOT_FOR_KEYRINGS: Final = {
    "hagroup": "a cluster spreads the load over its members and survives their loss by itself",
    "clientconfig": "LNHClientRegistration.sh registers a client, vtl addServer and deleteServer"
    " edit its entries, and vtl listServers and verify show what it is registered with",
    "hsm": _APPLIANCE,
    "audit": _APPLIANCE,
    "ped": "roles of keyrings have passwords, not PED keys",
    "stc": "every connection to a cluster is TLS 1.3 with certificates of both sides",
    "appid": "a login belongs to the process, and no application id shares it",
    "role createchallenge": "roles of keyrings have passwords, not challenges",
    "role deactivate": "a keyring keeps no login: role logout ends the one of this process",
    "role resetpw": "a KRSO gives the KRCO a password with role init; administrators unlock"
    " keyrings with keyring unlock",
    "role setdomain": "a cluster replicates its keyrings by itself",
    "partition clone": "a keyring is replicated to every member, and its keys do not leave it",
    "partition archive": "administrators back all keyrings up: cluster backup run",
    "partition create": f"{_APPLIANCE}: keyring create",
    "partition delete": f"{_APPLIANCE}: keyring delete",
    "partition changelabel": "partition init gives a label, and clears the keyring",
    "partition showpolicies": _POLICY,
    "partition changepolicy": _POLICY,
}
"""Commands of the reference that keyrings have no use for, and what they have instead."""


def parse(words: Sequence[str]) -> Invocation:
    """Return what the words ask for; raise BadInput naming the word that is not understood."""
    first = words[0].lower()
    family = [row for row in COMMANDS if first in (row.words[0], row.short[0])]
    name = " ".join([family[0].words[0] if family else first, *words[1:2]]).lower()
    for without in (first, name):
        if without in NOT_FOR_KEYRINGS:
            raise misused(f"{without} is not for keyrings: {NOT_FOR_KEYRINGS[without]}.")
    if not family:
        hint = _hint(words[0], [row.words[0] for row in COMMANDS])
        raise misused(f'Command "{words[0]}" not found.{hint}')
    if len(family[0].words) == 1:
        return Invocation(family[0], rest=tuple(words[1:]))
    if len(words) == 1:
        names = ", ".join(row.words[1] for row in family)
        raise misused(f'Command "{family[0].words[0]}" needs a subcommand: {names}.')
    second = words[1].lower()
    for row in family:
        if second in (row.words[1], row.short[1]):
            return Invocation(row, read_options(row, words[2:]))
    hint = _hint(words[1], [row.words[1] for row in family])
    raise misused(f'Subcommand "{words[1]}" not found.{hint}')


def _hint(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    return f' Did you mean "{near[0]}"?' if near else ""


def holds_secret(line: str) -> bool:
    """Tell whether a line may hold a password, so that no history keeps it."""
    secret = {o.name.lower() for c in COMMANDS for o in c.options if o.secret}
    secret |= {o.short for c in COMMANDS for o in c.options if o.secret}
    words = line.replace('"', " ").split()
    names = (plain_name(word.partition("=")[0]) for word in words if word.startswith("-"))
    return any(name in secret for name in names)


def completions(words: Sequence[str], begun: str) -> list[str]:
    """Return what may follow `words`, given the beginning of the next one."""
    begun = begun.lower()
    if not words:
        candidates = dict.fromkeys(row.words[0] for row in COMMANDS)
        return [name for name in candidates if name.startswith(begun)]
    first = words[0].lower()
    family = [row for row in COMMANDS if first in (row.words[0], row.short[0])]
    if len(words) == 1:
        second = [row.words[1] for row in family if len(row.words) == 2]
        return [name for name in second if name.startswith(begun)]
    used = {word.lower() for word in words[2:]}
    return [
        f"-{option.name}"
        for row in family
        if len(row.words) == 2 and words[1].lower() in (row.words[1], row.short[1])
        for option in row.options
        if f"-{option.name}".startswith(begun) and f"-{option.name}" not in used
    ]


def help_text(words: Sequence[str]) -> str:
    """Return help on the commands whose name begins with `words`; raise BadInput for none."""
    wanted = tuple(word.lower() for word in words)
    rows = [row for row in COMMANDS if _begins_with(row, wanted)]
    if not rows:
        raise misused(f'Command "{" ".join(words)}" not found.')
    lines = [f"    {row.name:<26}{' '.join(row.short):<12}{row.summary}" for row in rows]
    if len(rows) == 1:
        lines += option_lines(rows[0])
    return "\n".join(lines)


def _begins_with(row: Command, wanted: tuple[str, ...]) -> bool:
    names = tuple(zip(row.words, row.short, strict=True))[: len(wanted)]
    return len(names) == len(wanted) and all(map(operator.contains, names, wanted))
