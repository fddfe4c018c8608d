"""Diffie-Hellman over numbers (PKCS #3): key pairs and secrets, in the groups that RFCs fix."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from conclave.crypto import number_exchange
from conclave.crypto.derive_mechanisms import last_bytes
from conclave.crypto.faults import refused
from conclave.crypto.groups import GROUPS, group_of
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.number_exchange import NotInGroup, PrivateNumber, public_key_info
from conclave.crypto.parameters import public_number
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, read_ulong, ulong


def _generate_pair(public: Attributes, private: Attributes) -> tuple[Attributes, Attributes]:
    for number in (Cka.PRIME, Cka.BASE):
        if number not in public:
            raise refused(Ckr.TEMPLATE_INCOMPLETE, f"CKA_{number.name} is missing.")
    row = group_of(public)
    length = row.private_bytes
    if Cka.VALUE_BITS in private:
        bits = read_ulong(private[Cka.VALUE_BITS])
        if bits % 8 or not 8 * length <= bits < row.bits:
            raise refused(
                Ckr.ATTRIBUTE_VALUE_INVALID,
                f"CKA_VALUE_BITS is {8 * length} to {row.bits - 8} in whole bytes: {bits}.",
            )
        length = bits // 8
    drawn = bytearray(os.urandom(length))
    # PKCS #3: a private value of l bits is at least 2^(l-1).
    drawn[0] |= 0x80
    value = bytes(drawn)
    made = number_exchange.public_of(PrivateNumber(row, value)).lstrip(b"\0")
    shared: Attributes = {
        Cka.PRIME: public[Cka.PRIME],
        Cka.BASE: public[Cka.BASE],
        Cka.PUBLIC_KEY_INFO: public_key_info(row, made),
    }
    secret: Attributes = {Cka.VALUE: value, Cka.VALUE_BITS: ulong(8 * length)}
    return {**shared, Cka.VALUE: made}, {**shared, **secret}


def _agree(key: ReadyKey, _: ReadyKey | None, public: bytes, wanted: int | None) -> bytes:
    if key.object_class != Cko.PRIVATE_KEY:
        raise refused(Ckr.KEY_TYPE_INCONSISTENT, "The base key must be a private key.")
    try:
        secret = number_exchange.exchange(key.handle, public)
    except NotInGroup:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID, "The public value is none of the key's group."
        ) from None
    return last_bytes(secret, wanted)


_numbers: Final = partial(
    Mechanism,
    key_types=(Ckk.DH,),
    min_key_size=min(row.bits for row in GROUPS),
    max_key_size=max(row.bits for row in GROUPS),
    unit="bits",
)
ROWS: Final = (
    (
        _numbers(number=Ckm.DH_PKCS_KEY_PAIR_GEN, generate_pair=_generate_pair),
        _numbers(number=Ckm.DH_PKCS_DERIVE, parameter=public_number, derive=_agree),
    )
    if number_exchange.AVAILABLE
    else ()
)
