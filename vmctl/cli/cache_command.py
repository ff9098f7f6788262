"""`vmctl cache`: what machines have left for others: layers, memory, copies of boxes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from vmctl.cli.app import App, Subcommands, command
from vmctl.cli.report import table

if TYPE_CHECKING:
    from vmctl.lifecycle.layer_cache import Known
    from vmctl.spec import Cache


@click.group(cls=Subcommands)
def cache() -> None:
    """Show and remove what is kept for machines to come: layers, memory, copies of boxes."""


@command("list", query=True)
def list_(app: App) -> None:
    """Show what is kept: whose, with what in it, how large, when last used, what it saves."""
    from vmctl.lifecycle import layer_cache
    from vmctl.units import ago, readable

    known = sorted(layer_cache.all_known(app.home, app.report), key=lambda one: -one.used)
    rows = [
        (
            one.layer.key[:12],
            one.kind,
            f"{one.note.project} {one.note.machine}" if one.note else "-" if one.is_box else "?",
            ", ".join(one.note.provisioners) if one.note else "-" if one.is_box else "?",
            readable(one.layer.size),
            ago(time.time() - one.used) if one.used else "?",
            f"{one.note.seconds:.0f} s" if one.note else "-" if one.is_box else "?",
            "yes" if one.layer.needed else "no",
        )
        for one in known
    ]
    header = ("KEY", "KIND", "OF", "WITH", "SIZE", "USED", "SAVES", "IN USE")
    data = {
        "layers": [{"memory": one.layer.memory, **_object(one)} for one in known if not one.is_box],
        "boxes": [_object(one) for one in known if one.is_box],
    }
    app.result(data, table(header, rows) if rows else "nothing is kept")


@command("du", query=True)
def du(app: App) -> None:
    """Show how much is kept on disk, by provider and kind."""
    from vmctl.lifecycle import layer_cache
    from vmctl.units import readable

    sizes: dict[str, int] = {}
    kinds: dict[tuple[str, str], int] = {}
    for one in layer_cache.all_known(app.home, app.report):
        sizes[one.provider] = sizes.get(one.provider, 0) + one.layer.size
        kinds[one.provider, one.kind] = kinds.get((one.provider, one.kind), 0) + one.layer.size
    total = sum(sizes.values())
    rows = [(provider, kind, readable(size)) for (provider, kind), size in sorted(kinds.items())]
    by_kind = {kind: sum(size for (_, each), size in kinds.items() if each == kind) for _, kind in sorted(kinds)}
    data = {"providers": sizes, "kinds": by_kind, "bytes": total}
    app.result(data, table(("PROVIDER", "KIND", "ON DISK"), [*rows, ("all", "", readable(total))]))


@command("prune")
@click.option("--all", "everything", is_flag=True, help="Remove all that nothing stands on, not only what is too much.")
def prune(app: App, *, everything: bool) -> None:
    """Remove what is beyond the size and age that `cache:` in your own Vmfile allows; nothing that is in use."""
    from vmctl.lifecycle import layer_cache
    from vmctl.units import readable

    removed = layer_cache.prune_all(app.home, _budget(everything=everything), app.report)
    freed = sum(layer.size for layer in removed)
    data = {"changed": bool(removed), "removed": [layer.key for layer in removed], "bytes": freed}
    app.done(data, f"removed {len(removed)}, {readable(freed)}" if removed else "nothing to remove")


def _budget(*, everything: bool) -> Cache:
    from vmctl import vmfile
    from vmctl.spec import Cache

    return Cache(size=0) if everything else vmfile.user_cache()


for _each in (list_, du, prune):
    cache.add_command(_each)


def _object(one: Known) -> dict[str, Any]:
    note = one.note
    return {
        "key": one.layer.key,
        "provider": one.provider,
        "bytes": one.layer.size,
        "used": one.used or None,
        "in_use": one.layer.needed,
        "project": note.project if note else None,
        "machine": note.machine if note else None,
        "provisioners": list(note.provisioners) if note else None,
        "seconds": note.seconds if note else None,
    }
