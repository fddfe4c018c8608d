"""ML-DSA signatures, ML-KEM encapsulation, and key pairs of both.

Signatures are hedged: OpenSSL mixes fresh randomness in.  The deterministic variant is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature

from conclave.crypto import parameters
from conclave.crypto.faults import refused
from conclave.crypto.lattices import ML_DSA, ML_KEM, LatticeRow, lattice_of
from conclave.crypto.material import public_key_info
from conclave.crypto.mechanism_row import GeneratePair, Mechanism
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.signatures import require_signature_length, wrong_signature
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, ulong
from conclave.service.wire import SignContextParameter

_HEDGE_PREFERRED: Final = 0
_HEDGE_REQUIRED: Final = 1
_MAX_CONTEXT_BYTES: Final = 255
_NIL: Final = b"\xc0"
_CONTEXT: Final = msgspec.msgpack.Decoder(SignContextParameter)
_SIGNATURE_BYTES: Final = {8 * row.public_bytes: row.signature_bytes for row in ML_DSA}
_CIPHERTEXT_BYTES: Final = {8 * row.public_bytes: row.ciphertext_bytes for row in ML_KEM}


def sign_context(raw: bytes) -> bytes | None:
    """Decode CK_SIGN_ADDITIONAL_CONTEXT, which may be absent, to the context."""
    if raw == _NIL:
        return None
    parameter = parameters.decode(_CONTEXT, raw)
    if parameter.hedge not in {_HEDGE_PREFERRED, _HEDGE_REQUIRED}:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            f"Signatures are hedged; the variant {parameter.hedge} is not offered.",
        )
    if len(parameter.context) > _MAX_CONTEXT_BYTES:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            f"The context must have at most 255 bytes, not {len(parameter.context)}.",
        )
    return parameter.context


def _sign(key: ReadyKey, context: bytes | None, data: bytes, _prehashed: bool) -> bytes:
    signature: bytes = key.handle.sign(data, context)
    return signature


def _verify(
    key: ReadyKey, context: bytes | None, data: bytes, signature: bytes, _prehashed: bool
) -> None:
    require_signature_length(signature, _SIGNATURE_BYTES[key.size_bits])
    try:
        key.handle.verify(signature, data, context)
    except InvalidSignature:
        raise wrong_signature() from None


def _encapsulate(key: ReadyKey) -> tuple[bytes, bytes]:
    secret, ciphertext = key.handle.encapsulate()
    return ciphertext, secret


def _decapsulate(key: ReadyKey, ciphertext: bytes) -> bytes:
    wanted = _CIPHERTEXT_BYTES[key.size_bits]
    if len(ciphertext) != wanted:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The ciphertext must have {wanted} bytes, not {len(ciphertext)}.",
        )
    secret: bytes = key.handle.decapsulate(ciphertext)
    return secret


def _generator(kind: Ckk) -> GeneratePair:
    def generate(public: Attributes, private: Attributes) -> tuple[Attributes, Attributes]:
        chosen = public.get(Cka.PARAMETER_SET) or private.get(Cka.PARAMETER_SET)
        if chosen is None:
            raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_PARAMETER_SET is missing.")
        row = lattice_of(kind, chosen)
        key = row.private.generate()
        point = key.public_key()
        shared: Attributes = {
            Cka.PARAMETER_SET: ulong(row.number),
            Cka.PUBLIC_KEY_INFO: public_key_info(point),
        }
        return (
            {**shared, Cka.VALUE: point.public_bytes_raw()},
            {**shared, Cka.SEED: key.private_bytes_raw()},
        )

    return generate


def _family(kind: Ckk, rows: tuple[LatticeRow, ...]) -> partial[Mechanism]:
    return partial(
        Mechanism,
        key_types=(kind,),
        min_key_size=min(row.public_bytes for row in rows),
        max_key_size=max(row.public_bytes for row in rows),
        unit="bytes",
    )


_ml_dsa: Final = _family(Ckk.ML_DSA, ML_DSA)
_ml_kem: Final = _family(Ckk.ML_KEM, ML_KEM)
ROWS: Final = (
    _ml_kem(number=Ckm.ML_KEM_KEY_PAIR_GEN, generate_pair=_generator(Ckk.ML_KEM)),
    _ml_kem(number=Ckm.ML_KEM, encapsulate=_encapsulate, decapsulate=_decapsulate),
    _ml_dsa(number=Ckm.ML_DSA_KEY_PAIR_GEN, generate_pair=_generator(Ckk.ML_DSA)),
    _ml_dsa(number=Ckm.ML_DSA, parameter=sign_context, sign=_sign, verify=_verify),
)
