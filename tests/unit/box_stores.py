"""Two stores of boxes: of who sends some, and of who gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmctl.layout import HomeLayout


@pytest.fixture
def mine(private_home: Path) -> HomeLayout:
    return HomeLayout(private_home)


@pytest.fixture
def theirs(private_home: Path) -> HomeLayout:
    """A colleague's store."""
    return HomeLayout(private_home / "colleague")
