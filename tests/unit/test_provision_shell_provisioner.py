from __future__ import annotations

import pytest

from vmctl import process
from vmctl.provision.shell_provisioner import environment


@pytest.mark.parametrize("value", ["", "a b", "it's", '"', "$HOME `id` \\", "one\ntwo\n", "żółć", "!#;&|"])
def test_values_survive_the_shell(value: str) -> None:
    done = process.run(["sh", "-c", f'{environment({"A": value})}printf %s "$A"'])
    assert done.stdout == value
