"""Templates of `file` entries: Jinja2's language, and nothing that leads from data to the host."""

from pathlib import Path, PurePosixPath

import pytest

from vmctl.errors import VmctlError
from vmctl.provision.file_templates import filled, plain

NAMES = {"vars": {"ports": [80, 443], "by": {"a": 1}, "name": "Web", "path": PurePosixPath("/srv")}}


def fill(text: str, directory: Path = Path("/nowhere")) -> str:
    return filled(directory / "x.j2", text, NAMES)


def test_the_whole_language_is_there(tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_text("[{{ port }}]")
    text = (
        "{% macro line(port) %}listen {{ port }};{% endmacro %}"
        "{% for port in vars.ports %}{{ line(port) }}{% if not loop.last %} {% endif %}"
        "{% include 'part.j2' %}{% endfor %}\n"
        "{% set found = namespace(n=0) %}{% for key, n in vars.by.items() %}{% set found.n = n %}{% endfor %}"
        "{{ found.n }}"
        " {{ vars.name.lower() }} {{ vars.by.get('b', 'no') }} {{ '-' * 3 }} {{ range(3) | list }} {{ vars.path }}"
        " {{ '%02d' | format(7) }}{{ 'a\nb' | indent(2) }}\n"
    )
    assert fill(text, tmp_path) == "listen 80; [80]listen 443;[443]\n1 web no --- [0, 1, 2] /srv 07a\n  b\n"


def test_the_names_are_copies_of_plain_types() -> None:
    copy = plain({**NAMES, "deep": ({"x": None},)})
    assert copy["vars"]["path"] == "/srv"
    assert copy["deep"] == [{"x": None}]
    assert copy["vars"]["ports"] is not NAMES["vars"]["ports"]


ATTACKS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ vars.path.parent }}",
    "{{ vars.path.write_text('x') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (vars.name | attr('__class__')).__mro__ }}",
    "{% set _ = vars.by.update({'a': 2}) %}",
    "{% set _ = vars.ports.append(1) %}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.ljust(999999999) }}",
    "{{ 'a'.center(999999999) }}",
    "{{ 'a'.zfill(999999999) }}",
    "{{ '\t'.expandtabs(999999999) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 'a' | center(999999999) }}",
    "{{ 'a\nb' | indent(999999999) }}",
    "{{ [1] | tojson(indent=999999999) }}",
    "{{ [1] | batch(999999999, 'x') | list }}",
    "{{ [1] | slice(999999999) | list }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%*d' | format(999, 1) }}",
    "{{ 'a' * 999999999 }}",
    "{{ 999999999 * [1] }}",
    "{{ '%999999999d' % 1 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ range(999999999) | list }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ vars.name }}{% endfor %}{% endfor %}",
    "{% include '../../../../etc/passwd' %}",
    "{{ vars.missing }}",
    "{{ 1 / 0 }}",
    "{% for %}",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_what_is_not_data_or_would_be_huge_is_a_fault_of_the_template(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmctl.provision.file_templates.LARGEST", 10_000)
    with pytest.raises(VmctlError, match=r"the template /nowhere/x\.j2(:1)? has a fault"):
        fill(text)
