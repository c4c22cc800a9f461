"""Reboot a host over SSH, and wait until it is back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from deploys.errors import DeployError, PreflightError, UnreachableError
from deploys.facts.state import HostState, State
from tasks.desk.awaiting import awaited
from tasks.hosts.connection.inhibitors import LIST, blockers
from tasks.hosts.connection.login import Login

_NO_ENTRY = "/usr/lib/resnap/with-boot /usr/lib/resnap/edit-grubenv unset next_entry"
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


class Host(Login):
    """One host, which can be rebooted; the connection opens at first use. See :class:`Login`."""

    def state(self) -> HostState:
        """Read the host's state now."""
        with self.session() as session:
            return session.fact(State)

    def require_reboot(self) -> None:
        """Require that nothing blocks a reboot. Call it before what a reboot is to complete.

        systemd 257 lets nobody past a program that blocks shutdowns; earlier versions let root.

        Raises:
            PreflightError: programs block it; the line says which, and why they do.
            UnreachableError, DeployError: see ``run``.
        """
        if found := blockers(self.run(LIST)):
            raise PreflightError(
                f"{self.name}: its reboot is blocked by {'; '.join(found)}. End that, and try again"
            )

    def reboot(
        self,
        entry: str | None,
        deadline: float,
        settled: Callable[[HostState], bool] = lambda _: True,
    ) -> HostState:
        """Reboot the host, wait until it is back, and return its state.

        Args:
            entry: id of the entry in GRUB's menu, for this one boot; None: the default entry.
            deadline: seconds.
            settled: says of a state whether the host is done with booting; by default it is.

        Raises:
            PreflightError: see ``require_reboot``.
            DeployError: the host refuses to reboot; a later boot is the usual one.
            UnreachableError: the host is not back, with a new boot id and settled, by then.
        """
        self.require_reboot()
        before = self.run(_BOOT_ID).strip()
        if entry is not None:
            self.run(f"/usr/lib/resnap/next-boot {entry}")
        self._keep_place()
        try:
            self.run("systemctl reboot")
        except UnreachableError:
            pass  # the reboot cut the answer off
        except DeployError:
            if self._stays_up():
                if entry is not None:
                    with contextlib.suppress(DeployError, UnreachableError):
                        self.run(_NO_ENTRY)
                raise
        return self.wait_for_boot(before, deadline, settled)

    def _stays_up(self) -> bool:
        """Whether a command failed for another reason than that the host goes down."""
        with contextlib.suppress(DeployError, UnreachableError):
            return self.run("systemctl is-system-running || true").strip() != "stopping"
        return False

    def wait_for_boot(
        self, before: str, deadline: float, settled: Callable[[HostState], bool] = lambda _: True
    ) -> HostState:
        """Wait until the host is back from a boot; ``before`` is the boot id from before it.

        Raises:
            UnreachableError: see ``reboot``.
        """
        states: list[HostState] = []

        def is_back() -> bool:
            if self._boot_id() in (None, before):
                return False
            # it may go down meanwhile
            with contextlib.suppress(DeployError, UnreachableError):
                states[:] = [self.state()]
                return settled(states[0])
            return False

        self.close()
        self._wait(is_back, deadline, "did not come back")
        return states[0]

    def wait(self, deadline: float) -> None:
        """Wait until a machine that was just powered on accepts the login.

        Raises:
            UnreachableError: it does not within ``deadline`` seconds.
        """
        self._wait(lambda: self._boot_id() is not None, deadline, "did not come up")

    def _boot_id(self) -> str | None:
        try:
            self.connect()
            return self.run(_BOOT_ID).strip()
        except (UnreachableError, DeployError):
            self.close()
            return None

    def _wait(self, condition: Callable[[], bool], deadline: float, fault: str) -> None:
        line = f"{self.name} {fault} within {deadline:g} s; look at its console"
        awaited(condition, deadline, 1, lambda: line)
