"""Evaluates what Jinja2's parser makes of an expression, over plain data; nothing is compiled and nothing is called.

Jinja2's own way, compiling to Python and guarding attributes, lets an expression reach whatever the objects of the
scope lead to. Here each kind of node that may stand in an expression has its function, and every other one is refused:
a name is a key of the scope, a dot is a key of a mapping, and what can be done to a value is a filter or a test of
``filters``. All work is paid for from a budget before it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes
from msgspec import Struct

from vmctl.errors import suggest
from vmctl.vmfile import filters
from vmctl.vmfile.budget import (
    ITEM,
    Budget,
    CannotEvaluate,
    Undefined,
    attribute_of,
    in_words,
    plain_copy,
    size,
    text_of,
    value_at,
)  # fmt: skip
from vmctl.vmfile.expression_operators import COMPARISONS, TESTS, calculated
from vmctl.vmfile.faults import Rejected, advise, describe
from vmctl.vmfile.filters import FILTERS
from vmctl.vmfile.scope import Scope

NAMES = ("env", "vars", "machine", "each", "project", "host")
DEEPEST = 100
OVER = ("map", "select", "reject", "selectattr", "rejectattr")
DEFINED = ("defined", "undefined")
Arguments = tuple[list[Any], dict[str, Any]]


class Evaluation(Struct):
    """One expression at work."""

    scope: Scope
    depth: int = 0

    @property
    def budget(self) -> Budget:
        """What it may still cost."""
        return self.scope.budget

    def value(self, node: nodes.Node) -> Any:
        """What a node comes to.

        Raises:
            CannotEvaluate: it has no value, or is not allowed.
            Rejected: a variable that it uses has none; that fault is recorded.
        """
        evaluate = EVALUATE.get(type(node))
        if evaluate is None:
            raise CannotEvaluate(f"{type(node).__name__} is not supported in an expression")
        self.budget.spend(ITEM)
        if self.depth >= DEEPEST:
            raise CannotEvaluate("too deep an expression")
        self.depth += 1
        try:
            return evaluate(self, node)
        finally:
            self.depth -= 1

    def text(self, parts: list[nodes.Expr]) -> str:
        """What several nodes come to as one text."""
        found = [part.data if isinstance(part, nodes.TemplateData) else self.value(part) for part in parts]
        self.budget.room(sum(size(one) - ITEM for one in found))
        return "".join(text_of(one) for one in found)


def _const(at: Evaluation, node: nodes.Const) -> Any:
    at.budget.inspect(node.value)
    return plain_copy(node.value)


def _name(at: Evaluation, node: nodes.Name) -> Any:
    if node.name in at.scope.names:
        return at.scope.names[node.name]
    if node.name == "machine":
        raise Undefined("'machine' is known only in a machine's own values")
    if node.name == "each":
        raise Undefined("'each' is known only in the values of a machine with for_each")
    raise Undefined(f"'{node.name}' is not defined{advise(node.name, NAMES)}")


def _getattr(at: Evaluation, node: nodes.Getattr) -> Any:
    return _below(at, at.value(node.node), node.attr)


def _getitem(at: Evaluation, node: nodes.Getitem) -> Any:
    value = at.value(node.node)
    if isinstance(node.arg, nodes.Slice):
        return _slice(at, value, node.arg)
    key = at.value(node.arg)
    if isinstance(value, str | list) and isinstance(key, int) and not isinstance(key, bool):
        if -len(value) <= key < len(value):
            return value[key]
        raise Undefined(f"{describe(value)} has no item {key}")
    if not isinstance(key, str | int | float | None):
        raise CannotEvaluate(f"{describe(key)} is not a key")
    return _below(at, value, str(key))


def _below(at: Evaluation, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise Undefined(f"{describe(value)} has no '{name}'")
    if name in value:
        return value[name]
    if value is at.scope.names.get("vars") and name in at.scope.rejected:
        raise Rejected
    raise Undefined(f"there is no '{name}'{advise(name, value)}")


def _slice(at: Evaluation, value: Any, node: nodes.Slice) -> Any:
    ends = [None if end is None else at.value(end) for end in (node.start, node.stop, node.step)]
    if not isinstance(value, str | list):
        raise CannotEvaluate(f"{describe(value)} has no parts")
    at.budget.room(size(value))
    return value[slice(*ends)]


def _list(at: Evaluation, node: nodes.List | nodes.Tuple) -> list[Any]:
    return [at.value(item) for item in node.items]


def _dict(at: Evaluation, node: nodes.Dict) -> dict[str, Any]:
    return {text_of(at.value(pair.key)): at.value(pair.value) for pair in node.items}


def _condition(at: Evaluation, node: nodes.CondExpr) -> Any:
    if at.value(node.test):
        return at.value(node.expr1)
    if node.expr2 is None:
        raise Undefined("the condition is false, and there is no 'else'")
    return at.value(node.expr2)


def _compare(at: Evaluation, node: nodes.Compare) -> bool:
    left = at.value(node.expr)
    for operand in node.ops:
        right = at.value(operand.expr)
        at.budget.inspect([left, right])
        if not COMPARISONS[operand.op](left, right):
            return False
        left = right
    return True


def _concat(at: Evaluation, node: nodes.Concat) -> str:
    return at.text(list(node.nodes))


def _calculate(at: Evaluation, node: nodes.BinExpr) -> Any:
    return calculated(at.budget, node.operator, at.value(node.left), at.value(node.right))


def _sign(at: Evaluation, node: nodes.UnaryExpr) -> Any:
    value = at.value(node.node)
    if not isinstance(value, int | float):
        raise CannotEvaluate(f"{describe(value)} has no sign")
    return -value if node.operator == "-" else +value


def _filter(at: Evaluation, node: nodes.Filter) -> Any:
    if node.node is None:
        raise CannotEvaluate("a filter needs a value")
    if node.name in OVER:
        return _over(at, node, at.value(node.node))
    function = _known("filter", node.name, (*FILTERS, *OVER), FILTERS)
    try:
        value = at.value(node.node)
    except Undefined:
        if function is not filters.default:
            raise
        value = filters.MISSING
    return _applied(at, function, node.name, value, _arguments(at, node))


def _test(at: Evaluation, node: nodes.Test) -> bool:
    if node.name in DEFINED:
        return _is_defined(at, node.node) == (node.name == "defined")
    function = _known("test", node.name, (*TESTS, *DEFINED), TESTS)
    value = at.value(node.node)
    return bool(_applied(at, function, node.name, value, _arguments(at, node)))


def _is_defined(at: Evaluation, node: nodes.Node) -> bool:
    try:
        at.value(node)
    except Undefined:
        return False
    return True


def _known(what: str, name: str, known: tuple[str, ...], functions: Mapping[str, filters.Function]) -> filters.Function:
    if name not in functions:
        raise CannotEvaluate(
            f"there is no {what} '{name}'{suggest(name, known)}; see docs/vmfile.md for those there are"
        )
    return functions[name]


def _arguments(at: Evaluation, node: nodes.Filter | nodes.Test) -> Arguments:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise CannotEvaluate("* and ** are not supported in an expression")
    return [at.value(one) for one in node.args], {str(one.key): at.value(one.value) for one in node.kwargs}


def _applied(at: Evaluation, function: filters.Function, name: str, value: Any, arguments: Arguments) -> Any:
    args, named = arguments
    at.budget.inspect([*((value,) if value is not filters.MISSING else ()), *args, *named.values()])
    try:
        found = function(at.budget, value, *args, **named)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CannotEvaluate(f"{name}: {in_words(error)}") from error
    at.budget.room(size(found))
    return found if isinstance(found, str | list | dict) else plain_copy(found)


def _over(at: Evaluation, node: nodes.Filter, value: Any) -> list[Any]:
    """``map`` and its like: another filter or test, or what lies below, for each item."""
    args, named = _arguments(at, node)
    at.budget.inspect(value)
    items = FILTERS["list"](at.budget, value)
    if node.name == "map":
        return _mapped(at, items, args, named)
    attribute = args.pop(0) if node.name.endswith("attr") and args else None
    name = args.pop(0) if args else ""
    holds = _known("test", name, tuple(TESTS), TESTS) if name else lambda _budget, item: bool(item)
    wanted = node.name.startswith("select")
    return [
        item
        for item in items
        if bool(_applied(at, holds, name, item if attribute is None else value_at(item, attribute), (args, named)))
        == wanted
    ]


def _mapped(at: Evaluation, items: list[Any], args: list[Any], named: dict[str, Any]) -> list[Any]:
    if not args and "attribute" in named:
        return [attribute_of(item, **named) for item in items]
    if not args or not isinstance(args[0], str):
        raise CannotEvaluate("map needs a filter's name, or attribute='…'")
    function = _known("filter", args[0], tuple(FILTERS), FILTERS)
    return [_applied(at, function, args[0], item, (args[1:], named)) for item in items]


def _call(_at: Evaluation, node: nodes.Call) -> Any:
    name = getattr(node.node, "attr", None) or getattr(node.node, "name", None)
    if isinstance(node.node, nodes.Getitem):
        name = getattr(node.node.arg, "value", None)
    advice = filters.advice_on(name) if isinstance(name, str) else ""
    raise CannotEvaluate(f"nothing can be called in an expression{advice}")


EVALUATE: Mapping[type[nodes.Node], Callable[[Evaluation, Any], Any]] = {
    nodes.Const: _const,
    nodes.Name: _name,
    nodes.Getattr: _getattr,
    nodes.Getitem: _getitem,
    nodes.List: _list,
    nodes.Tuple: _list,
    nodes.Dict: _dict,
    nodes.CondExpr: _condition,
    nodes.And: lambda at, node: at.value(node.left) and at.value(node.right),
    nodes.Or: lambda at, node: at.value(node.left) or at.value(node.right),
    nodes.Not: lambda at, node: not at.value(node.node),
    nodes.Compare: _compare,
    nodes.Concat: _concat,
    **dict.fromkeys(
        (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow), _calculate
    ),
    nodes.Neg: _sign,
    nodes.Pos: _sign,
    nodes.Filter: _filter,
    nodes.Test: _test,
    nodes.Call: _call,
}  # fmt: skip
"""Every node that may stand in an expression."""
