/* test_mechanisms.c - parameters on the wire, hostile ones too, and lengths of results. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "mechanisms.h"

static cv_writer out;
static struct cv_parameter facts;

static CK_RV put(CK_MECHANISM_TYPE type, void *parameter, CK_ULONG length)
{
    CK_MECHANISM given = {type, parameter, length};
    cv_writer_free(&out);
    return cv_mechanism_put_parameter(cv_mechanism_find(type), &given, &out, &facts);
}

static bool is(const char *bytes, size_t length)
{
    return out.length == length && memcmp(out.bytes, bytes, length) == 0;
}

static void test_without_parameter(void)
{
    CHECK_RV(CKR_OK, put(CKM_ECDSA, NULL, 0));
    CHECK(is("\xc0", 1));
    CHECK_RV(CKR_OK, put(CKM_ECDSA, &out, 0));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_ECDSA, &out, 1));
    CHECK_RV(CKR_ARGUMENTS_BAD, put(CKM_ECDSA, NULL, 16));
}

static void test_iv(void)
{
    char iv[16] = "0123456789abcdef";
    CHECK_RV(CKR_OK, put(CKM_AES_CBC, iv, 16));
    CHECK(is("\xc4\x10" "0123456789abcdef", 18));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CBC, iv, 15));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CBC_PAD, iv, ~0UL));
    CHECK_RV(CKR_ARGUMENTS_BAD, put(CKM_AES_CBC, NULL, 16));
}

static void test_counter(void)
{
    CK_AES_CTR_PARAMS counter = {.ulCounterBits = 32, .cb = "0123456789abcde"};
    CHECK_RV(CKR_OK, put(CKM_AES_CTR, &counter, sizeof counter));
    CHECK(is("\x92\x20\xc4\x10" "0123456789abcde", 20));
    counter.ulCounterBits = 0;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CTR, &counter, sizeof counter));
    counter.ulCounterBits = 129;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CTR, &counter, sizeof counter));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CTR, &counter, 16));
}

static void test_gcm(void)
{
    uint8_t nonce[12] = "0123456789ab";
    const CK_GCM_PARAMS good = {
        .pIv = nonce, .ulIvLen = 12, .pAAD = nonce, .ulAADLen = 2, .ulTagBits = 128};
    CK_GCM_PARAMS gcm = good;
    CHECK_RV(CKR_OK, put(CKM_AES_GCM, &gcm, sizeof gcm));
    CHECK(is("\x93\xc4\x0c" "0123456789ab\xc4\x02" "01\xcc\x80", 21));
    CHECK(facts.result_bytes == 16);
    gcm.pAAD = NULL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm.ulAADLen = 0;
    CHECK_RV(CKR_OK, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm = good;
    gcm.ulIvLen = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm.ulIvLen = 0;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm = good;
    gcm.ulAADLen = 1UL << 62;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm = good;
    gcm.ulTagBits = 129;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    gcm.ulTagBits = 0;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GCM, &gcm, sizeof gcm - 8));
}

static void test_ccm(void)
{
    uint8_t nonce[13] = "0123456789abc";
    const CV_CCM_PARAMS good = {5, nonce, 7, nonce, 2, 8};
    CV_CCM_PARAMS ccm = good;
    CHECK_RV(CKR_OK, put(CKM_AES_CCM, &ccm, sizeof ccm));
    CHECK(is("\x94\x05\xc4\x07" "0123456\xc4\x02" "01\x08", 16));
    CHECK(facts.result_bytes == 8);
    ccm.ulNonceLen = 14;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CCM, &ccm, sizeof ccm));
    ccm = good;
    ccm.ulAADLen = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CCM, &ccm, sizeof ccm));
    ccm = good;
    ccm.pAAD = NULL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CCM, &ccm, sizeof ccm));
    ccm = good;
    ccm.ulMACLen = 5;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CCM, &ccm, sizeof ccm));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CCM, &ccm, 16));
}

static void test_chacha(void)
{
    uint8_t nonce[12] = "0123456789ab";
    CK_SALSA20_CHACHA20_POLY1305_PARAMS chacha = {nonce, 12, nonce, 1};
    CHECK_RV(CKR_OK, put(CKM_CHACHA20_POLY1305, &chacha, sizeof chacha));
    CHECK(is("\x92\xc4\x0c" "0123456789ab\xc4\x01" "0", 18));
    CHECK(facts.result_bytes == 16);
    chacha.ulNonceLen = 24;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_CHACHA20_POLY1305, &chacha, sizeof chacha));
    chacha = (CK_SALSA20_CHACHA20_POLY1305_PARAMS){nonce, 12, NULL, 1UL << 60};
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_CHACHA20_POLY1305, &chacha, sizeof chacha));
}

static void test_gmac(void)
{
    uint8_t nonce[13] = "0123456789abc";
    CK_GCM_PARAMS gcm = {.pIv = nonce, .ulIvLen = 8, .ulTagBits = 96};
    CHECK_RV(CKR_OK, put(CKM_AES_GMAC, nonce, 12));
    CHECK(is("\x93\xc4\x0c" "0123456789ab\xc4\x00\xcc\x80", 19) && facts.result_bytes == 16);
    CHECK_RV(CKR_OK, put(CKM_AES_GMAC, &gcm, sizeof gcm));
    CHECK(is("\x93\xc4\x08" "01234567\xc4\x00\x60", 14) && facts.result_bytes == 12);
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_GMAC, nonce, 13));
}

static void test_ml_dsa(void)
{
    CK_SIGN_ADDITIONAL_CONTEXT extra = {CKH_HEDGE_PREFERRED, (CK_BYTE *)"ab", 2};
    CHECK_RV(CKR_OK, put(CKM_ML_DSA, NULL, 0));
    CHECK(is("\xc0", 1));
    CHECK_RV(CKR_OK, put(CKM_ML_DSA, &extra, sizeof extra));
    CHECK(is("\x92\x00\xc4\x02" "ab", 6));
    extra.ulContextLen = 256;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_ML_DSA, &extra, sizeof extra));
    extra = (CK_SIGN_ADDITIONAL_CONTEXT){CKH_HEDGE_PREFERRED, NULL, 1};
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_ML_DSA, &extra, sizeof extra));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_ML_DSA, &extra, 16));
    CHECK_RV(CKR_ARGUMENTS_BAD, put(CKM_ML_DSA, NULL, sizeof extra));
}

static void test_des3(void)
{
    char iv[8] = "01234567";
    CHECK_RV(CKR_OK, put(CKM_DES3_CBC, iv, 8));
    CHECK(is("\xc4\x08" "01234567", 10));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_DES3_CBC_PAD, iv, 16));
    CHECK(cv_mechanism_find(CKM_DES3_CBC)->usage == CKF_DECRYPT);
    CHECK(cv_mechanism_find(CKM_DES3_CMAC)->usage == CKF_VERIFY);
}

static void test_rsa(void)
{
    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    CHECK_RV(CKR_OK, put(CKM_SHA256_RSA_PKCS_PSS, &pss, sizeof pss));
    CHECK(is("\x93\xcd\x02\x50\x02\x20", 6));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_RSA_PKCS_PSS, NULL, 0));
    pss.sLen = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_RSA_PKCS_PSS, &pss, sizeof pss));
    CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0};
    CHECK_RV(CKR_OK, put(CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep));
    CHECK(is("\x93\xcd\x02\x20\x01\xc4\x00", 7));
    oaep.ulSourceDataLen = 5;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep));
    oaep.pSourceData = &pss;
    oaep.ulSourceDataLen = ~0UL;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep));
}

static void test_eddsa(void)
{
    CK_EDDSA_PARAMS eddsa = {CK_FALSE, 0, NULL};
    CHECK_RV(CKR_OK, put(CKM_EDDSA, NULL, 0));
    CHECK_RV(CKR_OK, put(CKM_EDDSA, &eddsa, sizeof eddsa));
    CHECK(is("\xc0", 1));
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_EDDSA, &eddsa, sizeof eddsa - 1));
    eddsa.phFlag = CK_TRUE;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_EDDSA, &eddsa, sizeof eddsa));
    eddsa = (CK_EDDSA_PARAMS){CK_FALSE, ~0UL, (CK_BYTE *)&eddsa};
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_EDDSA, &eddsa, sizeof eddsa));
}

/* The digests of "abc" that NIST publishes (FIPS 180-4 and FIPS 202, example values). */
static const struct {
    enum cv_digest digest;
    size_t length;
    const char *hexadecimal;
} examples[] = {
    {CV_SHA_512_224, 28, "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa"},
    {CV_SHA_512_256, 32, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"},
    {CV_SHA3_224, 28, "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"},
    {CV_SHA3_256, 32, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
    {CV_SHA3_384, 48,
     "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d"
     "25"},
    {CV_SHA3_512, 64,
     "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e393"
     "4057340b4cf408d5a56592f8274eec53f0"},
};

static void test_digests(void)
{
    void *context = NULL;
    CHECK_RV(CKR_OK, cv_digests_start());
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        uint8_t made[CV_DIGEST_MAX];
        char text[2 * CV_DIGEST_MAX + 1] = "";
        CHECK(cv_digest_length(examples[i].digest) == examples[i].length);
        CHECK_RV(CKR_OK, cv_digest_begin(&context, examples[i].digest));
        CHECK_RV(CKR_OK, cv_digest_add(context, "abc", 3));
        CHECK_RV(CKR_OK, cv_digest_end(context, made));
        for (size_t byte = 0; byte < examples[i].length; byte++)
            snprintf(text + 2 * byte, 3, "%02x", made[byte]);
        CHECK(strcmp(text, examples[i].hexadecimal) == 0);
    }
    cv_digest_free(&context);
    cv_digests_stop();
}

static void test_mac_length(void)
{
    CK_ULONG length = 16;
    CHECK_RV(CKR_OK, put(CKM_SHA256_HMAC_GENERAL, &length, sizeof length));
    CHECK(is("\x10", 1) && facts.result_bytes == 16);
    length = 16;
    CHECK_RV(CKR_OK, put(CKM_AES_CMAC_GENERAL, &length, sizeof length));
    length = 17;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_AES_CMAC_GENERAL, &length, sizeof length));
    length = 33;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_SHA256_HMAC_GENERAL, &length, sizeof length));
    length = 0;
    CHECK_RV(CKR_MECHANISM_PARAM_INVALID, put(CKM_SHA256_HMAC_GENERAL, &length, sizeof length));
}

static size_t length_of(CK_MECHANISM_TYPE type, CK_ULONG bits, bool decrypting, size_t data)
{
    return cv_mechanism_result_length(cv_mechanism_find(type), &facts, bits, decrypting, data);
}

static void test_lengths(void)
{
    facts.result_bytes = 12;
    CHECK(length_of(CKM_RSA_PKCS, 2048, false, 5) == 256);
    CHECK(length_of(CKM_RSA_PKCS, 2049, false, 5) == 257);
    CHECK(length_of(CKM_ECDSA, 521, false, 5) == 132);
    CHECK(length_of(CKM_EDDSA, 255, false, 5) == 64);
    CHECK(length_of(CKM_EDDSA, 448, false, 5) == 114);
    CHECK(length_of(CKM_SHA3_384_HMAC, 256, false, 5) == 48);
    CHECK(length_of(CKM_SHA384_HMAC, 256, false, 5) == 48);
    CHECK(length_of(CKM_SHA384_HMAC_GENERAL, 256, false, 5) == 12);
    CHECK(length_of(CKM_AES_CBC_PAD, 256, false, 16) == 32);
    CHECK(length_of(CKM_ML_DSA, 8 * 1312, false, 5) == 2420);
    CHECK(length_of(CKM_ML_DSA, 8 * 1952, false, 5) == 3309);
    CHECK(length_of(CKM_ML_DSA, 8 * 2592, false, 5) == 4627);
    CHECK(length_of(CKM_AES_CMAC, 256, false, 5) == 16);
    CHECK(length_of(CKM_CHACHA20_POLY1305, 256, true, 17) == 5);
    CHECK(length_of(CKM_AES_CBC_PAD, 256, true, 32) == 32);
    CHECK(length_of(CKM_AES_GCM, 256, false, 5) == 17);
    CHECK(length_of(CKM_AES_GCM, 256, true, 17) == 5);
    CHECK(length_of(CKM_AES_GCM, 256, true, 3) == 0);
}

static void test_table(void)
{
    CHECK(cv_mechanism_find(CKM_DES_CBC) == NULL);
    CHECK(cv_mechanism_find(~0UL) == NULL);
    CHECK(cv_mechanism_fits(cv_mechanism_find(CKM_SHA256_HMAC), CKK_SHA256_HMAC));
    CHECK(!cv_mechanism_fits(cv_mechanism_find(CKM_SHA256_HMAC), CKK_AES));
    CHECK(cv_mechanism_fits(cv_mechanism_find(CKM_SHA3_512_HMAC), CKK_SHA3_512_HMAC));
    CHECK(!cv_mechanism_fits(cv_mechanism_find(CKM_ECDSA), CKK_EC_EDWARDS));
}

int main(void)
{
    test_without_parameter();
    test_iv();
    test_counter();
    test_gcm();
    test_ccm();
    test_chacha();
    test_gmac();
    test_ml_dsa();
    test_des3();
    test_rsa();
    test_eddsa();
    test_digests();
    test_mac_length();
    test_lengths();
    test_table();
    cv_writer_free(&out);
    return 0;
}
