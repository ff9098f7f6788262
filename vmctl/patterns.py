"""Patterns of hosts, as Ansible reads them: names, groups, wildcards, ranges, and ``!`` and ``&`` between them.

A range is that of Ansible's inventories: ``web[1:3]``, ``web[01:10]``, ``web-[a:c]``, ``web[0:8:2]``, ends included.
After the name of a group, brackets choose among its members, as in Ansible's patterns: ``web[0]``, ``web[-1]``.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
import string
from collections.abc import Iterable, Mapping, Sequence

RANGE = re.compile(r"\[([^\[\]]*:[^\[\]]*)\]")
SUBSCRIPT = re.compile(r"(?P<head>.+)\[(?:(?P<one>-?[0-9]{1,6})|(?P<first>[0-9]{1,6}):(?P<last>[0-9]{0,6}))\]")
SEPARATOR = re.compile(r":(?![^\[]*\])")
LETTERS = string.ascii_letters
LONGEST_NUMBER = 9
MOST = 10_000
EVERYTHING = ("all", "*")


class BadPattern(ValueError):
    """A pattern means nothing; the message says why."""


def split(text: str) -> list[str]:
    """The parts of a pattern: at commas, else at colons outside of brackets."""
    parts = text.split(",") if "," in text else SEPARATOR.split(text)
    return [part.strip() for part in parts if part.strip()]


def select(parts: Iterable[str], names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What parts mean together: first the plain ones, then what is also in the ``&`` ones, without the ``!`` ones.

    Args:
        parts: as of ``split``; without a plain one, all are meant.
        names: hosts (each means itself) and groups, and what they mean.

    Raises:
        BadPattern: a part matches nothing, or is not a pattern.
    """
    everyone = hosts(names)
    several = list(parts)
    plain = [part for part in several if part[0] not in "!&"]
    chosen = set().union(*(meant(part, names) for part in plain)) if plain else set(everyone)
    for part in several:
        if part[0] == "&":
            chosen &= set(meant(part[1:], names))
    for part in several:
        if part[0] == "!":
            chosen -= set(meant(part[1:], names))
    return tuple(name for name in everyone if name in chosen)


def hosts(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Everything that any name means, each once."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(names.values())))


def meant(part: str, names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What one part without ``!`` or ``&`` means.

    Raises:
        BadPattern: nothing, or it is not a pattern.
    """
    if part in names:
        return tuple(names[part])
    if part in EVERYTHING:
        return hosts(names)
    if part.startswith("~"):
        return _matching(part, _regular(part[1:]), names)
    chosen = SUBSCRIPT.fullmatch(part)
    if chosen and chosen["head"] in names and len(names[chosen["head"]]) > 1:
        return _chosen(part, chosen, names[chosen["head"]])
    if RANGE.search(part):
        return tuple(dict.fromkeys(name for one in expand(part) for name in _of_range(one, part, names)))
    return _matching(part, re.compile(fnmatch.translate(part)), names)


def _of_range(one: str, part: str, names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    try:
        return meant(one, names)
    except BadPattern as error:
        raise BadPattern(f"nothing is called '{one}', of '{part}'") from error


def _matching(part: str, pattern: re.Pattern[str], names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(one for name, several in names.items() if pattern.match(name) for one in several))
    if not found:
        raise BadPattern(f"nothing matches '{part}'")
    return found


def _regular(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"invalid regular expression '~{text}': {error}") from error


def _chosen(part: str, found: re.Match[str], members: Sequence[str]) -> tuple[str, ...]:
    if found["one"] is not None:
        number = int(found["one"])
        if not -len(members) <= number < len(members):
            raise BadPattern(f"'{found['head']}' has {len(members)} members, so there is no '{part}'")
        return (members[number],)
    last = int(found["last"]) if found["last"] else len(members) - 1
    chosen = tuple(members[int(found["first"]) : last + 1])
    if not chosen or last >= len(members):
        raise BadPattern(f"'{found['head']}' has {len(members)} members, so there is no '{part}'")
    return chosen


def expand(text: str) -> list[str]:
    """The names that a text with ranges stands for, in order.

    Raises:
        BadPattern: a range is wrong, or there are too many names.
    """
    pieces = RANGE.split(text)
    choices = [[piece] if number % 2 == 0 else _range(piece, text) for number, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST:
        raise BadPattern(f"'{text}' stands for more than {MOST} names")
    return ["".join(several) for several in itertools.product(*choices)]


def _range(span: str, text: str) -> list[str]:
    """One range; the rules are those of Ansible's ``expand_hostname_range``."""
    first, last, *steps = span.split(":")
    first, (step, *more) = first or "0", steps or ["1"]
    right = not more and step.isdecimal() and step.isascii() and int(step[:LONGEST_NUMBER]) > 0
    if right and first in LETTERS and last and last in LETTERS and len(first) == len(last) == 1:
        found = list(LETTERS[LETTERS.index(first) : LETTERS.index(last) + 1 : int(step[:LONGEST_NUMBER])])
    elif right and all(end.isascii() and end.isdecimal() and len(end) <= LONGEST_NUMBER for end in (first, last)):
        found = _numbers(first, last, int(step[:LONGEST_NUMBER]))
    else:
        found = []
    if not found:
        raise BadPattern(f"invalid range '[{span}]' in '{text}'; write [1:3], [01:10] or [a:c]")
    return found


def _numbers(first: str, last: str, step: int) -> list[str]:
    width = len(first) if first[0] == "0" and len(first) > 1 else 0
    if width and len(last) != width:
        return []
    numbers = range(int(first), int(last) + 1, step)
    return [str(number).zfill(width) for number in numbers[: MOST + 1]]
