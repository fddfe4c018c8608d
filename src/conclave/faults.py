"""The error table: every fault Conclave reports, one row each.

REST identifiers without the CLUSTERPLUGIN prefix are those that Luna appliances emit; the
others are ours, in the same style.
"""

from __future__ import annotations

from typing import Final

from conclave.errors import Ckr, Fault

# Requests and rights
BAD_REQUEST: Final = Fault("FRAMEWORK_BAD_REQUEST", 400, "Bad request", Ckr.ARGUMENTS_BAD)
MEDIA_TYPE: Final = Fault(
    "FRAMEWORK_HEADER_DOES_NOT_MATCH_MEDIA_TYPE_TEMPLATE",
    400,
    "Header does not match the media type template",
)
NO_ACL_RULE: Final = Fault("FRAMEWORK_NO_ACL_RULE", 403, "The role has no right to do this")
NOT_AUTHENTICATED: Final = Fault("FRAMEWORK_NOT_AUTHENTICATED", 401, "Authentication is required")
PASSWORD_CHANGE_REQUIRED: Final = Fault(
    "SERVERPLUGIN_PASSWORD_CHANGE_REQUIRED", 403, "The password must be changed first"
)
NO_SUCH_RESOURCE: Final = Fault("FRAMEWORK_RESOURCE_NOT_FOUND", 404, "No such resource")
METHOD_NOT_ALLOWED: Final = Fault("FRAMEWORK_METHOD_NOT_ALLOWED", 405, "Method not allowed")
BUSY: Final = Fault("SERVER_BUSY", 503, "The server is busy", Ckr.DEVICE_MEMORY, retry_is_safe=True)
INTERNAL: Final = Fault("SERVERPLUGIN_INTERNAL_ERROR", 500, "Internal error", Ckr.GENERAL_ERROR)
USER_NOT_FOUND: Final = Fault("SERVERPLUGIN_USERID_DOES_NOT_EXIST", 404, "No such user")
USER_EXISTS: Final = Fault("SERVERPLUGIN_USERID_EXISTS", 409, "The user exists already")
USER_RESERVED: Final = Fault(
    "SERVERPLUGIN_USERID_RESERVED_FOR_SYSTEM_USE", 403, "Reserved for system use"
)
ROLE_NOT_FOUND: Final = Fault("SERVERPLUGIN_ROLEID_DOES_NOT_EXIST", 404, "No such user role")
ROLE_EXISTS: Final = Fault("SERVERPLUGIN_ROLEID_EXISTS", 409, "The user role exists already")
ROLE_RESERVED: Final = Fault("SERVERPLUGIN_ROLEID_RESERVED", 403, "The user role is built in")
ROLE_IN_USE: Final = Fault("SERVERPLUGIN_ROLEID_IN_USE", 409, "Users have the role")
ROLE_LIMIT: Final = Fault("SERVERPLUGIN_ROLE_LIMIT", 409, "No more user roles are allowed")
KEY_EXISTS: Final = Fault("SERVERPLUGIN_KEY_EXISTS", 409, "The user has the key already")
KEY_NOT_FOUND: Final = Fault("SERVERPLUGIN_KEY_DOES_NOT_EXIST", 404, "The user has no such key")
KEY_LIMIT: Final = Fault("SERVERPLUGIN_KEY_LIMIT", 409, "The user may have no more keys")
USER_NOT_OWN: Final = Fault(
    "SERVERPLUGIN_USERID_NOT_AUTHORIZED", 403, "These files belong to another user"
)
FILE_PATTERN: Final = Fault("SERVERPLUGIN_INVALID_PATTERN_DETECTED", 400, "Bad file name")
UPLOAD_BODY: Final = Fault("SERVER_REQUEST_NOT_APPROPRIATE", 400, "The body holds no file")
UPLOAD_LIMIT: Final = Fault("SERVER_FILE_UPLOAD_LIMIT_EXCEED", 400, "The body holds several files")
TASK_GONE: Final = Fault("TASK_DOES_NOT_EXIST", 410, "No such task")

# The audit log
AUDIT_FAILED: Final = Fault("SERVERPLUGIN_AUDIT_LOG_FAILED", 507, "The audit log cannot be written")
AUDIT_BROKEN: Final = Fault("SERVERPLUGIN_AUDIT_LOG_BROKEN", 409, "The audit log is not whole")

# HSM and partitions
INVALID_HSM: Final = Fault("HSMPLUGIN_INVALID_HSM", 404, "No such HSM")
INVALID_PARTITION: Final = Fault("HSMPLUGIN_INVALID_PARTITION", 404, "No such partition")
INVALID_ROLE: Final = Fault("HSMPLUGIN_INVALID_ROLE", 404, "No such role")
INVALID_POLICY: Final = Fault("HSMPLUGIN_INVALID_POLICY", 404, "No such policy")
PARTITION_VERSION: Final = Fault(
    "HSMPLUGIN_PARTITION_VERSION_INVALID", 400, "The partition has the wrong version"
)
HSM_NOT_INITIALIZED: Final = Fault("HSMPLUGIN_HSM_NOT_INITIALIZED", 409, "HSM not initialised")
HSM_OPERATION: Final = Fault("HSMPLUGIN_OPERATION_NOT_ALLOWED", 422, "Operation not allowed")
SO_NOT_LOGGED_IN: Final = Fault("HSMPLUGIN_SO_NOT_AUTHENTICATED", 401, "HSM SO is not logged in")
PARTITION_USER_NOT_AUTHENTICATED: Final = Fault(
    "HSMPLUGIN_PARTITION_USER_NOT_AUTHENTICATED", 401, "Partition role is not logged in"
)
CREDENTIAL_INCORRECT: Final = Fault(
    "HSMPLUGIN_CREDENTIAL_INCORRECT",
    401,
    "The credential is wrong",
    Ckr.PIN_INCORRECT,
    luna_code=0xA00000,
    luna_name="LUNA_RET_UM_PIN_INCORRECT",
)
ROLE_LOCKED: Final = Fault("HSMPLUGIN_ROLE_LOCKED_OUT", 403, "The role is locked", Ckr.PIN_LOCKED)
CREDENTIAL_UNCHANGED: Final = Fault(
    "HSMPLUGIN_CREDENTIAL_TO_BE_CHANGED", 409, "The first credential must be changed"
)
HSM_ZEROIZED: Final = Fault(
    "HSMPLUGIN_HSM_ZEROIZED",
    403,
    "The HSM is zeroized",
    luna_code=0x30000F,
    luna_name="LUNA_RET_SO_LOGIN_FAILURE_THRESHOLD",
)
PARTITION_EXISTS: Final = Fault(
    "HSMPLUGIN_PARTITION_ALREADY_EXISTS",
    409,
    "The partition exists already",
    luna_name="LUNA_RET_ATTRIBUTE_VALUE_INVALID",
)
PARTITION_LIMIT: Final = Fault(
    "HSMPLUGIN_PARTITION_LIMIT", 409, "No more partitions are allowed", Ckr.DEVICE_MEMORY
)
HSM_STORAGE: Final = Fault(
    "HSMPLUGIN_STORAGE_FAILED", 507, "The HSM cannot store its state", Ckr.DEVICE_MEMORY
)
PARTITION_DISABLED: Final = Fault(
    "HSMPLUGIN_PARTITION_ACCESS_DISABLED", 403, "Access to the partition is disabled"
)
CLUSTER_PARTITION: Final = Fault(
    "CLUSTERPLUGIN_PARTITION_NOT_READY", 409, "The partition is not ready for a cluster"
)

# Services and certificates
SERVICE_NOT_FOUND: Final = Fault("APPLIANCE_SERVICE_DOES_NOT_EXIST", 404, "No such service")
SERVICE_ACTION: Final = Fault("APPLIANCE_SERVICE_ACTION_INVALID", 404, "No such service action")
SERVICE_FAILED: Final = Fault("APPLIANCE_SERVICE_ACTION_FAILED", 400, "The service action failed")
NTP_RUNNING: Final = Fault("APPLIANCE_NTP_SERVICE_RUNNING", 409, "The time service runs")
NTP_SERVER_EXISTS: Final = Fault("APPLIANCE_NTP_SERVER_EXISTS", 409, "The time server is listed")
NTP_SERVER_NOT_FOUND: Final = Fault(
    "APPLIANCE_NTP_SERVER_DOES_NOT_EXIST", 404, "No such time server"
)
NTP_FAILED: Final = Fault(
    "APPLIANCE_NTP_NO_ANSWER", 503, "No time server gave a usable answer", retry_is_safe=True
)
HOST_POWER: Final = Fault(
    "APPLIANCE_HOST_POWER", 409, "The host's power is not the appliance's to change"
)
SYSLOG_HOST_EXISTS: Final = Fault(
    "APPLIANCE_SYSLOG_HOST_EXISTS", 409, "The remote host is listed already"
)
SYSLOG_HOST_NOT_FOUND: Final = Fault(
    "APPLIANCE_SYSLOG_HOST_DOES_NOT_EXIST", 404, "No such remote host"
)
SERVICE_STOPPED: Final = Fault(
    "CLUSTERPLUGIN_SERVICE_NOT_RUNNING", 409, "The cluster service is not running"
)
CERTIFICATE_VALIDITY: Final = Fault(
    "CLUSTERPLUGIN_CERTIFICATE_NOT_VALID_NOW", 409, "The clock is outside the certificate"
)

# Cluster
CLUSTER_CONFIG: Final = Fault("CLUSTERPLUGIN_CONFIG_INVALID", 400, "Bad cluster configuration")
CLUSTER_CONFIG_MISSING: Final = Fault(
    "CLUSTERPLUGIN_CONFIG_MISSING", 409, "The cluster configuration is incomplete"
)
CLUSTER_CONFIG_FIXED: Final = Fault(
    "CLUSTERPLUGIN_CONFIG_FIXED", 409, "The cluster configuration is fixed"
)
CLUSTER_EXISTS: Final = Fault("CLUSTERPLUGIN_CLUSTER_EXISTS", 409, "A cluster exists already")
CLUSTER_NOT_FOUND: Final = Fault("CLUSTERPLUGIN_CLUSTER_NOT_FOUND", 404, "No such cluster")
MEMBER_NOT_FOUND: Final = Fault("CLUSTERPLUGIN_MEMBER_NOT_FOUND", 404, "No such member")
MEMBER_NOT_AUTHORIZED: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_NOT_AUTHORIZED",
    409,
    "The member is not authorized",
    Ckr.KEYRING_NOT_AUTHORIZED,
)
CLIENT_NOT_FOUND: Final = Fault(
    "CLUSTERPLUGIN_CLIENT_NOT_FOUND", 404, "No such client", Ckr.TOKEN_NOT_PRESENT
)
CLIENT_CERTIFICATE_REQUEST: Final = Fault(
    "CLUSTERPLUGIN_CERTIFICATE_REQUEST_INVALID", 400, "The certificate request is not valid"
)

# Keyrings
KEYRING_NOT_FOUND: Final = Fault(
    "CLUSTERPLUGIN_KEYRING_NOT_FOUND", 404, "No such keyring", Ckr.KEYRING_NOT_FOUND
)
KEYRING_EXISTS: Final = Fault("CLUSTERPLUGIN_KEYRING_EXISTS", 409, "The keyring exists already")
KEYRING_LIMIT: Final = Fault("CLUSTERPLUGIN_KEYRING_LIMIT", 409, "No more keyrings are allowed")
KEYRING_PASSWORD: Final = Fault(
    "CLUSTERPLUGIN_KEYRING_PASSWORD_INVALID", 400, "Bad keyring password", Ckr.PIN_LEN_RANGE
)
KEYRING_PASSWORD_RULE: Final = Fault(
    "CLUSTERPLUGIN_KEYRING_PASSWORD_RULE", 400, "The password is not acceptable", Ckr.PIN_INVALID
)
OBJECT_LIMIT: Final = Fault(
    "CLUSTERPLUGIN_OBJECT_LIMIT",
    409,
    "No more objects are allowed",
    Ckr.MAX_OBJECT_COUNT_EXCEEDED,
)
PIN_INCORRECT: Final = Fault(
    "CLUSTERPLUGIN_PASSWORD_INCORRECT", 401, "Wrong password", Ckr.PIN_INCORRECT
)
PIN_LOCKED: Final = Fault("CLUSTERPLUGIN_KEYRING_LOCKED", 403, "Keyring locked", Ckr.PIN_LOCKED)
PIN_EXPIRED: Final = Fault(
    "CLUSTERPLUGIN_PASSWORD_TO_BE_CHANGED", 403, "Change the password first", Ckr.PIN_EXPIRED
)
USER_PIN_NOT_INITIALIZED: Final = Fault(
    "CLUSTERPLUGIN_CO_NOT_INITIALIZED",
    409,
    "The KRCO is not initialised",
    Ckr.USER_PIN_NOT_INITIALIZED,
)
NOT_LOGGED_IN: Final = Fault(
    "CLUSTERPLUGIN_NOT_LOGGED_IN", 401, "Not logged in", Ckr.USER_NOT_LOGGED_IN
)
OBJECT_NOT_FOUND: Final = Fault(
    "CLUSTERPLUGIN_OBJECT_NOT_FOUND", 404, "No such object", Ckr.OBJECT_HANDLE_INVALID
)
WRITE_CONFLICT: Final = Fault(
    "CLUSTERPLUGIN_WRITE_CONFLICT", 409, "Changed by somebody else", Ckr.OBJECT_HANDLE_INVALID
)
IDEMPOTENCY_MISMATCH: Final = Fault(
    "CLUSTERPLUGIN_IDEMPOTENCY_KEY_USED", 409, "The key belongs to another request"
)
OUTCOME_UNKNOWN: Final = Fault(
    "CLUSTERPLUGIN_OUTCOME_UNKNOWN", 503, "The outcome is unknown", Ckr.DEVICE_ERROR
)
STORAGE_FULL: Final = Fault("CLUSTERPLUGIN_STORAGE_FULL", 507, "Storage full", Ckr.DEVICE_MEMORY)

# Cryptography
SEAL_BROKEN: Final = Fault(
    "CLUSTERPLUGIN_SEAL_BROKEN", 500, "Sealed data do not open", Ckr.GENERAL_ERROR
)
PASSWORD_COST: Final = Fault(
    "CLUSTERPLUGIN_PASSWORD_COST_INVALID", 400, "Bad cost of password hashing", Ckr.ARGUMENTS_BAD
)
STORED_COST: Final = Fault(
    "CLUSTERPLUGIN_STORED_COST_REFUSED",
    500,
    "Stored cost of password hashing is refused",
    Ckr.GENERAL_ERROR,
)

# The cluster store and its writes
ROLE_UNKNOWN: Final = Fault(
    "CLUSTERPLUGIN_ROLE_UNKNOWN", 400, "No such keyring role", Ckr.USER_TYPE_INVALID
)
STORE_TOO_NEW: Final = Fault("CLUSTERPLUGIN_STORE_TOO_NEW", 500, "The cluster store is too new")
STORAGE_FAILED: Final = Fault(
    "CLUSTERPLUGIN_STORAGE_FAILED", 500, "The cluster store failed", Ckr.DEVICE_ERROR
)
DEADLINE_PASSED: Final = Fault(
    "CLUSTERPLUGIN_DEADLINE_PASSED", 503, "The request came after its deadline", Ckr.DEVICE_ERROR
)
KEYRING_LABEL: Final = Fault(
    "CLUSTERPLUGIN_KEYRING_LABEL_INVALID", 400, "Bad keyring label", Ckr.ARGUMENTS_BAD
)
KEYRINGS_PER_CALL: Final = Fault(
    "CLUSTERPLUGIN_KEYRINGS_PER_CALL", 400, "Too many keyrings in one call", Ckr.ARGUMENTS_BAD
)
ENROLMENT_REFUSED: Final = Fault(
    "CLUSTERPLUGIN_ENROLMENT_TOKEN_REFUSED", 403, "The enrolment token is not valid"
)
ENROLMENT_NOT_FOUND: Final = Fault(
    "CLUSTERPLUGIN_ENROLMENT_TOKEN_NOT_FOUND", 404, "No such enrolment token"
)
ENROLMENT_USED: Final = Fault(
    "CLUSTERPLUGIN_ENROLMENT_TOKEN_USED", 409, "The enrolment token was used"
)
ENROLMENT_LIMIT: Final = Fault(
    "CLUSTERPLUGIN_ENROLMENT_TOKEN_LIMIT", 409, "Too many enrolment tokens"
)
CLIENT_EXISTS: Final = Fault("CLUSTERPLUGIN_CLIENT_EXISTS", 409, "The client exists already")
WRONG_MASTER_KEY: Final = Fault(
    "CLUSTERPLUGIN_MASTER_KEY_WRONG", 409, "The partition holds another master key"
)
ATTRIBUTE_TYPE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_ATTRIBUTE_TYPE_INVALID", 400, "No such attribute", Ckr.ATTRIBUTE_TYPE_INVALID
)
ATTRIBUTE_VALUE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_ATTRIBUTE_VALUE_INVALID", 400, "Bad attribute value", Ckr.ATTRIBUTE_VALUE_INVALID
)
ATTRIBUTE_READ_ONLY: Final = Fault(
    "CLUSTERPLUGIN_ATTRIBUTE_READ_ONLY", 403, "The attribute cannot be set", Ckr.ATTRIBUTE_READ_ONLY
)
ATTRIBUTE_SENSITIVE: Final = Fault(
    "CLUSTERPLUGIN_ATTRIBUTE_SENSITIVE", 403, "The attribute is sensitive", Ckr.ATTRIBUTE_SENSITIVE
)
TEMPLATE_INCOMPLETE: Final = Fault(
    "CLUSTERPLUGIN_TEMPLATE_INCOMPLETE",
    400,
    "The template lacks an attribute",
    Ckr.TEMPLATE_INCOMPLETE,
)
TEMPLATE_INCONSISTENT: Final = Fault(
    "CLUSTERPLUGIN_TEMPLATE_INCONSISTENT",
    400,
    "The template contradicts itself",
    Ckr.TEMPLATE_INCONSISTENT,
)
ACTION_PROHIBITED: Final = Fault(
    "CLUSTERPLUGIN_ACTION_PROHIBITED", 403, "The object forbids the action", Ckr.ACTION_PROHIBITED
)
CURVE_NOT_SUPPORTED: Final = Fault(
    "CLUSTERPLUGIN_CURVE_NOT_SUPPORTED", 400, "Unsupported curve", Ckr.CURVE_NOT_SUPPORTED
)
DOMAIN_PARAMS_INVALID: Final = Fault(
    "CLUSTERPLUGIN_DOMAIN_PARAMS_INVALID", 400, "Bad domain parameters", Ckr.DOMAIN_PARAMS_INVALID
)
KEY_HANDLE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_KEY_HANDLE_INVALID", 400, "Not a key", Ckr.KEY_HANDLE_INVALID
)
KEY_SIZE_RANGE: Final = Fault(
    "CLUSTERPLUGIN_KEY_SIZE_RANGE", 400, "Unsupported key size", Ckr.KEY_SIZE_RANGE
)
KEY_TYPE_INCONSISTENT: Final = Fault(
    "CLUSTERPLUGIN_KEY_TYPE_INCONSISTENT", 400, "Wrong type of key", Ckr.KEY_TYPE_INCONSISTENT
)
KEY_FUNCTION_NOT_PERMITTED: Final = Fault(
    "CLUSTERPLUGIN_KEY_FUNCTION_NOT_PERMITTED",
    403,
    "The key forbids the function",
    Ckr.KEY_FUNCTION_NOT_PERMITTED,
)
MECHANISM_INVALID: Final = Fault(
    "CLUSTERPLUGIN_MECHANISM_INVALID", 400, "Unsupported mechanism", Ckr.MECHANISM_INVALID
)
MECHANISM_PARAM_INVALID: Final = Fault(
    "CLUSTERPLUGIN_MECHANISM_PARAM_INVALID",
    400,
    "Bad mechanism parameter",
    Ckr.MECHANISM_PARAM_INVALID,
)
DATA_INVALID: Final = Fault("CLUSTERPLUGIN_DATA_INVALID", 400, "Bad data", Ckr.DATA_INVALID)
DATA_LEN_RANGE: Final = Fault(
    "CLUSTERPLUGIN_DATA_LEN_RANGE", 400, "Bad length of data", Ckr.DATA_LEN_RANGE
)
ENCRYPTED_DATA_INVALID: Final = Fault(
    "CLUSTERPLUGIN_ENCRYPTED_DATA_INVALID", 400, "Bad encrypted data", Ckr.ENCRYPTED_DATA_INVALID
)
ENCRYPTED_DATA_LEN_RANGE: Final = Fault(
    "CLUSTERPLUGIN_ENCRYPTED_DATA_LEN_RANGE",
    400,
    "Bad length of encrypted data",
    Ckr.ENCRYPTED_DATA_LEN_RANGE,
)
SIGNATURE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_SIGNATURE_INVALID", 400, "The signature is wrong", Ckr.SIGNATURE_INVALID
)
SIGNATURE_LEN_RANGE: Final = Fault(
    "CLUSTERPLUGIN_SIGNATURE_LEN_RANGE", 400, "Bad length of signature", Ckr.SIGNATURE_LEN_RANGE
)
KEY_NOT_WRAPPABLE: Final = Fault(
    "CLUSTERPLUGIN_KEY_NOT_WRAPPABLE", 403, "The key cannot be wrapped so", Ckr.KEY_NOT_WRAPPABLE
)
KEY_UNEXTRACTABLE: Final = Fault(
    "CLUSTERPLUGIN_KEY_UNEXTRACTABLE", 403, "The key never leaves the token", Ckr.KEY_UNEXTRACTABLE
)
UNWRAPPING_KEY_HANDLE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_UNWRAPPING_KEY_HANDLE_INVALID",
    400,
    "Not an unwrapping key",
    Ckr.UNWRAPPING_KEY_HANDLE_INVALID,
)
UNWRAPPING_KEY_TYPE_INCONSISTENT: Final = Fault(
    "CLUSTERPLUGIN_UNWRAPPING_KEY_TYPE_INCONSISTENT",
    400,
    "Wrong type of unwrapping key",
    Ckr.UNWRAPPING_KEY_TYPE_INCONSISTENT,
)
WRAPPED_KEY_INVALID: Final = Fault(
    "CLUSTERPLUGIN_WRAPPED_KEY_INVALID", 400, "Bad wrapped key", Ckr.WRAPPED_KEY_INVALID
)
WRAPPED_KEY_LEN_RANGE: Final = Fault(
    "CLUSTERPLUGIN_WRAPPED_KEY_LEN_RANGE",
    400,
    "Bad length of wrapped key",
    Ckr.WRAPPED_KEY_LEN_RANGE,
)
WRAPPING_KEY_HANDLE_INVALID: Final = Fault(
    "CLUSTERPLUGIN_WRAPPING_KEY_HANDLE_INVALID",
    400,
    "Not a wrapping key",
    Ckr.WRAPPING_KEY_HANDLE_INVALID,
)
WRAPPING_KEY_TYPE_INCONSISTENT: Final = Fault(
    "CLUSTERPLUGIN_WRAPPING_KEY_TYPE_INCONSISTENT",
    400,
    "Wrong type of wrapping key",
    Ckr.WRAPPING_KEY_TYPE_INCONSISTENT,
)

# Client
CLIENT_CONFIGURATION: Final = Fault(
    "CLIENT_CONFIGURATION_INVALID", 400, "Bad client configuration", Ckr.GENERAL_ERROR
)
UNABLE_TO_CONNECT: Final = Fault(
    "CLIENT_UNABLE_TO_CONNECT",
    503,
    "The cluster cannot be reached",
    Ckr.UNABLE_TO_CONNECT,
    retry_is_safe=True,
)
PROTOCOL_BROKEN: Final = Fault(
    "CLIENT_PROTOCOL_BROKEN", 502, "The peer broke the protocol", Ckr.DEVICE_ERROR
)
SLOT_NOT_FOUND: Final = Fault("CLIENT_SLOT_NOT_FOUND", 404, "No such slot", Ckr.SLOT_ID_INVALID)
ALREADY_LOGGED_IN: Final = Fault(
    "CLIENT_ALREADY_LOGGED_IN", 409, "A role is logged in already", Ckr.USER_ALREADY_LOGGED_IN
)
COMMAND_LINE: Final = Fault("CLIENT_COMMAND_LINE", 400, "Bad command", Ckr.ARGUMENTS_BAD)

# Users, sessions, tasks and requests at the REST doors
LOGIN_DELAYED: Final = Fault(
    "SERVER_LOGIN_DELAYED", 429, "Too many refused logins: wait", retry_is_safe=True
)
USER_LIMIT: Final = Fault("SERVERPLUGIN_USER_LIMIT", 409, "No more users are allowed")
TASK_ACTION: Final = Fault("TASK_ACTION_INVALID", 404, "No such task action")
TASK_STATE: Final = Fault("TASK_STATE_INVALID", 409, "The task is in another state")
FUNCTION_NOT_SUPPORTED: Final = Fault(
    "HSMPLUGIN_FUNC_NOT_SUPPORTED", 400, "The function is not supported"
)
REQUEST_TOO_LARGE: Final = Fault("SERVER_REQUEST_TOO_LARGE", 413, "The request is too large")
REQUEST_TIMEOUT: Final = Fault("SERVER_REQUEST_TIMEOUT", 408, "The request took too long to arrive")
SERVICE_FIXED: Final = Fault(
    "APPLIANCE_FAILED_TO_MODIFY_SERVICE_INFO", 400, "The service cannot be changed"
)
MEMBER_READ_ONLY: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_READ_ONLY",
    409,
    "The member is Read-Only",
    Ckr.TOKEN_WRITE_PROTECTED,
)

# Clusters of several members: join
CLONING_DOMAIN_MISMATCH: Final = Fault(
    "CLUSTERPLUGIN_CLONING_DOMAIN_MISMATCH", 409, "The cloning domains differ"
)
JOIN_REFUSED: Final = Fault(
    "CLUSTERPLUGIN_JOIN_CREDENTIALS_REFUSED",
    401,
    "The other member refuses the admin's credentials",
    Ckr.PIN_INCORRECT,
)
JOIN_FINGERPRINT: Final = Fault(
    "CLUSTERPLUGIN_JOIN_FINGERPRINT_MISMATCH",
    409,
    "The fingerprint of the other member is missing or differs",
)
JOIN_DELAYED: Final = Fault(
    "CLUSTERPLUGIN_JOIN_DELAYED", 429, "Too many failed joins: wait", retry_is_safe=True
)
JOIN_BROKEN: Final = Fault(
    "CLUSTERPLUGIN_JOIN_EXCHANGE_BROKEN", 502, "The exchange of the join was disturbed"
)
JOIN_IN_PROGRESS: Final = Fault(
    "CLUSTERPLUGIN_JOIN_IN_PROGRESS", 409, "Another join is in progress", retry_is_safe=True
)
CLOCK_SKEW: Final = Fault(
    "CLUSTERPLUGIN_CLOCK_SKEW", 409, "The clocks differ too much", Ckr.CLOCK_NOT_IN_SYNC
)
WRONG_CLUSTER: Final = Fault(
    "CLUSTERPLUGIN_CLUSTER_ID_WRONG", 409, "The member belongs to another cluster"
)
MEMBER_LIMIT: Final = Fault("CLUSTERPLUGIN_MEMBER_LIMIT", 409, "No more members are allowed")
VERSION_MISMATCH: Final = Fault(
    "CLUSTERPLUGIN_VERSION_MISMATCH", 409, "The versions of the members do not fit"
)
CONVERSION_FAILED: Final = Fault(
    "CLUSTERPLUGIN_CONVERSION_FAILED", 500, "The store could not be converted", Ckr.DEVICE_ERROR
)
POSTGRESQL_MISSING: Final = Fault(
    "CLUSTERPLUGIN_POSTGRESQL_MISSING", 409, "PostgreSQL is not installed", Ckr.DEVICE_ERROR
)
POSTGRESQL_FAILED: Final = Fault(
    "CLUSTERPLUGIN_POSTGRESQL_FAILED", 500, "PostgreSQL failed", Ckr.DEVICE_ERROR
)
POSTGRESQL_UNAVAILABLE: Final = Fault(
    "CLUSTERPLUGIN_POSTGRESQL_UNAVAILABLE",
    503,
    "PostgreSQL does not answer",
    Ckr.DEVICE_ERROR,
    retry_is_safe=True,
)
STORE_DIVERGED: Final = Fault(
    "CLUSTERPLUGIN_STORE_DIVERGED", 409, "The store must be copied anew", Ckr.DEVICE_ERROR
)
CONVERSION_CANCELLED: Final = Fault(
    "CLUSTERPLUGIN_CONVERSION_CANCELLED", 409, "The conversion was cancelled"
)

# Clusters of several members: members and their states
MEMBER_VISIBLE: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_VISIBLE", 409, "The member is visible to another member"
)
MEMBER_NOT_VISIBLE: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_NOT_VISIBLE", 409, "The member is not visible"
)
MEMBER_NOT_READ_WRITE: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_NOT_READ_WRITE", 409, "The member is not Read-Write"
)
MEMBER_REMOVED: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_REMOVED",
    409,
    "The member was deleted from the cluster",
    Ckr.DEVICE_REMOVED,
)
MEMBER_BEHIND: Final = Fault(
    "CLUSTERPLUGIN_MEMBER_BEHIND",
    503,
    "The member has not caught up yet",
    Ckr.DEVICE_ERROR,
    retry_is_safe=True,
)
LAST_MEMBER: Final = Fault("CLUSTERPLUGIN_LAST_MEMBER", 409, "It is the cluster's last member")
GROUP_LIMIT: Final = Fault("CLUSTERPLUGIN_GROUP_LIMIT", 409, "No more affinity groups are allowed")
PRIMARY_UNREACHABLE: Final = Fault(
    "CLUSTERPLUGIN_PRIMARY_UNREACHABLE",
    503,
    "The primary cannot be reached",
    Ckr.TOKEN_WRITE_PROTECTED,
    retry_is_safe=True,
)
MEMBERS_UNREACHABLE: Final = Fault(
    "CLUSTERPLUGIN_MEMBERS_UNREACHABLE", 409, "Members cannot reach each other"
)
EPOCH_STALE: Final = Fault(
    "CLUSTERPLUGIN_EPOCH_STALE", 409, "A newer epoch exists", Ckr.TOKEN_WRITE_PROTECTED
)
READ_ONLY_LIMIT: Final = Fault(
    "CLUSTERPLUGIN_READ_ONLY_LIMIT",
    409,
    "The member was cut off for too long",
    Ckr.DEVICE_ERROR,
)

# Secure packages
PACKAGE_DAMAGED: Final = Fault("APPLIANCE_PACKAGE_DAMAGED", 400, "The package is damaged")
PACKAGE_SIGNATURE: Final = Fault(
    "APPLIANCE_PACKAGE_SIGNATURE_INVALID", 403, "The package's signature is not trusted"
)
PACKAGE_CODE: Final = Fault(
    "APPLIANCE_PACKAGE_AUTHCODE_INVALID", 403, "The authorization code is wrong"
)
PACKAGE_INSTALLED: Final = Fault(
    "APPLIANCE_PACKAGE_ALREADY_INSTALLED", 409, "The package is installed already"
)
PACKAGE_OLDER: Final = Fault(
    "APPLIANCE_PACKAGE_DOWNGRADE", 409, "The package is older than what is installed"
)
PACKAGE_REQUIREMENT: Final = Fault(
    "APPLIANCE_PACKAGE_REQUIREMENT", 409, "The appliance is older than the package requires"
)
PACKAGE_NOT_FOUND: Final = Fault("APPLIANCE_PACKAGE_NOT_FOUND", 404, "No such package")
PACKAGE_IN_USE: Final = Fault("APPLIANCE_PACKAGE_IN_USE", 409, "The package is in use")
PACKAGE_STORAGE: Final = Fault(
    "APPLIANCE_PACKAGE_STORAGE_FAILED", 507, "The package cannot be stored"
)

# Users' files
FILE_NOT_FOUND: Final = Fault("SERVERPLUGIN_FILEID_DOES_NOT_EXIST", 404, "No such file")
