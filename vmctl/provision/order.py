"""In which order provisioners run over several machines, so that each runs once over all machines that need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmctl.spec import Provisioner


def batches(work: Mapping[str, Sequence[Provisioner]]) -> list[tuple[Provisioner, tuple[str, ...]]]:
    """Provisioners with the machines (by name) that they run on.

    Every machine gets its own provisioners in its own order. Two are the same when all that they say is the same;
    one whose values differ between machines (``{{ machine.name }}``) runs once for each value.
    """
    queues = {name: list(items) for name, items in work.items() if items}
    found: list[tuple[Provisioner, tuple[str, ...]]] = []
    while queues:
        heads = [queue[0] for queue in queues.values()]
        # One that nobody else needs later, so that all who need it get it now.
        pick = next((head for head in heads if not any(head in queue[1:] for queue in queues.values())), heads[0])
        members = tuple(name for name, queue in queues.items() if queue[0] == pick)
        for name in members:
            queues[name].pop(0)
        queues = {name: queue for name, queue in queues.items() if queue}
        found.append((pick, members))
    return found
