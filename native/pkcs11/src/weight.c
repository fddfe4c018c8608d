/* weight.c - which requests cost a worker little more than reading them does: see cluster.h. */
#include "cryptoki.h"
#include "operations.h"
#include "request.h"
#include "wire.h"

#define LONGEST_LIGHT 16384u /* bytes of arguments */

/* A few microseconds for a kilobyte, where a signature with a private key takes twenty and more. */
static bool is_symmetric(uint64_t mechanism)
{
    switch (mechanism) {
    case CKM_AES_ECB:
    case CKM_AES_CBC:
    case CKM_AES_CBC_PAD:
    case CKM_AES_CTR:
    case CKM_AES_GCM:
    case CKM_AES_CCM:
    case CKM_AES_XTS:
    case CKM_AES_CMAC:
    case CKM_AES_CMAC_GENERAL:
    case CKM_AES_GMAC:
    case CKM_CHACHA20_POLY1305:
    case CKM_SHA_1_HMAC:
    case CKM_SHA224_HMAC:
    case CKM_SHA256_HMAC:
    case CKM_SHA384_HMAC:
    case CKM_SHA512_HMAC:
    case CKM_SHA512_224_HMAC:
    case CKM_SHA512_256_HMAC:
        return true;
    default:
        return false;
    }
}

bool cv_request_is_light(const struct cv_request *request)
{
    cv_reader reader;
    switch (request->operation) {
    case CV_FIND:
    case CV_GET_ATTRIBUTES:
    case CV_KEY_INFO:
        return true;
    case CV_SIGN:
    case CV_VERIFY:
    case CV_ENCRYPT:
    case CV_DECRYPT:
        cv_reader_init(&reader, request->args, request->args_length);
        if (request->args_length > LONGEST_LIGHT || cv_read_array(&reader) < 3)
            return false;
        cv_read_skip(&reader); /* the keyring */
        cv_read_skip(&reader); /* the key */
        return is_symmetric(cv_read_uint(&reader));
    default:
        return false;
    }
}
