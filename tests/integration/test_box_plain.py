"""A plain cloud image, with nothing of vmctl's in it, comes up with the seed alone."""

from __future__ import annotations

import pytest

from tests.host import plain_image
from tests.integration.conftest import ProjectDirectory
from vmctl.spec import GIB

pytestmark = pytest.mark.integration

VMFILE = """\
box: plain
memory: 768MiB
disk: 4GiB
hostname: lone.test
synced_folders: [./src:/srv/src]
networks: [{name: back, ip: 192.168.56.77}]
boot_timeout: 600
"""


def test_a_plain_cloud_image_needs_the_seed_alone(project: ProjectDirectory) -> None:
    image = plain_image.image()
    project.vmctl("box", "add", str(image), "--name", "plain", "--version", "1")
    project.write("Vmfile", VMFILE)
    project.write("src/hello", "hello\n")
    project.vmctl("up")
    assert project.ssh("hostname -f; cat /srv/src/hello; sudo id -un").split() == ["lone.test", "hello", "root"]
    assert int(project.ssh("df --output=size -B1 / | tail -1")) > 3 * GIB
    assert "192.168.56.77/24" in project.ssh("ip -brief address show eth1")
    assert project.ssh("cloud-init status --wait").strip().endswith("status: done")
    project.vmctl("reload")
    assert project.ssh("cat /srv/src/hello; wc -l <~/.ssh/authorized_keys").split() == ["hello", "1"]
