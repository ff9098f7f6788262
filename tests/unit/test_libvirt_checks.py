"""What libvirt says of the firmware that it can choose from."""

from __future__ import annotations

import pytest

from vmctl_libvirt.checks import offers_uefi
from vmctl_libvirt.libvirt_errors import translated

CAPABILITIES = """
<domainCapabilities>
  <os supported='yes'>
    <enum name='firmware'>{}</enum>
    <loader supported='yes'><enum name='type'><value>rom</value><value>pflash</value></enum></loader>
  </os>
</domainCapabilities>
"""


@pytest.mark.parametrize(
    ("kinds", "offered"), [("<value>efi</value>", True), ("<value>bios</value><value>efi</value>", True), ("", False)]
)
def test_whether_there_is_a_uefi(kinds: str, *, offered: bool) -> None:
    assert offers_uefi(CAPABILITIES.format(kinds)) is offered


@pytest.mark.parametrize(
    "stated",
    [
        "operation failed: Unable to find any firmware to satisfy 'efi'",
        "operation failed: Unable to find 'efi' firmware that is compatible with the current configuration",
    ],
)
def test_a_firmware_that_went_away_has_a_hint(stated: str) -> None:
    assert translated(ValueError(stated), "start web").hint == "sudo apt-get install ovmf"
