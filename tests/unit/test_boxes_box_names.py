from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl.boxes import box_names
from vmctl.errors import UsageError


@given(st.text(min_size=1, max_size=40))
def test_a_name_becomes_one_path_component_and_back(name: str) -> None:
    encoded = box_names.to_path(name)
    assert PurePosixPath("store", encoded).parts == ("store", encoded)
    assert encoded not in {".", ".."}
    assert box_names.from_path(encoded) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/images/jammy.qcow2", "jammy"),
        ("https://cloud.example/x/debian-12-generic.qcow2.xz?download=1", "debian-12-generic"),
        ("/a/My Image.img", "My-Image"),
        ("https://example.org/", "box"),
        ("/x/..", "box"),
        ("/x/.qcow2", "box"),
    ],
)
def test_an_image_without_a_name_is_called_after_its_file(address: str, name: str) -> None:
    assert box_names.of_address(address) == name


@given(st.text(max_size=200))
def test_a_name_made_from_an_address_is_valid(address: str) -> None:
    box_names.check(box_names.of_address("/" + address))


@pytest.mark.parametrize("name", ["", "../x", "a/b/c", "-x", "a b", "x" * 101, "a/", "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid box name"):
        box_names.check(name)


def test_architectures_have_one_word_each() -> None:
    assert [box_names.architecture(one) for one in ("amd64", "x86_64", "arm64")] == ["x86_64", "x86_64", "aarch64"]
