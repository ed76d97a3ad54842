"""The file of VECFLEET_HOOKS: what it may hold, who may read it, and that no answer holds a key."""

from pathlib import Path

import pytest

from orchestrator.core.hooks import Hook
from orchestrator.services import hooks_file
from vecfleet.errors import BadInput
from vecfleet.settings import Settings

KEY = "hidden-word"
SECRET = "whsec_" + "QUJD" * 8


def settings(tmp_path: Path, text: str, mode: int = 0o600) -> Settings:
    path = tmp_path / "hooks.toml"
    path.write_text(text)
    path.chmod(mode)
    return Settings(vecfleet_hooks=path)


def test_a_receiver_is_told_of_jobs_unless_it_says_of_what(tmp_path: Path) -> None:
    file = hooks_file.read(settings(tmp_path, '[notices.chat]\nto = "slack"\nurl = "https://chat/T0"\n'))
    assert file is not None and file.notices["chat"].events == ("job",)
    assert "T0" not in repr(file)
    assert hooks_file.read(Settings(vecfleet_hooks=None)) is None


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="others than its owner"):
        hooks_file.read(settings(tmp_path, "", 0o644))


def test_a_hook_is_a_command_by_its_whole_path_or_a_signed_address(tmp_path: Path) -> None:
    file = hooks_file.read(settings(tmp_path, '[hooks.before-cut-over]\ncommand = ["/bin/true"]\n'))
    assert file is not None and file.hooks[Hook.BEFORE_CUT_OVER].timeout_seconds == 30
    for text in (
        '[hooks.before-lunch]\ncommand = ["/bin/true"]',
        '[hooks.before-cut-over]\ncommand = ["true"]',
        '[hooks.before-cut-over]\nurl = "https://ops"',
        '[hooks.before-cut-over]\ncommand = ["/bin/true"]\ntimeout_seconds = 3600',
    ):
        with pytest.raises(BadInput, match="cannot be used: hooks"):
            hooks_file.read(settings(tmp_path, text))


@pytest.mark.parametrize("entry", ['command = ["/bin/true"]', f'url = "https://ops"\nsecrets = ["{SECRET}"]'])
def test_a_hook_that_there_is_not_is_the_one_thing_said(tmp_path: Path, entry: str) -> None:
    with pytest.raises(BadInput) as refused:
        hooks_file.read(settings(tmp_path, f"[hooks.before-lunch]\n{entry}\n"))
    assert refused.value.message.count("before-lunch") == 1 and "before-cut-over" in refused.value.message
    assert "Hook" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('to = "slack"\nurl = "file:///etc/hidden-word"', "is not an address"),
        ('to = "slack"\nurl = "https://chat"\nevents = ["job.exploded"]', "is not an event"),
        ('to = "webhook"\nurl = "https://a"\nsecrets = ["hidden-word"]', "is not a secret"),
        ('to = "webhook"\nurl = "https://a"\nsecrets = []', "at least 1 item"),
        ('to = "email"\nserver = "http://hidden-word"\nsender = "a"\nrecipients = ["b"]', "is not a mail server"),
        ('to = "pigeon"', "notices.ops: Input tag"),
        ('to = "slack"\nurl = "https://chat"\nkey = "hidden-word"', "Extra inputs"),
    ],
)
def test_what_cannot_be_used_is_named_and_shows_no_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        hooks_file.read(settings(tmp_path, f"[notices.ops]\n{text}\n"))
    assert said in refused.value.message and KEY not in refused.value.message
    assert refused.value.next_step == "write it as docs/hooks-and-notices.md shows"
