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

PIPE = r"\|\s*(?:[\w.]+\.)?"
FILE_TEST = r"(?:exists|(?:is_)?(?:file|directory|dir|link|mount|same_file)|link_exists)"
BEYOND = (
    (r"\b(?:lookup|query|q)\s*\(", "looks up something on this host (lookup)"),
    (r"\b(?:delegate_to|local_action)\b", "acts elsewhere (delegate_to)"),
    (r"\bplaybook_dir\b", "reads from the playbook's directory by path (playbook_dir)"),
    (r"\brole_path\b[^}\n]*\|\s*dirname\b", "reads from beside a role by path (role_path)"),
    (r"\binventory_(?:dir|file)\b", "reads from the inventory's directory by path"),
    (r"\bvars_prompt\b|\bpause:", "asks the user"),
    (PIPE + r"(?:random|random_\w+|shuffle|strftime)\b|\bnow\s*\(", "depends on chance or time"),
    (PIPE + r"(?:fileglob|expandvars|expanduser|realpath)\b", "looks at files or variables of this host"),
    (r"(?m)^(?!\s*#|[\s-]*name:).*\bis\s+(?:not\s+)?(?:ansible\.builtin\.)?" + FILE_TEST + r"\b",
     "looks at files of this host"),
    (r"\b(?:select|reject)\s*\(\s*['\"](?:ansible\.builtin\.)?" + FILE_TEST + r"['\"]", "looks at files of this host"),
    (r"\bmap\s*\(\s*['\"](?:ansible\.builtin\.)?(?:fileglob|expandvars|expanduser|realpath)['\"]",
     "looks at files or variables of this host"),
    (r"\bansible_facts\b(?!\s*(?:\.|:|\[\s*['\"]))|\bansible_(?:['\"]|\{\{)",
     "depends on facts that an expression names"),
    (r"\{\{\s*vars\s*[|}]|\bhostvars\s*(?:\[[^]]*\]\s*)?[|}]", "depends on all facts"),
    (r"^#jinja2:.*block_start_string", "writes expressions in a way of its own"),
)  # fmt: skip
"""Words in playbooks that make the outcome depend on more than their files and the machine."""
OF_OTHERS = r"\bhostvars\b|\bgroups\s*[\[.]|\bin groups\b|\brun_once\b|\badd_host\b|\bplay_hosts\b|\bvmctl_others\b"
NAMES = re.compile(
    r"hostname|\bhost\b|host_?vars|group_names|ansible_(?:host|fqdn|nodename|domain)|\bnodename\b|\bfqdn\b|uname|/etc/hosts"
    r"|vmctl_|\bip\b|ifconfig|address", re.IGNORECASE
)  # fmt: skip
"""Words that have to do with what a machine is called, and where others find it."""
RESOLVING = r"/etc/hosts|\bgetent\b|\bnslookup\b|\bdig\b|gethostby|getaddrinfo"
"""Words that ask where any machine is."""
KERNEL = re.compile(r"kernel|uname|/proc/version|headers|dkms|modprobe|lib/modules", re.IGNORECASE)
"""Words that have to do with which kernel runs."""
FACT = re.compile(
    r"\bansible_(?!facts\b|collections\b)([a-z0-9_]+)|\bansible_facts\s*(?:\[\s*['\"]|\.)(?:ansible_)?(\w+)"
)
STEADY = re.compile(
    r"os_family|distribution\w*|architecture|machine|system|system_vendor|pkg_mgr|service_mgr|python\w*|processor\w*"
    r"|memtotal_mb|hostname|nodename|fqdn|domain|virtualization\w*|kernel\w*|lsb\w*|selinux\w*|apparmor\w*"
    r"|become\w*|connection|user|user_id|user_dir|user_uid|user_gid|check_mode|diff_mode|managed|loop\w*"
    r"|play_name|role_names?|parent_role_names|version|failed_\w+|index_var"
)
"""Facts that the box and the machine's definition settle, and variables that are no facts."""
END = r"(?![\w-])"
COMPUTED = r"(?:~[\w.-]*|[)}`]|\$\w+)[\"']?"
"""The end of a path's first part, where that is an expression of a shell or of Ansible, or a user's home."""
HOME = re.compile(r"/(?:root|home/[^/]+)/")
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


def mentions_host(seen: ProvisionerTexts, names: Sequence[str]) -> bool:
    """Whether what a provisioner does may depend on where another machine of these names is; in doubt it does."""
    item = seen.item
    if isinstance(item, Ansible) and (item.requirements or (seen.playbook and seen.playbook.roles)):
        return True
    words = "|".join(re.escape(name) for name in names if name)
    called = re.compile(rf"{RESOLVING}|(?<![\w-])(?:{words})(?![\w-])")
    return any(called.search(one.text) for one in seen.texts) or (isinstance(item, Shell) and item.url is not None)


def mentions_kernel(seen: ProvisionerTexts) -> bool:
    """Whether what a provisioner does may depend on which kernel runs; in doubt it does."""
    item = seen.item
    if isinstance(item, Ansible) and (item.requirements or (seen.playbook and seen.playbook.roles)):
        return True
    return any(KERNEL.search(one.text) for one in seen.texts) or (isinstance(item, Shell) and item.url is not None)


def _tells_apart(item: Ansible, playbook: PlaybookTexts) -> bool:
    """Whether a playbook may do something else on one machine than on another of the same kind."""
    is_targeted = bool(item.groups or item.limit or item.host_vars or item.group_vars.keys() - {"all"})
    if is_targeted or item.requirements or playbook.roles:
        return True
    for path in (*inputs.ansible_files(item), *playbook.named):
        for directory, below in itertools.pairwise(path.parts):
            if directory == "host_vars" or (directory == "group_vars" and Path(below).stem != "all"):
                return True
    return not all(playbook_tasks.is_for_all(one.data, playbook.variables) for one in playbook.texts)


def _folder(seen: ProvisionerTexts, folders: Sequence[str]) -> str:
    """Why a shared folder keeps a provisioner from having a layer: it writes there, or nobody says what it reads."""
    item = seen.item
    named = {pattern: folder for folder in folders for pattern in _ways_to(folder.rstrip("/") or "/")}
    if isinstance(item, Shell) and any(re.search(one, item.creates) for one in named):
        return f"what it creates is in a shared folder ({item.creates})"
    if isinstance(item, Shell | Ansible) and item.inputs is not None:
        return ""
    for one in seen.texts:
        if found := next((folder for pattern, folder in named.items() if re.search(pattern, one.text)), ""):
            advice = "" if isinstance(item, File) else "; say what it needs of it (`inputs:`)"
            return f"{one.name} uses the shared folder {found}{advice}"
    return ""


def _ways_to(folder: str) -> Iterator[str]:
    """Patterns of what leads to a directory of the guest: its path, also where its beginning is told by an expression.

    In a user's home directory, where scripts begin, a relative path as well.
    """
    yield re.escape(folder) + END
    parts = [re.escape(part) for part in folder.split("/")[1:]]
    home = HOME.match(folder)
    below = parts[home[0].count("/") - 1 :] if home else parts[-1:]
    if not all(below):
        return
    yield COMPUTED + "/" + "/".join(below) + END
    if home and below:
        relative = r"(?:\./)*" + "/".join(below)
        yield rf"(?<![\w./~$}})-]){relative}/|\b(?:cd|pushd|chdir)\b[\s:=\"']+{relative}{END}"


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
        (not playbook.is_bounded, "what it names may be any of very many files around the playbook"),
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
    for one in (*wanted.roles, *wanted.collections):
        name = str(one.get("name") or one.get("src"))
        if not wanted.is_here(one) and not EXACT_VERSION.fullmatch(str(one.get("version", ""))):
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
