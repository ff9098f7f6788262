"""Why a provisioner can have no layer: what it does depends on something that is in no key.

In doubt it has none; the reason is told by `vmctl plan`. Playbooks are looked through for words that reach beyond what
is keyed (the box, the machine's hardware and name, the project's files): other machines, this host, the network, time,
and facts that differ from one instance of a machine to the next.
"""

from __future__ import annotations

import itertools
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from vmctl.errors import UsageError
from vmctl.provision import inputs, playbook_tasks, playbook_texts, requirements
from vmctl.provision.playbook_texts import PlaybookTexts, Text
from vmctl.provisioners import Ansible, File, Provisioner, Reboot, Shell

BEYOND = (
    (r"\b(?:lookup|query|q)\s*\(", "looks up something on this host (lookup)"),
    (r"\bwith_(?:file|fileglob|pipe|url|env|lines|first_found|password|inventory_hostnames|random_choice)\b",
     "looks up something on this host (with_…)"),
    (r"\b(?:delegate_to|local_action)\b", "acts elsewhere (delegate_to)"),
    (r"\bplaybook_dir\b", "reads from the playbook's directory by path (playbook_dir)"),
    (r"\bvars_prompt\b|\bpause:", "asks the user"),
    (r"\|\s*(?:random|shuffle)\b|\bnow\s*\(", "depends on chance or time"),
)  # fmt: skip
"""Words in playbooks that make the outcome depend on more than their files and the machine."""
OF_OTHERS = r"\bhostvars\b|\bgroups\s*[\[.]|\bin groups\b|\brun_once\b|\badd_host\b|\bplay_hosts\b|\bvmctl_others\b"
NAMES = re.compile(
    r"hostname|\bhost\b|host_?vars|group_names|ansible_(?:host|fqdn|nodename|domain)|\bnodename\b|\bfqdn\b|uname|/etc/hosts"
    r"|vmctl_|\bip\b|ifconfig|address", re.IGNORECASE
)  # fmt: skip
"""Words that have to do with what a machine is called, and where others find it."""
FACT = re.compile(
    r"\bansible_(?!facts\b|collections\b)([a-z0-9_]+)|\bansible_facts\s*(?:\[\s*['\"]|\.)(?:ansible_)?(\w+)"
)
STEADY = re.compile(
    r"os_family|distribution\w*|architecture|machine|system|system_vendor|pkg_mgr|service_mgr|python\w*|processor\w*"
    r"|memtotal_mb|hostname|nodename|fqdn|domain|virtualization\w*|kernel\w*|lsb\w*|selinux\w*|apparmor\w*"
    r"|become\w*|connection|user|user_id|user_dir|user_uid|user_gid|host|port|check_mode|diff_mode|managed|loop\w*"
    r"|play_name|role_names?|parent_role_names|version|failed_\w+|index_var"
)
"""Facts that the box and the machine's definition settle, and variables that are no facts."""
EXACT_VERSION = re.compile(r"v?\d+\.\d+[\w.+-]*|[0-9a-f]{40}")


class ProvisionerTexts(Struct, frozen=True, kw_only=True):
    """A provisioner, and what was written for it."""

    item: Provisioner
    texts: tuple[Text, ...] = ()
    playbook: PlaybookTexts | None = None
    """Of a playbook."""


def read(item: Provisioner, root: Path | None = None) -> ProvisionerTexts:
    """Read what was written for a provisioner.

    Args:
        item: the provisioner.
        root: the project's directory; None = the playbook's.
    """
    match item:
        case Shell():
            return ProvisionerTexts(item=item, texts=tuple(_script(item)))
        case Ansible():
            playbook = playbook_texts.written(item, root)
            return ProvisionerTexts(item=item, texts=playbook.texts, playbook=playbook)
        case File():
            return ProvisionerTexts(item=item, texts=(Text(name="it", text="\n".join(_destinations(item))),))
        case Reboot():
            return ProvisionerTexts(item=item)


def _script(item: Shell) -> Iterator[Text]:
    yield Text(name="it", text=json.dumps([item.args, dict(item.env), item.creates]))
    if item.inline is not None:
        yield Text(name="its script", text=item.inline)
    if item.script:
        yield playbook_texts.read(item.script, item.script.name)


def _destinations(item: File) -> Iterator[str]:
    """Every path that a provisioner writes to."""
    yield item.destination
    if item.source.is_dir():
        for path in inputs.everything_below(item.source):
            yield posixpath.join(item.destination, str(path.relative_to(item.source)))


def why(seen: ProvisionerTexts, *, folders: Sequence[str] = (), is_alone: bool = True) -> str:
    """Why a provisioner can have no layer; "" = it can.

    Args:
        seen: the provisioner.
        folders: where the guest sees directories of this host, which are in no key.
        is_alone: whether there are no other machines that it could depend on.
    """
    item = seen.item
    if item.run == "always":
        return "it runs at each `up` (run: always)"
    if item.sensitive:
        return "it is sensitive"
    if large := [one.name for one in seen.texts if not one.is_whole]:
        return f"{large[0]} is too large to be looked through"
    reason = ""
    if isinstance(item, Shell):
        reason = _shell(item, seen.texts)
    if isinstance(item, Ansible) and seen.playbook:
        reason = _ansible(item, seen.playbook, is_alone=is_alone)
    return reason or _folder(seen, folders)


def mentions_names(seen: ProvisionerTexts) -> bool:
    """Whether what a provisioner does may depend on what the machine is called; in doubt it does."""
    item = seen.item
    if isinstance(item, File):
        return item.template
    if isinstance(item, Ansible) and seen.playbook and _tells_apart(item, seen.playbook):
        return True
    return any(NAMES.search(one.text) for one in seen.texts) or (isinstance(item, Shell) and item.url is not None)


def _tells_apart(item: Ansible, playbook: PlaybookTexts) -> bool:
    """Whether a playbook may do something else on one machine than on another of the same kind."""
    is_targeted = bool(item.groups or item.limit or item.host_vars or item.group_vars.keys() - {"all"})
    if is_targeted or item.requirements or playbook.roles:
        return True
    for path in inputs.ansible_files(item):
        for directory, below in itertools.pairwise(path.parts):
            if directory == "host_vars" or (directory == "group_vars" and Path(below).stem != "all"):
                return True
    return not all(playbook_tasks.is_for_all(one.data, playbook.variables) for one in playbook.texts)


def _folder(seen: ProvisionerTexts, folders: Sequence[str]) -> str:
    """Why a shared folder keeps a provisioner from having a layer: it writes there, or nobody says what it reads."""
    item = seen.item
    named = [re.escape(folder.rstrip("/") or "/") + r"(?![\w-])" for folder in folders]
    if isinstance(item, Shell) and any(re.search(one, item.creates) for one in named):
        return f"what it creates is in a shared folder ({item.creates})"
    if isinstance(item, Shell | Ansible) and item.inputs is not None:
        return ""
    for one in seen.texts:
        if found := next((found for pattern in named if (found := re.search(pattern, one.text))), None):
            advice = "" if isinstance(item, File) else "; say what it needs of it (`inputs:`)"
            return f"{one.name} uses the shared folder {found[0]}{advice}"
    return ""


def _shell(item: Shell, texts: Sequence[Text]) -> str:
    if item.on == "host":
        return "it runs on this host"
    if item.url and not item.checksum:
        return "its script is downloaded without a checksum"
    found = ((one.name, playbook_tasks.of_script(one.text)) for one in texts)
    return next((f"{name} {reason}" for name, reason in found if reason), "")


def _ansible(item: Ansible, playbook: PlaybookTexts, *, is_alone: bool) -> str:
    reasons = (
        (item.check, "it changes nothing (check)"),
        (bool(item.inventory), "it has an inventory of its own"),
        (bool(item.raw_arguments), "it has raw_arguments, which may mean anything"),
        (None in item.vault.values() or item.ask_become_pass, "it needs a password that somebody types"),
        (not playbook.is_bounded, "its expressions may name any of very many files beside the playbook"),
    )
    for holds, reason in reasons:
        if holds:
            return reason
    return _unpinned(item) or next(_reaching(item, playbook, is_alone=is_alone), "")


def _unpinned(item: Ansible) -> str:
    if item.requirements is None:
        return ""
    try:
        wanted = requirements.read(item.requirements)
    except UsageError as error:
        return error.brief
    here = {str(path) for path in wanted.local()}
    for one in (*wanted.roles, *wanted.collections):
        name = str(one.get("name") or one.get("src"))
        is_local = any(str(value).startswith((".", "/", "~", "file:")) for value in one.values())
        if not (is_local and here) and not EXACT_VERSION.fullmatch(str(one.get("version", ""))):
            return f"{item.requirements.name} names no exact version of {name}"
    return ""


def _reaching(item: Ansible, playbook: PlaybookTexts, *, is_alone: bool) -> Iterator[str]:
    """Why a playbook reaches beyond what is keyed, as far as its words and its data tell."""
    patterns = BEYOND if is_alone else (*BEYOND, (OF_OTHERS, "depends on other machines"))
    for one in playbook.texts:
        if not one.is_data:
            yield f"{one.name} cannot be read as YAML"
        yield from (f"{one.name} {reason}" for pattern, reason in patterns if re.search(pattern, one.text))
        yield from (f"{one.name} {reason}" for reason in playbook_tasks.reasons(one.data, playbook.variables))
        if one.is_script and (reason := playbook_tasks.of_script(one.text)):
            yield f"{one.name} {reason}"
        for found in FACT.finditer(one.text):
            fact = found[1] or found[2]
            if not STEADY.fullmatch(fact):
                yield f"{one.name} depends on ansible_{fact}, which differs from machine to machine"
        if "../" in one.text and not _all_lead_to_files(one.text, item):
            yield f"{one.name} reads a file outside of its directory (../)"


def _all_lead_to_files(text: str, item: Ansible) -> bool:
    """Whether each `../` in a text is part of a word that names something, which counts then (``named``)."""
    places = {path.parent for path in inputs.ansible_files(item)}
    words = [word for word in playbook_texts.WORD.findall(text) if "../" in word]
    return all(not word.startswith("/") and any((place / word).exists() for place in places) for word in words)
