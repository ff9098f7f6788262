"""Jinja2 expressions in strings: ``{{ … }}`` and nothing else.

jinja2 takes longer to import than a Vmfile to load, so names alone (``{{ vars.port }}``) are looked up without it.

A string that is one expression gives that expression's value with its type; an expression inside a longer string
gives text. Statements are not templating here: ``{% … %}`` in a shell line is text, unless it is plainly Jinja2's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from vmctl.vmfile.faults import Faults, Rejected, advise, describe, shorten
from vmctl.vmfile.nodes import EXPRESSION, Scalar

STATEMENT = re.compile(
    r"\{%[-+]?\s*(if|elif|else|endif|for|endfor|set|include|import|from|macro|raw|block|extends|with)\b"
)
WHOLE = re.compile(r"\s*\{\{[-+]?(.*?)[-+]?\}\}\s*", re.DOTALL)
NAME = r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}"
ONE_NAME = re.compile(NAME)
ONLY_NAMES = re.compile(rf"(?:(?!\{{[{{%]).|{NAME})*", re.DOTALL)
UNUSED = "\x00"  # YAML can not hold it: switches Jinja2's statements and comments off
NAMES = ("env", "vars", "machine", "each", "project", "host")
LONGEST = 1_000_000
LARGEST_POWER = 1024
TOO_GENEROUS = ("format", "center", "indent", "pprint")
"""Filters with which a short text becomes gigabytes."""
NOT_SIMPLE = object()


class CannotEvaluate(Exception):
    """An expression has no value; the message says why."""


Compiled = Callable[[Mapping[str, Any]], Any]


class Templates(Struct):
    """Evaluates expressions in one scope; ``machine`` is part of it or not."""

    faults: Faults
    scope: Mapping[str, Any] = field(default_factory=dict)

    def render(self, node: Scalar) -> Any:
        """The value of a scalar that holds an expression.

        Raises:
            Rejected: it has none; the fault is recorded (by a variable that it uses, it may have been already).
        """
        try:
            return evaluate(node.value, self.scope)
        except CannotEvaluate as error:
            self.faults.reject(node.place, node.path, f"{shorten(node.text.strip())}: {error}")


def evaluate(template: str, scope: Mapping[str, Any]) -> Any:
    """The value of a string that holds an expression.

    Raises:
        CannotEvaluate: it has none.
        Rejected: a variable that it uses has none; that fault is recorded.
    """
    if EXPRESSION not in template and not STATEMENT.search(template):
        return template
    try:
        value = _looked_up(template, scope)
        if value is NOT_SIMPLE:
            value = _compiled(template)(scope)
    except (CannotEvaluate, Rejected):
        raise
    except Exception as error:
        raise CannotEvaluate(str(error) or type(error).__name__) from error
    return _checked(value)


def _looked_up(template: str, scope: Mapping[str, Any]) -> Any:
    """What Jinja2 would give for a template that only names values that are there; else ``NOT_SIMPLE``."""
    if not ONLY_NAMES.fullmatch(template):
        return NOT_SIMPLE
    try:
        if whole := ONE_NAME.fullmatch(template.strip()):
            return _named(whole[1], scope)
        return ONE_NAME.sub(lambda match: str(_named(match[1], scope)), template)
    except LookupError:
        return NOT_SIMPLE


def _named(dotted: str, scope: Mapping[str, Any]) -> Any:
    value: Any = scope
    for name in dotted.split("."):
        found = value if isinstance(value, Mapping) else {}
        value = found[name]
    return value


@functools.lru_cache(maxsize=4096)
def _compiled(template: str) -> Compiled:
    import jinja2

    if STATEMENT.search(template):
        raise CannotEvaluate("statements ({% … %}) are not supported; use an expression: {{ a if condition else b }}")
    environment = _environment()
    try:
        body = environment.parse(template).body
        if whole := _whole(template, body):
            return _native(environment.compile_expression(whole, undefined_to_none=False))
        rendered: Compiled = environment.from_string(template).render
        return rendered
    except jinja2.TemplateSyntaxError as error:
        raise CannotEvaluate(f"{error.message} (for literal braces write {{{{ '{{{{' }}}})") from error


def _native(expression: Any) -> Compiled:
    return lambda scope: expression(**scope)


def _whole(template: str, body: list[Any]) -> str | None:
    """The expression's source, when the template is one expression and nothing else."""
    import jinja2

    if len(body) != 1 or not isinstance(body[0], jinja2.nodes.Output) or "}}" in template.strip()[:-2]:
        return None
    outputs = [one for one in body[0].nodes if not isinstance(one, jinja2.nodes.TemplateData)]
    match = WHOLE.fullmatch(template)
    return match[1] if match and len(outputs) == 1 else None


def _checked(value: Any) -> Any:
    """``value``, when a Vmfile could have held it: strings, numbers, booleans, nothing, and lists and maps of these."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            if len(value) > LONGEST:
                raise CannotEvaluate("gives too long a text")
            return str(value)
        case list() | tuple():
            return [_checked(item) for item in value]
        case Mapping():
            return {str(key): _checked(item) for key, item in value.items()}
    _strict(value)
    raise CannotEvaluate(f"gives {type(value).__name__.replace('_', ' ')}, not a value")


def _strict(value: Any) -> None:
    """Make an undefined result speak up."""
    import jinja2

    if isinstance(value, jinja2.Undefined):
        raise CannotEvaluate(value._undefined_message)  # noqa: SLF001  our own subclass's


@functools.cache
def _environment() -> Any:
    environment = _environment_class()(
        undefined=_undefined_class(),
        block_start_string=UNUSED + "%",
        block_end_string="%" + UNUSED,
        comment_start_string=UNUSED + "#",
        comment_end_string="#" + UNUSED,
        keep_trailing_newline=True,
        autoescape=False,
        cache_size=0,
    )
    environment.globals.clear()
    for filter_ in TOO_GENEROUS:
        environment.filters.pop(filter_)
    return environment


def _undefined_class() -> Any:
    import jinja2

    class Missing(jinja2.StrictUndefined):
        """Says what is there instead."""

        @property
        def _undefined_message(self) -> str:
            name = str(self._undefined_name)
            there = self._undefined_obj
            if there is jinja2.utils.missing:
                if name == "machine":
                    return "'machine' is known only in a machine's own values"
                if name == "each":
                    return "'each' is known only in the values of a machine with for_each"
                return f"'{name}' is not defined{advise(name, NAMES)}"
            if isinstance(there, Mapping):
                return f"there is no '{name}'{advise(name, map(str, there))}"
            return f"{describe(there)} has no '{name}'"

    return Missing


def _environment_class() -> Any:
    from jinja2 import sandbox

    class Environment(sandbox.SandboxedEnvironment):
        """Keys before methods (``vars.items`` is a variable), and no result too large to keep."""

        intercepted_binops = frozenset(["*", "**", "%"])

        def getattr(self, obj: Any, attribute: str) -> Any:
            """A mapping's key, else what the sandbox allows."""
            if isinstance(obj, Mapping):
                return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
            return super().getattr(obj, attribute)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """The operation, unless its result would be huge."""
            _refuse_huge(operator, left, right)
            return super().call_binop(context, operator, left, right)

    return Environment


def _refuse_huge(operator: str, left: Any, right: Any) -> None:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    if operator == "**" and numbers and (abs(left) > LARGEST_POWER or abs(right) > LARGEST_POWER):
        raise CannotEvaluate("too large a power")
    if operator == "*" and not numbers:
        raise CannotEvaluate("only numbers can be multiplied")
    if operator == "%" and not numbers:
        raise CannotEvaluate("text can not be formatted with %; put expressions into it")
