from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.virtualbox_transcripts import (
    BRIDGED,
    HOSTONLY,
    LONG_LISTING,
    SHOWN_6_1,
    SHOWN_7_2,
    UUID,
    VERSION_WITHOUT_DRIVER,
)
from vmctl.driver import State
from vmctl.errors import VmctlError
from vmctl_virtualbox import answers
from vmctl_virtualbox.answers import Rule, Shown
from vmctl_virtualbox.vboxmanage import parse_version


def test_values_hold_quotes_umlauts_and_lines() -> None:
    shown = answers.properties(SHOWN_7_2)
    assert shown["name"] == 'Grün "q" it\'s'
    assert shown["uartmode1"] == "file,/tmp/con \"so'le.log"
    assert shown["disks-0-0"] == "/tmp/vms/a/root.vdi"
    assert shown["memory"] == "1024"
    assert shown["description"] == 'vmctl: {"a": 1}\nVMState="running"\nsecond'
    assert shown["GuestMemoryBalloon"] == "0"


def test_what_a_description_says_is_no_state() -> None:
    assert answers.properties(SHOWN_7_2)["VMState"] == "poweroff"


def test_older_versions_escape_nothing() -> None:
    shown = answers.properties(SHOWN_6_1)
    assert shown["name"] == 'old "quoted" name'
    assert shown["VMState"] == "saved"
    assert shown["SATA-0-0"] == "/home/u/VirtualBox VMs/old/disk.vdi"
    assert shown["description"] == "two\nlines"


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    answers.properties(text)
    answers.long_states(text)
    list(answers.records(text))
    answers.extradata(text)


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_an_escaped_value_comes_back(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert answers.properties(f'name="{escaped}"\nmemory=1\n') == {"name": value, "memory": "1"}


def test_the_long_listing_tells_each_state_once() -> None:
    assert answers.long_states(LONG_LISTING) == {
        UUID: Shown("powered off", "2026-11-24T03:38:23.689000000"),
        "21111111-2222-5333-8444-555555555555": Shown("running", "2026-11-24T03:40:00.000000000"),
        "31111111-2222-5333-8444-555555555555": Shown("inaccessible", ""),
    }


def test_a_listing_in_another_language_tells_nothing() -> None:
    german = LONG_LISTING.replace("State:", "Status:").replace("Name:", "Bezeichnung:")
    assert answers.long_states(german) == {}


def test_listed_machines() -> None:
    text = f'"Grün "q" it\'s" {{{UUID}}}\n"<inaccessible>" {{31111111-2222-5333-8444-555555555555}}\n'
    assert answers.listed(text) == {
        UUID: 'Grün "q" it\'s',
        "31111111-2222-5333-8444-555555555555": "<inaccessible>",
    }


def test_forwarding_rules() -> None:
    assert list(answers.rules(answers.properties(SHOWN_7_2))) == [
        Rule("dns", "udp", "127.0.0.1", 5353, 53),
        Rule("ssh", "tcp", "127.0.0.1", 2222, 22),
        Rule("any", "tcp", "", 8080, 80),
    ]


def test_damaged_rules_are_left_out() -> None:
    assert list(answers.rules({"Forwarding(0)": "x,tcp", "Forwarding(1)": "a,b,tcp,,80,,22"})) == [
        Rule("a,b", "tcp", "", 80, 22)
    ]


def test_shares_and_extradata_and_records() -> None:
    assert answers.shares(answers.properties(SHOWN_7_2)) == ("project",)
    assert answers.extradata('Key: a, Value: {"k": 1}\nKey: b/c, Value: x, Value: y\nnoise\n') == {
        "a": '{"k": 1}',
        "b/c": "x, Value: y",
    }
    assert [record["Name"] for record in answers.records(HOSTONLY + BRIDGED)] == [
        "vboxnet0",
        "vboxnet1",
        "eth0",
        "virbr7",
    ]


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("running", State.RUNNING),
        ("paused", State.PAUSED),
        ("poweroff", State.STOPPED),
        ("powered off", State.STOPPED),
        ("saved", State.SAVED),
        ("aborted", State.CRASHED),
        ("aborted-saved", State.SAVED),
        ("gurumeditation", State.CRASHED),
        ("guru meditation", State.CRASHED),
        ("stuck", State.CRASHED),
        ("starting", State.STARTING),
        ("restoring", State.STARTING),
        ("stopping", State.STOPPING),
        ("saving", State.STOPPING),
        ("teleported", State.STOPPED),
        ("live snapshotting", State.RUNNING),
        ("restoring snapshot", State.STOPPING),
        ("inaccessible", State.UNKNOWN),
        ("hibernated-by-9.0", State.UNKNOWN),
    ],
)
def test_states(word: str, state: State) -> None:
    assert answers.state(word) is state


def test_the_version_may_follow_a_warning() -> None:
    version = parse_version(VERSION_WITHOUT_DRIVER)
    assert version.numbers == (7, 0, 20)
    assert version.warning.startswith("The character device /dev/vboxdrv does not exist.")
    assert parse_version("6.1.50r161033\n").warning == ""
    assert str(parse_version("7.2.22_Debianr175245\n")) == "7.2.22"


def test_an_answer_without_a_version_is_an_error() -> None:
    with pytest.raises(VmctlError, match="no version"):
        parse_version("VBoxManage: command not understood")
