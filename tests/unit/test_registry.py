"""Which provider a machine gets, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from vmctl import registry
from vmctl.driver import Driver, Host
from vmctl.errors import UsageError
from vmctl.powers import Snapshots, Suspends
from vmctl.registry import NoProvider
from vmctl.testing import FakeDriver


@pytest.fixture
def usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Callable[[str], Driver]]:
    """Providers with what speaks against each; gives the function that makes drivers."""

    def provide(problems: dict[str, str]) -> Callable[[str], Driver]:
        monkeypatch.setattr(registry, "names", lambda: tuple(sorted(problems)))

        def make(name: str) -> Driver:
            driver = FakeDriver(Host(home=tmp_path))
            driver.problem = problems[name]
            return driver

        return make

    return provide


def test_the_built_in_providers_are_those_that_are_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {name: tuple(value.split(":")) for name, value in project["entry-points"][registry.GROUP].items()}
    assert declared == registry.BUILT_IN
    declared = {name: tuple(value.split(":")) for name, value in project["entry-points"][registry.KNOBS].items()}
    assert declared == registry.BUILT_IN_KNOBS


@pytest.mark.parametrize(
    ("wanted", "option", "variable", "existing", "chosen"),
    [
        ("auto", None, None, None, ("a", "first usable")),
        ("auto", None, None, "b", ("b", "exists there")),
        ("auto", None, "b", None, ("b", "VMCTL_PROVIDER")),
        ("b", None, "a", None, ("b", "Vmfile")),
        ("a", "b", "a", None, ("b", "--provider")),
        ("auto", None, "a", "b", ("b", "exists there")),
        ("b", "b", "a", "b", ("b", "exists there")),
        ("b", None, None, "b", ("b", "exists there")),
    ],
)
def test_the_order_of_wishes(  # noqa: PLR0917  pytest passes parameters by name
    usable: Callable[[dict[str, str]], Callable[[str], Driver]],
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    option: str | None,
    variable: str | None,
    existing: str | None,
    chosen: tuple[str, str],
) -> None:
    if variable:
        monkeypatch.setenv("VMCTL_PROVIDER", variable)
    driver = usable({"a": "", "b": ""})
    assert registry.choose(wanted, option=option, existing=existing, driver=driver) == chosen


@pytest.mark.parametrize(("wanted", "option"), [("a", None), ("auto", "a"), ("b", "a")])
def test_a_machine_is_never_made_under_a_second_provider(
    usable: Callable[[dict[str, str]], Callable[[str], Driver]], wanted: str, option: str | None
) -> None:
    with pytest.raises(UsageError, match="exists under the provider 'b'") as caught:
        registry.choose(wanted, option=option, existing="b", driver=usable({"a": "", "b": ""}))
    assert caught.value.hint.startswith("vmctl up --provider b ")


def test_the_first_that_can_be_used(usable: Callable[[dict[str, str]], Callable[[str], Driver]]) -> None:
    driver = usable({"a": "not installed", "b": ""})
    assert registry.choose("auto", option=None, existing=None, driver=driver) == ("b", "first usable; a: not installed")


def test_where_none_can_be_used_each_says_why(usable: Callable[[dict[str, str]], Callable[[str], Driver]]) -> None:
    driver = usable({"a": "not installed", "b": "KVM holds the processor"})
    with pytest.raises(NoProvider) as caught:
        registry.choose("auto", option=None, existing=None, driver=driver)
    assert caught.value.details == "a: not installed\nb: KVM holds the processor"
    assert caught.value.hint.startswith("make libvirt "), "which starts it as well"


def test_what_is_announced_has_the_whole_protocol(tmp_path: Path) -> None:
    for name in registry.names():
        driver: object = registry.make(name, Host(home=tmp_path))
        words = {word for word in vars(Driver) if not word.startswith("_")} | {*Driver.__annotations__}
        assert {word for word in words if not hasattr(type(driver), word)} == set()
        assert isinstance(driver, Snapshots)
        assert isinstance(driver, Suspends) == (name != "incus")  # a container's memory stays where it is


def test_virtual_machines_go_before_containers() -> None:
    assert registry.names()[:3] == ("libvirt", "virtualbox", "incus")


def test_a_misspelt_provider(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'virtualbox'"):
        registry.make("virtalbox", Host(home=tmp_path))
