"""What a person types: `fab -H HOST TASK` for hosts, `inv TASK` for the local guest."""

from __future__ import annotations

import sys
from pathlib import Path

# inv puts this folder itself on the path, not the project's root; the runner is a package apart.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "static" / "pipeline"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from invoke.collection import Collection

from tasks import (
    bench,
    box,
    build,
    dev,
    finalize,
    gateway,
    host,
    package,
    pipeline,
    secure,
    setting_tables,
)

ns = Collection()
for _task in (
    host.provision,
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
    gateway.users,
    secure.secure,
    box.up,
    box.ssh,
    box.halt,
    box.destroy,
    setting_tables.settings,
    dev.run_tests,
    dev.lint,
    dev.lock,
    bench.bench,
):
    ns.add_task(_task)  # type: ignore[arg-type]

_box = Collection("box")
_box.add_task(build.build)
_box.add_task(finalize.finalize)
_box.add_task(package.package)
ns.add_collection(_box)

_pipeline = Collection("pipeline")
_pipeline.add_task(pipeline.submit)
_pipeline.add_task(pipeline.queue)
_pipeline.add_task(pipeline.results)
ns.add_collection(_pipeline)
