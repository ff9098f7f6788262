"""libvirt's errors, and what is hinted at beside them."""

from __future__ import annotations

import ast
from pathlib import Path

import vmctl_libvirt
from vmctl_libvirt.libvirt_errors import virsh


class Remote:
    def getURI(self) -> str:  # noqa: N802  libvirt's name
        return "qemu+ssh://root@lab/system"


def test_a_hint_asks_the_hypervisor_that_vmctl_uses() -> None:
    assert virsh(Remote(), "dumpxml", "my web") == "virsh -c qemu+ssh://root@lab/system dumpxml 'my web'"
    written = [
        (path.name, node.value)
        for path in Path(*vmctl_libvirt.__path__).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("virsh ")
    ]
    assert written == []
