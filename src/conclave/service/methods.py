"""The methods of the cluster process and of the login process: who may call which, with what."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.service import client_messages as clients
from conclave.service import messages
from conclave.service.quiet import Nothing, Quiet


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the method table."""

    name: str
    parameter: type[Quiet]
    result: type[Quiet]
    roles: frozenset[str]
    writes: bool = False
    """True when a call that was sent and not answered may have changed something."""


_DAEMON = frozenset({"daemon"})
_WORKER = frozenset({"worker"})
_BOTH = _DAEMON | _WORKER

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method("hash_password", messages.HashPassword, messages.DerivedKey, _BOTH),
        Method("status", Nothing, messages.ServiceStatus, _DAEMON),
        Method(
            "create_cluster", messages.CreateCluster, messages.ClusterSummary, _DAEMON, writes=True
        ),
        Method("list_clusters", Nothing, messages.ClusterList, _DAEMON),
        Method("list_members", Nothing, messages.MemberList, _DAEMON),
        Method("authorize", messages.Authorize, messages.AuthorizeResult, _DAEMON, writes=True),
        Method("join_prepare", messages.JoinPrepare, messages.JoinPrepared, _DAEMON, writes=True),
        Method("join_commit", Nothing, Nothing, _DAEMON, writes=True),
        Method("join_abort", Nothing, Nothing, _DAEMON, writes=True),
        Method("join_progress", Nothing, messages.JoinProgress, _DAEMON),
        Method("promote", messages.PromoteMember, Nothing, _DAEMON, writes=True),
        Method("set_group", messages.SetGroup, Nothing, _DAEMON, writes=True),
        Method("list_groups", Nothing, messages.GroupList, _DAEMON),
        Method("leave", Nothing, Nothing, _DAEMON, writes=True),
        Method(
            "delete_member", messages.DeleteMember, messages.DeletedMember, _DAEMON, writes=True
        ),
        Method("report", messages.MemberReport, Nothing, _DAEMON),
        Method("watch", messages.Watch, messages.Notice, _DAEMON),
        Method(
            "create_keyrings", messages.CreateKeyrings, messages.KeyringList, _DAEMON, writes=True
        ),
        Method("list_keyrings", messages.ListKeyrings, messages.KeyringList, _DAEMON),
        Method("show_keyring", messages.NamedKeyring, messages.KeyringSummary, _DAEMON),
        Method("delete_keyring", messages.NamedKeyring, Nothing, _DAEMON, writes=True),
        Method("unlock_keyring", messages.NamedKeyring, Nothing, _DAEMON, writes=True),
        Method(
            "register_client",
            clients.RegisterClient,
            clients.RegisteredClient,
            _DAEMON,
            writes=True,
        ),
        Method("list_clients", Nothing, clients.ClientList, _DAEMON),
        Method("revoke_client", clients.NamedClient, Nothing, _DAEMON, writes=True),
        Method(
            "create_enrolment_token",
            clients.CreateEnrolmentToken,
            clients.EnrolmentTokenSummary,
            _DAEMON,
            writes=True,
        ),
        Method("list_enrolment_tokens", Nothing, clients.EnrolmentTokenList, _DAEMON),
        Method(
            "revoke_enrolment_token",
            clients.NamedEnrolmentToken,
            Nothing,
            _DAEMON,
            writes=True,
        ),
        Method("is_customer", clients.NamedUser, clients.Customer, _DAEMON),
        Method("check_enrolment", clients.CheckEnrolment, Nothing, _DAEMON),
        Method("enrol_client", clients.EnrolClient, clients.RegisteredClient, _DAEMON, writes=True),
        Method("check_renewal", clients.RenewClient, Nothing, _DAEMON),
        Method("renew_client", clients.RenewClient, clients.RegisteredClient, _DAEMON, writes=True),
        Method("assign_keyrings", clients.AssignKeyrings, Nothing, _DAEMON, writes=True),
        Method("take_keyring", clients.TakeKeyring, Nothing, _DAEMON, writes=True),
        Method("assigned_keyrings", clients.NamedClient, clients.AssignedKeyringList, _DAEMON),
        Method("assignment_mode", Nothing, clients.AssignmentMode, _DAEMON),
        Method("set_assignment_mode", clients.AssignmentMode, Nothing, _DAEMON, writes=True),
        Method("put_users", messages.UserRecords, messages.UsersVersion, _DAEMON, writes=True),
        Method("list_users", Nothing, messages.UserRecords, _DAEMON),
        Method("worker_keys", messages.FetchKeys, messages.WorkerKeys, _WORKER),
        Method("members_state", Nothing, messages.MembersState, _WORKER),
        Method("login", messages.ClientLogin, messages.TicketResult, _WORKER, writes=True),
        Method("logout", messages.ClientLogout, Nothing, _WORKER, writes=True),
        Method(
            "context_login", messages.ContextLogin, messages.ContextResult, _WORKER, writes=True
        ),
        Method("spend_context", messages.SpendContext, Nothing, _WORKER),
        Method(
            "change_password", messages.ChangePassword, messages.TicketResult, _WORKER, writes=True
        ),
        Method(
            "initialize_krco", messages.InitializeKrco, messages.TicketResult, _WORKER, writes=True
        ),
        Method("initialize_token", messages.InitializeToken, Nothing, _WORKER, writes=True),
        Method("write_objects", messages.WriteObjects, messages.WriteResult, _WORKER, writes=True),
        Method("lookup_write", messages.LookupWrite, messages.WriteResult, _WORKER),
    )
}
