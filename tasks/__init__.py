"""The tasks that you type: `fab -H HOST TASK` for hosts, `inv TASK` for the local guest."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.collection import Collection

# inv puts this folder on the path, but not the project's root, nor the runner's package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "static" / "pipeline"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def __getattr__(name: str) -> Collection:
    """Make ``ns``, the collection of all tasks, when Invoke or Fabric first asks for it."""
    if name != "ns":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tasks.desk import closed_pipe

    closed_pipe.install()
    made = globals()["ns"] = _collection()
    return made


def _collection() -> Collection:
    from tasks import box, dev, gateway, host
    from tasks.debian import needs
    from tasks.hosts.connection.openssh import ANY

    ns = Collection()
    ns.configure(ANY)
    for task in (
        host.provision,
        host.unprovision,
        host.status,
        host.resnap,
        host.keep,
        host.maintain,
        host.rollback,
        host.promote,
        host.finalize,
        host.shrink,
        gateway.adduser,
        gateway.deluser,
        gateway.revoke,
        gateway.users,
        gateway.backup,
        gateway.restore_gateway,
        host.secure,
        box.up,
        box.ssh,
        box.halt,
        box.destroy,
        dev.settings,
        dev.run_tests,
        dev.lint,
        dev.lock,
        dev.bench,
    ):
        ns.add_task(task)  # type: ignore[arg-type]
    inner = {
        "box": (box.build, box.finalize, box.package),
        "pipeline": (
            gateway.submit,
            gateway.queue,
            gateway.results,
            gateway.retry,
            gateway.cancel,
            gateway.log,
        ),
        "signer": (dev.add_signer, dev.remove_signer),
    }
    for name, tasks in inner.items():
        collection = Collection(name)
        for task in tasks:
            collection.add_task(task)
        ns.add_collection(collection)
    needs.check_first(ns)
    return ns
