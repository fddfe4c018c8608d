"""The doors of an appliance: two REST listeners and LunaSH, which share their tasks."""

from __future__ import annotations

from conclave.appliance.appliance import Appliance
from conclave.appliance.doors import Doors
from conclave.lunash.server import LunaShDoor
from conclave.operations.task_table import TaskTable
from conclave.rest.doors import make_apps
from conclave.rest.server import HttpsDoor


def make_doors(appliance: Appliance) -> Doors:
    """Return the listeners, not yet started."""
    tasks = TaskTable(appliance.clock)
    rest, admin = (
        HttpsDoor(app, max_connections=appliance.config.rest.max_connections)
        for app in make_apps(appliance, tasks)
    )
    shell = LunaShDoor(appliance, tasks) if appliance.config.ssh.enabled else None
    return Doors(rest=rest, admin=admin, shell=shell)
