/* keys.c - the keys of a run, and their public halves outside the module. */
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

static const unsigned char oid_p256[] = { 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7 };
static const unsigned char oid_p384[] = { 6, 5, 0x2b, 0x81, 4, 0, 0x22 };
static const unsigned char oid_ed25519[] = { 6, 3, 0x2b, 0x65, 0x70 };
static const unsigned char name_ed25519[] = "\x13\x0c" "edwards25519";

CK_RV get_bytes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_TYPE type,
                       unsigned char *out, CK_ULONG *len)
{
    CK_ATTRIBUTE a = { type, out, *len };
    CK_RV rv = p11->C_GetAttributeValue(s, o, &a, 1);
    *len = a.ulValueLen;
    return rv;
}

EVP_PKEY *rsa_public(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE pub)
{
    unsigned char n[1024], e[64];
    CK_ULONG nl = sizeof n, el = sizeof e;
    must(get_bytes(s, pub, CKA_MODULUS, n, &nl), "reading CKA_MODULUS");
    must(get_bytes(s, pub, CKA_PUBLIC_EXPONENT, e, &el), "reading CKA_PUBLIC_EXPONENT");
    BIGNUM *bn = BN_bin2bn(n, (int)nl, NULL), *be = BN_bin2bn(e, (int)el, NULL);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    EVP_PKEY *k = NULL;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, bn);
    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, be);
    OSSL_PARAM *par = OSSL_PARAM_BLD_to_param(b);
    if (BN_num_bits(bn) != 2048)
        die("the RSA key has %d bits, not 2048", BN_num_bits(bn));
    if (EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &k, EVP_PKEY_PUBLIC_KEY, par) != 1)
        die("OpenSSL refuses the RSA public key of the module");
    OSSL_PARAM_free(par);
    OSSL_PARAM_BLD_free(b);
    EVP_PKEY_CTX_free(c);
    BN_free(bn);
    BN_free(be);
    return k;
}

EVP_PKEY *ec_public(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE pub, enum op op)
{
    unsigned char buf[256], *p = buf;
    CK_ULONG len = sizeof buf;
    size_t want = op == OP_ED25519 ? 32 : op == OP_P384 ? 97 : 65;
    must(get_bytes(s, pub, CKA_EC_POINT, buf, &len), "reading CKA_EC_POINT");
    if (len == want + 2 && p[0] == 4 && p[1] == want)              /* DER OCTET STRING */
        p += 2;
    else if (len == want + 3 && p[0] == 3 && p[1] == want + 1)     /* DER BIT STRING */
        p += 3;
    else if (len != want)
        die("CKA_EC_POINT has an unexpected length %lu", len);
    if (op == OP_ED25519) {
        EVP_PKEY *k = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, p, want);
        if (!k)
            die("OpenSSL refuses the Ed25519 public key of the module");
        return k;
    }
    EVP_PKEY *k = NULL;
    char group[16];
    snprintf(group, sizeof group, op == OP_P384 ? "secp384r1" : "prime256v1");
    OSSL_PARAM par[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, p, want),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &k, EVP_PKEY_PUBLIC_KEY, par) != 1)
        die("OpenSSL refuses the EC public key of the module");
    EVP_PKEY_CTX_free(c);
    return k;
}

/* Only the call to the module: this is what the keygen operations time. */
CK_RV generate_pair(CK_SESSION_HANDLE s, enum op op, bool token, const char *label,
                           CK_OBJECT_HANDLE *pub, CK_OBJECT_HANDLE *priv)
{
    CK_MECHANISM mech = { CKM_EC_KEY_PAIR_GEN, NULL, 0 };
    CK_ULONG bits = 2048;
    unsigned char f4[] = { 1, 0, 1 };
    CK_BBOOL tok = token ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE pubt[8] = {
        { CKA_TOKEN, &tok, sizeof tok },
        { CKA_PRIVATE, &ck_false, sizeof ck_false },
        { CKA_VERIFY, &ck_true, sizeof ck_true },
        { CKA_LABEL, (void *)label, strlen(label) },
    };
    CK_ATTRIBUTE privt[] = {
        { CKA_TOKEN, &tok, sizeof tok },
        { CKA_PRIVATE, &ck_true, sizeof ck_true },
        { CKA_SENSITIVE, &ck_true, sizeof ck_true },
        { CKA_EXTRACTABLE, &ck_false, sizeof ck_false },
        { CKA_SIGN, &ck_true, sizeof ck_true },
        { CKA_LABEL, (void *)label, strlen(label) },
    };
    CK_ULONG np = 4, ns = sizeof privt / sizeof privt[0];
    if (op == OP_RSA_SIGN || op == OP_RSA_PSS || op == OP_KEYGEN_RSA) {
        mech.mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN;
        pubt[np++] = (CK_ATTRIBUTE){ CKA_MODULUS_BITS, &bits, sizeof bits };
        pubt[np++] = (CK_ATTRIBUTE){ CKA_PUBLIC_EXPONENT, f4, sizeof f4 };
        return p11->C_GenerateKeyPair(s, &mech, pubt, np, privt, ns, pub, priv);
    }
    if (op == OP_ED25519) {                       /* the curve goes by OID or by name */
        mech.mechanism = CKM_EC_EDWARDS_KEY_PAIR_GEN;
        pubt[np++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, (void *)oid_ed25519, sizeof oid_ed25519 };
        CK_RV rv = p11->C_GenerateKeyPair(s, &mech, pubt, np, privt, ns, pub, priv);
        if (rv == CKR_OK || rv == CKR_MECHANISM_INVALID)
            return rv;
        pubt[np - 1] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, (void *)name_ed25519, sizeof name_ed25519 - 1 };
        return p11->C_GenerateKeyPair(s, &mech, pubt, np, privt, ns, pub, priv);
    }
    if (op == OP_P384)
        pubt[np++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, (void *)oid_p384, sizeof oid_p384 };
    else
        pubt[np++] = (CK_ATTRIBUTE){ CKA_EC_PARAMS, (void *)oid_p256, sizeof oid_p256 };
    return p11->C_GenerateKeyPair(s, &mech, pubt, np, privt, ns, pub, priv);
}

CK_RV create_aes(CK_SESSION_HANDLE s, bool token, const char *label,
                        const unsigned char value[32], CK_OBJECT_HANDLE *out)
{
    CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL tok = token ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE t[] = {
        { CKA_CLASS, &cls, sizeof cls },
        { CKA_KEY_TYPE, &type, sizeof type },
        { CKA_TOKEN, &tok, sizeof tok },
        { CKA_PRIVATE, &ck_true, sizeof ck_true },
        { CKA_SENSITIVE, &ck_true, sizeof ck_true },
        { CKA_ENCRYPT, &ck_true, sizeof ck_true },
        { CKA_DECRYPT, &ck_true, sizeof ck_true },
        { CKA_LABEL, (void *)label, strlen(label) },
        { CKA_VALUE, (void *)value, 32 },
    };
    return p11->C_CreateObject(s, t, sizeof t / sizeof t[0], out);
}

CK_RV generate_aes(CK_SESSION_HANDLE s, bool token, const char *label, CK_OBJECT_HANDLE *out)
{
    CK_MECHANISM mech = { CKM_AES_KEY_GEN, NULL, 0 };
    CK_ULONG len = 32;
    CK_BBOOL tok = token ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE t[] = {
        { CKA_TOKEN, &tok, sizeof tok },
        { CKA_PRIVATE, &ck_true, sizeof ck_true },
        { CKA_SENSITIVE, &ck_true, sizeof ck_true },
        { CKA_ENCRYPT, &ck_true, sizeof ck_true },
        { CKA_DECRYPT, &ck_true, sizeof ck_true },
        { CKA_LABEL, (void *)label, strlen(label) },
        { CKA_VALUE_LEN, &len, sizeof len },
    };
    return p11->C_GenerateKey(s, &mech, t, sizeof t / sizeof t[0], out);
}

void make_key(CK_SESSION_HANDLE s, enum op op, struct key *k)
{
    char label[96];
    bool token = !opt.session_objects;
    snprintf(label, sizeof label, "%s-key", run_tag);
    memset(k, 0, sizeof *k);
    switch (op) {
    case OP_RSA_SIGN: case OP_RSA_PSS:
        must(generate_pair(s, op, token, label, &k->pub, &k->priv), "C_GenerateKeyPair (RSA)");
        k->check = rsa_public(s, k->pub);
        break;
    case OP_P256: case OP_P384: case OP_ED25519:
        must(generate_pair(s, op, token, label, &k->pub, &k->priv), "C_GenerateKeyPair (EC)");
        k->check = ec_public(s, k->pub, op);
        break;
    case OP_GCM: case OP_CBC:
        random_bytes(k->aes, sizeof k->aes);
        k->aes_known = create_aes(s, token, label, k->aes, &k->priv) == CKR_OK;
        if (!k->aes_known)              /* a token that takes no key in the clear */
            must(generate_aes(s, token, label, &k->priv), "C_GenerateKey (AES)");
        break;
    default:
        break;
    }
}
