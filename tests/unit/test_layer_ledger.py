from __future__ import annotations

import time
from pathlib import Path

import pytest

from vmctl.layout import HomeLayout
from vmctl.store import files, layer_ledger
from vmctl.store.layer_ledger import LayerNote

NOTE = LayerNote(
    provider="fake", where="here", project="/p", machine="web", provisioners=("a", "b"), seconds=1.5, used=1.0
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> HomeLayout:
    return HomeLayout(tmp_path)


def test_what_was_added_is_read_and_forgotten(home: HomeLayout) -> None:
    assert layer_ledger.read(home) == {}
    layer_ledger.add(home, "k1", NOTE)
    layer_ledger.add(home, "k2", NOTE)
    assert layer_ledger.read(home) == {"k1": NOTE, "k2": NOTE}
    layer_ledger.forget(home, ["k1", "unknown"])
    assert layer_ledger.read(home) == {"k2": NOTE}


def test_use_is_remembered_of_what_is_known(home: HomeLayout) -> None:
    layer_ledger.add(home, "k1", NOTE)
    before = time.time()
    layer_ledger.touch(home, ["k1", "unknown"])
    notes = layer_ledger.read(home)
    assert notes.keys() == {"k1"}
    assert notes["k1"].used >= before


@pytest.mark.parametrize("text", ["{", "[]", '{"layers": {"k": {"used": "x"}}}', "{}"])
def test_a_damaged_file_is_as_good_as_lost(home: HomeLayout, text: str) -> None:
    home.layers.write_text(text)
    assert layer_ledger.read(home) == {}
    layer_ledger.add(home, "k1", NOTE)
    assert layer_ledger.read(home) == {"k1": NOTE}


def test_a_vmctl_that_is_killed_while_it_forgets_leaves_the_note_to_forget_by(
    home: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer_ledger.add(home, "k1", NOTE)
    files.write(home.memory("k1").key, "a private key")

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            layer_ledger.forget(home, ["k1"])
    assert layer_ledger.read(home) == {"k1": NOTE}
    layer_ledger.forget(home, ["k1"])
    assert files.names(home.memories) == []
