"""Fills in the templates of `file` entries: all of Jinja2's language, in its sandbox, over plain data."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vmctl.errors import VmctlError

LARGEST = 64 * 1024**2  # characters
LARGEST_OPERAND = 1024
GLOBALS = ("range", "dict", "namespace", "joiner", "cycler")
PADDING = ("batch", "center", "format", "indent", "slice", "tojson", "wordwrap")
"""Filters that make a text or list as long as they are told."""
INCLUDES = re.compile(r"\{%[-+]?\s*(?:include|import|extends|from)\b")
INCLUDE = re.compile(INCLUDES.pattern + r"(.*?)%\}", re.DOTALL)
AFTER_NAMES = re.compile(r"\s(?:import|as|ignore\s+missing|with(?:out)?\s+context)\b.*", re.DOTALL)
LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"")
LONG_FIELD = re.compile(r"\d{5,}|\*")
METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset({
        "capitalize", "casefold", "count", "encode", "endswith", "find", "index", "isalnum", "isalpha", "isascii",
        "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip",
        "partition", "removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split",
        "splitlines", "startswith", "strip", "swapcase", "title", "upper",
    }),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}  # fmt: skip
"""What a template may call of a value, by the value's type: nothing that changes it or pads it at will."""


def filled(path: Path, text: str, names: Mapping[str, Any]) -> str:
    """The template's text with everything filled in.

    Raises:
        VmctlError: it has a fault, reaches for what is not data, or gives more than 64 Mi characters.
    """
    import jinja2

    try:
        template = _environment(path.parent).from_string(text)
        return _joined(template.generate(plain(names)))
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise VmctlError(f"the template {path}{line} has a fault", details=str(error)) from error


class Included(Struct, kw_only=True):
    """What a template includes, imports or extends, however far away."""

    files: list[Path] = []
    is_open: bool = False
    """Whether it may be any other file as well, since an expression says which."""


def included(path: Path) -> Included:
    """The files that a template needs besides itself, as far as they are there; in a fixed order."""
    found, waiting, seen = Included(), [path], {path}
    while waiting:
        text = _text(waiting.pop(0))
        if not INCLUDES.search(text):
            continue  # as most: no need of Jinja2
        for name in _referred(text):
            file = path.parent / name if name is not None else None
            found.is_open = found.is_open or file is None
            if file is not None and file not in seen and ".." not in file.parts and file.is_file():
                seen.add(file)
                found.files.append(file)
                waiting.append(file)
    return found


def includes(text: str) -> Iterator[str | None]:
    """The names that a text includes, imports or extends, without a look at the rest of it; None = an expression."""
    for found in INCLUDE.finditer(text):
        named = AFTER_NAMES.sub("", found[1])
        yield from (one or other for one, other in LITERAL.findall(named))
        if LITERAL.sub("", named).strip(" \t\r\n-+[](),"):
            yield None


def _referred(text: str) -> list[str | None]:
    import jinja2
    from jinja2 import meta

    try:
        return list(meta.find_referenced_templates(jinja2.Environment(autoescape=False).parse(text)))  # noqa: S701  parsed
    except (jinja2.TemplateError, RecursionError):
        return []  # told when it is filled in


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _joined(pieces: Any) -> str:
    parts, length = [], 0
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        if length > LARGEST:
            raise ValueError(f"it gives more than {LARGEST} characters")
    return "".join(parts)


def plain(value: Any) -> Any:
    """A copy of built-in types alone; paths and the like become text."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return "".join(str(value))


def _environment(directory: Path) -> Any:
    import jinja2

    environment = _sandbox()(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(directory),
        autoescape=False,  # configuration files are not HTML
    )
    for name in PADDING:
        environment.filters[name] = _bounded(environment.filters[name])
    environment.globals = {name: environment.globals[name] for name in GLOBALS}
    return environment


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, for bearable numbers alone."""

    @functools.wraps(function)  # takes Jinja2's marks along
    def bounded(*args: Any, **named: Any) -> Any:
        for one in (*args, *named.values()):
            if isinstance(one, int) and one > LARGEST_OPERAND:
                raise ValueError(f"{one} is too large for {function.__name__.removeprefix('do_')}")
            if function.__name__ == "do_format" and isinstance(one, str) and LONG_FIELD.search(one):
                raise ValueError("too long a field for format")
        return function(*args, **named)

    return bounded


@functools.cache
def _sandbox() -> Callable[..., Any]:
    from jinja2 import sandbox

    class TemplateSandbox(sandbox.ImmutableSandboxedEnvironment):
        """Jinja2's, with methods by an allow-list and no operand that makes a short text gigabytes."""

        intercepted_binops = frozenset(["*", "**", "%"])

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            """Whether an attribute may be used: public, and of plain values only what is listed."""
            listed = METHODS.get(type(obj))
            return super().is_safe_attribute(obj, attr, value) and (listed is None or attr in listed)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """The operation, unless its result may be huge."""
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            small = numbers and abs(left) <= LARGEST_OPERAND and abs(right) <= LARGEST_OPERAND
            if (operator == "**" and not small) or (operator == "*" and not numbers and not _is_repeat(left, right)):
                raise ValueError(f"too large for {operator}")
            if operator == "%" and not numbers:
                raise ValueError("text cannot be formatted with %; use ~ or the filter format")
            return super().call_binop(context, operator, left, right)

    return TemplateSandbox


def _is_repeat(left: Any, right: Any) -> bool:
    """Whether a text or list is repeated a bearable number of times ('-' * 72)."""
    times = right if isinstance(right, int) else left
    return isinstance(times, int) and times <= LARGEST_OPERAND
