from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.openssh_server import Sshd, free_port
from vmctl import interrupt, key_pairs, ssh
from vmctl.driver import Address
from vmctl.errors import Interrupted, Unreachable
from vmctl.events import Event, Progress, ignore
from vmctl.login import Login
from vmctl.ssh import waiting
from vmctl.wait import Clock, Deadline

PROMPT = "Debian GNU/Linux 12 web ttyS0\n\nweb login: "
FINISHED = "[   31.4] cloud-init[612]: Cloud-init v. 22.4.2 finished at Mon, 24 Nov 2026. Up 31.40 seconds\n"


@dataclass
class FastClock:
    """Time that passes five hundred times as fast as it is slept."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.now += 0.02
        return self.now

    def sleep(self, seconds: float) -> None:
        interrupt.check()
        self.slept.append(seconds)
        self.now += seconds
        time.sleep(seconds / 500)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FastClock:
    monkeypatch.setattr("vmctl.ssh.probe.SLICE", 0.001)
    return FastClock()


def wait_for(
    usual: Login,
    *,
    console: Path,
    clock: Clock | None = None,
    timeout: float = 300.0,
    address: Callable[[], Address | None] | None = None,
    login: Callable[[Address], Login] | None = None,
    alive: Callable[[], bool] = lambda: True,
    report: Callable[[Event], None] = ignore,
    tells: bool = False,
    booted: bool = False,
) -> ssh.Connection:
    return waiting.await_ssh(
        machine="web",
        address=address or (lambda: usual.address),
        login=login or (lambda _address: usual),
        alive=alive,
        deadline=Deadline.after(timeout, clock),
        console=console,
        report=report,
        tells=tells,
        booted=booted,
    )


@pytest.fixture
def console(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A server that gives each connection to ``answer``."""
    held: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            with contextlib.suppress(OSError):
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield Address(host="127.0.0.1", port=listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def silence(_connection: socket.socket) -> None:
    """Accept, and say nothing: what user-mode NAT does while the guest boots."""


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def test_a_server_that_answers_is_logged_in_to(sshd: Sshd, console: Path) -> None:
    with wait_for(sshd.login, console=console) as connection:
        assert connection.run("echo in").stdout == "in\n"
        assert connection.login == sshd.login


def test_a_server_that_comes_late_is_found(sshd: Sshd, console: Path, clock: FastClock) -> None:
    addresses = iter([None] * 5 + [Address(host="127.0.0.1", port=free_port())] * 3)
    events: list[Event] = []
    connection = waiting.await_ssh(
        machine="web",
        address=lambda: next(addresses, sshd.login.address),
        login=lambda address: sshd.but(address=address),
        alive=lambda: True,
        deadline=Deadline.after(300, clock),
        console=console,
        report=events.append,
    )
    connection.close()
    assert connection.login.address == sshd.login.address
    assert all(isinstance(event, Progress) and event.unit == "seconds" for event in events)
    assert len(events) > 1


def test_silent_tries_do_not_hold_up_the_one_that_is_answered(sshd: Sshd, console: Path) -> None:
    seen: list[socket.socket] = []

    def answer_the_second(connection: socket.socket) -> None:
        seen.append(connection)
        if len(seen) > 1:
            forward(connection, sshd.login.address)

    with server(answer_the_second) as address:
        started = time.monotonic()
        with wait_for(sshd.but(address=address), console=console) as connection:
            assert connection.run("echo in").stdout == "in\n"
        assert time.monotonic() - started < 4
    assert len(seen) == 2


def forward(connection: socket.socket, address: Address) -> None:
    upstream = socket.create_connection((address.host, address.port))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        if target is connection:
            upstream.close()

    for pair in ((connection, upstream), (upstream, connection)):
        threading.Thread(target=copy, args=pair, daemon=True).start()


def test_the_deadline_tells_how_far_it_got_and_what_the_console_said(
    sshd: Sshd, console: Path, clock: FastClock
) -> None:
    console.write_bytes(b"\x1b[2J\x1b[01;32mLoading Linux 6.1 ...\x1b[0m\r\n\x00\x07[  1.0] still at it\r\n")
    login = sshd.but(address=Address(host="127.0.0.1", port=free_port()))
    with pytest.raises(Unreachable) as caught:
        wait_for(login, console=console, clock=clock, timeout=20)
    error = caught.value
    assert error.brief == f"web: no SSH within 20 s: no SSH server answers on 127.0.0.1:{login.address.port}"
    assert error.details.splitlines()[1:] == ["Loading Linux 6.1 ...", "[  1.0] still at it"]
    assert error.hint == "vmctl logs web"
    assert error.exit_code == 5


def test_no_address(sshd: Sshd, console: Path, clock: FastClock) -> None:
    with pytest.raises(Unreachable, match="it has no address") as caught:
        waiting.await_ssh(
            machine="web", address=lambda: None, login=lambda _address: sshd.login, alive=lambda: True,
            deadline=Deadline.after(5, clock), console=console, report=ignore,
        )  # fmt: skip
    assert caught.value.details == "Its serial console shows nothing."


def test_a_machine_that_went_off_ends_the_wait(sshd: Sshd, console: Path, clock: FastClock) -> None:
    with server(silence) as address, pytest.raises(Unreachable, match="went off before SSH answered"):
        wait_for(sshd.but(address=address), console=console, clock=clock, alive=lambda: False)
    assert clock.now < 1010


def test_a_hypervisor_that_is_slow_to_ask_is_asked_less_often(sshd: Sshd, console: Path, clock: FastClock) -> None:
    asked: list[float] = []

    def alive() -> bool:
        asked.append(clock.now)
        clock.now += 1.0  # as VBoxManage takes it on a busy machine
        return True

    with server(silence) as address, pytest.raises(Unreachable):
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=40.0, alive=alive)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(asked) > 2
    assert all(10 <= pause < 15 for pause in pauses)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("[ 1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\n", "kernel panicked"),
        ("You are in emergency mode. After logging in, type\n", "emergency mode"),
        ("ALERT!  UUID=1 does not exist.  Dropping to a shell!\n\n(initramfs) ", "did not find the root file system"),
        ("Generating rdsosreport\n\ndracut:/# ", "did not find the root file system"),
        ("error: unknown filesystem.\nEntering rescue mode...\ngrub rescue> ", "boot loader"),
        ("SYSLINUX 6.04\nCould not find kernel image: linux\nboot: ", "boot loader"),
        ("SeaBIOS (version 1.16)\nNo bootable device.\n", "nothing to boot from"),
        ("BdsDxe: No bootable option or device was found.\n", "nothing to boot from"),
    ],
)
def test_a_boot_that_ended_badly_ends_the_wait(
    sshd: Sshd, console: Path, clock: FastClock, text: str, meaning: str
) -> None:
    console.write_text(text)
    with server(silence) as address, pytest.raises(Unreachable, match=meaning) as caught:
        wait_for(sshd.but(address=address), console=console, clock=clock)
    assert clock.now < 1010
    assert text.strip().splitlines()[0] in caught.value.details


@pytest.mark.parametrize("answer", [silence, hang_up])
@pytest.mark.parametrize("evidence", [(FINISHED, waiting.SURE), (PROMPT, waiting.UNSURE)])
def test_a_booted_guest_without_an_ssh_server_is_told_early(
    sshd: Sshd,
    console: Path,
    clock: FastClock,
    answer: Callable[[socket.socket], None],
    evidence: tuple[str, float],
) -> None:
    text, patience = evidence
    console.write_text(text)
    with (
        server(answer) as address,
        pytest.raises(Unreachable, match="has booted, but no SSH server answers") as caught,
    ):
        wait_for(sshd.but(address=address), console=console, clock=clock)
    assert patience <= clock.now - 1000 < patience + 10
    assert "serial console" in caught.value.details


CI_INFO = """\
[   21.5] cloud-init[401]: ci-info: ++++Net device info++++
[   21.5] cloud-init[401]: ci-info: | Device |   Up  |  Address  |    Mask   | Scope  | Hw-Address |
[   21.5] cloud-init[401]: ci-info: |  eth0  | {up} | {address} | {mask} | global | 52:54:00:12:34:56 |
[   21.5] cloud-init[401]: ci-info: |   lo   |  True | 127.0.0.1 | 255.0.0.0 |  host  |     .      |
"""
DOWN = CI_INFO.format(up="False", address=".", mask=".")
LINK_ONLY = CI_INFO.format(up="True", address="fe80::5054:ff:fe12:3456/64", mask=".")
UP = CI_INFO.format(up="True", address="10.0.2.15", mask="255.255.255.0")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            DOWN,
            "{down}eth0 has no address (link down)",
        ),
        (
            LINK_ONLY,
            "{down}eth0 has no address (link up)",
        ),
        (UP, "no SSH server answers on {}; on its console: eth0 has 10.0.2.15 (link up)"),
        (DOWN + UP, "no SSH server answers on {}; on its console: eth0 has 10.0.2.15 (link up)"),
        (
            "[FAILED] Failed to start networking.service - Raise network interfaces.\n",
            "{down}it says 'Failed to start networking.service - Raise network interfaces.'",
        ),
        (
            "[ *** ] A start job is running for Wait for Network to be Configured (3s / no limit)\n" * 2,
            "{down}it says 'A start job is running for Wait for Network to be Configured (3s / no limit)'",
        ),
        (
            "[ 3.1] e1000: ens3 NIC Link is Down\n",
            "{down}ens3 (link down)",
        ),
        (
            "[ 3.1] IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready\n",
            "no SSH server answers on {}; on its console: eth0 (link up)",
        ),
        (DOWN + "[    0.0] Linux version 6.1\n", "no SSH server answers on {}"),
        ("[FAILED] Failed to start cups.service - CUPS Scheduler.\n", "no SSH server answers on {}"),
    ],
)
def test_what_the_console_tells_of_the_network_is_named(
    sshd: Sshd, console: Path, clock: FastClock, text: str, what: str
) -> None:
    console.write_text(text)
    with server(silence) as address, pytest.raises(Unreachable) as caught:
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=20)
    place = f"{address.host}:{address.port}"
    down = f"its network has not come up, so nothing answers on {place}; on its console: "
    assert caught.value.brief == f"web: no SSH within 20 s: {what.format(place, down=down)}"


def test_a_network_that_fails_is_named_when_the_guest_has_booted(sshd: Sshd, console: Path, clock: FastClock) -> None:
    console.write_text(DOWN + FINISHED)
    with server(silence) as address, pytest.raises(Unreachable, match="has booted, but its network has not come up"):
        wait_for(sshd.but(address=address), console=console, clock=clock)


def wait_for_a_slow_guest(sshd: Sshd, console: Path, clock: FastClock, *, ssh_after: float) -> ssh.Connection:
    """Wait for a guest whose console says after 200 s that it has booted, and that has SSH ``ssh_after`` s later."""
    closed = Address(host="127.0.0.1", port=free_port())

    def address() -> Address:
        if clock.now >= 1200:
            console.write_text(FINISHED)
        return sshd.login.address if clock.now >= 1200 + ssh_after else closed

    return waiting.await_ssh(
        machine="web", address=address, login=lambda at: sshd.but(address=at), alive=lambda: True,
        deadline=Deadline.after(900, clock), console=console, report=ignore,
    )  # fmt: skip


def test_a_guest_that_boots_slowly_may_be_as_slow_with_ssh(sshd: Sshd, console: Path, clock: FastClock) -> None:
    """Three emulated guests at once on two cores: SSH came more than 15 s after booting was over."""
    wait_for_a_slow_guest(sshd, console, clock, ssh_after=70).close()


def test_a_slow_guest_without_an_ssh_server_is_told_before_the_deadline(
    sshd: Sshd, console: Path, clock: FastClock
) -> None:
    with pytest.raises(Unreachable, match="has booted, but no SSH server answers"):
        wait_for_a_slow_guest(sshd, console, clock, ssh_after=1000)
    assert 90 < clock.now - 1200 < 115


def test_a_guest_that_still_boots_is_never_given_up_early(sshd: Sshd, console: Path, clock: FastClock) -> None:
    console.write_text("[   12.0] systemd[1]: Starting something slow\n")
    with server(hang_up) as address, pytest.raises(Unreachable, match="no SSH within 250 s"):
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=250)


@pytest.mark.parametrize("earlier", [FINISHED, PROMPT, "Kernel panic - not syncing: x\n"])
@pytest.mark.parametrize("begin", ["[  9.1] reboot: Restarting system\n", "[    0.000000] Linux version 6.1.0-32\n"])
def test_an_earlier_boot_on_the_console_proves_nothing(
    sshd: Sshd, console: Path, clock: FastClock, earlier: str, begin: str
) -> None:
    console.write_text(f"{earlier}\n{begin}[    1.0] still at it\n")
    with server(hang_up) as address, pytest.raises(Unreachable, match="no SSH within 100 s"):
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=100)


def test_something_else_than_ssh_is_named(sshd: Sshd, console: Path, clock: FastClock) -> None:
    def speak_http(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with (
        server(speak_http) as address,
        pytest.raises(Unreachable, match=r"something else than SSH .*'HTTP/1\.0 400 Bad Request'"),
    ):
        wait_for(sshd.but(address=address), console=console, clock=clock)
    assert clock.now - 1000 < waiting.UNSURE + 10


def test_a_server_with_too_many_connections_is_given_time(sshd: Sshd, console: Path, clock: FastClock) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"Exceeded MaxStartups\r\n")

    with server(refuse) as address, pytest.raises(Unreachable, match="no SSH within 100 s: ") as caught:
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=100)
    assert "something else" not in caught.value.brief


def test_a_wrong_host_key_is_told_when_it_stays(sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path) -> None:
    console.write_text(FINISHED)
    known = tmp_path / "known_hosts"
    ssh.write_known_hosts(known, "web", key_pairs.ensure(tmp_path / "other"))
    with pytest.raises(Unreachable, match="another SSH host key") as caught:
        wait_for(sshd.but(known_hosts=known), console=console, clock=clock)
    assert caught.value.hint.startswith("vmctl logs web ")
    assert "expected is the key in" in caught.value.details
    assert clock.now - 1000 < waiting.SURE + 10


def test_a_refused_key_is_told_when_it_stays(sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path) -> None:
    key_pairs.ensure(tmp_path / "other")
    with pytest.raises(Unreachable, match="refuses user") as caught:
        wait_for(sshd.but(key=tmp_path / "other"), console=console, clock=clock)
    assert "cloud-init" in caught.value.details
    assert waiting.UNSURE <= clock.now - 1000 < waiting.UNSURE + 10


def test_a_refused_key_is_told_though_the_server_shuts_us_out_for_it(
    sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path
) -> None:
    """As OpenSSH does from 9.8 on."""
    key_pairs.ensure(tmp_path / "other")
    tried: list[Address] = []

    def login(address: Address) -> Login:
        tried.append(address)
        return sshd.but(key=tmp_path / "other")

    with server(lambda connection: connection.sendall(b"Not allowed at this time\r\n")) as shut:
        with pytest.raises(Unreachable, match="refuses user"):
            wait_for(
                sshd.login,
                console=console,
                clock=clock,
                address=lambda: shut if tried else sshd.login.address,
                login=login,
            )
        assert len(tried) == 1
    assert clock.now - 1000 < waiting.UNSURE + 10


def test_a_guest_that_refuses_us_is_not_asked_so_often_that_it_shuts_us_out(
    sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path
) -> None:
    """Each refusal costs five seconds, and more than fifteen at a time are a lock-out (PerSourcePenalties)."""
    key_pairs.ensure(tmp_path / "other")
    tried: list[float] = []

    def login(_address: Address) -> Login:
        tried.append(clock.now)
        return sshd.but(key=tmp_path / "other")

    with pytest.raises(Unreachable, match="refuses user"):
        wait_for(sshd.login, console=console, clock=clock, login=login)
    debt, before = 0.0, tried[0]
    for at in tried:
        debt, before = max(0.0, debt - (at - before)) + 5, at
        assert debt <= 15
    assert len(tried) > 5


def test_what_the_guest_says_of_its_seed_is_told(sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path) -> None:
    stated = "no seed of vmctl's on /dev/vdb (foreign or damaged)"
    console.write_text(
        f"Linux version 6.1\n[    9.1] vmctl-seed: of the boot before\nLinux version 6.1\n"
        f"[   12.345678] vmctl-seed: {stated}\n[ OK ] Reached target Multi-User System.\n"
    )
    key_pairs.ensure(tmp_path / "other")
    with pytest.raises(Unreachable, match="refuses user") as caught:
        wait_for(sshd.but(key=tmp_path / "other"), console=console, clock=clock)
    assert caught.value.details.startswith(f"The guest says of its seed: {stated}\n")
    assert "The last lines of its serial console:" in caught.value.details


def test_a_key_that_is_refused_at_first_is_tried_again(
    sshd: Sshd, console: Path, clock: FastClock, tmp_path: Path
) -> None:
    key_pairs.ensure(tmp_path / "other")
    logins = iter([sshd.but(key=tmp_path / "other")] * 2)
    connection = waiting.await_ssh(
        machine="web", address=lambda: sshd.login.address, login=lambda _address: next(logins, sshd.login),
        alive=lambda: True, deadline=Deadline.after(300, clock), console=console, report=ignore,
    )  # fmt: skip
    connection.close()
    assert connection.login.key == sshd.login.key


@pytest.mark.usefixtures("clean_interrupt")
def test_the_wait_is_interruptible(sshd: Sshd, console: Path) -> None:
    timer = threading.Timer(0.2, interrupt.request, [signal.SIGINT])
    timer.start()
    with server(silence) as address, pytest.raises(Interrupted):
        wait_for(sshd.but(address=address), console=console)
    timer.join()


STARTS = (
    "[\x1b[0;32m  OK  \x1b[0m]          Starting \x1b[0;1;39mssh.service\x1b[0m - OpenBSD Secure Shell server...\r\n"
)


@pytest.mark.parametrize(("tells", "former", "most"), [(True, "", 4), (True, STARTS, 4), (False, "", 40)])
def test_a_guest_that_tells_when_its_server_starts_is_not_asked_before(
    sshd: Sshd, console: Path, clock: FastClock, *, tells: bool, former: str, most: int
) -> None:
    """Each try while its network is down is another process of its server's, all of them at once when that is up."""
    tries: list[float] = []
    console.write_text(former)
    began = clock.now

    def boot(_event: Event) -> None:
        if clock.now - began > 25:
            console.write_text(former + STARTS)

    with server(lambda _connection: tries.append(clock.now - began)) as address, pytest.raises(Unreachable):
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=40, report=boot, tells=tells)
    before = [at for at in tries if at < 25]
    assert 1 <= len(before) <= most
    assert len(before) > 15 or tells
    assert len([at for at in tries if at > 30]) >= 4  # once a second


def test_a_guest_that_went_on_is_not_pressed(sshd: Sshd, console: Path, clock: FastClock) -> None:
    """Its console says nothing; a busy one answered none of many tries, each of which took it time."""
    tries: list[float] = []
    with server(lambda _connection: tries.append(clock.now)) as address, pytest.raises(Unreachable):
        wait_for(sshd.but(address=address), console=console, clock=clock, timeout=40, booted=True)
    assert 2 <= len(tries) <= 6
