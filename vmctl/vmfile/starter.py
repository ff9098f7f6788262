"""The Vmfile that ``vmctl init`` writes: short, and every line that people change first is there."""

from __future__ import annotations

from pathlib import Path

from vmctl.errors import UsageError
from vmctl.layout import VMFILE
from vmctl.vmfile.box_refs import parse_box
from vmctl.vmfile.nodes import Source
from vmctl.vmfile.quantities import Mismatch
from vmctl.vmfile.writing import scalar

DEFAULT_BOX = "debian-12"

STARTER = """\
# yaml-language-server: $schema={schema}
# What every key means: docs/vmfile.md of vmctl, or `vmctl schema`. Check this file with `vmctl validate`.
box: {box}
cpus: 2
memory: 1GiB

# This directory is /project in the machine. More folders: HOST:GUEST[:ro]
# synced_folders: [.:/project, ./data:/srv/data:ro]

# Ports of this host that lead into the machine: HOST:GUEST
# ports: ["8080:80"]

# What sets the machine up, once, in this order.
# provision:
#   - shell: {{inline: apt-get update}}
#   - ansible: playbooks/site.yml

# Several machines instead of one; what stands above holds for each.
# machines:
#   web: {{depends_on: [db]}}
#   db: {{memory: 2GiB}}
"""


def starter(box: str, schema: str) -> str:
    """The text of a new Vmfile.

    Args:
        box: what the machine starts from.
        schema: where editors find the JSON Schema, from the Vmfile's directory.
    """
    return STARTER.format(box=scalar(box), schema=schema)


def checked_box(box: str, directory: Path) -> str:
    """``box`` as it may stand in a Vmfile of the directory.

    Raises:
        UsageError: it names no box.
    """
    try:
        parse_box(box, Source(VMFILE, directory))
    except Mismatch as error:
        raise UsageError(str(error), hint=f"vmctl init {DEFAULT_BOX}") from error
    return box
