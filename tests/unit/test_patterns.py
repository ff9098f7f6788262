"""Patterns of hosts mean what they mean to Ansible, which is asked, or are refused."""

import pytest
from ansible.plugins.inventory import expand_hostname_range
from hypothesis import given
from hypothesis import strategies as st

from vmctl import patterns
from vmctl.patterns import BadPattern

NAMES: dict[str, tuple[str, ...]] = {
    name: (name,) for name in ("k8s-1", "k8s-2", "k8s-3", "web-a", "web-b", "web-c", "db01", "db02", "db10")
}
NAMES |= {"k8s": ("k8s-1", "k8s-2", "k8s-3"), "west": ("k8s-1", "web-a", "db01")}

MEANT = {
    "k8s-[1:3]": "k8s-1 k8s-2 k8s-3",
    "k8s-[1:3:2]": "k8s-1 k8s-3",
    "web-[a:c]": "web-a web-b web-c",
    "db[01:02]": "db01 db02",
    "k8s[0]": "k8s-1",
    "k8s[-1]": "k8s-3",
    "k8s[1:2]": "k8s-2 k8s-3",
    "k8s[1:]": "k8s-2 k8s-3",
    "all": "k8s-1 k8s-2 k8s-3 web-a web-b web-c db01 db02 db10",
    "*": "k8s-1 k8s-2 k8s-3 web-a web-b web-c db01 db02 db10",
    "k8s-[12]": "k8s-1 k8s-2",
    "w*": "k8s-1 web-a web-b web-c db01",
    "web-*:&west": "web-a",
    "!k8s": "web-a web-b web-c db01 db02 db10",
    "k8s:!k8s-2": "k8s-1 k8s-3",
    "k8s,db01": "k8s-1 k8s-2 k8s-3 db01",
    "&west:!web-*": "k8s-1 db01",
    r"~db\d{2}": "db01 db02 db10",
    "k8s-[1:2]:web-[a:b]": "k8s-1 k8s-2 web-a web-b",
}


@pytest.mark.parametrize("text", [text for text in MEANT if MEANT[text]])
def test_what_a_pattern_means(text: str) -> None:
    assert patterns.select(patterns.split(text), NAMES) == tuple(MEANT[text].split())


BAD = {
    "k8s-[1:5]": "nothing is called 'k8s-4', of 'k8s-[1:5]'",
    "k8s-[3:1]": "invalid range '[3:1]' in 'k8s-[3:1]'; write [1:3], [01:10] or [a:c]",
    "k8s-[1:]": "invalid range '[1:]' in 'k8s-[1:]'; write [1:3], [01:10] or [a:c]",
    "k8s-[a:3]": "invalid range '[a:3]' in 'k8s-[a:3]'; write [1:3], [01:10] or [a:c]",
    "db[01:9]": "invalid range '[01:9]' in 'db[01:9]'; write [1:3], [01:10] or [a:c]",
    "k8s-[1:3:0]": "invalid range '[1:3:0]' in 'k8s-[1:3:0]'; write [1:3], [01:10] or [a:c]",
    "k8s-[1:999999999]": "'k8s-[1:999999999]' stands for more than 10000 names",
    "a[1:99999]b[1:99999]": "'a[1:99999]b[1:99999]' stands for more than 10000 names",
    "k8s[3]": "'k8s' has 3 members, so there is no 'k8s[3]'",
    "k8s[1:9]": "'k8s' has 3 members, so there is no 'k8s[1:9]'",
    "mail": "nothing matches 'mail'",
    "!mail": "nothing matches 'mail'",
    "~(": "invalid regular expression '~(': missing ), unterminated subpattern at position 0",
}


@pytest.mark.parametrize("text", BAD)
def test_what_means_nothing_or_less_than_it_says_is_refused(text: str) -> None:
    with pytest.raises(BadPattern) as caught:
        patterns.select(patterns.split(text), NAMES)
    assert str(caught.value) == BAD[text]


ENDS = st.integers(0, 120).map(str) | st.sampled_from(["01", "001", "010", "a", "c", "z", "A", "Z", "", "x1"])


@given(ENDS, ENDS, st.sampled_from(["", ":1", ":2", ":7"]), st.sampled_from(["web-{}", "{}", "r{}-x", "r{}-[1:2]"]))
def test_a_range_is_expanded_as_ansible_expands_it(first: str, last: str, step: str, shape: str) -> None:
    text = shape.format(f"[{first}:{last}{step}]")
    try:
        theirs = expand_hostname_range(text)
    except Exception:  # noqa: BLE001  it raises several kinds
        theirs = []
    try:
        ours = patterns.expand(text)
    except BadPattern:
        ours = []
    assert ours == theirs
