"""The two REST applications of an appliance."""

from __future__ import annotations

from conclave.appliance.appliance import Appliance
from conclave.operations.model import Doors
from conclave.operations.task_table import TaskTable
from conclave.rest.app import RestApp
from conclave.rest.openapi import OPERATIONS
from conclave.rest.sessions import SessionTable


def make_apps(appliance: Appliance, tasks: TaskTable | None = None) -> tuple[RestApp, RestApp]:
    """Return the applications of 8443 and 50070, which share sessions and tasks."""
    settings = appliance.config.rest
    sessions = SessionTable()
    shared = tasks or TaskTable(appliance.clock)
    rest, admin = (
        RestApp(appliance, OPERATIONS, door, sessions=sessions, tasks=shared, settings=settings)
        for door in (Doors.REST, Doors.ADMIN)
    )
    return rest, admin
