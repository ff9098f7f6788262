import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vmctl import interrupt, process, user_environment, wait
from vmctl.errors import Interrupted
from vmctl.process import ProgramMissing


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_returns_output_and_status() -> None:
    done = process.run(python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (done.status, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_passes_input_and_environment(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['X'], sys.stdin.read())"
    done = process.run(python(code), input="hé", env={"X": "a b"}, cwd=tmp_path)
    assert done.stdout == f"{tmp_path} a b hé\n"


def test_a_failure_carries_argv_status_and_output() -> None:
    with pytest.raises(process.CommandFailed) as caught:
        process.run(python("import sys; print('boom', file=sys.stderr); sys.exit(3)"), hint="try again")
    assert caught.value.completed.status == 3
    assert "ended with status 3" in caught.value.brief
    assert "boom" in caught.value.details
    assert "$ " in caught.value.details
    assert caught.value.hint == "try again"


def test_unchecked_failures_are_returned() -> None:
    assert process.run(python("raise SystemExit(4)"), check=False).status == 4


def test_a_missing_program_is_named() -> None:
    with pytest.raises(process.ProgramMissing, match="no-such-program"):
        process.run(["no-such-program"])


def test_find_names_the_package() -> None:
    with pytest.raises(process.ProgramMissing) as caught:
        process.find("no-such-program", package="some-package")
    assert caught.value.hint == "sudo apt-get install some-package"


def test_the_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    with pytest.raises(process.CommandFailed, match=r"did not end within 1 s"):
        process.run(python(code), deadline=1)
    assert gone(int(pid_file.read_text()))


def test_what_a_child_started_is_ended_even_where_it_refuses_to(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {stubborn!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen(python(code), start_new_session=True)
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.05)
    process.end_group(child)
    wait.until(lambda: gone(int(pid_file.read_text())) or None, wait.Deadline.after(10), "the end of what it started")


def test_an_interrupt_ends_a_running_program(clean_interrupt: None) -> None:
    threading.Timer(0.3, interrupt.request).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        process.run(python("import time; time.sleep(60)"))
    assert time.monotonic() - started < 5


def test_an_interrupt_ends_a_streamed_program(clean_interrupt: None) -> None:
    threading.Timer(0.3, interrupt.request, [signal.SIGTERM]).start()
    with pytest.raises(Interrupted) as caught:
        process.stream(python("import time; time.sleep(60)"), lambda _line: None)
    assert caught.value.signal == signal.SIGTERM


def test_shielded_code_runs_to_its_end(clean_interrupt: None) -> None:
    interrupt.request()
    with interrupt.shielded():
        assert process.run(["true"]).status == 0
    with pytest.raises(Interrupted):
        process.run(["true"])


def test_stream_passes_on_a_line_without_end_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LONGEST_LINE", 1000)
    lines: list[str] = []
    assert process.stream(["sh", "-c", "printf %05000d 0; echo; echo end"], lines.append) == 0
    assert "".join(lines) == "0" * 5000 + "end"
    assert max(map(len, lines)) == 1000


def test_stream_passes_lines_of_both_streams() -> None:
    lines: list[str] = []
    code = "import sys; print('a', flush=True); print('b', file=sys.stderr, flush=True); print('c'); sys.exit(5)"
    assert process.stream(python(code), lines.append) == 5
    assert lines == ["a", "b", "c"]


def test_the_child_has_its_own_process_group() -> None:
    done = process.run(python("import os; print(os.getpgrp() == os.getpid())"))
    assert done.stdout == "True\n"
    assert os.getpgrp() != 0


def test_what_ties_git_to_the_repository_of_a_hook_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in user_environment.OF_ONE_REPOSITORY | {"GIT_AUTHOR_NAME", "GIT_SSH_COMMAND"}:
        monkeypatch.setenv(name, "x")
    code = python("import os; print(*sorted(name for name in os.environ if name.startswith('GIT_')))")
    assert process.run(code, env={"GIT_DIR": "asked for"}).stdout == "GIT_AUTHOR_NAME GIT_DIR GIT_SSH_COMMAND\n"
    lines: list[str] = []
    process.stream(code, lines.append)
    assert lines == ["GIT_AUTHOR_NAME GIT_SSH_COMMAND"]


def test_what_is_started_detached_goes_on_by_itself_with_what_it_is_given(tmp_path: Path) -> None:
    there, ours = socket.socketpair()
    script = "import os, sys; os.write(int(sys.argv[1]), f'{os.getpgid(0)} {os.getpid()}'.encode()); print('unseen')"
    with there, ours:
        pid = process.start_detached([sys.executable, "-c", script, str(there.fileno())], keep=[there.fileno()])
        assert not there.get_inheritable(), "other children do not get it"
        assert ours.recv(100).decode() == f"{pid} {pid}"
    os.waitpid(pid, 0)
    with pytest.raises(ProgramMissing, match="cannot be started"):
        process.start_detached([tmp_path / "absent"])
