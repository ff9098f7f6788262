"""`vmctl adopt`."""

from __future__ import annotations

from vmctl.cli.app import App, command


@command()
def adopt(app: App) -> None:
    """Make this directory the project that it was before it was restored, copied or cloned again.

    Moving a project needs nothing of the kind. The machines are then this directory's, and no longer those of the
    directory that vmctl knew; nothing is made or removed.
    """
    from vmctl import machine_names
    from vmctl.store import project_identity

    place = project_identity.adopt(app.vmfile_path().parent, app.home, report=app.report)
    names = machine_names.recorded(place.layout(app.home))
    text = f"{place.root} has the machines {', '.join(names)} now" if names else f"{place.root} has no machines"
    app.done({"changed": True, "project": place.root, "machines": list(names)}, text)
