from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmctl import json_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested deeper than 100 levels"),
        ("9" * 5000, "a number of 5000 digits"),
        ("[1e400]", "1e400 is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[NaN]", "NaN is no number"),
        ("-" + "9" * 1000, "a number of 1001 digits"),
    ],
)
def test_what_cannot_be_worked_with_is_one_kind_of_error(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        json_text.loads(text)


def test_a_hundred_levels_are_read() -> None:
    assert json.dumps(json_text.loads("[" * 100 + "]" * 100)) == "[" * 100 + "]" * 100


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'{"a\ud800": ["\uDFFFb", "\ud83d\ude00", "\\ud800"]}', {"a\ufffd": ["\ufffdb", "\U0001f600", r"\ud800"]}),
        (b'"a\xed\xa0\x80"', "a\ufffd"),
        (b'"\xed\x95\x9c"', "\ud55c"),
        ('"\udc80"', "\ufffd"),
    ],
)
def test_half_a_character_is_none(text: str | bytes, value: object) -> None:
    assert json_text.loads(text) == value


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@settings(deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_other_values_are_read_as_they_were_written(value: object) -> None:
    assert json_text.loads(json.dumps(value)) == value
