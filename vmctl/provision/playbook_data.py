"""What YAML files of playbooks say, as data, and what their expressions may come to, as far as that can be told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

UNKNOWN = "\0"
"""Stands in a text for what cannot be told."""
MOST = 256
"""How many texts an expression may come to; with more, it is as good as unknown."""
EXPRESSION = re.compile(r"\{\{(.*?)\}\}|\{%.*?%\}", re.DOTALL)
NAME = re.compile(r"(?<![\w.'\"])([A-Za-z_]\w*)((?:\.\w+|\[\s*['\"]?\w+['\"]?\s*\])*)")
FILTER = re.compile(r"\|\s*[\w.]+")
LITERAL = re.compile(r"(?<!\[)(?:'([^']*)'|\"([^\"]*)\")")
PAIR = re.compile(r"(?:^|\s)(\w+)=(?:\"([^\"]*)\"|'([^']*)'|(\S*))")
LOOPS = ("loop", "with_")
OF_ENTRIES = frozenset({"key", "value"})
"""What is asked of the entries of a dictionary."""


def parsed(text: str) -> list[Any] | None:
    """The documents of a text, every scalar as it is written; None = it is no YAML."""
    import yaml

    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return list(yaml.load_all(text, loader))
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def mappings(data: Any) -> Iterator[Mapping[Any, Any]]:
    """Every mapping in it, each once, the outer ones first."""
    waiting, seen = [data], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Mapping | list | tuple) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Mapping):
            yield one
        waiting += reversed(list(one.values()) if isinstance(one, Mapping) else list(one))


def scalars(data: Any, key: str = "") -> Iterator[str]:
    """Every text in it; with a key, those that stand under that key, or all where none does."""
    if key and (under := [one[key] for one in mappings(data) if key in one]):
        data = under
    if not isinstance(data, Mapping | list | tuple):
        yield from [] if data is None else [str(data)]
        return
    seen: set[int] = set()
    waiting = [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping | list | tuple):
            if id(one) not in seen:
                seen.add(id(one))
                waiting += reversed(list(one.values()) if isinstance(one, Mapping) else list(one))
        elif one is not None:
            yield str(one)


def pairs(text: str) -> dict[str, str]:
    """The arguments of a module in their short form (``src=a dest=b``)."""
    return {name: double or single or plain for name, double, single, plain in PAIR.findall(text)}


def loop_of(task: Mapping[Any, Any]) -> list[Any]:
    """What a task is repeated over."""
    return [value for key, value in task.items() if str(key).startswith(LOOPS)]


class Variables(Struct):
    """All that is given a name somewhere in a playbook, whichever of it is in force."""

    named: dict[str, list[Any]] = field(default_factory=dict)
    loops: list[Any] = field(default_factory=list)
    values: dict[tuple[int, str, str], list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Sequence[Any]) -> Variables:
        """Those of some documents."""
        found = cls()
        for one in mappings(documents):
            found.loops += loop_of(one)
            for key, value in one.items():
                found.named.setdefault(str(key), []).append(value)
                if isinstance(value, str) and "=" in value:
                    for name, text in pairs(value).items():
                        found.named.setdefault(name, []).append(text)
        return found

    def texts(self, text: str, task: Mapping[Any, Any], key: str = "") -> list[str]:
        """What a text may come to in a task, with ``UNKNOWN`` for the parts that cannot be told.

        With a key: what stands under it in the data that the text comes to.
        """
        if "{{" not in text and "{%" not in text:
            return [text]
        place = (id(task), text, key)
        if place not in self.values:
            self.values[place] = [UNKNOWN]  # should it lead back to itself
            self.values[place] = self._combined(text, task, key)
        return self.values[place]

    def _combined(self, text: str, task: Mapping[Any, Any], key: str) -> list[str]:
        choices: list[list[str]] = []
        end = 0
        for found in EXPRESSION.finditer(text):
            choices += [[text[end : found.start()]], self._values(found[1], task, key)]
            end = found.end()
        choices.append([text[end:]])
        combined = ["".join(parts) for parts in itertools.islice(itertools.product(*choices), MOST + 1)]
        return combined if len(combined) <= MOST else [*combined, UNKNOWN]

    def _values(self, expression: str | None, task: Mapping[Any, Any], key: str) -> list[str]:
        if expression is None:
            return [UNKNOWN]
        bare = FILTER.sub(" ", LITERAL.sub(" ", expression))
        names = NAME.findall(bare)
        found = [one or other for one, other in LITERAL.findall(expression)]
        for name, way in names:
            steps = [step for step in re.findall(r"\w+", way) if not step.isdigit() and step not in OF_ENTRIES]
            for value in self._given(name, task):
                wanted = steps[-1] if steps else key
                for text in itertools.islice(scalars(value, wanted), MOST):
                    found += self.texts(text, task, wanted)
        is_exact = len(names) == 1 and bare.strip() == "".join(names[0]) == expression.strip() and bool(found)
        found = list(dict.fromkeys(found))
        return found if is_exact and len(found) <= MOST else [*found[:MOST], UNKNOWN]

    def _given(self, name: str, task: Mapping[Any, Any]) -> list[Any]:
        """The values of a name."""
        control = task.get("loop_control")
        if name == (control.get("loop_var") if isinstance(control, Mapping) else None) or name == "item":
            return loop_of(task) or self.loops
        return self.named.get(name, [])
