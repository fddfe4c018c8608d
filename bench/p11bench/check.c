/* check.c - checks results outside the module. */
#define _GNU_SOURCE
#include "p11bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

static bool verify_ecdsa(EVP_PKEY *k, const unsigned char *hash, size_t hash_len,
                         const unsigned char *sig, size_t sig_len, size_t coord)
{
    if (sig_len != 2 * coord)
        return false;
    ECDSA_SIG *es = ECDSA_SIG_new();
    ECDSA_SIG_set0(es, BN_bin2bn(sig, (int)coord, NULL), BN_bin2bn(sig + coord, (int)coord, NULL));
    unsigned char *der = NULL;
    int der_len = i2d_ECDSA_SIG(es, &der);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k, NULL);
    bool ok = EVP_PKEY_verify_init(c) == 1 &&
              EVP_PKEY_verify(c, der, (size_t)der_len, hash, hash_len) == 1;
    EVP_PKEY_CTX_free(c);
    OPENSSL_free(der);
    ECDSA_SIG_free(es);
    return ok;
}

static bool verify_rsa(EVP_PKEY *k, const struct worker *w, bool pss)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pc = NULL;
    bool ok = EVP_DigestVerifyInit(c, &pc, EVP_sha256(), NULL, k) == 1;
    if (ok && pss)
        ok = EVP_PKEY_CTX_set_rsa_padding(pc, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pc, 32) == 1;
    ok = ok && EVP_DigestVerify(c, w->out, w->out_len, w->data, opt.size) == 1;
    EVP_MD_CTX_free(c);
    return ok;
}

static bool same_cipher(const EVP_CIPHER *cipher, const unsigned char *key, const unsigned char *iv,
                        const unsigned char *in, size_t n, const unsigned char *got, size_t got_len,
                        bool gcm)
{
    unsigned char *want = malloc(n + 64);
    int a = 0, b = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = want && EVP_EncryptInit_ex(c, cipher, NULL, key, iv) == 1 &&
              EVP_CIPHER_CTX_set_padding(c, 0) == 1 &&
              EVP_EncryptUpdate(c, want, &a, in, (int)n) == 1 &&
              EVP_EncryptFinal_ex(c, want + a, &b) == 1;
    size_t len = (size_t)(a + b);
    if (ok && gcm) {
        ok = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, GCM_TAG, want + len) == 1;
        len += GCM_TAG;
    }
    ok = ok && len == got_len && memcmp(want, got, len) == 0;
    EVP_CIPHER_CTX_free(c);
    free(want);
    return ok;
}

/* For a key that nobody outside the module knows: the module must decrypt its own result. */
static bool module_decrypts(struct worker *w)
{
    CK_GCM_PARAMS g = { .pIv = w->iv, .ulIvLen = 12, .ulIvBits = 96, .ulTagBits = GCM_TAG * 8 };
    CK_MECHANISM m = opt.op == OP_GCM ? (CK_MECHANISM){ CKM_AES_GCM, &g, sizeof g }
                                      : (CK_MECHANISM){ CKM_AES_CBC, w->iv, 16 };
    unsigned char *back = malloc(opt.size + 64);
    CK_ULONG len = opt.size + 64;
    bool ok = back && p11->C_DecryptInit(w->session, &m, w->key->priv) == CKR_OK &&
              p11->C_Decrypt(w->session, w->out, w->out_len, back, &len) == CKR_OK &&
              len == opt.size && memcmp(back, w->data, len) == 0 &&
              memcmp(w->out, w->data, opt.size) != 0;
    free(back);
    return ok;
}

/* Checks what the last operation of this worker gave; false is a wrong result. */
bool check(struct worker *w)
{
    bool ok = false, by_module = false;
    const struct key *k = w->key;
    switch (opt.op) {
    case OP_RSA_SIGN: ok = verify_rsa(k->check, w, false); break;
    case OP_RSA_PSS: ok = verify_rsa(k->check, w, true); break;
    case OP_P256: ok = verify_ecdsa(k->check, w->data, opt.size, w->out, w->out_len, 32); break;
    case OP_P384: ok = verify_ecdsa(k->check, w->data, opt.size, w->out, w->out_len, 48); break;
    case OP_ED25519: {
        EVP_MD_CTX *c = EVP_MD_CTX_new();
        ok = EVP_DigestVerifyInit(c, NULL, NULL, NULL, k->check) == 1 &&
             EVP_DigestVerify(c, w->out, w->out_len, w->data, opt.size) == 1;
        EVP_MD_CTX_free(c);
        break;
    }
    case OP_GCM: case OP_CBC:
        by_module = !k->aes_known;
        ok = by_module ? module_decrypts(w)
                       : same_cipher(opt.op == OP_GCM ? EVP_aes_256_gcm() : EVP_aes_256_cbc(), k->aes,
                                     w->iv, w->data, opt.size, w->out, w->out_len, opt.op == OP_GCM);
        break;
    case OP_SHA256: {
        unsigned char want[32];
        SHA256(w->data, opt.size, want);
        ok = w->out_len == 32 && memcmp(want, w->out, 32) == 0;
        break;
    }
    case OP_KEYGEN_RSA: case OP_KEYGEN_P256: {       /* the new key must sign */
        bool rsa = opt.op == OP_KEYGEN_RSA;
        EVP_PKEY *pk = rsa ? rsa_public(w->session, w->last_pub) : ec_public(w->session, w->last_pub, OP_P256);
        CK_MECHANISM m = { rsa ? CKM_SHA256_RSA_PKCS : CKM_ECDSA, NULL, 0 };
        unsigned char hash[32], sig[512];
        CK_ULONG len = sizeof sig;
        random_bytes(hash, sizeof hash);
        ok = p11->C_SignInit(w->session, &m, w->last_priv) == CKR_OK &&
             p11->C_Sign(w->session, hash, sizeof hash, sig, &len) == CKR_OK;
        if (ok && rsa) {
            EVP_MD_CTX *c = EVP_MD_CTX_new();
            ok = EVP_DigestVerifyInit(c, NULL, EVP_sha256(), NULL, pk) == 1 &&
                 EVP_DigestVerify(c, sig, len, hash, sizeof hash) == 1;
            EVP_MD_CTX_free(c);
        } else if (ok) {
            ok = verify_ecdsa(pk, hash, sizeof hash, sig, len, 32);
        }
        EVP_PKEY_free(pk);
        break;
    }
    case OP_CREATE_AES: {                            /* the new key must encrypt as its value says */
        unsigned char iv[16], in[32], got[64];
        CK_MECHANISM ecb = { CKM_AES_ECB, NULL, 0 }, cbc = { CKM_AES_CBC, iv, sizeof iv };
        CK_ULONG len = sizeof got;
        random_bytes(iv, sizeof iv);
        random_bytes(in, sizeof in);
        bool use_ecb = p11->C_EncryptInit(w->session, &ecb, w->last_priv) == CKR_OK;
        ok = (use_ecb || p11->C_EncryptInit(w->session, &cbc, w->last_priv) == CKR_OK) &&
             p11->C_Encrypt(w->session, in, sizeof in, got, &len) == CKR_OK &&
             same_cipher(use_ecb ? EVP_aes_256_ecb() : EVP_aes_256_cbc(), w->aes, use_ecb ? NULL : iv,
                         in, sizeof in, got, len, false);
        break;
    }
    case OP_FIND: {
        char want[96];
        unsigned char got[96];
        CK_ULONG len = sizeof got;
        snprintf(want, sizeof want, "%s-f%08lu", run_tag, w->find_id);
        ok = get_bytes(w->session, w->last_priv, CKA_LABEL, got, &len) == CKR_OK &&
             len == strlen(want) && memcmp(got, want, len) == 0;
        by_module = true;
        break;
    }
    case OP_LOGIN: {
        CK_SESSION_INFO i;
        ok = p11->C_GetSessionInfo(w->session, &i) == CKR_OK && i.state == CKS_RW_USER_FUNCTIONS;
        by_module = true;
        break;
    }
    case OP_OPEN_SESSION: {                          /* live when open, dead when closed */
        CK_SESSION_HANDLE s;
        CK_SESSION_INFO i;
        ok = p11->C_OpenSession(opt.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s) == CKR_OK &&
             p11->C_GetSessionInfo(s, &i) == CKR_OK && i.slotID == opt.slot &&
             i.state == CKS_RW_USER_FUNCTIONS && p11->C_CloseSession(s) == CKR_OK &&
             p11->C_GetSessionInfo(s, &i) != CKR_OK;
        by_module = true;
        break;
    }
    }
    if (ok)
        atomic_fetch_add(by_module ? &checks_module : &checks_openssl, 1);
    return ok;
}
