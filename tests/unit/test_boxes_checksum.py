import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmctl.boxes.checksum import Checksum, ChecksumMismatch, Hashing
from vmctl.errors import UsageError


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_bare_hex_tells_its_algorithm_by_its_length(algorithm: str) -> None:
    value = hashlib.new(algorithm, b"x").hexdigest()
    assert (
        Checksum.parse(value.upper()) == Checksum.parse(f"{algorithm.upper()}: {value}") == Checksum(algorithm, value)
    )


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "0" * 63, "sha512:" + "0" * 64, "md5:" + "0" * 31, "0" * 32, "g" * 64]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid checksum"):
        Checksum.parse(text)


@given(st.lists(st.binary(max_size=50), max_size=5), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_data_that_streams_by_is_hashed(pieces: list[bytes], algorithm: str) -> None:
    whole = b"".join(pieces)
    hashing = Hashing(Checksum(algorithm, hashlib.new(algorithm, whole).hexdigest()))
    for piece in pieces:
        hashing.update(piece)
    hashing.verify("it")
    assert (hashing.size, hashing.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


def test_a_mismatch_shows_both() -> None:
    hashing = Hashing(Checksum("sha512", "0" * 128))
    with pytest.raises(ChecksumMismatch, match="the file does not have the checksum") as caught:
        hashing.verify("the file")
    assert f"expected sha512:{'0' * 128}" in caught.value.details
    assert hashlib.sha512().hexdigest() in caught.value.details
