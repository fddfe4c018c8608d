/* digests.c - hashing, which needs no key and therefore no worker. */
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "mechanisms.h"
#include "openssl_gate.h"

static const struct {
    const char *name;
    size_t length;
} digests[] = {
    [CV_NO_DIGEST] = {NULL, 0},   [CV_SHA_1] = {"SHA1", 20},     [CV_SHA_224] = {"SHA224", 28},
    [CV_SHA_256] = {"SHA256", 32}, [CV_SHA_384] = {"SHA384", 48}, [CV_SHA_512] = {"SHA512", 64},
    [CV_SHA_512_224] = {"SHA512-224", 28}, [CV_SHA_512_256] = {"SHA512-256", 32},
    [CV_SHA3_224] = {"SHA3-224", 28}, [CV_SHA3_256] = {"SHA3-256", 32},
    [CV_SHA3_384] = {"SHA3-384", 48}, [CV_SHA3_512] = {"SHA3-512", 64},
};
#define DIGESTS (sizeof digests / sizeof digests[0])

static OSSL_LIB_CTX *library;
static EVP_MD *fetched[DIGESTS];

size_t cv_digest_length(enum cv_digest digest)
{
    return digests[digest].length;
}

static CK_RV fetch_all(void)
{
    library = OSSL_LIB_CTX_new();
    if (library == NULL)
        return CKR_HOST_MEMORY;
    for (size_t i = CV_SHA_1; i < DIGESTS; i++)
        if ((fetched[i] = EVP_MD_fetch(library, digests[i].name, NULL)) == NULL)
            return CKR_GENERAL_ERROR;
    return CKR_OK;
}

CK_RV cv_digests_start(void)
{
    if (!cv_openssl_enter())
        return CKR_GENERAL_ERROR;
    CK_RV value = fetch_all();
    cv_openssl_leave();
    return value;
}

void cv_digests_stop(void)
{
    if (cv_openssl_enter()) {
        for (size_t i = 0; i < DIGESTS; i++)
            EVP_MD_free(fetched[i]);
        OSSL_LIB_CTX_free(library);
        cv_openssl_leave();
    }
    cv_digests_abandon();
}

void cv_digests_abandon(void)
{
    library = NULL;
    for (size_t i = 0; i < DIGESTS; i++)
        fetched[i] = NULL;
}

CK_RV cv_digest_begin(void **context, enum cv_digest digest)
{
    if (*context == NULL && (*context = EVP_MD_CTX_new()) == NULL)
        return CKR_HOST_MEMORY;
    return EVP_DigestInit_ex2(*context, fetched[digest], NULL) == 1 ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV cv_digest_add(void *context, const void *data, size_t length)
{
    if (length == 0)
        return CKR_OK;
    return EVP_DigestUpdate(context, data, length) == 1 ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV cv_digest_end(void *context, uint8_t *out)
{
    return EVP_DigestFinal_ex(context, out, NULL) == 1 ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV cv_digest_copy(void **to, const void *from)
{
    if (*to == NULL && (*to = EVP_MD_CTX_new()) == NULL)
        return CKR_HOST_MEMORY;
    return EVP_MD_CTX_copy_ex(*to, from) == 1 ? CKR_OK : CKR_HOST_MEMORY;
}

void cv_digest_free(void **context)
{
    EVP_MD_CTX_free(*context);
    *context = NULL;
}
