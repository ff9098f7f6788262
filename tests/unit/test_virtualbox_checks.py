from __future__ import annotations

from pathlib import Path

import pytest

from vmctl_virtualbox.checks import KvmFacts, kvm_conflict, kvm_facts

OLD, NEW = (7, 2, 8), (7, 2, 10)


@pytest.mark.parametrize(
    ("facts", "version", "says"),
    [
        (KvmFacts(), OLD, ""),
        (KvmFacts(module="kvm_intel", kernel=(6, 1)), OLD, ""),
        (KvmFacts(module="kvm_intel", kernel=(6, 1), users=1), OLD, "running virtual machines"),
        (KvmFacts(module="kvm_amd", kernel=(6, 12), at_load=True), OLD, "holds the processor"),
        (KvmFacts(module="kvm_amd", kernel=(6, 12), at_load=False), OLD, ""),
        (KvmFacts(module="kvm_amd", kernel=(6, 12), at_load=True), NEW, ""),
        (KvmFacts(module="kvm_amd", kernel=(6, 12), at_load=False), NEW, "enable_virt_at_load off"),
        (KvmFacts(module="kvm_amd", kernel=(7, 1), at_load=False), (8, 0, 0), "enable_virt_at_load off"),
    ],
)
def test_conflicts(facts: KvmFacts, version: tuple[int, int, int], says: str) -> None:
    found = kvm_conflict(facts, version)
    if says:
        assert found is not None
        assert says in found.reason
        assert facts.module in found.hint or "virsh" in found.hint
    else:
        assert found is None


def host(root: Path, *, flag: str, module: str, at_load: str = "", users: str = "0") -> Path:
    files = {"proc/cpuinfo": f"flags : fpu {flag} sse", "proc/sys/kernel/osrelease": "6.12.3-amd64\n"}
    if module:
        files[f"sys/module/{module}/refcnt"] = users + "\n"
    if at_load:
        files["sys/module/kvm/parameters/enable_virt_at_load"] = at_load + "\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_a_host_shows(tmp_path: Path) -> None:
    seen = kvm_facts(host(tmp_path, flag="svm", module="kvm_amd", at_load="N", users="2"))
    assert seen == KvmFacts(module="kvm_amd", kernel=(6, 12), at_load=False, users=2)


def test_a_module_without_the_processor_for_it_holds_nothing(tmp_path: Path) -> None:
    assert kvm_facts(host(tmp_path, flag="", module="kvm_intel", at_load="Y")) == KvmFacts()


def test_a_host_that_is_no_linux(tmp_path: Path) -> None:
    assert kvm_facts(tmp_path) == KvmFacts()
