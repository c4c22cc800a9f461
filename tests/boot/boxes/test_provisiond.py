"""After a reset the box sets itself up from git; with no network, from the copy it has.

What it takes from whom is tried without a boot, in tests/unit/onbox/services/test_setup_attacks.py.
"""

import shutil
from collections.abc import Iterator

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.services.provisiond import SIGNERS
from tasks.desk.places import ROOT
from tests.boot.conftest import StartBox
from tests.boot.lab.box import Box
from tests.setup_project import NAME, Repository, Signer, served

pytestmark = pytest.mark.slow

# This machine, as a guest of QEMU's user network sees it.
GATEWAY = "10.0.2.2"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """This project, as it stands in the working tree, signed, at stable."""
    folder = tmp_path_factory.mktemp("git")
    made = Repository(folder / NAME, Signer(folder / "keys"))
    for part in ("deploys", "static"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, made.path / part, ignore=ignored)
    made.commit("stable")
    return made


@pytest.fixture(scope="module")
def box(start_box: StartBox, repository: Repository) -> Iterator[Box]:
    """A box that knows who signs, and so does its golden root, as a provision leaves it."""
    assert repository.signer
    line = f"echo '{repository.signer.line}' >"
    with start_box() as running_box:
        running_box.succeed(
            f"{line}{SIGNERS} && mount /dev/vagrant-pipeline/root /mnt && "
            f"{line}/mnt{SIGNERS} && umount /mnt"
        )
        yield running_box


def test_box_follows_its_branch_and_comes_back_without_network(
    box: Box, repository: Repository
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    with served(repository.path.parent, GATEWAY) as prefix:
        said = box.succeed(f"/persistent/runsetup {prefix}")
        assert "error" not in said.lower()
        assert f"COMMIT={commit}" in box.succeed("cat /etc/pipeline-release")

        # Another version: provisiond takes it, as it does after each reset.
        marker = repository.path / "static/onbox/usr/lib/pipeline/second-version"
        marker.write_text("of the test\n")
        second = repository.commit("second")
        box.succeed("systemctl restart provisiond")
        assert box.state.provisiond["state"] == "done", box.state.provisiond
        assert box.succeed("cat /usr/lib/pipeline/second-version") == "of the test\n"
        assert second in box.succeed("head -n 2 /persistent/setup/good.bundle")

    # What somebody who was root leaves there, to be root again.
    for name in ("runsetup", "runsecure"):
        box.succeed(
            f"cd /persistent && rm {name} && echo 'touch /pwned' >{name} && chmod 755 {name}"
        )
    box.succeed("cp /usr/bin/id /persistent/id && chmod 4755 /persistent/id")

    # Nobody answers at that address any more, and in a fresh snapshot nothing of it is left.
    box.reboot()
    assert box.verdict.name == "fresh"
    _until(lambda: "state" in box.state.provisiond)
    assert box.state.provisiond["state"] == "done", box.state.provisiond
    assert box.succeed("cat /usr/lib/pipeline/second-version") == "of the test\n"
    box.fail("test -e /pwned")
    assert "/usr/lib/provisiond/runsetup" in box.succeed("readlink -f /persistent/runsetup")
    assert box.succeed("setpriv --reuid 65534 --clear-groups /persistent/id -u").strip() == "65534"
    log = box.succeed("cat /persistent/log/provisiond.log")
    assert "runsetup" in log
    assert box.succeed("journalctl --quiet --unit provisiond --output cat").strip()


def _until(condition: object) -> None:
    assert callable(condition)
    Retrying(
        retry=retry_if_result(lambda done: not done),
        stop=stop_after_delay(300),
        wait=wait_fixed(1),
    )(condition)
