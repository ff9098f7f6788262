r"""The simple settings in a box's own Vagrantfile, read without running Ruby.

A box's Vagrantfile is a program by a stranger, so it is never run. What it sets to a literal, outside of conditions,
is read; every other line is reported, so that nobody wonders why it had no effect.

Its author chooses the text, so every expression here takes time in proportion to a line's length: no two adjacent
repetitions can match the same characters (``\s*+`` gives nothing back), and none is searched for that may scan to the
end from every place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

DEEPEST = 50
"""Blocks in blocks that are looked into."""

Literal = str | int | bool | None

ASSIGNMENT = re.compile(r"(?P<path>\w+(?:\.\w+)+)\s*=(?![=~>])\s*(?P<value>.+)")
FOLDER = re.compile(r"(?P<path>\w+\.vm\.synced_folder)[ (]\s*(?P<args>.+?)\)?")
BLOCK = re.compile(r"(?P<head>.*?)\b(?:do)\s*(?:\|(?P<names>[^|]*)\|)?")
CONFIGURE = re.compile(r"(?:Vagrant\.configure|Vagrant::Config\.run)\s*+(?:\(.*\))?\s*+(?:['\"]\d['\"])?")
PROVIDER = re.compile(r"(?P<outer>\w+)\.vm\.provider[ (]\s*+(?P<name>:\w+|'\w+'|\"\w+\")\s*+\)?\s*+,?")
CONDITION = re.compile(r"(?:if|unless|case|while|until|begin|def|class|module)\b.*")
HARMLESS = (
    re.compile(r"include_vagrantfile\s*=.*"),  # what `vagrant package` writes; we read these files as well
    re.compile(r"load include_vagrantfile\b.*"),
    re.compile(r"require\b.*"),
    re.compile(r"\w+\.ssh\.private_key_path\s*=\s*File\.expand_path\(?['\"](?:\.\./)?vagrant_private_key['\"].*"),
)
STRING = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\#]|#(?![{$@]))*)\"")
ESCAPED = re.compile(r"\\(['\\])")
STRINGS = re.compile(STRING.pattern + r"|['\"].*")
"""The strings in a line; one that does not end takes the rest with it."""
NUMBER = re.compile(r"-?[0-9][0-9_]{0,17}")
WORDS: Mapping[str, Literal] = {"true": True, "false": False, "nil": None}
PASSWORD = re.compile(r"passw\w*", re.IGNORECASE)
DISABLED = re.compile(r"(?:\bdisabled:|:disabled\s*=>)\s*true\b")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a Vagrantfile sets.

    ``values`` is keyed by Vagrant's own names ("ssh.username", "vm.base_mac", "libvirt.memory"); ``disabled_folders``
    are guest paths that the box does not want shared; ``unread`` are lines that could not be understood,
    without what follows the word password.
    """

    values: Mapping[str, Literal] = field(default_factory=dict)
    disabled_folders: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()

    def text(self, key: str) -> str | None:
        """A setting that is a non-empty text; else None."""
        value = self.values.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> int | None:
        """A setting that is a positive number, also written as a text (`v.memory = "512"`); else None."""
        value = self.values.get(key)
        if isinstance(value, str) and NUMBER.fullmatch(value):
            value = int(value.replace("_", ""))
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def read(texts: Iterable[str]) -> Settings:
    """The settings of several Vagrantfiles; later ones win."""
    reader = _SettingsReader()
    for text in texts:
        reader.read(text)
    return Settings(reader.values, frozenset(reader.disabled), tuple(map(_without_password, reader.unread)))


def _without_password(line: str) -> str:
    found = PASSWORD.search(line)
    return f"{line[: found.end()]} …" if found else line


@dataclass
class _Block:
    """A ``do … end`` (or a condition): what its variables stand for; None = what is inside may not apply."""

    names: Mapping[str, str] | None


@dataclass
class _SettingsReader:
    values: dict[str, Literal] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)
    _blocks: list[_Block] = field(default_factory=list)
    _uncertain: int = 0
    """How many of the open blocks may not apply."""

    def read(self, text: str) -> None:
        self._blocks, self._uncertain = [], 0
        lines = iter(text.splitlines())
        for raw in lines:
            line = _code(raw)
            if line == "=begin":
                _skip_comment(lines)
            elif line == "__END__":
                return
            elif line and not any(known.fullmatch(line) for known in HARMLESS):
                self._line(line)

    def _line(self, line: str) -> None:
        if line == "end" or line.startswith("end "):
            if self._blocks:
                self._uncertain -= self._blocks.pop().names is None
        elif CONDITION.fullmatch(line):
            self.unread.append(line)
            if not line.endswith(" end"):
                self._push(None)
        elif opening := BLOCK.fullmatch(line):
            self._open(line, opening["head"].strip(), opening["names"] or "")
        elif self._uncertain or not self._statement(line):
            self.unread.append(line)

    def _push(self, names: Mapping[str, str] | None) -> None:
        self._blocks.append(_Block(names))
        self._uncertain += names is None

    def _open(self, line: str, head: str, names: str) -> None:
        variables = [name.strip() for name in names.split(",") if name.strip()]
        known: dict[str, str] | None = None
        if CONFIGURE.fullmatch(head) and len(variables) == 1:
            known = {variables[0]: ""}
        elif (provider := PROVIDER.fullmatch(head)) and self._prefix(provider["outer"]) == "" and variables:
            known = {variables[0]: provider["name"].strip(":'\"") + ".", **dict.fromkeys(variables[1:2], "")}
        if known is None or len(self._blocks) >= DEEPEST:
            self.unread.append(line)
            known = None
        self._push(known)

    def _prefix(self, variable: str) -> str | None:
        """What a block's variable stands for: "" is the whole configuration, "libvirt." that provider's part."""
        for block in reversed(self._blocks):
            if block.names and variable in block.names:
                return block.names[variable]
        return None

    def _statement(self, line: str) -> bool:
        found = ASSIGNMENT.fullmatch(line) or FOLDER.fullmatch(line)
        if not found:
            return False
        variable, _, path = found["path"].partition(".")
        prefix = self._prefix(variable)
        if prefix is None:
            return False
        if path == "vm.synced_folder" and not prefix:
            return self._folder(found["args"])
        ok, value = literal(found["value"]) if "value" in found.groupdict() else (False, None)
        if ok:
            self.values[prefix + path] = value
        return ok

    def _folder(self, arguments: str) -> bool:
        _host, *guest = STRINGS.findall(arguments) or [""]
        if not guest or not DISABLED.search(arguments):
            return False
        self.disabled.add(guest[0][0] or guest[0][1])
        return True


def literal(text: str) -> tuple[bool, Literal]:
    """Whether a Ruby expression is a plain literal, and its value."""
    text = text.strip()
    if text in WORDS:
        return True, WORDS[text]
    if NUMBER.fullmatch(text):
        return True, int(text.replace("_", ""))
    if found := STRING.fullmatch(text):
        return True, found[2] if found[1] is None else ESCAPED.sub(r"\1", found[1])
    if re.fullmatch(r":\w+", text):
        return True, text[1:]
    return False, None


def _code(raw: str) -> str:
    """A line without its comment (a # inside a string stays) and its outer blanks."""
    match = re.match(r"(?:'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^'\"#])*", raw)
    code = match[0] if match else ""
    rest = raw[len(code) :]
    return (code if rest.startswith("#") or not rest else raw).strip()


def _skip_comment(lines: Iterable[str]) -> None:
    for line in lines:
        if line.startswith("=end"):
            return
