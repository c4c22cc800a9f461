"""Operations that pyinfra does not have: each yields the commands that change a host."""

from collections.abc import Generator

from pyinfra.api.command import FileUploadCommand, StringCommand

Commands = Generator[StringCommand | FileUploadCommand, None, None]
