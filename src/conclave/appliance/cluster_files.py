"""The files of a cluster on this appliance, wherever they are."""

from __future__ import annotations

import contextlib
import shutil

from conclave.appliance.paths import StatePaths
from conclave.errors import NotFound
from conclave.store.postgresql import account


def remove_cluster_files(paths: StatePaths, postgresql_account: str) -> None:
    """Remove both engines' stores and the member's state; the service must be stopped.

    May be repeated, as after a crash half-way.  Raises BadInput for an account that cannot serve.
    """
    with contextlib.suppress(NotFound):  # without an account no PostgreSQL has run here
        account.remove(paths.root, account.find(postgresql_account))
    if paths.cluster.exists():
        shutil.rmtree(paths.cluster)
