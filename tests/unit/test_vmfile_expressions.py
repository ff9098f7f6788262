"""Expressions: what they mean, that they see plain data and nothing else, and that none costs more than its budget."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.vmfile_cases import load
from vmctl import vmfile
from vmctl.vmfile import budget, filters
from vmctl.vmfile.budget import Budget, CannotEvaluate
from vmctl.vmfile.expansion import Each
from vmctl.vmfile.expression_operators import TESTS
from vmctl.vmfile.expressions import EVALUATE, Evaluation
from vmctl.vmfile.nodes import Scalar
from vmctl.vmfile.scope import Scope, machine_scope, project_scope
from vmctl.vmfile.templating import Templates, evaluate

BOX = "box: debian-12\n"
PLAIN = (type(None), bool, int, float, str)
WORDS = ["one", "Two", "three"]
SCOPE = {"vars": {"a": 1, "b": "x", "words": WORDS, "sites": [{"n": "eu", "c": 2}, {"n": "us", "c": 1}]}, "env": {}}
MIB = 1024**2


def value(expression: str, names: Mapping[str, Any] = SCOPE) -> Any:
    return evaluate(f"{{{{ {expression} }}}}", Scope(dict(names)))


def refusal(expression: str, names: Mapping[str, Any] = SCOPE) -> str:
    with pytest.raises(CannotEvaluate) as caught:
        value(expression, names)
    return str(caught.value)


SAME_AS_JINJA = [
    "1 + 2 * 3 - 4 / 5 // 1 % 7 ** 2",
    "-vars.a + +2",
    "not vars.a or vars.b and 'y'",
    "vars.a == 1 != 2",
    "1 < 2 <= 2 > 1 >= 0",
    "'x' in vars.b, 'y' not in vars.words, 'eu' in {'eu': 1}",
    "'a' ~ 1 ~ none ~ true ~ [1, 'b'] ~ {'c': 1.5}",
    "vars.words[0] ~ vars['b'] ~ vars.words[-1][1:] ~ vars.words[::-1] | join",
    "'big' if vars.a > 8 else 'small'",
    "[1, [2, 3]] + [{'a': 'b'}]",
    "'ab' + 'cd'",
    "vars.missing | default('no')",
    "vars.missing | d",
    "'' | default('no', true)",
    "vars.missing is defined, vars.a is defined, vars.missing is undefined",
    "-3 | abs, 'abc' | capitalize, 'it\\'s a-b (c)' | title",
    "'a' | upper, 'A' | lower, ' a ' | trim, 'xxaxx' | trim('x')",
    "vars.words | length, vars.words | count, 'abc' | length, vars | length",
    "vars.words | first, vars.words | last, 'abc' | first, 'abc' | last",
    "vars.words | join(', '), vars.sites | join('-', attribute='n')",
    "vars.words | sort, vars.words | sort(true), vars.words | sort(case_sensitive=true)",
    "vars.sites | sort(attribute='c') | map(attribute='n') | list",
    "vars.sites | map(attribute='x', default=0) | list",
    "vars.words | map('upper') | list, ['1', '2'] | map('int') | sum",
    "[0, 1, '', 'a'] | select | list, [0, 1, '', 'a'] | reject | list",
    "[1, 2, 3] | select('odd') | list, [1, 2, 3] | reject('gt', 1) | list",
    "vars.sites | selectattr('n', 'equalto', 'eu') | list, vars.sites | rejectattr('c', '>', 1) | list",
    "{'b': 1, 'A': 2} | dictsort, {'b': 1, 'A': 2} | dictsort(by='value', reverse=true)",
    "{'b': 1, 'a': 2} | items | list",
    "'3' | int, '0x1f' | int(base=16), 'x' | int, 'x' | int(7), 2.9 | int, '2.9' | int, none | int",
    "'3.5' | float, 'x' | float, 'x' | float(1.5)",
    "[3, 1, 2] | max, vars.words | min, vars.sites | max(attribute='c')",
    "'a-b-a' | replace('a', 'c'), 'aaa' | replace('a', 'b', 2), 'ab' | replace('', '-')",
    "'abc' | reverse, [1, 2] | reverse | list",
    "2.567 | round, 2.567 | round(2), 2.567 | round(1, 'ceil'), 2.567 | round(1, 'floor'), 25 | round(-1)",
    "5 | string, [1] | string, none | string",
    "[1, 2.5] | sum, vars.sites | sum(attribute='c'), [1] | sum(start=3)",
    "'a long text of words' | truncate(10), 'a long text of words' | truncate(10, true, '!', 0)",
    "['a', 'A', 'b', 1, 1] | unique | list, ['a', 'A'] | unique(true) | list",
    "'a b/c?d' | urlencode",
    "{'b': [1, none, true], 'a': 'x'} | tojson",
    "1 is number, 1 is integer, 1.0 is float, 'a' is string, none is none, {} is mapping, [] is sequence, 3 is odd",
    "3 is divisibleby(3), 2 is even, 'a' is lower, 'a' is upper, true is boolean, true is true, false is false",
    "1 is eq(1), 1 is ne 2, 1 is lt(2), 1 is le(1), 1 is ge 2, 1 is gt(2), 1 is in([1]), [] is iterable",
    "{'a': {'b': 1}}.a.b",
]


@pytest.mark.parametrize("expression", SAME_AS_JINJA)
def test_what_is_supported_means_what_it_means_to_jinja2(expression: str) -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701  not HTML
    whole = f"[{expression}]"
    theirs = environment.compile_expression(whole, undefined_to_none=False)(**SCOPE)
    assert value(whole) == plain(theirs)


def plain(found: Any) -> Any:
    """Lists of Jinja2's tuples and iterators."""
    if isinstance(found, Mapping):
        return {key: plain(item) for key, item in found.items()}
    if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
        return found
    return [plain(item) for item in found]


def test_what_ansible_and_methods_have_besides() -> None:
    assert value("['a,b' | split(','), 'a  b' | split, 'a,b,c' | split(',', 1)]") == [
        ["a", "b"],
        ["a", "b"],
        ["a", "b,c"],
    ]
    assert value("['v1' | removeprefix('v'), 'a.yml' | removesuffix('.yml')]") == ["1", "a"]
    assert value("['ab' is startswith('a'), 'ab' is endswith('a')]") == [True, False]


def test_a_mapping_in_braces_is_one_expression_and_keeps_its_type() -> None:
    assert evaluate("{{ {'a': {'b': 1}} }}", Scope()) == {"a": {"b": 1}}
    assert evaluate(" {{ 1 }}\n", Scope()) == 1
    assert evaluate("{{ 1 }}{{ 2 }}", Scope()) == "12"


METHODS = {
    "vars.b.upper()": "; use the filter: {{ x | upper }}",
    "env.get('X', 'y')": "; use the filter: {{ x.key | default('…') }}",
    "vars.words.items()": "; use the filter: {{ x | items }}",
    "vars.b['startswith']('x')": "; write: {{ x is startswith('…') }}",
    "range(10)": "",
    "vars.b.ljust(10**9)": "",
}


@pytest.mark.parametrize("expression", METHODS)
def test_nothing_can_be_called_and_the_fault_shows_what_to_write(expression: str) -> None:
    assert refusal(expression) == "nothing can be called in an expression" + METHODS[expression]


ATTRIBUTES = [
    "''.__class__",
    "vars.__class__",
    "vars['__class__']",
    "env.update",
    "vars.words.append",
    "vars.words['__len__']",
    "(1).real",
    "vars.keys",
    "vars | map(attribute='__class__') | list",
    "vars.words | map(attribute='append') | list",
    "[vars.words] | sum(attribute='__len__')",
    "vars.sites | selectattr('__class__') | list",
    "vars.words | join(attribute='__doc__')",
    "vars.words | attr('append')",
    "vars.words | map('attr', 'append') | list",
    "'' | xmlattr",
    "self",
    "self.__init__",
    "caller",
    "loop",
    "cycler",
    "namespace",
    "lipsum.__globals__",
    "vars | pprint",
    "vars.words | random",
    "'%s' | format(1)",
    "'%s' % 1",
    "'%99999999d' is even",
    "'%99999999d' is divisibleby(5)",
]


@pytest.mark.parametrize("expression", ATTRIBUTES)
def test_no_attribute_leads_out_of_plain_data(expression: str) -> None:
    refusal(expression)


HUGE = [
    "'a'.ljust(10**9)",
    "'a'.center(10**9)",
    "'a'.zfill(10**9)",
    "'\t'.expandtabs(10**9)",
    "'a' * 10**9",
    "[1] * 10**9",
    "10 ** 10 ** 10",
    "2 ** 1024 ** 2",
    "1024 ** 1024",
    "'a' | center(10**9)",
    "'a' | indent(10**9)",
    "[1] | tojson(indent=10**9)",
    "[1] | batch(10**9, 'x') | list",
    "[1] | slice(10**9) | list",
    "'a' | wordwrap(1, wrapstring=big)",
    "big | urlize",
    "'%999999999d' | format(1)",
    "1.5 | round(10**9)",
    "5 | round(-10**9)",
    "'9' * 5000",
    "9" * 5000,
    "big | replace('a', big)",
    "big | replace('', big)",
    "big | list",
    "big | split('')",
    "big | split('a')",
    "list | join(big)",
    "big ~ big",
    "big + big",
    "list + list",
    "[list, list] | map('join', big) | list",
    "[list] * 2",
    "many | map('replace', '', big) | list",
    "many | join(big)",
    "[many, many, many, many, many, many] | map('map', 'string') | map('list') | list",
    "many | map('string') | map('tojson') | map('tojson') | map('tojson') | map('tojson') | map('tojson') | list",
    "quotes" + " | tojson" * 40,
    "'%' | urlencode" + " | urlencode" * 200,
    "[" * 500 + "]" * 500,
    "(" * 5000 + "1" + ")" * 5000,
    "not " * 500 + "true",
    "- " * 5000 + "1",
    "1" + " + 1" * 5000,
    "deep" + " | list" * 500,
    " and ".join(["list == other"] * 200),
    " and ".join(["'b' not in big"] * 20),
    "[" + ", ".join(["list | sort"] * 200) + "]",
    "[" + ", ".join(["big"] * 200) + "]",
    "{'a': big, 'b': big}",
    "list | sum(start=list)",
]
LARGE = {
    "big": "a" * 900_000,
    "list": ["xy"] * 30_000,
    "other": ["xy"] * 30_000,
    "many": ["a"] * 50_000,
    "quotes": '"' * 100,
    "deep": [[1]],
    "vars": {},
}


@pytest.mark.parametrize("expression", HUGE, ids=range(len(HUGE)))
def test_what_would_be_huge_is_refused_before_it_is_made(expression: str) -> None:
    scope = Scope(dict(LARGE))
    with pytest.raises(CannotEvaluate):
        evaluate(f"{{{{ {expression} }}}}", scope)
    assert scope.budget.left >= budget.TOGETHER - budget.EACH - 2 * budget.LARGEST


def test_refusing_takes_no_memory() -> None:
    """In a process of its own, whose memory nothing else has used before."""
    program = (
        "import resource\nfrom tests.unit.test_vmfile_expressions import HUGE, LARGE, CannotEvaluate, Scope, evaluate\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for expression in HUGE:\n    try:\n        evaluate('{{ ' + expression + ' }}', Scope(dict(LARGE)))\n"
        "    except CannotEvaluate:\n        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 100 * MIB


def doubling(rounds: int, first: str, how: str) -> str:
    lines = [f'  v0: "{first}"'] + [f'  v{n}: "{how.format(n - 1)}"' for n in range(1, rounds)]
    return BOX + "vars:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("how", ["{{{{ vars.v{0} ~ vars.v{0} }}}}", "{{{{ vars.v{0} }}}}{{{{ vars.v{0} }}}}",
                                 "{{{{ [vars.v{0}, vars.v{0}] }}}}",
                                 "{{{{ vars.v{0} | tojson | tojson }}}}"])  # fmt: skip
def test_variables_that_double_each_other_are_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(vmfile.VmfileInvalid, match=r"too (large|deep) a value"):
        load(tmp_path, doubling(60, "'ab'", how))


def test_all_expressions_of_a_vmfile_together_have_a_budget(tmp_path: Path) -> None:
    lines = [f"  v{n}: '{{{{ vars.text ~ {n} }}}}'\n" for n in range(200)]
    text = BOX + "vars:\n  text: " + "a" * 900_000 + "\n" + "".join(lines)
    with pytest.raises(vmfile.VmfileInvalid) as caught:
        load(tmp_path, text)
    assert "the Vmfile's expressions are too much work together" in str(caught.value)


def test_a_fleet_with_long_scripts_is_within_the_budget(tmp_path: Path) -> None:
    script = "".join(f"    echo {{{{ machine.name }}}} {line}\n" for line in range(500))
    text = BOX + f"provision:\n- shell:\n   inline: |\n{script}machines:\n  web: {{count: 200}}\n"
    assert len(load(tmp_path, text).machines) == 200


def test_a_long_chain_of_variables_is_no_depth(tmp_path: Path) -> None:
    chain = "".join(f"  v{n}: '{{{{ vars.v{n + 1} + 1 }}}}'\n" for n in range(3000))
    assert load(tmp_path, f"{BOX}vars:\n{chain}  v3000: 0\n").vars["v0"] == 3000


def test_each_circle_of_variables_is_told_once(tmp_path: Path) -> None:
    text = BOX + "vars: {a: '{{ vars.b }}', b: '{{ vars.a }}', c: '{{ vars.c ~ 1 }}', d: '{{ vars.a }}'}\n"
    with pytest.raises(vmfile.VmfileInvalid) as caught:
        load(tmp_path, text)
    assert [fault.message for fault in caught.value.faults] == ["uses itself: a → b → a", "uses itself: c → c"]


def test_a_variable_may_be_chosen_by_another(tmp_path: Path) -> None:
    text = BOX + "vars: {x: '{{ vars[vars.which] }}', which: y, y: '{{ 1 + 1 }}', z: '{{ vars.x }}'}\n"
    assert load(tmp_path, text).vars["z"] == 2


NAMES = st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=5)
DATA = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3))


def walk(found: Any) -> None:
    """All that can be reached is of exactly these types."""
    if type(found) is list:
        for item in found:
            walk(item)
    elif type(found) is dict:
        for key, item in found.items():
            assert type(key) is str
            walk(item)
    else:
        assert type(found) in PLAIN, type(found)


class Live(str):
    """A value with more to it than its text."""

    __slots__ = ("owner",)


@given(st.dictionaries(NAMES, st.text(max_size=5).map(Live), max_size=3), DATA)
def test_every_scope_holds_plain_data_alone(environ: dict[str, str], data: Any) -> None:
    project = project_scope(Path("/p"), environ)
    walk(project.names)
    walk(machine_scope(project, "web-1", "web", 1, Each("1", data)).names)


def test_the_scopes_that_a_vmfile_is_read_in_hold_plain_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Scope] = []
    render = Templates.render

    def seeing(self: Templates, node: Scalar) -> Any:
        seen.append(self.scope)
        return render(self, node)

    monkeypatch.setattr(Templates, "render", seeing)
    text = BOX + (
        "vars: {a: {b: [1, '{{ env | length }}']}, s: '{{ project.root }}', n: '{{ vars.a }}'}\n"
        "message: '{{ vars.s }}'\n"
        "remotes: {lab: {hosts: {h: 10.0.0.1}}}\n"
        "provision: [{shell: {inline: 'echo {{ vars.s }}'}, when: 'vars.a is mapping'}]\n"
        "machines:\n  web: {for_each: {eu: {c: 2}}, cpus: '{{ each.value.c }}', hostname: '{{ machine.name }}'}\n"
    )
    load(tmp_path, text, environ={"X": Live("y")})
    assert any("each" in scope.names for scope in seen)
    assert any("machine" not in scope.names and scope.names["vars"] for scope in seen)
    for scope in seen:
        walk(scope.names)


PIECES = st.sampled_from([
    *("vars", ".a", ".b", ".words", "['b']", "[0]", "[1:]", "(", ")", "[", "]", "{", "}", ":", ",", " ~ ", " + "),
    *(" * ", " ** ", " % ", "-", "not ", " in ", " == ", " is ", " if ", " else ", "'a'", "9", "1.5", "none", "true"),
    *(f" | {name}" for name in filters.FILTERS), *TESTS, "map", "select", ".__class__", "('__class__')", "x=",
])  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, min_size=1, max_size=9).map("".join))
def test_any_expression_gives_plain_data_or_is_refused(expression: str) -> None:
    try:
        found = value(expression)
    except CannotEvaluate:
        return
    walk(found)


@given(DATA)
def test_no_value_is_the_same_object_as_in_the_scope(data: Any) -> None:
    names = {"vars": {"x": [data]}}
    for expression in ("{{ vars.x }}", "{{ vars['x'] }}"):
        found = evaluate(expression, Scope(names))
        found.append("changed")
        assert names == {"vars": {"x": [data]}}


def test_every_node_of_jinja2_that_stands_in_expressions_is_decided() -> None:
    kinds = {kind for kind in vars(jinja2.nodes).values() if isinstance(kind, type)}
    concrete = {kind for kind in kinds if issubclass(kind, jinja2.nodes.Expr) and not getattr(kind, "abstract", False)}
    refused = {kind.__name__ for kind in concrete - set(EVALUATE)}
    for name in ("NSRef", "Extension", "InternalName", "TemplateReference"):
        assert not any(kind.__name__ == name for kind in EVALUATE)
    assert {"TemplateData", "NSRef"} <= refused
    with pytest.raises(CannotEvaluate, match="NSRef is not supported"):
        Evaluation(Scope()).value(jinja2.nodes.NSRef("a", "b"))


def test_the_budget_of_an_expression_is_its_own() -> None:
    left = Budget()
    left.spend(budget.EACH - 1)
    with pytest.raises(CannotEvaluate, match="too much work for an expression"):
        left.spend(2)
    left.begin()
    left.spend(2)


def test_the_manual_names_every_filter_and_test() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "vmfile.md").read_text()
    section = manual.partition("## Expressions")[2].partition("\n## ")[0]
    from vmctl.vmfile.expressions import DEFINED, OVER

    missing = [name for name in (*filters.FILTERS, *OVER, *TESTS, *DEFINED) if f"`{name}`" not in section]
    assert missing == []
