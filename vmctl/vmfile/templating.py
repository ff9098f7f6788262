"""Jinja2 expressions in strings: ``{{ … }}`` and nothing else.

jinja2 takes longer to import than a Vmfile to load, so names alone (``{{ vars.port }}``) are looked up without it.

A string that is one expression gives that expression's value with its type; an expression inside a longer string
gives text. Statements are not templating here: ``{% … %}`` in a shell line is text, unless it is plainly Jinja2's.
Expressions come with a stranger's repository: they see plain data, and ``expressions`` evaluates them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from vmctl.vmfile.budget import Budget, CannotEvaluate, plain_copy, size
from vmctl.vmfile.faults import Faults, Rejected, shorten
from vmctl.vmfile.nodes import EXPRESSION, Scalar
from vmctl.vmfile.scope import Scope

if TYPE_CHECKING:
    from jinja2 import nodes

STATEMENT = re.compile(
    r"\{%[-+]?\s*(if|elif|else|endif|for|endfor|set|include|import|from|macro|raw|block|extends|with)\b"
)
NAME = r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}"
ONE_NAME = re.compile(NAME)
ONLY_NAMES = re.compile(rf"(?:(?!\{{[{{%]).|{NAME})*", re.DOTALL)
UNUSED = "\x00"  # refused in templates: switches Jinja2's statements and comments off
VARIABLES = "vars"
NOT_SIMPLE = object()


class Templates(Struct):
    """Evaluates expressions in one scope; ``machine`` is part of it or not."""

    faults: Faults
    scope: Scope = field(default_factory=Scope)

    def render(self, node: Scalar) -> Any:
        """The value of a scalar that holds an expression.

        Raises:
            Rejected: it has none; the fault is recorded (by a variable that it uses, it may have been already).
        """
        try:
            return evaluate(node.value, self.scope)
        except CannotEvaluate as error:
            self.faults.reject(node.place, node.path, f"{shorten(node.text.strip())}: {error}")


def evaluate(template: str, scope: Scope) -> Any:
    """The value of a string that holds an expression.

    Raises:
        CannotEvaluate: it has none.
        Rejected: a variable that it uses has none; that fault is recorded.
    """
    if EXPRESSION not in template and not STATEMENT.search(template):
        return template
    scope.budget.begin()
    value = _by_names(template, scope.names, scope.budget)
    return _evaluated(template, scope) if value is NOT_SIMPLE else value


def _by_names(template: str, names: Mapping[str, Any], budget: Budget) -> Any:
    """What Jinja2 would give for a template that only names values that are there; else ``NOT_SIMPLE``."""
    if not ONLY_NAMES.fullmatch(template):
        return NOT_SIMPLE
    try:
        if whole := ONE_NAME.fullmatch(template.strip()):
            return _kept(_named(whole[1], names), budget)
        found = [_named(match[1], names) for match in ONE_NAME.finditer(template)]
    except LookupError:
        return NOT_SIMPLE
    budget.room(len(template) + sum(map(size, found)))
    texts = iter(found)
    return _kept(ONE_NAME.sub(lambda _match: str(next(texts)), template), budget)


def _named(dotted: str, names: Mapping[str, Any]) -> Any:
    value: Any = names
    for name in dotted.split("."):
        found = value if isinstance(value, dict) else {}
        value = found[name]
    return value


def _kept(value: Any, budget: Budget) -> Any:
    """The value as a copy, paid for."""
    budget.room(size(value))
    return plain_copy(value)


def _evaluated(template: str, scope: Scope) -> Any:
    from vmctl.vmfile.expressions import Evaluation

    parts = _parts(template)
    evaluation = Evaluation(scope)
    try:
        whole = _whole(parts)
        value = evaluation.text(list(parts)) if whole is None else evaluation.value(whole)
        return _kept(value, scope.budget)
    except (CannotEvaluate, Rejected):
        raise
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise CannotEvaluate(str(error) or type(error).__name__) from error


@functools.lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[nodes.Expr, ...]:
    """The text and the expressions that a template is made of."""
    import jinja2

    if UNUSED in template:
        raise CannotEvaluate("a text with an expression cannot hold the character NUL")
    if STATEMENT.search(template):
        raise CannotEvaluate("statements ({% … %}) are not supported; use an expression: {{ a if condition else b }}")
    try:
        body = _environment().parse(template).body
    except jinja2.TemplateSyntaxError as error:
        raise CannotEvaluate(f"{error.message} (for literal braces write {{{{ '{{{{' }}}})") from error
    except (RecursionError, ValueError) as error:  # a number with too many digits
        raise CannotEvaluate("too deep an expression, or too large a number") from error
    return tuple(part for output in body if isinstance(output, jinja2.nodes.Output) for part in output.nodes)


def _whole(parts: tuple[nodes.Expr, ...]) -> nodes.Expr | None:
    """The expression, when the template is one expression and nothing else but blanks."""
    import jinja2

    found = [part for part in parts if not isinstance(part, jinja2.nodes.TemplateData) or part.data.strip()]
    return found[0] if len(found) == 1 and not isinstance(found[0], jinja2.nodes.TemplateData) else None


@functools.cache
def _environment() -> Any:
    """Jinja2 as a parser only: nothing is ever compiled."""
    import jinja2

    return jinja2.Environment(  # noqa: S701  never renders
        block_start_string=UNUSED + "%",
        block_end_string="%" + UNUSED,
        comment_start_string=UNUSED + "#",
        comment_end_string="#" + UNUSED,
        keep_trailing_newline=True,
        cache_size=0,
    )


def variables_in(template: str) -> tuple[set[str], bool]:
    """The variables that a template names, and whether it may use others (``vars[…]``, all of ``vars``)."""
    if EXPRESSION not in template:
        return set(), False
    if ONLY_NAMES.fullmatch(template):
        paths = [match[1].split(".") for match in ONE_NAME.finditer(template)]
        return {path[1] for path in paths if path[0] == VARIABLES}, False
    import jinja2

    try:
        parts = _parts(template)
    except CannotEvaluate:
        return set(), False  # told when it is evaluated
    named: set[str] = set()
    certain = total = 0
    for node in (inner for part in parts for inner in (part, *part.find_all(jinja2.nodes.Expr))):
        total += isinstance(node, jinja2.nodes.Name) and node.name == VARIABLES
        match node:
            case jinja2.nodes.Getattr(node=jinja2.nodes.Name(name="vars"), attr=name):
                named.add(name)
                certain += 1
            case jinja2.nodes.Getitem(node=jinja2.nodes.Name(name="vars"), arg=jinja2.nodes.Const(value=str(name))):
                named.add(name)
                certain += 1
    return named, total > certain
