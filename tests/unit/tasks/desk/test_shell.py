"""The door for local commands: what it returns, and how its failures read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.desk import shell

PY = sys.executable


@pytest.mark.commands
def test_a_command_returns_what_it_said() -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('aside', file=sys.stderr)"
    done = shell.run([PY, "-c", code], input="words")
    assert (done.returncode, done.stdout, done.stderr) == (0, "WORDS\n", "aside\n")
    assert done.argv == (PY, "-c", code)


@pytest.mark.commands
def test_without_input_a_command_reads_nothing() -> None:
    assert shell.run([PY, "-c", "import sys; print(len(sys.stdin.read()))"]).stdout == "0\n"


@pytest.mark.commands
def test_variables_and_folder_reach_the_command(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GREETING'], os.getcwd(), 'PATH' in os.environ)"
    done = shell.run([PY, "-c", code], env={"GREETING": "hello"}, cwd=tmp_path)
    assert done.stdout == f"hello {tmp_path.resolve()} True\n"


@pytest.mark.commands
def test_what_is_parsed_is_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    code = "import os; print(os.environ['LC_ALL'], os.environ['LANGUAGE'])"
    command = [PY, "-c", code]
    lines: list[str] = []
    shell.follow(command, lines.append)
    assert shell.run(command, env={"A": "b"}).stdout == shell.run(command).stdout == "C.UTF-8 \n"
    assert "C.UTF-8 " in lines


@pytest.mark.commands
def test_a_failure_is_one_line_with_the_last_thing_said() -> None:
    code = "import sys; print('first\\nthe disk is full', file=sys.stderr); sys.exit(3)"
    with pytest.raises(shell.CommandError) as caught:
        shell.run([PY, "-c", code])
    assert str(caught.value).endswith("failed with exit code 3: the disk is full")
    assert "\n" not in str(caught.value)
    assert caught.value.returncode == 3
    assert caught.value.stderr == "first\nthe disk is full\n"
    assert caught.value.argv == (PY, "-c", code)
    assert isinstance(caught.value, BoxError)


@pytest.mark.commands
def test_a_failure_on_standard_output_is_shown_too() -> None:
    with pytest.raises(shell.CommandError, match=r"exit code 1: only here$"):
        shell.run([PY, "-c", "print('only here'); raise SystemExit(1)"])


@pytest.mark.commands
def test_unchecked_the_exit_code_is_returned() -> None:
    assert shell.run([PY, "-c", "raise SystemExit(4)"], check=False).returncode == 4


@pytest.mark.commands
def test_a_command_out_of_time_is_killed_and_named() -> None:
    code = "import time; time.sleep(60)"
    with pytest.raises(shell.CommandError, match=r"not done after 0\.2 s") as caught:
        shell.run([PY, "-c", code], timeout=0.2)
    assert caught.value.returncode is None


@pytest.mark.parametrize(
    ("program", "package"),
    [("qemu-img", "qemu-utils"), ("sfdisk", "fdisk"), ("mmdebstrap", "mmdebstrap")],
)
def test_a_missing_program_is_named_with_its_package(
    program: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shell, "_SBIN", ())
    with pytest.raises(shell.CommandError) as caught:
        shell.run([program, "--version"])
    assert str(caught.value) == f"{program} is not installed; Debian's package is {package}"


@pytest.mark.commands
def test_a_word_with_spaces_and_quotes_stays_one_word() -> None:
    word = "a 'b' \"c\" $(d); e"
    assert shell.run([PY, "-c", "import sys; print(sys.argv[1:])", word]).stdout == f"{[word]}\n"


@pytest.mark.commands
def test_a_command_is_heard_while_it_runs() -> None:
    code = "import time; print('1\\r2', end='\\r', flush=True); time.sleep(0.5); print('3')"
    heard: list[str] = []
    shell.follow([PY, "-c", code], heard.append)
    assert [line for line in heard if line] == ["1", "2", "3"]
    assert "" in heard[:-1]  # in the silence


@pytest.mark.commands
def test_who_hears_a_command_may_end_it() -> None:
    def enough(line: str) -> None:
        if line:
            pids.append(int(line))
            raise KeyboardInterrupt

    pids: list[int] = []
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        shell.follow([PY, "-c", code], enough)
    assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.commands
def test_a_command_that_was_heard_and_failed_says_why() -> None:
    code = "import sys; print('half'); print('disk full', file=sys.stderr); sys.exit(3)"
    with pytest.raises(shell.CommandError, match="failed with exit code 3: disk full") as caught:
        shell.follow([PY, "-c", code], lambda _: None)
    assert (caught.value.returncode, caught.value.stderr) == (3, "disk full\n")
