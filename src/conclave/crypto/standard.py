"""The numbers of PKCS #11 3.1 that Conclave knows: classes, key types, attributes, mechanisms."""

from __future__ import annotations

import enum
from typing import Final

UNAVAILABLE_INFORMATION: Final = 0xFFFFFFFFFFFFFFFF
"""CK_UNAVAILABLE_INFORMATION: an unsigned long that says nothing."""


class Cko(enum.IntEnum):
    """Object classes."""

    DATA = 0
    CERTIFICATE = 1
    PUBLIC_KEY = 2
    PRIVATE_KEY = 3
    SECRET_KEY = 4


class Ckk(enum.IntEnum):
    """Key types."""

    RSA = 0x00
    EC = 0x03
    GENERIC_SECRET = 0x10
    AES = 0x1F
    SHA_1_HMAC = 0x28
    SHA256_HMAC = 0x2B
    SHA384_HMAC = 0x2C
    SHA512_HMAC = 0x2D
    SHA224_HMAC = 0x2E
    EC_EDWARDS = 0x40


class Ckc(enum.IntEnum):
    """Certificate types."""

    X_509 = 0


class Cka(enum.IntEnum):
    """Attribute types."""

    CLASS = 0x000
    TOKEN = 0x001
    PRIVATE = 0x002
    LABEL = 0x003
    UNIQUE_ID = 0x004
    APPLICATION = 0x010
    VALUE = 0x011
    OBJECT_ID = 0x012
    CERTIFICATE_TYPE = 0x080
    ISSUER = 0x081
    SERIAL_NUMBER = 0x082
    TRUSTED = 0x086
    CERTIFICATE_CATEGORY = 0x087
    JAVA_MIDP_SECURITY_DOMAIN = 0x088
    URL = 0x089
    HASH_OF_SUBJECT_PUBLIC_KEY = 0x08A
    HASH_OF_ISSUER_PUBLIC_KEY = 0x08B
    NAME_HASH_ALGORITHM = 0x08C
    CHECK_VALUE = 0x090
    KEY_TYPE = 0x100
    SUBJECT = 0x101
    ID = 0x102
    SENSITIVE = 0x103
    ENCRYPT = 0x104
    DECRYPT = 0x105
    WRAP = 0x106
    UNWRAP = 0x107
    SIGN = 0x108
    SIGN_RECOVER = 0x109
    VERIFY = 0x10A
    VERIFY_RECOVER = 0x10B
    DERIVE = 0x10C
    START_DATE = 0x110
    END_DATE = 0x111
    MODULUS = 0x120
    MODULUS_BITS = 0x121
    PUBLIC_EXPONENT = 0x122
    PRIVATE_EXPONENT = 0x123
    PRIME_1 = 0x124
    PRIME_2 = 0x125
    EXPONENT_1 = 0x126
    EXPONENT_2 = 0x127
    COEFFICIENT = 0x128
    PUBLIC_KEY_INFO = 0x129
    VALUE_LEN = 0x161
    EXTRACTABLE = 0x162
    LOCAL = 0x163
    NEVER_EXTRACTABLE = 0x164
    ALWAYS_SENSITIVE = 0x165
    KEY_GEN_MECHANISM = 0x166
    MODIFIABLE = 0x170
    COPYABLE = 0x171
    DESTROYABLE = 0x172
    EC_PARAMS = 0x180
    EC_POINT = 0x181
    ALWAYS_AUTHENTICATE = 0x202
    WRAP_WITH_TRUSTED = 0x210
    ALLOWED_MECHANISMS = 0x40000600


class Ckm(enum.IntEnum):
    """Mechanisms."""

    RSA_PKCS_KEY_PAIR_GEN = 0x0000
    RSA_PKCS = 0x0001
    RSA_X_509 = 0x0003
    SHA1_RSA_PKCS = 0x0006
    RSA_PKCS_OAEP = 0x0009
    RSA_PKCS_PSS = 0x000D
    SHA1_RSA_PKCS_PSS = 0x000E
    SHA256_RSA_PKCS = 0x0040
    SHA384_RSA_PKCS = 0x0041
    SHA512_RSA_PKCS = 0x0042
    SHA256_RSA_PKCS_PSS = 0x0043
    SHA384_RSA_PKCS_PSS = 0x0044
    SHA512_RSA_PKCS_PSS = 0x0045
    SHA224_RSA_PKCS = 0x0046
    SHA224_RSA_PKCS_PSS = 0x0047
    SHA_1 = 0x0220
    SHA_1_HMAC = 0x0221
    SHA_1_HMAC_GENERAL = 0x0222
    SHA256 = 0x0250
    SHA256_HMAC = 0x0251
    SHA256_HMAC_GENERAL = 0x0252
    SHA224 = 0x0255
    SHA224_HMAC = 0x0256
    SHA224_HMAC_GENERAL = 0x0257
    SHA384 = 0x0260
    SHA384_HMAC = 0x0261
    SHA384_HMAC_GENERAL = 0x0262
    SHA512 = 0x0270
    SHA512_HMAC = 0x0271
    SHA512_HMAC_GENERAL = 0x0272
    GENERIC_SECRET_KEY_GEN = 0x0350
    EC_KEY_PAIR_GEN = 0x1040
    ECDSA = 0x1041
    ECDSA_SHA1 = 0x1042
    ECDSA_SHA224 = 0x1043
    ECDSA_SHA256 = 0x1044
    ECDSA_SHA384 = 0x1045
    ECDSA_SHA512 = 0x1046
    RSA_AES_KEY_WRAP = 0x1054
    EC_EDWARDS_KEY_PAIR_GEN = 0x1055
    EDDSA = 0x1057
    AES_KEY_GEN = 0x1080
    AES_ECB = 0x1081
    AES_CBC = 0x1082
    AES_CBC_PAD = 0x1085
    AES_CTR = 0x1086
    AES_GCM = 0x1087
    AES_KEY_WRAP = 0x2109
    AES_KEY_WRAP_KWP = 0x210B
    SHA_1_KEY_GEN = 0x4003
    SHA224_KEY_GEN = 0x4004
    SHA256_KEY_GEN = 0x4005
    SHA384_KEY_GEN = 0x4006
    SHA512_KEY_GEN = 0x4007


class Ckg(enum.IntEnum):
    """Mask generation functions."""

    MGF1_SHA1 = 1
    MGF1_SHA256 = 2
    MGF1_SHA384 = 3
    MGF1_SHA512 = 4
    MGF1_SHA224 = 5


class Ckf(enum.IntFlag):
    """Flags of CK_MECHANISM_INFO, which also say what a key permits."""

    ENCRYPT = 0x00000100
    DECRYPT = 0x00000200
    DIGEST = 0x00000400
    SIGN = 0x00000800
    SIGN_RECOVER = 0x00001000
    VERIFY = 0x00002000
    VERIFY_RECOVER = 0x00004000
    GENERATE = 0x00008000
    GENERATE_KEY_PAIR = 0x00010000
    WRAP = 0x00020000
    UNWRAP = 0x00040000
    DERIVE = 0x00080000
    EC_F_P = 0x00100000
    EC_NAMED_CURVE = 0x00800000
    EC_UNCOMPRESS = 0x01000000


def name_of(numbers: type[enum.IntEnum], number: int) -> str:
    """Return the standard's name of a number, as CKA_LABEL, or the number in hexadecimal."""
    prefix = numbers.__name__.upper()
    try:
        return f"{prefix}_{numbers(number).name}"
    except ValueError:
        return f"{prefix} 0x{number:08x}"
