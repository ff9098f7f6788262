"""What holds for any size, any port, any merge, and any text at all."""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.vmfile_cases import bad, load
from vmctl import vmfile
from vmctl.spec import Project
from vmctl.vmfile import compose
from vmctl.vmfile.faults import Faults, Rejected
from vmctl.vmfile.nodes import Source, from_plain, merge, plain
from vmctl.vmfile.port_keys import parse_port
from vmctl.vmfile.quantities import UNITS, Mismatch, format_size, parse_duration, parse_size
from vmctl.vmfile.scalars import resolve
from vmctl.vmfile.scope import Scope
from vmctl.vmfile.templating import _evaluated, evaluate
from vmctl.vmfile.writing import to_yaml

SOURCE = Source("Vmfile", Path("/"))
PORTS = st.integers(1, 65535)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NAMES = st.text("abcxyz", min_size=1, max_size=3)
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3))
OPTIONS = st.dictionaries(NAMES, st.dictionaries(NAMES, SCALARS, max_size=3), max_size=3)
TABLES = st.dictionaries(NAMES, VALUES, max_size=4)


@given(st.integers(0, 2**60))
def test_a_size_survives_being_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]


@given(st.text() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_what_is_no_size_is_a_mismatch(value: Any) -> None:
    with contextlib.suppress(Mismatch):
        assert isinstance(parse_size(value), int)


@given(st.text())
def test_a_duration_is_never_negative(value: str) -> None:
    with contextlib.suppress(Mismatch):
        assert parse_duration(value) >= 0


@given(PORTS | st.just("auto"), PORTS, st.ip_addresses(), st.sampled_from(["tcp", "udp"]))
def test_a_port_is_read_back(host: int | str, guest: int, address: Any, protocol: str) -> None:
    shown = f"[{address}]" if address.version == 6 else str(address)
    port = parse_port(f"{shown}:{host}:{guest}/{protocol}")
    assert (port.host or "auto", port.guest, port.protocol) == (host, guest, protocol)
    assert port.host_ip == str(address)


@given(st.text("0123456789:/[]aut.-cpd ") | st.integers())
def test_what_is_no_port_is_a_mismatch(value: Any) -> None:
    with contextlib.suppress(Mismatch):
        port = parse_port(value)
        assert 1 <= port.guest <= 65535
        assert port.host is None or 1 <= port.host <= 65535


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The rule, said another way."""
    both = [key for key in base if isinstance(base[key], dict) and isinstance(over.get(key), dict)]
    return {**base, **over, **{key: merged(base[key], over[key]) for key in both}}


@given(TABLES, TABLES)
def test_merging_is_by_key_and_the_later_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    assert plain(merge(from_plain(base, SOURCE), from_plain(over, SOURCE))) == merged(base, over)


@given(OPTIONS, OPTIONS, OPTIONS)
def test_layers_may_be_merged_from_either_end(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    a, b, c = (from_plain(value, SOURCE) for value in (one, two, three))
    assert plain(merge(merge(a, b), c)) == plain(merge(a, merge(b, c)))


@given(TABLES)
def test_written_yaml_reads_back_the_same(value: dict[str, Any]) -> None:
    node = compose.compose(to_yaml(value), SOURCE, Faults())
    assert (plain(node) if node else {}) == value
    assert not value or type(node).__name__ == "Table"


@example(".INF")
@example("-.Inf")
@example(".NaN")
@given(st.text("0123456789.+-eExobtrufalsn~INF_:"))
def test_a_number_is_what_yaml_1_2_calls_one(text: str) -> None:
    value = resolve(text)
    if isinstance(value, float):
        assert math.isnan(value) or value == float(text.lower().replace(".inf", "inf"))
    elif isinstance(value, int) and not isinstance(value, bool):
        assert value == (int(text, 0) if text[:2] in {"0o", "0x"} else int(text))


SCOPE = Scope({"vars": {"a": 1, "b": "x", "c": {"d": None}}, "env": {}})
PIECES = st.sampled_from(["{{ vars.a }}", "{{vars.b}}", "{{ vars.c.d }}", "{{ vars.c }}", "t ", "}}", "{#", "%", "\n"])


@given(st.lists(PIECES, max_size=5).map("".join).filter(lambda text: "{{" in text))
def test_names_looked_up_without_jinja2_are_what_jinja2_gives(template: str) -> None:
    assert evaluate(template, SCOPE) == _evaluated(template, SCOPE)


def attempt(root: Path, text: str) -> None:
    """Nothing but a project or VmfileInvalid may come out."""
    faults: tuple[vmfile.Fault, ...] = ()
    try:
        assert isinstance(load(root, text), Project)
    except vmfile.VmfileInvalid as error:
        faults = error.faults
    assert all(fault.place.line >= 1 and fault.place.column >= 1 for fault in faults)


ANY_TEXT = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@ANY_TEXT
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.text("{}[]:-&*!|>'\"%@#\n\t abox", max_size=60))
def test_any_text_at_all(root: Path, text: str) -> None:
    attempt(root, text)


@ANY_TEXT
@given(data=st.data())
def test_any_change_of_a_vmfile(root: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([case.text for case in bad()]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    piece = data.draw(st.text("{}[]:-&*!'\"\n .~0x1e", max_size=4))
    attempt(root, text[:start] + piece + text[end:])


KEYS = [
    "box",
    "cpus",
    "memory",
    "machines",
    "ports",
    "synced_folders",
    "networks",
    "provision",
    "vars",
    "ready",
    "user",
    "depends_on",
    "for_each",
    "triggers",
    "before",
    "run",
    "libvirt",
    "message",
    "hostname",
    "count",
    "shell",
    "ansible",
    "inline",
    "playbook",
    "name",
]
TREES = st.recursive(
    SCALARS | st.sampled_from(["debian-12", "{{ vars.a }}", "{{ 1 + 1 }}", ".:/a", "8080:80", "lan", "1GiB"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below, max_size=4),
)


@ANY_TEXT
@given(tree=st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6))
def test_any_tree_of_known_keys(root: Path, tree: dict[str, Any]) -> None:
    attempt(root, yaml.safe_dump(tree, allow_unicode=True))


@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "? ", "!x [", "&a [", "a:\n "])
def test_deep_nesting_does_not_end_the_process(opener: str) -> None:
    faults = Faults()
    with pytest.raises(Rejected):
        compose.compose(opener * 20_000, SOURCE, faults)
    assert faults.found


def test_pyyaml_without_libyaml_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [case.text for case in bad() if case.note != "not YAML"]
    with_libyaml = [_outcome(text) for text in texts]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert [_outcome(text) for text in texts] == with_libyaml


def _outcome(text: str) -> Any:
    faults = Faults()
    node = compose.compose(text, SOURCE, faults)
    return (plain(node), [leaf.place for leaf in node.walk()]) if node else None


BRACES = st.text("{}%#'\" .x\r\n\\-if", max_size=12) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
HOLDING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | BRACES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(BRACES.filter(bool), below, max_size=3),
)


@ANY_TEXT
@example(holding="{{", word="{{.Names}}")
@example(holding="{\r{{", word="{\r{{")
@example(holding=" {% \n", word="{% if x %}'{{' \\ \r\n{{")
@example(holding=[{"{{": None}], word="list")
@example(holding={"{{key": [{"{{": "{%"}, None, True, 1.5]}, word="{#")
@given(
    holding=st.dictionaries(st.text("abc{", min_size=1), HOLDING, max_size=3) | HOLDING, word=BRACES.filter(str.strip)
)
def test_what_config_writes_is_read_back_as_it_was(root: Path, holding: Any, word: str) -> None:
    stated = {
        "box": "debian-12",
        "synced_folders": [{"host": "/", "guest": "/a", "type": "rsync", "exclude": [word]}],
        "vars": {"held": holding},
        "message": word,
        "triggers": [{"before": "up", "run": ["echo", word], "on": "host"}],
        "ready": [{"command": word, "hint": word}],
        "provision": [
            {"name": "a", "shell": {"inline": word, "args": [word], "env": {"A": word}}},
            {"name": "b", "ansible": {"playbook": "site.yml", "extra_vars": {"b": holding}, "tags": [word]}},
        ],
    }
    (root / "site.yml").touch()
    first = load(root, to_yaml(stated))
    assert first.vars == {"held": holding}
    assert first.message == word
    assert vmfile.effective(first)["machines"]["default"]["provision"][0]["shell"]["inline"] == word
    again = load(root, to_yaml(vmfile.effective(first)))
    assert vmfile.effective(again) == vmfile.effective(first)
