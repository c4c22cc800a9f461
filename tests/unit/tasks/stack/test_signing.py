"""Signers: their keys and the list, made by ssh-keygen, and what a provision takes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploys.errors import BoxError, SettingsError
from deploys.services import provisiond
from deploys.settings import signers
from tasks.desk.flags import load
from tasks.stack import signing
from tests.setup_project import Repository, Signer, run

pytestmark = pytest.mark.commands


def add(folder: Path, name: str, *, key: str = "", force: bool = False) -> Path:
    private, _ = signing.add(name, key or str(folder / name), str(folder / "signers"), force=force)
    return private


def test_a_signer_is_made_listed_and_believed(tmp_path: Path) -> None:
    key = add(tmp_path, "ada-2026")
    assert key.stat().st_mode & 0o777 == 0o600
    settings = load(None, [f"setup.signers={tmp_path}/signers"])
    [line] = settings.setup.signers
    assert line.startswith('ada-2026 namespaces="git" ssh-ed25519 ')
    assert load(None, []).setup.signers == ()
    written = provisiond.setup_policy(settings)[provisiond.SIGNERS]
    assert (written.content, written.mode) == (f"{line}\n".encode(), 0o644)
    made = Repository(tmp_path / "project", Signer(tmp_path, "ada-2026"))
    made.path.mkdir()
    (made.path / "file").write_text("")
    commit = made.commit("one")
    allowed = f"gpg.ssh.allowedSignersFile={tmp_path}/signers"
    run("git", "-C", str(made.path), "-c", allowed, "verify-commit", commit)


def test_a_list_may_be_in_the_file_of_settings(tmp_path: Path) -> None:
    add(tmp_path, "ada")
    file = tmp_path / "box.toml"
    file.write_text(f'[setup]\nsigners = "{tmp_path}/signers"\n')
    by_name = load(file)
    lines = list(by_name.setup.signers)
    file.write_text(f"[setup]\nsigners = ['{lines[0]}']\n")
    assert load(file) == by_name


def test_a_key_is_never_lost_unasked(tmp_path: Path) -> None:
    key = add(tmp_path, "ada")
    before = key.read_bytes(), (tmp_path / "signers").read_text()
    with pytest.raises(BoxError, match=r"ada is in .* add a signer of another name"):
        add(tmp_path, "ada")
    (tmp_path / "signers").unlink()
    add(tmp_path, "ada")  # its key is there, and only listed again
    assert (key.read_bytes(), (tmp_path / "signers").read_text()) == before
    add(tmp_path, "ada", force=True)
    assert key.read_bytes() != before[0]
    assert key.stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "signers").read_text().splitlines()) == 1


def test_the_public_half_will_do(tmp_path: Path) -> None:
    add(tmp_path, "ada").rename(tmp_path / "in the agent")
    other = tmp_path / "ada"
    add(tmp_path, "bob", key=str(other))
    assert not other.exists()
    assert [signers.name_of(each) for each in signing.read(tmp_path / "signers")] == ["ada", "bob"]


def test_one_signer_is_left(tmp_path: Path) -> None:
    add(tmp_path, "old")
    with pytest.raises(BoxError, match=r"old is the only signer in .*: add another one first"):
        signing.remove("old", str(tmp_path / "signers"))
    add(tmp_path, "new")
    signing.remove("old", str(tmp_path / "signers"))
    assert [signers.name_of(each) for each in signing.read(tmp_path / "signers")] == ["new"]
    with pytest.raises(BoxError, match="has no signer old"):
        signing.remove("old", str(tmp_path / "signers"))


@pytest.mark.parametrize("name", ["", "a b", "*", "a,b", "-x", "../x", "a\nb", 'a"', "#a", "!a"])
def test_a_name_is_a_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(BoxError, match="a signer's name is letters, digits and"):
        add(tmp_path, name, key=str(tmp_path / "key"))
    assert not list(tmp_path.iterdir())


_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIKHqRYN4RWTYhJTV3iUzYkRJeFPj1Z8a1XWnBQPzk0lN"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ada ssh-ed25519 " + _KEY, ""),
        (f'ada valid-before="20300101",namespaces="git" ssh-ed25519 {_KEY} a comment', ""),
        (f"* ssh-ed25519 {_KEY}", "is no signer"),
        (f"ada cert-authority ssh-ed25519 {_KEY}", "is no signer"),
        (f'ada namespaces="file" ssh-ed25519 {_KEY}', "is no signer"),
        (f"ada,bob ssh-ed25519 {_KEY}", "is no signer"),
        ("ada ssh-ed25519 AAAA", "the key of ada is no ssh-ed25519"),
        (f"ada ssh-rsa {_KEY}", "the key of ada is no ssh-rsa"),
        (f"ada ssh-ed25519 {_KEY[:-1]}", "the key of ada is not whole"),
        (f"ada ssh-dss {_KEY}", "is no signer"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "is no signer"),
        ("# nobody", "lists nobody: see inv signer.add"),
    ],
)
def test_a_list_is_read_before_anything_is_changed(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "signers").write_text(f"# the operators\n\n{line}\n")
    if not said:
        assert load(None, [f"setup.signers={tmp_path}/signers"]).setup.signers == (line,)
        return
    with pytest.raises(SettingsError, match=rf"^setting setup\.signers.*{said}") as caught:
        load(None, [f"setup.signers={tmp_path}/signers"])
    assert "\n" not in str(caught.value)


def test_a_list_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^setting setup\.signers: '/.*: No such file"):
        load(None, [f"setup.signers={tmp_path}/none"])


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_hostname_that_anybody_can_be_is_refused(tmp_path: Path, scheme: str) -> None:
    hostname = f"setup.hostname={scheme}://git.example.org"
    with pytest.raises(SettingsError, match=r"^setting setup\.hostname: over git:// and http://"):
        load(None, [hostname])
    add(tmp_path, "ada")
    part = "stack.openkim-pipeline-setup"
    pin = (f"{part}.source=git", f"{part}.version={'a' * 40}")
    for more in ([f"setup.signers={tmp_path}/signers"], pin):
        assert load(None, [hostname, *more]).setup_fault == ""
    for other in ("https://h", "ssh://h", "/srv/git"):
        assert load(None, [f"setup.hostname={other}"]).setup_fault == ""
