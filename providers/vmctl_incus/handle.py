"""One instance, as it was when it was fetched; what is changed through it is that very one.

A name is no identity: an instance can be removed, and another made under its name, after it was fetched and before it
is changed. The server checks changes of the configuration itself (``If-Match``, with the ETag of that).
It does not check starting, stopping and removing, so before those that come a while later, it is fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from vmctl.driver import NotOurs, State, Tag
from vmctl.errors import WrongState
from vmctl.wait import Deadline, until
from vmctl_incus import identity, observation
from vmctl_incus.api import Api, resource
from vmctl_incus.identity import Mark
from vmctl_incus.requesting import PRECONDITION, ServerError, is_absent

PATIENCE = 120.0
"""Seconds for the server to be through with what it does to an instance already."""
Body = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What to write, from the instance as it is."""


class Handle:
    """One instance with vmctl's tag."""

    def __init__(self, api: Api, found: dict[str, Any], etag: str, mark: Mark) -> None:
        self._api = api
        self._etag = etag
        self.found = found
        self.mark = mark

    @property
    def name(self) -> str:
        """The server's name for it."""
        return str(self.found["name"])

    @property
    def path(self) -> str:
        """Where the API has it."""
        return resource("instances", self.name)

    @property
    def state(self) -> State:
        """What it did when it was looked at."""
        return observation.state(self.found)

    @property
    def is_off(self) -> bool:
        """Whether it was off then."""
        return observation.is_off(self.found)

    @property
    def config(self) -> dict[str, str]:
        """Its own configuration."""
        config: dict[str, str] = self.found["config"]
        return config

    def after_operations(self) -> Handle:
        """Itself, once nothing that was begun on it earlier goes on: the server lists it while it still unpacks it."""
        self._api.await_others(self.path)
        self.again()
        return self

    def patch(self, config: Mapping[str, str]) -> None:
        """Set keys of its configuration."""
        self._write("PATCH", lambda _found: {"config": dict(config)})

    def put(self, body: Body) -> None:
        """Write its configuration, devices and profiles anew; what ``body`` leaves out stays."""

        def whole(found: Mapping[str, Any]) -> dict[str, Any]:
            kept = ("architecture", "config", "devices", "ephemeral", "profiles", "description")
            return {key: found[key] for key in kept} | body(found)

        self._write("PUT", whole)

    def act(self, action: str, *, force: bool = False) -> None:
        """Start, stop, unfreeze."""
        body = {"action": action, "force": force, "timeout": -1}
        self._patiently(lambda: self._api.change("PUT", f"{self.path}/state", body))

    def bring_down(self) -> None:
        """Have it off, and nothing begun on it goes on; one that only seems off, for it starts, is cut off then."""
        if self.is_off:
            self.after_operations()
        if not self.is_off:
            self.cut()
            self.after_operations()  # a start that a killed vmctl began may end later than its instance

    def cut(self) -> None:
        """Stop it now; it may stop by itself meanwhile."""
        try:
            self.act("stop", force=True)
        except ServerError:
            with suppress(Gone):
                self.again()
                if not self.is_off:
                    raise

    def delete(self) -> None:
        """Remove it, which must be off."""
        with suppress(Gone):
            self.again()
            try:
                self._patiently(lambda: self._api.change("DELETE", self.path))
            except ServerError as error:
                if not is_absent(error):
                    raise

    def again(self) -> None:
        """Look again.

        Raises:
            Gone: it is not there any more.
            WrongState: another one got its name.
        """
        seen = self._api.found(self.path)
        if seen is None:
            raise Gone(f"{self.mark.name} was removed meanwhile", hint="vmctl status")
        if _identity(seen[0]) != _identity(self.found):
            raise WrongState(
                f"{self.mark.name} was removed meanwhile, and another machine has its name: nothing was changed",
                hint="vmctl list",
            )
        self.found, self._etag = seen

    def _write(self, method: str, body: Body) -> None:
        def tried() -> None:
            try:
                self._api.change(method, self.path, body(self.found), only=self._etag)
            except ServerError as error:
                if error.code != PRECONDITION:
                    raise
                self.again()  # the server itself writes there, when an instance has ended
                self._api.change(method, self.path, body(self.found), only=self._etag)

        self._patiently(tried)
        self.again()

    def _patiently(self, act: Callable[[], Any]) -> None:
        """Do it once the server is through with what it does to the instance already."""

        def tried() -> bool:
            try:
                act()
            except ServerError as error:
                if not error.is_busy:
                    raise
                self.again()
                return False
            return True

        until(tried, Deadline.after(PATIENCE), f"{self._api.endpoint.url} to be through with the machine")


class Gone(WrongState):
    """The instance was removed after it was looked at."""


def find(api: Api, name: str, tag: Tag) -> Handle | None:
    """The machine's instance; None = there is none.

    Raises:
        NotOurs: it bears another tag, or none.
        MemberOffline: it is on a member of the cluster that does not answer.
    """
    seen = observation.fetch(api, name)
    if seen is None:
        return None
    mark = identity.read(seen[0].get("config"))
    if mark is None or not mark.tag.is_same(tag) or mark.name != name:
        raise NotOurs(api.product, name, mark.tag if mark else None)
    return Handle(api, *seen, mark)


def kept(api: Api, name: str) -> Handle:
    """What is no machine, and so has no machine's mark: a layer or a ground, of that name.

    Raises:
        WrongState: there is none.
    """
    seen = api.found(resource("instances", name))
    if seen is None:
        raise WrongState(f"{name} was removed meanwhile", hint="vmctl up")
    return Handle(api, *seen, Mark(tag=Tag(project="", machine="", version=""), name=name))


def _identity(found: Mapping[str, Any]) -> tuple[str, str]:
    """What another instance of the same name has another one of."""
    return str(found["config"].get("volatile.uuid", "")), str(found.get("created_at", ""))
