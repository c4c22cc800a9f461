"""What a box can do with its owner's key: reach the queue, read items, write results."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kimpipeline.errors import ItemError
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.transfer import deliver, fetch
from kimpipeline.settings import Remote
from tests.storage.gateway.gateway import HOST, ITEM, Gateway, everything

NOTHING_ELSE = "this key reaches the queue, reads items and writes results"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results, as a worker has it."""
    folder = tmp_path / "results"
    (folder / "output").mkdir(parents=True)
    (folder / "results.edn").write_text("[{}]\n")
    (folder / "output/kim.log").write_text("a log\n")
    return folder


def test_the_queue_is_reached(gateway: Gateway) -> None:
    with gateway.database("ada") as settings, Jobs(settings, "w") as jobs:
        assert jobs.rows("version")


def test_an_item_is_read(gateway: Gateway, tmp_path: Path) -> None:
    told = gateway.rsync("ada", "--archive", "--partial", f"{HOST}:{ITEM}/", f"{tmp_path}/")
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "results.edn").read_text() == f"of {ITEM}\n"


def test_no_item_is_removed(gateway: Gateway, tmp_path: Path) -> None:
    told = gateway.rsync("ada", "-a", "--remove-source-files", f"{HOST}:{ITEM}/", f"{tmp_path}/")
    assert "has been disabled on this server" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_results_are_written_and_written_again(gateway: Gateway, results: Path) -> None:
    for text in ("once\n", "and once more\n"):
        (results / "results.edn").write_text(text)
        told = gateway.rsync("ada", "--archive", f"{results}/", f"{HOST}:job-17/")
        assert told.returncode == 0, told.stderr
    for name, text in (("job-17", "once\n"), ("job-17.2", "and once more\n")):
        arrived = gateway.results("ada") / name
        assert (arrived / "results.edn").read_text() == text
        assert (arrived / "output/kim.log").read_text() == "a log\n"
    assert [
        line.split()[3] for line in gateway.inside("/usr/lib/gateway/owners", "list").splitlines()
    ]


def jobs(gateway: Gateway) -> list[str]:
    """All that lies among ada's results, hidden or not."""
    return sorted(path.name for path in gateway.results("ada").iterdir())


def test_a_second_run_stands_beside_the_first(gateway: Gateway, results: Path) -> None:
    gateway.rsync("ada", "--archive", f"{results}/", f"{HOST}:job-18/")
    (results / "results.edn").rename(results / "results.edn.invalid")
    (results / "output").chmod(0o500)
    for _ in range(2):
        told = gateway.rsync("ada", "--archive", f"{results}/", f"{HOST}:job-18/")
        assert (told.returncode, told.stderr) == (0, "")
        assert (gateway.results("ada") / "job-18/results.edn").read_text() == "[{}]\n"
        arrived = gateway.results("ada") / "job-18.2"
        assert {path.name for path in arrived.iterdir()} == {"output", "results.edn.invalid"}
        assert (arrived / "output/kim.log").exists()
        assert "job-18.3" not in jobs(gateway)
    assert not [name for name in jobs(gateway) if name.startswith(".")]


def test_what_breaks_off_changes_nothing(gateway: Gateway, results: Path) -> None:
    gateway.rsync("ada", "--archive", f"{results}/", f"{HOST}:job-19/")
    (results / "results.edn").write_text("half\n")
    before = jobs(gateway)
    (results / "large").write_bytes(bytes(2_000_000))
    ssh = shlex.join(["ssh", *gateway.with_key("ada")])
    slowly = ("rsync", "-a", "--bwlimit=200", "-e", ssh, f"{results}/", f"{HOST}:job-19/")
    assert gateway.outside("timeout", "3", *slowly).returncode == 124
    gateway.inside("sh", "-c", "while pgrep -u pipeline -f rrsync; do sleep 0.1; done")
    assert (gateway.results("ada") / "job-19/results.edn").read_text() == "[{}]\n"
    assert jobs(gateway) == before


def test_what_a_power_cut_left_is_removed(gateway: Gateway, results: Path) -> None:
    mine = gateway.results("ada")
    (mine / ".new-cut").mkdir()
    gateway.rsync("ada", "--archive", f"{results}/", f"{HOST}:job-21/")
    assert (mine / "job-21/results.edn").read_text() == "[{}]\n"
    gateway.inside("/usr/lib/gateway/owners", "restore")
    assert not [name for name in jobs(gateway) if name.startswith(".")]


def test_the_runner_delivers(gateway: Gateway, results: Path) -> None:
    """As a worker does it: with the options of its own, as often as it must."""
    ssh = gateway.home / "as-ssh"  # its ssh is this machine's, in the gateway's world
    words = gateway.world.enter("ssh", *gateway.with_key("ada"))
    ssh.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
    ssh.chmod(0o700)
    remote = Remote(items=f"{HOST}:", results=f"{HOST}:", ssh=(str(ssh),))
    job = job_id("A__TE_000000000001_000", "B__MO_000000000002_000", ())
    for name in ("results.edn", "results.edn.invalid"):
        for each in results.glob("results.edn*"):
            each.rename(results / name)
        deliver(results, job, remote, lambda: None)
        arrived = gateway.results("ada") / (job if name == "results.edn" else f"{job}.2")
        assert {path.name for path in arrived.iterdir()} == {"output", name}
    with pytest.raises(ItemError, match="there is no such item"):
        fetch("A__TE_000000000001_000", ItemFolder(gateway.home / "items"), remote, lambda: None)


def test_two_workers_write_at_once(gateway: Gateway, results: Path) -> None:
    words = ("rsync", "-a", "-e", shlex.join(["ssh", *gateway.with_key("ada")]), f"{results}/")
    both = " & ".join(shlex.join([*words, f"{HOST}:at-once-{n}/"]) for n in range(4))
    told = gateway.outside("sh", "-c", f"{both} & wait")
    assert (told.returncode, told.stderr) == (0, "")
    assert len(list(gateway.results("ada").glob("at-once-*/results.edn"))) == 4


@pytest.mark.parametrize(
    "words",
    [
        (HOST,),
        (HOST, "id"),
        (HOST, "true"),
        (HOST, "sh -i"),
        (HOST, "queue root"),
        (HOST, "queue; id"),
        ("-s", HOST, "sftp"),
        (HOST, "scp -f /etc/passwd"),
        (HOST, "rsync --version"),
        (HOST, "/usr/bin/rsync --server --sender -e.LsfxCIvu . ."),
        (HOST, "RSYNC_RSH=id rsync --server -e.LsfxCIvu . ."),
        (HOST, "rsync\t--server\t--sender\t-e.LsfxCIvu\t.\t."),
    ],
    ids=lambda words: words[-1],
)
def test_there_is_no_shell(gateway: Gateway, words: tuple[str, ...]) -> None:
    told = gateway.by_key("ada", *words)
    assert told.returncode == 1
    assert NOTHING_ELSE in told.stderr or "-s" in words
    assert told.stdout == ""


def test_no_socket_of_the_gateway_is_forwarded(gateway: Gateway, tmp_path: Path) -> None:
    """Not the database's either, where the user pipeline may be any box."""
    far = f"{tmp_path}/end:/run/postgresql/.s.PGSQL.5432"
    words = shlex.join(["ssh", *gateway.with_key("ada"), "-N", "-L", far, HOST])
    reach = (
        "import socket, struct, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    )
    reach += 's.sendall(struct.pack("!II", 8, 80877103)); print(s.recv(1))'  # else "N"
    script = f"{words} & until [ -S {tmp_path}/end ]; do sleep 0.1; done; "
    script += f"python3 -c '{reach}' {tmp_path}/end; kill %1"
    told = gateway.outside("bash", "-c", script)
    assert "b'N'" not in told.stdout
    assert "open failed" in told.stderr


def test_there_is_no_terminal(gateway: Gateway) -> None:
    told = gateway.by_key("ada", "-tt", HOST)
    assert "PTY allocation request failed" in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("-W", "127.0.0.1:22"),
        ("-W", "localhost:22"),
        ("-N", "-oExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22"),
        ("-N", "-oExitOnForwardFailure=yes", "-R", "/tmp/socket:127.0.0.1:22"),
        ("-N", "-oExitOnForwardFailure=yes", "-R", "0"),
        ("-N", "-oExitOnForwardFailure=yes", "-w", "0:0"),
    ],
    ids=lambda words: " ".join(words[-2:]),
)
def test_nothing_else_is_forwarded(gateway: Gateway, words: tuple[str, ...]) -> None:
    told = gateway.by_key("ada", *words, HOST, stdin="stats\r\n")
    assert told.returncode == 255
    assert told.stdout == ""


# Where an owner could want to go; relative to the places that he is rooted at, and absolute.
OTHERS = [
    "../results/bob/job/",
    "../../srv/results/bob/job/",
    "../bob/job/",
    "/srv/pipeline/results/bob/job/",
    "/persistent/gateway/srv/results/bob/job/",
    "./../bob/job/",
    f"{ITEM}/../../results/bob/job/",
    "job-17/../../bob/job/",
    "~bob/",
    "*/../../results/bob/job/",
    "{..,.}/results/bob/job/",
]


def test_nobodys_results_are_read(gateway: Gateway, tmp_path: Path) -> None:
    for number, path in enumerate(OTHERS):
        more = (("-L", "--copy-unsafe-links"), ("--old-args", "-R"), ())[number % 3]
        told = gateway.rsync("ada", "-a", *more, f"{HOST}:{path}", f"{tmp_path}/")
        assert told.returncode != 0, path
        assert list(tmp_path.rglob("results.edn")) == [], path


def test_not_even_the_owners_own(gateway: Gateway, results: Path, tmp_path: Path) -> None:
    gateway.rsync("ada", "-a", f"{results}/", f"{HOST}:mine/")
    assert (gateway.results("ada") / "mine/results.edn").exists()
    for path in ("mine/", "../results/ada/mine/", "/srv/pipeline/results/ada/mine/"):
        assert gateway.rsync("ada", "-a", f"{HOST}:{path}", f"{tmp_path}/stolen/").returncode != 0
    assert not list(tmp_path.glob("stolen/*"))


def test_results_land_nowhere_else(gateway: Gateway, results: Path) -> None:
    places = (
        *OTHERS,
        "../../items/new/",
        f"../../items/{ITEM}/",
        f"/srv/pipeline/items/{ITEM}/",
        "../../../owners/bob/files/",
        "/etc/cron.d/",
        "/tmp/",
        "..",
    )
    before = everything(gateway, but=gateway.results("ada"))
    for number, place in enumerate(places):
        more = (("--mkpath",), ("-K", "--mkpath"), ("--old-args", "-R"))[number % 3]
        gateway.rsync("ada", "-a", *more, f"{results}/", f"{HOST}:{place}")
        assert everything(gateway, but=gateway.results("ada")) == before, place


def test_no_link_leads_out(gateway: Gateway, results: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name, target in {
        "bob": "../bob",
        "absolute": "/srv/pipeline/results/bob",
        "etc": "/etc",
        "items": "/persistent/gateway/srv/items",
    }.items():
        (links / name).symlink_to(target)
    gateway.rsync("ada", "-a", f"{links}/", f"{HOST}:links/")
    gateway.rsync("ada", "-a", f"{links}/", f"{HOST}:")
    gateway.rsync("ada", "-a", "-M--no-munge-links", f"{links}/", f"{HOST}:unmunged/")
    before = everything(gateway, but=gateway.results("ada"))
    for place in ("bob", "links/absolute", "unmunged/etc", "links/items"):
        for more in ((), ("-K",), ("--inplace",), (f"--temp-dir={place}",)):
            gateway.rsync("ada", "-a", *more, f"{results}/", f"{HOST}:{place}/")
    assert everything(gateway, but=gateway.results("ada")) == before
    arrived = [path for path in gateway.results("ada").rglob("*") if path.is_symlink()]
    assert len(arrived) >= 4
    for path in arrived:
        assert str(path.readlink()).startswith("/rsyncd-munged/")


def test_a_link_among_the_items_shows_nothing(gateway: Gateway, tmp_path: Path) -> None:
    link = gateway.items / ITEM / "link"
    link.symlink_to("/srv/pipeline/results/bob")
    try:
        for options in (("-aL",), ("-ak",), ("-a", "--copy-unsafe-links")):
            told = gateway.rsync("ada", *options, f"{HOST}:{ITEM}/", f"{tmp_path}/")
            assert "has been disabled on this server" in told.stderr
        told = gateway.rsync("ada", "-a", f"{HOST}:{ITEM}/link/", f"{tmp_path}/")
        assert told.returncode != 0
    finally:
        link.unlink()
    assert list(tmp_path.iterdir()) == []


MARK = "/tmp/it-ran"


@pytest.mark.parametrize(
    "options",
    [
        (f"--rsync-path=touch {MARK}; rsync",),
        (f"--rsync-path=rsync --server --sender $(touch {MARK}) #",),
        (f"-M--rsh=touch {MARK}",),
        (f"-M-etouch {MARK}",),
        ("-M--daemon",),
        ("-M--config=/etc/passwd", "-M--daemon"),
        (f"-M--log-file={MARK}",),
        ("-M--log-file=/srv/pipeline/items/log",),
        ("-M--files-from=/etc/passwd",),
        ("-M--write-devices",),
        ("-M--copy-devices",),
        ("-M--sender",),
        ("--delete",),
        ("--backup", "--backup-dir=/tmp"),
        ("--partial-dir=/tmp",),
        ("--temp-dir=/tmp",),
        ("--link-dest=/srv/pipeline/results/bob/job",),
        ("--compare-dest=/etc",),
        ("--old-args",),
    ],
    ids=" ".join,
)
def test_options_do_no_harm(gateway: Gateway, options: tuple[str, ...], results: Path) -> None:
    before = everything(gateway, but=gateway.results("ada"))
    gateway.rsync("ada", "-a", *options, f"{results}/", f"{HOST}:opt$(touch {MARK})`touch {MARK}`/")
    gateway.rsync("ada", "-a", *options, f"{HOST}:{ITEM}/;touch {MARK}", f"{results}/read/")
    assert everything(gateway, but=gateway.results("ada")) == before


@pytest.mark.parametrize(
    "command",
    [
        f"rsync --server -e.LsfxCIvu . .; touch {MARK}",
        f"rsync --server --sender -e.LsfxCIvu . $(touch {MARK})",
        f"rsync --server --sender -e.LsfxCIvu . .\ntouch {MARK}",
        f"rsync --server -e.LsfxCIvu --rsh=touch . {MARK}",
        "rsync --server --sender -e.LsfxCIvu . /etc/passwd",
        "rsync --server --sender -e.LsfxCIvu --files-from=/etc/shadow . .",
        "rsync --server --daemon .",
        "rsync --server --sender -LlogDtpre.iLsfxCIvu . ../results/bob",
        "rsync --server  --sender -e.LsfxCIvu . ../bob",
        "rsync --server -e.LsfxCIvu --sender . ../bob",
    ],
)
def test_a_command_line_by_hand_does_no_harm(gateway: Gateway, command: str) -> None:
    before = everything(gateway, but=gateway.results("ada"))
    told = gateway.by_key("ada", HOST, command)
    assert told.returncode != 0
    assert "root:" not in told.stdout
    assert everything(gateway, but=gateway.results("ada")) == before


def test_the_key_is_of_no_other_account(gateway: Gateway) -> None:
    for user in ("root", "bob", "postgres", "nobody"):
        told = gateway.by_key("ada", f"{user}@127.0.0.1", "id")
        assert told.returncode == 255
        assert "Permission denied" in told.stderr
