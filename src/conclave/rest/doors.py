"""The two REST listeners of an appliance."""

from __future__ import annotations

from conclave.appliance.appliance import Appliance
from conclave.appliance.doors import Doors as Listeners
from conclave.operations.model import Doors
from conclave.operations.task_table import TaskTable
from conclave.rest.app import RestApp
from conclave.rest.openapi import OPERATIONS
from conclave.rest.server import HttpsDoor
from conclave.rest.sessions import SessionTable


def make_apps(appliance: Appliance) -> tuple[RestApp, RestApp]:
    """Return the applications of 8443 and 50070, which share sessions and tasks."""
    settings = appliance.config.rest
    sessions = SessionTable()
    tasks = TaskTable(appliance.clock)
    rest, admin = (
        RestApp(appliance, OPERATIONS, door, sessions=sessions, tasks=tasks, settings=settings)
        for door in (Doors.REST, Doors.ADMIN)
    )
    return rest, admin


def make_doors(appliance: Appliance) -> Listeners:
    """Return the listeners, not yet started."""
    rest, admin = (
        HttpsDoor(app, max_connections=appliance.config.rest.max_connections)
        for app in make_apps(appliance)
    )
    return Listeners(rest=rest, admin=admin)
