/* operations.h - the numbers of the operations (docs/protocol.md). */
#ifndef CONCLAVE_OPERATIONS_H
#define CONCLAVE_OPERATIONS_H

enum cv_operation_number {
    CV_HELLO = 0,
    CV_PING = 1,
    CV_LIST_TOKENS = 2,
    CV_TOKEN_INFO = 3,
    CV_MECHANISMS = 4,
    CV_MEMBERS = 5,
    CV_LOGIN = 10,
    CV_LOGOUT = 11,
    CV_SET_PIN = 12,
    CV_INIT_PIN = 13,
    CV_INIT_TOKEN = 14,
    CV_FIND = 20,
    CV_GET_ATTRIBUTES = 21,
    CV_SET_ATTRIBUTES = 22,
    CV_CREATE_OBJECT = 23,
    CV_COPY_OBJECT = 24,
    CV_DESTROY_OBJECT = 25,
    CV_OBJECT_SIZE = 26,
    CV_KEY_INFO = 27,
    CV_GENERATE_KEY = 30,
    CV_GENERATE_KEY_PAIR = 31,
    CV_WRAP_KEY = 32,
    CV_UNWRAP_KEY = 33,
    CV_DERIVE_KEY = 34,
    CV_SIGN_RECOVER = 35,
    CV_VERIFY_RECOVER = 36,
    CV_CONTEXT_LOGIN = 37,
    CV_USE_IN_CONTEXT = 38,
    CV_SIGN = 40,
    CV_VERIFY = 41,
    CV_ENCRYPT = 42,
    CV_DECRYPT = 43,
    CV_ENCAPSULATE_KEY = 44,
    CV_DECAPSULATE_KEY = 45,
    CV_RANDOM = 50
};

#endif
