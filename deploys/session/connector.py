"""pyinfra's connector to a host: a root shell over an SSH connection that is open already."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from io import IOBase
from typing import IO, Any, NoReturn, cast

from pyinfra.api.command import StringCommand
from pyinfra.api.util import get_file_io
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command_for_host
from typing_extensions import override

from deploys.session.root_shell import Answer, RootShell


class RootShellConnector(BaseConnector):
    """Runs pyinfra's commands and uploads in a root shell that runs already.

    Fabric and the shell have already checked host keys, logged in and started sudo. pyinfra's own
    connector would do all of this again, and start sudo for each command.
    """

    @override
    @staticmethod
    def make_names_data(name: str) -> NoReturn:
        raise NotImplementedError(f"{name}: hosts are made by Session alone")

    @override
    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        timeout = arguments.pop("_timeout", None)
        codes = arguments.pop("_success_exit_codes", None) or [0]
        for unused in ("_get_pty", "_stdin"):
            assert not arguments.pop(unused, None), f"{unused} needs a channel of its own"
        line = make_unix_command_for_host(self.state, self.host, command, **arguments)
        return self._command_output(self._shell.run(line.get_raw_value(), timeout), codes)

    @override
    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        with get_file_io(cast(IO[bytes] | str, filename_or_io)) as source:
            succeeded, output = self._command_output(
                self._shell.write(source, remote_filename), [0]
            )
        if not succeeded:
            logging.getLogger("pyinfra").error(output.stderr)
        return succeeded

    @override
    def get_file(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("nothing is fetched from a host but what facts print")

    @property
    def _shell(self) -> RootShell:
        shell: RootShell = self.host.data.shell
        return shell

    @staticmethod
    def _command_output(answer: Answer, success: Sequence[int]) -> tuple[bool, CommandOutput]:
        lines = [
            OutputLine(stream, line)
            for stream, text in (("stdout", answer.stdout), ("stderr", answer.stderr))
            for line in text.removesuffix("\n").split("\n")
            if text
        ]
        return answer.code in success, CommandOutput(lines)
