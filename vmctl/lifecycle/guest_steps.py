"""The steps of `up` once the machine has started: into the guest, until it is ready.

Each looks before it acts, so running it again after any failure finishes the work.
"""

from __future__ import annotations

from vmctl import folders, key_pairs, ssh
from vmctl.driver import Address, State
from vmctl.lifecycle import consoles, etc_hosts, first_login, ready
from vmctl.lifecycle.machine_job import Job
from vmctl.login import Login
from vmctl.process import CommandFailed
from vmctl.store import files
from vmctl.wait import Deadline

GROW = "vmctl-grow.service"


def await_ssh(job: Job) -> bool:
    """Wait until SSH answers and lets us in; say why when it does not."""
    layout = job.machine.layout
    if job.record.box.cloud_init and not files.exists(layout.first_key):
        ssh.write_known_hosts(layout.known_hosts, job.name, key_pairs.ensure(layout.host_key))
    job.connection = ssh.await_ssh(
        machine=job.name,
        address=lambda: job.driver.address(job.machine.domain, job.tag),
        login=lambda address: login(job, address),
        alive=lambda: _is_alive(job),
        deadline=Deadline.after(job.spec.boot_timeout),
        console=layout.console,
        report=job.report,
        tells=job.started and job.record.box.seeds_itself,
        booted=job.restored or (not job.started and job.record.quiesced),
    )
    if files.exists(layout.first_key):
        first_login.replace_key(job)
    ssh.write_config(job.connection.login)
    return True


def _is_alive(job: Job) -> bool:
    consoles.fetch(job.driver, job.machine.domain, job.tag, job.machine.layout.console)
    return job.observe().state in (State.RUNNING, State.STARTING)


def login(job: Job, address: Address) -> Login:
    """How to get into the job's machine at an address."""
    layout = job.machine.layout
    return Login(
        machine=job.name,
        address=address,
        user=job.record.user,
        key=layout.key,
        known_hosts=layout.known_hosts,
        config=layout.ssh_config,
        first_key=layout.first_key if files.exists(layout.first_key) else None,
        first_password=layout.first_password if files.exists(layout.first_password) else None,
    )


def settle(job: Job) -> bool:
    """Have the new guest's first writes on its disk: a power cut would leave it with empty SSH host keys."""
    if not job.record.box.seeds_itself:  # which has them there before its SSH server starts
        job.guest.run(["sync"])
    job.save(job.record.but(settled=True))
    return True


def await_growth(job: Job) -> bool:
    """Wait until the root file system has the disk that the Vmfile gives: a box of ours grows it while SSH answers."""
    job.guest.run(["systemctl", "start", GROW], sudo=True, check=False)
    return False


def share_folders(job: Job) -> bool:
    """Have the project's folders in the guest."""
    used = folders.attach(
        job.guest, job.spec, job.defined.shares, features=job.features, login=job.guest.login, report=job.report
    )
    job.save(job.record.but(folders=dict(used)))
    return bool(used)


def write_names(job: Job) -> bool:
    """Tell the guest the names of the other machines; where it cannot be told, that is no reason to fail."""
    try:
        etc_hosts.write(job.guest, job.names)
    except CommandFailed as error:
        job.warn(f"its names of the other machines could not be written: {error.brief}")
        return False
    job.save(job.record.but(names=etc_hosts.digest(job.names)))
    return True


def check_ready(job: Job) -> bool:
    """Wait until the Vmfile's `ready:` checks hold."""
    for check in job.spec.ready:
        ready.await_check(job.guest, job.name, check)
    return True


def mark_ready(job: Job) -> bool:
    """Write down that this start of the machine is done."""
    observed = job.observe().observed
    job.save(job.record.but(ready_run=observed.run if observed else ""))
    return True
