"""Options that LunaSH's commands on clusters, members and keyrings share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conclave.operations.commands import PATH, Option, credential

CLUSTER_ID: Final = Option(
    name="clusterid",
    short="cl",
    summary="id of the cluster; the only one if absent",
    value="UUID",
    target=f"{PATH}clusterid",
)
MEMBER_ID: Final = Option(
    name="memberid",
    short="m",
    summary="id of the member; this appliance's if absent",
    value="UUID",
    target=f"{PATH}memberid",
)
PARTITION_LABEL: Final = Option(
    name="partition",
    short="p",
    summary="label of the cluster's partition",
    value="label",
    target="authentication[0].partitionLabel",
    required=True,
)
CO_PASSWORD: Final = credential(
    "copassword",
    short="c",
    summary="password of the Crypto Officer of the cluster's partition",
    prompt="Please enter the Crypto Officer's password:",
    target="authentication[0].password",
)
BY_CO: Final[Mapping[str, object]] = {"authentication[0].type": "CO"}
"""What says that the password is the Crypto Officer's."""
