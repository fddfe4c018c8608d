"""Layouts of the cluster family; all but `Success` are ours, since none of the product's is known.

A member's marks: `*` it is this appliance, `P` primary, `x` not visible, `R` its cluster service
must be restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from conclave.lunash.render.tables import fields, table, yes_no

if TYPE_CHECKING:
    from conclave.operations.clients import Clients, ClientView
    from conclave.operations.cluster_config import Configuration, ServiceSetting
    from conclave.operations.clusters import Authority, Clusters, ClusterView
    from conclave.operations.members import DeletionView, Groups, Members, MemberView
    from conclave.operations.services import ServiceView

SUCCESS: Final = "Success"


def marks(member: MemberView) -> str:
    """Return a member's marks."""
    shown = (
        ("*", member.local),
        ("P", member.primary_node),
        ("x", not member.visible_to_servicing_node),
        ("R", member.restart_service),
    )
    return "".join(mark for mark, stands in shown if stands)


def member_list(members: Members) -> list[str]:
    """Return the members, the marks first."""
    rows = [
        (
            marks(each),
            each.member_uuid,
            each.member_name,
            each.ip_address,
            each.group,
            each.mode,
            yes_no(each.member_active),
        )
        for each in members.data
    ]
    titles = ("", "Member ID", "Name", "IP address", "Group", "Mode", "Authorized")
    legend = "*: this appliance   P: primary   x: not visible   R: restart the cluster service"
    return [*table(titles, rows), "", legend, f"Members: {len(rows)}"]


def member_show(member: MemberView) -> list[str]:
    """Return one member."""
    return fields(
        (
            ("Member ID", member.member_uuid),
            ("Name", member.member_name),
            ("IP Address", member.ip_address),
            ("Admin Port", str(member.admin_port)),
            ("Crypto Port", str(member.crypto_port)),
            ("Group", member.group),
            ("Mode", member.mode),
            ("Primary", yes_no(member.primary_node)),
            ("Local", yes_no(member.local)),
            ("Visible", yes_no(member.visible_to_servicing_node)),
            ("Authorized", yes_no(member.member_active)),
            ("Restart Service", yes_no(member.restart_service)),
            ("Version", member.version),
            ("Last Contact", member.last_contact or ""),
        )
    )


def deletion(view: DeletionView) -> list[str]:
    """Return what is to be known of a member's deletion."""
    lines = [SUCCESS, ""]
    if view.promoted_member:
        lines.append(f"Member {view.promoted_member} is the primary now.")
    if view.last_contact:
        lines.append(f"The deleted member was last heard of at {view.last_contact}.")
    if view.not_reached:
        lines.append(f"Not reached: {', '.join(view.not_reached)}.")
        lines.append("What only those and the deleted member hold is lost.")
    return lines


def group_list(groups: Groups) -> list[str]:
    """Return the affinity groups, a line for each member."""
    rows = [(each.group, member) for each in groups.data for member in each.members or ("",)]
    return [*table(("Group", "Member ID"), rows), "", f"Groups: {len(groups.data)}"]


def cluster_list(clusters: Clusters) -> list[str]:
    """Return the one cluster, or that there is none."""
    if not clusters.data:
        return ["There is no cluster on this appliance."]
    return table(
        ("Label", "Cluster ID"), [(each.cluster_label, each.cluster_uuid) for each in clusters.data]
    )


def cluster_show(cluster: ClusterView) -> list[str]:
    """Return one cluster."""
    return fields(
        (
            ("Label", cluster.cluster_label),
            ("Cluster ID", cluster.cluster_uuid),
            ("Identity Mode", cluster.identity_mode),
        )
    )


def cluster_created(cluster: ClusterView) -> list[str]:
    """Return a new cluster, whose id the next commands want."""
    return [SUCCESS, "", *cluster_show(cluster)]


def authority(shown: Authority) -> list[str]:
    """Return the cluster's certificate authority."""
    rows = (
        ("Cluster ID", shown.cluster_uuid),
        ("Fingerprint (SHA-256)", shown.fingerprint),
        ("Server Common Name", shown.server_common_name),
    )
    return [*fields(rows), "", *shown.ca_certificate.splitlines()]


def config_show(configuration: Configuration) -> list[str]:
    """Return the configuration of the cluster service."""
    rows = [(each.service, _setting(each)) for each in configuration.data]
    return table(("Service", "Setting"), rows)


def _setting(part: ServiceSetting) -> str:
    if part.mode is not None:
        return f"{part.mode} identity"
    if part.port is not None:
        return f"port {part.port}, interface {part.interface}"
    return part.ip_address or "(no address yet)"


def cluster_status(service: ServiceView) -> list[str]:
    """Return whether the service runs; `starting` until it is ready (rule S2)."""
    return fields(
        (
            ("Status", service.state),
            ("On Boot", "enabled" if service.on_boot else "disabled"),
        )
    )


def client_list(clients: Clients) -> list[str]:
    """Return the registered clients."""
    rows = [
        (each.client_id, each.common_name, each.client_label, yes_no(each.revoked))
        for each in clients.data
    ]
    titles = ("Client ID", "Common Name", "Label", "Revoked")
    return [*table(titles, rows), "", f"Clients: {len(rows)}"]


def client_show(client: ClientView) -> list[str]:
    """Return one client."""
    return fields(
        (
            ("Client ID", client.client_id),
            ("Common Name", client.common_name),
            ("Label", client.client_label),
            ("Monitor User", client.monitor_user),
            ("Revoked", yes_no(client.revoked)),
            ("Registered", client.created),
        )
    )
