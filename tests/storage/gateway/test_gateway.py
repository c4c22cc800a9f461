"""A gateway's deploy and its accounts: made, shown, made again after a reset, removed."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.facts.onbox import SshdKnows
from deploys.services.gateway import UNITS
from tests.storage.gateway.gateway import OWNERS, PASSWORDS, Gateway, apply, everything, layered

ACCOUNTS = ("etc/passwd", "etc/shadow", "etc/group", "etc/gshadow")


def test_a_second_pass_changes_nothing(gateway_root: Path, tmp_path: Path) -> None:
    with layered(gateway_root, tmp_path) as root:
        planned = apply(root)
    assert len(planned) > 10
    assert [each.name for each in planned if each.changes] == []


def test_a_gateway_of_an_older_version_has_its_queue_no_more(
    gateway_root: Path, tmp_path: Path
) -> None:
    """A trial would find it dead, and go back."""
    with layered(gateway_root, tmp_path) as root:
        wants = root / "etc/systemd/system/pipeline-box.target.wants"
        unit = wants / "beanstalkd.service"
        unit.symlink_to("/usr/lib/systemd/system/beanstalkd.service")
        apply(root)
        assert not unit.is_symlink()
        assert (wants / "pipeline-database.service").is_symlink()


def test_its_units_are_enabled_and_valid(gateway: Gateway) -> None:
    units = UNITS
    for unit in units:
        assert gateway.inside("systemctl", "is-enabled", unit).strip() == "enabled"
    disabled = gateway.inside("systemctl", "is-enabled", "postgresql.service", check=False)
    assert disabled.strip() == "masked"
    told = gateway.outside("chroot", gateway.root, "systemd-analyze", "verify", "--man=no", *units)
    assert (told.returncode, told.stderr) == (0, "")


def test_its_sshd_takes_its_configuration(gateway: Gateway) -> None:
    gateway.inside("/usr/sbin/sshd", "-t")
    asked = ("-C", "user=pipeline,host=h,addr=192.0.2.1")
    pipeline = gateway.inside("/usr/sbin/sshd", "-T", *asked).splitlines()
    assert "authenticationmethods publickey" in pipeline
    assert "persourcemaxstartups 150" in pipeline
    assert any(line.startswith("persourcepenalties ") and " noauth:0 " in line for line in pipeline)
    for word in (
        "allowagentforwarding",
        "allowstreamlocalforwarding",
        "allowtcpforwarding",
        "permittty",
        "x11forwarding",
    ):
        assert f"{word} no" in pipeline


@pytest.mark.parametrize(
    ("option", "known"), [("PerSourcePenalties", "yes\n"), ("PerSourceLuck", "")]
)
def test_only_what_sshd_knows_is_written(gateway: Gateway, option: str, known: str) -> None:
    assert gateway.inside("sh", "-c", SshdKnows().command(option)) == known


@contextlib.contextmanager
def watched() -> Iterator[set[bytes]]:
    """What was on any command line or in any environment of this machine meanwhile."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        seen.add((process / name).read_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_an_operator_makes_shows_and_removes_an_account(gateway: Gateway) -> None:
    password = "a s3cret of eve's"
    with watched() as seen:
        made = gateway.fab("adduser", "eve", "--password-fd", "0", stdin=f"{password}\n")
    assert made.returncode == 0, made.stderr
    host_key = gateway.inside("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert made.stdout.splitlines()[-1] == f"127.0.0.1: host key {host_key}"
    assert "eve" in made.stdout
    assert "ada" not in made.stdout
    # it was there to be seen, and is nowhere but as a hash
    assert any(b"owners\0add\0eve" in words for words in seen)
    secret = password.encode()
    assert not [words for words in seen if b"s3cret" in words]
    assert [file for file in files(gateway.root) if secret in file.read_bytes()] == []
    shadow = (gateway.root / "etc/shadow").read_text()
    assert "\neve:$y$" in shadow

    shown = gateway.fab("users")
    assert [name in shown.stdout for name in ("ada", "bob", "eve", host_key)] == [True] * 4

    gone = gateway.fab("deluser", "eve")
    assert gone.returncode == 0, gone.stderr
    assert "eve" not in gone.stdout
    assert "eve" not in (gateway.root / "etc/passwd").read_text()
    assert "eve" not in gateway.inside("cat", "/run/gateway/authorized_keys")
    assert "eve" not in gateway.inside("cat", "/run/gateway/pg_ident.conf")
    # her role is kept, so that nothing that she did can keep it in; it may do nothing any more
    assert gateway.sql("select count(*) from pg_auth_members where member = 'eve'::regrole") == "0"
    assert not (gateway.state / "owners/eve").exists()
    assert gateway.results("eve").is_dir()


def files(root: Path) -> Iterator[Path]:
    """The regular files of a gateway where something could have been left."""
    for top in ("etc", "var", "tmp", "root", "home", "persistent"):
        for path in (root / top).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


@pytest.mark.parametrize(
    "name",
    ["", "Ada", "1a", "a b", "$(id)", "a\nb", "a" * 33, "../a", "-a", "a.b", "é", "pg_x", "public"],
)
def test_a_name_that_is_none_is_refused(gateway: Gateway, name: str) -> None:
    before = sorted((gateway.state / "owners").iterdir())
    with pytest.raises(Exception, match="a name "):
        gateway.inside(OWNERS, "add", name, stdin="a password\n")
    assert sorted((gateway.state / "owners").iterdir()) == before


@pytest.mark.parametrize("name", ["root", "pipeline", "postgres"])
def test_the_systems_own_users_are_left_alone(gateway: Gateway, name: str) -> None:
    before = (gateway.root / "etc/shadow").read_text()
    for words in (("add", name), ("add", name, "--force")):
        with pytest.raises(Exception, match=f"{name} is a user of this system already"):
            gateway.inside(OWNERS, *words, stdin="a password\n")
    with pytest.raises(Exception, match=f"{name} has no account"):
        gateway.inside(OWNERS, "remove", name)
    assert (gateway.root / "etc/shadow").read_text() == before


def test_an_account_is_not_made_twice_unasked(gateway: Gateway) -> None:
    before = everything(gateway)
    with pytest.raises(Exception, match="ada has an account already: --force"):
        gateway.inside(OWNERS, "add", "ada", stdin="another one\n")
    assert everything(gateway) == before


def test_without_a_password_nothing_is_made(gateway: Gateway) -> None:
    for stdin in ("", "\n"):
        with pytest.raises(Exception, match="there is no password on standard input"):
            gateway.inside(OWNERS, "add", "nan", stdin=stdin)
    assert "nan" not in (gateway.root / "etc/passwd").read_text()
    assert not (gateway.state / "owners/.new-nan").exists()


@pytest.fixture
def golden(gateway: Gateway, tmp_path: Path) -> Iterator[None]:
    """The accounts are as in the golden root; in the end, as they were before."""
    for name in ACCOUNTS:
        shutil.copy2(gateway.root / name, tmp_path)
    for owner in PASSWORDS:
        gateway.inside("userdel", owner)
    try:
        yield
    finally:
        for name in ACCOUNTS:
            shutil.copy2(tmp_path / Path(name).name, gateway.root / name)
        gateway.inside(OWNERS, "restore")


def fetched(gateway: Gateway, owner: str, password: str) -> bool:
    """Whether an owner can fetch his key with a password."""
    target = gateway.home / "fetched"
    target.unlink(missing_ok=True)
    place = f"{owner}@127.0.0.1:id_ed25519"
    told = gateway.by_password(password, "sftp", "-oNumberOfPasswordPrompts=1", place, target)
    return told.returncode == 0 and target.read_bytes() == gateway.key(owner).read_bytes()


@pytest.mark.usefixtures("golden")
def test_accounts_are_there_again_after_a_reset(gateway: Gateway) -> None:
    assert gateway.inside("getent", "passwd", "ada", check=False) == ""
    # all others get other numbers than they had
    gateway.inside("useradd", "--system", "another")
    gateway.inside(OWNERS, "restore")
    assert fetched(gateway, "ada", PASSWORDS["ada"])
    assert gateway.by_key("bob", "pipeline@127.0.0.1").returncode == 1  # let in, and nothing asked


@pytest.mark.usefixtures("golden")
def test_a_reset_makes_good_what_a_power_cut_left(gateway: Gateway) -> None:
    owners = gateway.state / "owners"
    (owners / "ada").rename(owners / ".old-ada")  # in the midst of adduser --force
    shutil.copytree(owners / ".old-ada", owners / ".new-ada")
    shutil.copytree(owners / "bob", owners / ".new-zoe")  # in the midst of adduser
    shutil.copytree(owners / "bob", owners / ".gone-zoe")  # in the midst of deluser
    gateway.inside("rm", "/run/gateway/authorized_keys")
    gateway.inside(OWNERS, "restore")
    assert sorted(path.name for path in owners.iterdir()) == ["ada", "bob"]
    assert fetched(gateway, "ada", PASSWORDS["ada"])
    assert gateway.by_key("ada", "pipeline@127.0.0.1").returncode == 1


@pytest.mark.usefixtures("golden")
def test_one_that_cannot_be_made_keeps_no_other_from_being_made(gateway: Gateway) -> None:
    gateway.inside("useradd", "--system", "ada")  # a package of a later golden root, say
    with pytest.raises(Exception, match="ada is a user of this system: no account"):
        gateway.inside(OWNERS, "restore")
    assert "\nada:!:" in (gateway.root / "etc/shadow").read_text()
    assert fetched(gateway, "bob", PASSWORDS["bob"])
    gateway.inside("userdel", "ada")


def test_a_new_password_and_key_end_the_old_ones(gateway: Gateway) -> None:
    gateway.inside(OWNERS, "add", "kim", stdin="the first one\n")
    old = gateway.key("kim").rename(gateway.home / "old")
    gateway.inside(OWNERS, "add", "kim", "--force", stdin="the second one\n")
    assert gateway.key("kim").read_bytes() != old.read_bytes()
    assert fetched(gateway, "kim", "the second one")
    assert not fetched(gateway, "kim", "the first one")
    options = gateway.with_key("kim")[:-1]
    refused = gateway.outside("ssh", *options, f"-i{old}", "pipeline@127.0.0.1")
    assert "Permission denied (publickey)" in refused.stderr
    gateway.inside(OWNERS, "remove", "kim")
