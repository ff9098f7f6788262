"""From YAML text to nodes, on the parser's events: positions kept, duplicate keys refused, depth and aliases bounded.

PyYAML's own composer recurses in C and drops nothing, so deep nesting or a bomb of aliases could end the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmctl.spec import SourceLocation
from vmctl.vmfile.faults import Faults, Rejected, shorten
from vmctl.vmfile.nodes import Node, Scalar, Sequence, Source, Table, TableEntry, join
from vmctl.vmfile.scalars import resolve

DEEPEST = 40
MOST_NODES = 200_000
LARGEST_FILE = 8 * 1024**2
QUOTE_EXPRESSION = 'to use an expression, quote it: "{{ … }}"'


def read(path: Path, source: Source, faults: Faults) -> Node | None:
    """The nodes of a file; None for an empty one.

    Raises:
        Rejected: it cannot be read or is not YAML; the fault is recorded.
    """
    start = SourceLocation(file=source.name, line=1, column=1)
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)  # a larger one may have no end
    except OSError as error:
        faults.reject(SourceLocation(file=source.name), "", f"cannot be read: {error.strerror}")
    if len(raw) > LARGEST_FILE:
        faults.reject(start, "", f"larger than {LARGEST_FILE // 1024**2} MiB: not a Vmfile")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start)
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1)
        faults.reject(SourceLocation(file=source.name, line=line + 1, column=column + 1), "", "not UTF-8 text")
    return compose(text, source, faults)


def compose(text: str, source: Source, faults: Faults) -> Node | None:
    """The nodes of a YAML text; None for an empty one.

    Raises:
        Rejected: it is not YAML; the fault is recorded.
    """
    import yaml

    if wrong := yaml.reader.Reader.NON_PRINTABLE.search(text):
        place = _place_after(text[: wrong.start()], source)
        faults.reject(place, "", f"the character U+{ord(wrong[0]):04X} is not allowed in YAML")
    try:
        return _Composer(_parser(text), source, faults).document()
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")  # libyaml counts bytes
        faults.reject(_place_after(before, source), "", f"not YAML: {error.reason}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = SourceLocation(
            file=source.name, line=mark.line + 1 if mark else 1, column=mark.column + 1 if mark else 1
        )
        faults.reject(place, "", f"not YAML: {_problem(error, text, mark)}")


def _place_after(before: str, source: Source) -> SourceLocation:
    """The place of the character that follows a text."""
    return SourceLocation(file=source.name, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _parser(text: str) -> Any:
    import yaml

    if yaml.__with_libyaml__:
        return yaml.CBaseLoader(text)

    class Parser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
        def __init__(self) -> None:
            yaml.reader.Reader.__init__(self, text)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)

    return Parser()


def _problem(error: Any, text: str, mark: Any) -> str:
    problem = error.problem or "syntax error"
    line = "".join(text.split("\n")[mark.line : mark.line + 1]) if mark else ""
    if line[mark.column if mark else 0 :].startswith("\t"):
        return "indented with a tab; YAML wants spaces"
    return ", ".join(part for part in (problem, error.context) if part)


class _Composer:
    """One pass over the events. ``weight`` counts nodes as if every alias were written out."""

    def __init__(self, parser: Any, source: Source, faults: Faults) -> None:
        import yaml

        self.yaml = yaml
        self.parser = parser
        self.source = source
        self.faults = faults
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.open_anchors: set[str] = set()
        self.weight = 0
        self.broken = False

    def document(self) -> Node | None:
        """The only document of the stream."""
        events = self.yaml.events
        self.parser.get_event()  # stream start
        if self.parser.check_event(events.StreamEndEvent):
            return None
        self.parser.get_event()  # document start
        node = self.node("", 0)
        self.parser.get_event()  # document end
        if not self.parser.check_event(events.StreamEndEvent):
            self.reject(self.parser.get_event(), "", "a second YAML document; a Vmfile holds one")
        if self.broken:
            raise Rejected
        return node

    def node(self, path: str, depth: int) -> Node:
        event = self.parser.get_event()
        if isinstance(event, self.yaml.events.AliasEvent):
            return self.alias(event, path)
        if depth > DEEPEST:
            self.reject(event, path, f"nested deeper than {DEEPEST} levels")
        if event.tag is not None and event.tag != "!":
            self.refuse(
                event,
                path,
                f"YAML tags ({shorten(event.tag.replace('tag:yaml.org,2002:', '!!'))}) are not used in a Vmfile",
            )
        before = self.weight
        self.count(event, path, 1)
        self.open_anchors.add(event.anchor)
        node = self.value(event, path, depth)
        self.open_anchors.discard(event.anchor)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.weight - before)
        return node

    def value(self, event: Any, path: str, depth: int) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, self.yaml.events.ScalarEvent):
            value = resolve(event.value) if event.style in (None, "") and event.implicit[0] else event.value
            return Scalar(self.source, line, column, path, value, event.value)
        if isinstance(event, self.yaml.events.SequenceStartEvent):
            return Sequence(self.source, line, column, path, self.items(path, depth))
        return Table(self.source, line, column, path, self.entries(path, depth))

    def items(self, path: str, depth: int) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.parser.check_event(self.yaml.events.SequenceEndEvent):
            items.append(self.node(join(path, len(items)), depth + 1))
        self.parser.get_event()
        return tuple(items)

    def entries(self, path: str, depth: int) -> dict[str, TableEntry]:
        entries: dict[str, TableEntry] = {}
        while not self.parser.check_event(self.yaml.events.MappingEndEvent):
            key = self.node(path, depth + 1)
            name = self.key_name(key)
            below = join(path, name)
            value = self.node(below, depth + 1)
            if name in entries:
                first = entries[name].key.line
                self.refuse_node(key, below, f"duplicate key, first written in line {first}")
            elif isinstance(key, Scalar):
                key = Scalar(key.source, key.line, key.column, below, key.value, key.text)
                entries[name] = TableEntry(key, value)
        self.parser.get_event()
        return entries

    def key_name(self, key: Node) -> str:
        if not isinstance(key, Scalar):
            self.refuse_node(key, key.path, f"a key must be text; {QUOTE_EXPRESSION}")
            return "?"
        if key.text == "<<" and key.value == "<<":
            self.refuse_node(
                key, key.path, "merge keys (<<) are not part of YAML 1.2; shared settings belong to the top level"
            )
        elif key.is_expression:
            self.refuse_node(key, key.path, "keys cannot be expressions; only values can")
        elif key.value is None:
            self.refuse_node(key, key.path, "an empty key")
        return key.text

    def alias(self, event: Any, path: str) -> Node:
        if event.anchor in self.open_anchors:
            self.reject(event, path, f"the alias *{event.anchor} holds itself")
        if event.anchor not in self.anchors:
            self.reject(event, path, f"there is no anchor &{event.anchor} before this alias")
        node, weight = self.anchors[event.anchor]
        self.count(event, path, weight)
        return node

    def count(self, event: Any, path: str, weight: int) -> None:
        self.weight += weight
        if self.weight > MOST_NODES:
            self.reject(event, path, f"more than {MOST_NODES} values, aliases written out")

    def refuse_node(self, node: Node, path: str, message: str) -> None:
        self.broken = True
        self.faults.add(node.place, path, message)

    def refuse(self, event: Any, path: str, message: str) -> None:
        self.broken = True
        self.faults.add(self.place(event), path, message)

    def reject(self, event: Any, path: str, message: str) -> None:
        self.faults.reject(self.place(event), path, message)

    def place(self, event: Any) -> SourceLocation:
        mark = event.start_mark
        return SourceLocation(file=self.source.name, line=mark.line + 1, column=mark.column + 1)
