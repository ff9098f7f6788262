"""Pulling a box of 500 MB from a registry on the loopback: time against ``skopeo copy``, and the most memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.big_box import peak
from benchmarks.measure import VMCTL, Finding, Project, alternating
from vmctl.process import find

SIZE = 500 * 10**6
CHUNK = 4 * 1024**2
TIME_BUDGET = 1.5
MEMORY_BUDGET = 120.0
LISTENING = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


def measure(place: Path, *, times: int) -> Iterator[Finding]:
    """Pull a disk that does not compress, each time into a new store; skopeo copies the same image into a directory."""
    source = place / "disk.raw"
    with source.open("wb") as stream:
        stream.write(os.urandom(510) + b"\x55\xaa")
        while stream.tell() < SIZE:
            stream.write(os.urandom(CHUNK))
        stream.truncate(stream.tell() // 512 * 512)
    with _registry(place / "registry") as host:
        pusher = Project(place, {"VMCTL_HOME": str(place / "pusher"), "DOCKER_CONFIG": str(place)})
        pusher.vmctl("box", "add", str(source), "--name", "bench", "--version", "1")
        source.unlink()
        pusher.vmctl("box", "push", "bench", f"oci://{host}/bench:1")
        shutil.rmtree(place / "pusher")
        environment = {"VMCTL_HOME": str(place / "home"), "DOCKER_CONFIG": str(place)}
        peaks: list[int] = []

        def pull() -> None:
            peaks.append(peak([str(VMCTL), "box", "add", f"oci://{host}/bench:1"], environment))
            shutil.rmtree(place / "home")

        def copy() -> None:
            words = ("--insecure-policy", "copy", "--src-tls-verify=false", "--quiet")
            pusher.run("skopeo", *words, f"docker://{host}/bench:1", f"dir:{place / 'copy'}")
            shutil.rmtree(place / "copy")

        ours, theirs = alternating(pull, copy, times=times)
    detail = f"{ours:.2f} s against {theirs:.2f} s for {SIZE // 10**6} MB"
    yield Finding(
        what="box add of oci:// / skopeo copy", value=ours / theirs, unit="x", budget=TIME_BUDGET, detail=detail
    )
    yield Finding(what="box add of oci://, memory", value=max(peaks) / 1024, unit="MiB", budget=MEMORY_BUDGET)


@contextmanager
def _registry(root: Path) -> Iterator[str]:
    """Debian's docker-registry on a free port of the loopback; its host and port."""
    root.mkdir()
    config = {
        "version": "0.1", "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
        "http": {"addr": "127.0.0.1:0", "secret": "of the benchmark"},
    }  # fmt: skip
    (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (root / "log").open("wb") as log:
        child = subprocess.Popen([find("docker-registry"), "serve", root / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not (found := LISTENING.search((root / "log").read_text())):
            if time.monotonic() > deadline or child.poll() is not None:
                raise SystemExit(f"benchmark: docker-registry does not listen\n{(root / 'log').read_text()}")
            time.sleep(0.05)
        yield found[1]
    finally:
        child.terminate()
        child.wait(10)
