"""What people type who come from Vagrant."""

import click
import pytest

from tests.cli.harness import Project
from vmctl.cli import vagrant_words
from vmctl.cli.root import SUMMARIES, cli

SAME = {
    "destroy -f web": "destroy --yes web",
    "destroy --force": "destroy --yes",
    "halt -f": "halt --force",
    "global-status": "list",
    "global-status --prune": "list",
    "rsync web": "sync web",
    "rsync-auto web": "sync --watch web",
    "up --no-parallel": "up --parallel 1",
    "up --provision-with a,b web": "up --only a --only b web",
    "provision --provision-with=a": "provision --only a",
    "snapshot save -f s1": "snapshot save --force s1",
    "exec web -- rm -f x": "exec web -- rm -f x",
    "up --no-provision": "up --no-provision",
    "box list": "box list",
}


@pytest.mark.parametrize("line", SAME)
def test_the_same_by_another_name_is_taken(line: str) -> None:
    assert vagrant_words.translated(line.split()) == SAME[line].split()


def options_of(path: str) -> set[str]:
    context = click.Context(cli)
    command: click.Command | None = cli
    for word in path.split():
        assert isinstance(command, click.Group)
        command = command.get_command(context, word)
    assert command is not None
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("path", vagrant_words.NO_OPTION)
def test_no_option_of_ours_is_refused(path: str) -> None:
    assert not options_of(path) & set(vagrant_words.NO_OPTION[path])


def test_every_translation_is_a_command_line_of_ours() -> None:
    for path, options in vagrant_words.OPTIONS.items():
        known = options_of(path)
        for ours in options.values():
            assert set(ours[:1]) <= known, path
        assert not known & set(options), path
    assert {words[0] for words in vagrant_words.COMMANDS.values()} <= set(SUMMARIES)
    assert not set(vagrant_words.NO_COMMAND) & set(SUMMARIES)
    assert not set(vagrant_words.COMMANDS) & set(SUMMARIES)


@pytest.mark.parametrize(
    ("line", "brief", "hint"),
    [
        ("plugin install x", "vmctl has no command 'plugin' like Vagrant's", "pip install PACKAGE"),
        ("version", "vmctl has no command 'version' like Vagrant's", "vmctl --version"),
        ("destroy -g", "'destroy' has no option -g like Vagrant's", "vmctl halt && vmctl destroy"),
        ("suspend --all-global", "'suspend' has no option --all-global like Vagrant's", "vmctl list"),
        ("reload --provision-with a", "'reload' has no option --provision-with like Vagrant's", "vmctl reload &&"),
    ],
)
def test_what_vmctl_lacks_is_answered_with_its_own_word(project: Project, line: str, brief: str, hint: str) -> None:
    project.vmfile("")
    ran = project.vmctl(*line.split(), status=2)
    assert f"error: {brief}\n" in ran.err
    assert f"hint: {hint}" in ran.err


def test_destroy_f_does_not_ask(project: Project) -> None:
    project.vmfile("")
    project.vmctl("up")
    project.vmctl("destroy", "-f")
    assert project.states() == {"default": "not created"}


@pytest.mark.parametrize("verb", ["save", "restore", "delete"])
def test_a_snapshot_in_vagrants_order_is_answered_with_the_right_line(project: Project, verb: str) -> None:
    project.vmfile("machines: {web: {}}\n")
    ran = project.vmctl("snapshot", verb, "web", "s 1", status=2)
    assert "error: no machine matches 's 1': the snapshot's name comes first\n" in ran.err
    assert f"hint: vmctl snapshot {verb} 's 1' web\n" in ran.err
    assert "comes first" not in project.vmctl("snapshot", verb, "a", "b", status=2).err
