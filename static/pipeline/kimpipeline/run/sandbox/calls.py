"""The system calls that no job makes, and their filter for a sandbox without systemd."""

from __future__ import annotations

import subprocess
from functools import cache

from kimpipeline.errors import SandboxError

# Calls that a calculation does not need, and that reach deep into the kernel.
DENIED = (
    *("io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit"),
    *("io_uring_enter", "io_uring_register", "io_uring_setup"),
    *("add_key", "keyctl", "request_key"),
    *("mlock", "mlock2", "mlockall", "munlock", "munlockall"),
    *("bpf", "kcmp", "perf_event_open", "ptrace", "userfaultfd"),
)
# libseccomp compiles it; Debian has its module for the system's own Python alone. A higher family
# of sockets than AF_INET is none that mpirun needs. Calls of other architectures end the job.
_COMPILE = """
import errno, seccomp, socket, sys
made = seccomp.SyscallFilter(seccomp.ALLOW)
for name in sys.argv[1:]:
    made.add_rule(seccomp.ERRNO(errno.EPERM), name)
family = seccomp.Arg(0, seccomp.GT, socket.AF_INET)
made.add_rule(seccomp.ERRNO(errno.EAFNOSUPPORT), "socket", family)
made.export_bpf(sys.stdout)
"""


@cache
def program() -> bytes:
    """The filter, as the kernel takes it.

    Raises:
        SandboxError: this machine cannot make it.
    """
    argv = ["/usr/bin/python3", "-I", "-c", _COMPILE, *DENIED]
    try:
        return subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout  # noqa: S603 - an argv list
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(
            "no filter of system calls could be made; Debian's package is python3-seccomp"
        ) from error
