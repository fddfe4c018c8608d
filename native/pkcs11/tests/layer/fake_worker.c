/* fake_worker.c - see fake_worker.h. */
#define _GNU_SOURCE
#include "fake_worker.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "fake_objects.h"
#include "operations.h"

struct fake fake;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char clusters[4];
static _Atomic bool running;
static pthread_cond_t stopped = PTHREAD_COND_INITIALIZER;
static pid_t owner;

void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    fake.clusters = 1;
    fake.tokens = 2;
    fake.usage = CKF_SIGN | CKF_VERIFY | CKF_ENCRYPT | CKF_DECRYPT;
    strcpy(fake.ticket, "first ticket");
}

/* ---------------------------------------------------------------- rpc.h */

CK_RV cv_runtime_start(void)
{
    running = true;
    owner = getpid();
    return CKR_OK;
}

void cv_runtime_stop(void)
{
    pthread_mutex_lock(&mutex);
    running = false;
    pthread_cond_broadcast(&stopped);
    pthread_mutex_unlock(&mutex);
}

bool cv_runtime_forked(void)
{
    return owner != 0 && owner != getpid();
}

size_t cv_cluster_count(void)
{
    return fake.clusters;
}

cv_cluster *cv_cluster_at(size_t index)
{
    return (cv_cluster *)&clusters[index];
}

bool cv_read_only(cv_cluster *cluster)
{
    (void)cluster;
    return fake.read_only;
}

CK_RV cv_put_write(cv_cluster *cluster, cv_writer *args)
{
    (void)cluster;
    cv_write_array(args, 2);
    cv_write_bin(args, "0123456789abcdef", 16);
    cv_write_uint(args, 1);
    return CKR_OK;
}

const uint8_t *cv_process_id(void)
{
    return (const uint8_t *)"0123456789abcdef";
}

CK_RV cv_random(uint8_t *out, size_t length)
{
    return RAND_bytes(out, (int)length) == 1 ? CKR_OK : CKR_DEVICE_ERROR;
}

void cv_reply_free(struct cv_reply *reply)
{
    free(reply->storage);
    memset(reply, 0, sizeof *reply);
}

/* ---------------------------------------------------------------- what it answers */

static void put_token(cv_writer *out, unsigned number)
{
    char keyring[17], label[32];
    snprintf(keyring, sizeof keyring, "keyring %08u", number);
    snprintf(label, sizeof label, "token %u", number);
    cv_write_array(out, 7);
    cv_write_uint(out, number);
    cv_write_bin(out, keyring, 16);
    cv_write_str(out, label);
    cv_write_str(out, "0000000000000001");
    cv_write_uint(out, CKF_TOKEN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED);
    cv_write_uint(out, 8);
    cv_write_uint(out, 255);
}

/* The digits have no end of their own. */
static unsigned number_of(const uint8_t *keyring)
{
    char digits[9] = {0};
    memcpy(digits, keyring + 8, 8);
    return (unsigned)strtoul(digits, NULL, 10);
}

static CK_RV list_tokens(cv_reader *args, cv_writer *out)
{
    uint64_t first = cv_read_uint(args), limit = cv_read_uint(args), count = 0;
    for (uint64_t i = first; i < fake.tokens && count < limit && count < 3; i++)
        count++;
    cv_write_array(out, count);
    for (uint64_t i = 0; i < count; i++)
        put_token(out, (unsigned)(first + i));
    return CKR_OK;
}

/* Both sides of an encapsulation make the object of the template; the ciphertext says nothing. */
static CK_RV encapsulate(cv_reader *args, bool decapsulates, cv_writer *out)
{
    uint8_t ciphertext[1088] = "ciphertext";
    size_t length = sizeof ciphertext;
    cv_read_skip(args);
    cv_read_skip(args);
    if (decapsulates)
        cv_read_bin(args, &length);
    if (length != sizeof ciphertext)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    if (!decapsulates) {
        cv_write_array(out, 2);
        cv_write_bin(out, ciphertext, sizeof ciphertext);
    }
    return fake_create(args, out);
}

/* What is wrapped by an AEAD says with which nonce and which associated data. */
static CK_RV wrap(cv_reader *args, cv_writer *out)
{
    uint8_t made[300];
    size_t nonce_length, extra_length;
    uint64_t mechanism = cv_read_uint(args);
    if (mechanism != CKM_AES_GCM && mechanism != CKM_AES_CCM) {
        cv_write_bin(out, "a wrapped key of 32 bytes in all", 32);
        return CKR_OK;
    }
    cv_read_array(args);
    if (mechanism == CKM_AES_CCM)
        cv_read_uint(args);
    const uint8_t *nonce = cv_read_bin(args, &nonce_length);
    const uint8_t *extra = cv_read_bin(args, &extra_length);
    cv_read_uint(args);
    if (nonce_length > 256 || extra_length > sizeof made - 256)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(made, nonce, nonce_length);
    if (extra_length > 0)
        memcpy(made + nonce_length, extra, extra_length);
    cv_write_bin(out, made, nonce_length + extra_length);
    return CKR_OK;
}

/* ---------------------------------------------------------------- keys */

struct use {
    uint64_t mechanism;
    cv_reader parameter;
    const uint8_t *data;
    size_t length;
};

static void read_use(cv_reader *args, struct use *use)
{
    use->mechanism = cv_read_uint(args);
    use->parameter = *args;
    cv_read_skip(args);
    use->data = cv_read_bin(args, &use->length);
}

/* For HMAC the MAC; for the rest a copy of what came, at the length of a signature. */
static CK_RV signature(unsigned object, struct use *use, bool prehashed, uint8_t *out,
                       size_t *length)
{
    if (object == FAKE_MAC) {
        unsigned written;
        HMAC(EVP_sha256(), fake_key_bytes, sizeof fake_key_bytes, use->data, use->length, out, &written);
        *length = written;
        if (use->mechanism == CKM_SHA256_HMAC_GENERAL)
            *length = cv_read_uint(&use->parameter) % (sizeof fake_key_bytes + 1);
        return CKR_OK;
    }
    *length = object == FAKE_RSA ? 256 : 132;
    memset(out, prehashed ? 1 : 0, *length);
    memcpy(out + 1, use->data, use->length < *length - 1 ? use->length : *length - 1);
    return CKR_OK;
}

static CK_RV sign(unsigned object, cv_reader *args, cv_writer *out)
{
    struct use use;
    uint8_t made[512];
    size_t length;
    read_use(args, &use);
    CK_RV value = signature(object, &use, cv_read_bool(args), made, &length);
    cv_write_bin(out, made, length);
    return value;
}

static CK_RV verify(unsigned object, cv_reader *args)
{
    struct use use;
    uint8_t made[512];
    size_t length, given_length;
    read_use(args, &use);
    const uint8_t *given = cv_read_bin(args, &given_length);
    CK_RV value = signature(object, &use, cv_read_bool(args), made, &length);
    if (value == CKR_OK && given_length != length)
        return CKR_SIGNATURE_LEN_RANGE;
    return memcmp(given, made, length) == 0 ? value : CKR_SIGNATURE_INVALID;
}

/* A signature is the data behind their length, filled up to that of the modulus. */
static CK_RV sign_recover(cv_reader *args, cv_writer *out)
{
    struct use use;
    uint8_t made[256] = {0};
    read_use(args, &use);
    if (use.length > sizeof made - 11)
        return CKR_DATA_LEN_RANGE;
    *made = (uint8_t)use.length;
    memcpy(made + 1, use.data, use.length);
    cv_write_bin(out, made, sizeof made);
    return CKR_OK;
}

static CK_RV verify_recover(cv_reader *args, cv_writer *out)
{
    struct use use;
    read_use(args, &use);
    if (use.length != 256)
        return CKR_SIGNATURE_LEN_RANGE;
    cv_write_bin(out, use.data + 1, use.data[0]);
    return CKR_OK;
}

static const EVP_CIPHER *cipher_of(uint64_t mechanism)
{
    return mechanism == CKM_AES_ECB   ? EVP_aes_256_ecb()
           : mechanism == CKM_AES_CTR ? EVP_aes_256_ctr()
           : mechanism == CKM_AES_GCM ? EVP_aes_256_gcm()
                                      : EVP_aes_256_cbc();
}

static CK_RV cipher(cv_reader *args, bool encrypt, cv_writer *out)
{
    static uint8_t made[2 << 20];
    struct use use;
    size_t length = 0;
    const uint8_t *iv = NULL, *tag = NULL, *extra = NULL;
    size_t extra_length = 0;
    int first = 0, last = 0;
    read_use(args, &use);
    if (use.mechanism == CKM_AES_CTR || use.mechanism == CKM_AES_GCM)
        cv_read_array(&use.parameter);
    if (use.mechanism == CKM_AES_CTR)
        cv_read_uint(&use.parameter);
    if (use.mechanism != CKM_AES_ECB)
        iv = cv_read_bin(&use.parameter, &length);
    if (use.mechanism == CKM_AES_GCM)
        extra = cv_read_bin(&use.parameter, &extra_length);
    if ((use.mechanism != CKM_AES_ECB && length < 12) ||
        (use.mechanism == CKM_AES_GCM && !encrypt && use.length < 16))
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    EVP_CipherInit_ex(context, cipher_of(use.mechanism), NULL, fake_key_bytes, iv, encrypt);
    EVP_CIPHER_CTX_set_padding(context, use.mechanism == CKM_AES_CBC_PAD);
    if (use.mechanism == CKM_AES_GCM && !encrypt) {
        use.length -= 16;
        tag = use.data + use.length;
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag);
    }
    if (extra_length > 0)
        EVP_CipherUpdate(context, NULL, &first, extra, (int)extra_length);
    bool good = EVP_CipherUpdate(context, made, &first, use.data, (int)use.length) == 1 &&
                EVP_CipherFinal_ex(context, made + first, &last) == 1;
    length = (size_t)first + (size_t)last;
    if (use.mechanism == CKM_AES_GCM && encrypt) {
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, made + length);
        length += 16;
    }
    EVP_CIPHER_CTX_free(context);
    cv_write_bin(out, made, length);
    return good ? CKR_OK : CKR_ENCRYPTED_DATA_INVALID;
}

static struct { char name[32]; unsigned number, object, operation; } context; /* the last one */

static CK_RV context_login(unsigned object, cv_reader *args, cv_writer *out)
{
    size_t length;
    context.operation = (unsigned)cv_read_uint(args);
    const uint8_t *pin = cv_read_bin(args, &length);
    if (length != 8 || memcmp(pin, "password", 8) != 0)
        return CKR_PIN_INCORRECT;
    context.object = object;
    snprintf(context.name, sizeof context.name, "context %u", ++context.number);
    cv_write_bin(out, context.name, strlen(context.name));
    return CKR_OK;
}

static CK_RV use_in_context(unsigned object, cv_reader *args, cv_writer *out)
{
    size_t length;
    unsigned operation = (unsigned)cv_read_uint(args);
    const uint8_t *given = cv_read_bin(args, &length);
    if (length != strlen(context.name) || memcmp(given, context.name, length) != 0 ||
        context.object != object || context.operation != operation)
        return CKR_USER_NOT_LOGGED_IN;
    context.operation = 0; /* spent */
    return operation == CV_SIGN           ? sign(object, args, out)
           : operation == CV_SIGN_RECOVER ? sign_recover(args, out)
                                          : verify_recover(args, out);
}

/* ---------------------------------------------------------------- dispatch */

static CK_RV with_object(unsigned operation, cv_reader *args, bool logged_in, cv_writer *out)
{
    size_t length;
    const uint8_t *reference = cv_read_bin(args, &length);
    unsigned object = fake_object_of(reference, length);
    if (fake_is_private(object) && !logged_in)
        return CKR_USER_NOT_LOGGED_IN;
    switch (operation) {
    case CV_KEY_INFO:
        return fake_key_info(object, out);
    case CV_GET_ATTRIBUTES:
        return fake_get_attributes(object, args, out);
    case CV_COPY_OBJECT:
    case CV_SET_ATTRIBUTES:
        return fake_create(args, out);
    case CV_SIGN:
        return sign(object, args, out);
    case CV_VERIFY:
        return verify(object, args);
    case CV_CONTEXT_LOGIN:
        return context_login(object, args, out);
    case CV_USE_IN_CONTEXT:
        return use_in_context(object, args, out);
    case CV_SIGN_RECOVER:
        return sign_recover(args, out);
    case CV_VERIFY_RECOVER:
        return verify_recover(args, out);
    case CV_ENCRYPT:
    case CV_DECRYPT:
        return cipher(args, operation == CV_ENCRYPT, out);
    case CV_ENCAPSULATE_KEY:
    case CV_DECAPSULATE_KEY:
        return encapsulate(args, operation == CV_DECAPSULATE_KEY, out);
    case CV_UNWRAP_KEY:
    case CV_DERIVE_KEY:
        for (int i = 0; i < (operation == CV_UNWRAP_KEY ? 3 : 2); i++)
            cv_read_skip(args); /* mechanism, parameter, wrapped key */
        return fake_create(args, out);
    case CV_WRAP_KEY:
        return wrap(args, out);
    default:
        cv_write_uint(out, 1234);
        return CKR_OK;
    }
}

static CK_RV create_pair(cv_reader *args, cv_writer *out)
{
    cv_write_array(out, 2);
    CK_RV value = fake_create(args, out);
    return value == CKR_OK ? fake_create(args, out) : value;
}

static CK_RV answer(unsigned operation, cv_reader *args, bool logged_in, cv_writer *out)
{
    cv_read_array(args);
    if (operation == CV_LIST_TOKENS)
        return list_tokens(args, out);
    if (operation == CV_RANDOM) {
        uint8_t zeros[65536] = {0};
        cv_write_bin(out, zeros, cv_read_uint(args));
        return CKR_OK;
    }
    if (operation == CV_LOGIN || operation == CV_LOGOUT || operation == CV_SET_PIN ||
        operation == CV_INIT_PIN || operation == CV_INIT_TOKEN)
        return CKR_OK;
    if (operation == CV_MECHANISMS) {
        cv_write_array(out, 1);
        cv_write_array(out, 4);
        cv_write_uint(out, CKM_AES_GCM);
        cv_write_uint(out, 16);
        cv_write_uint(out, 32);
        cv_write_uint(out, CKF_ENCRYPT | CKF_DECRYPT);
        return CKR_OK;
    }
    size_t length;
    const uint8_t *keyring = cv_read_bin(args, &length);
    if (operation == CV_TOKEN_INFO) {
        cv_write_array(out, 1);
        put_token(out, number_of(keyring));
        return CKR_OK;
    }
    if (operation == CV_FIND)
        return fake_match(args, logged_in, out);
    if (operation == CV_GENERATE_KEY || operation == CV_GENERATE_KEY_PAIR) {
        cv_read_skip(args);
        cv_read_skip(args);
    }
    if (operation == CV_GENERATE_KEY_PAIR)
        return create_pair(args, out);
    if (operation == CV_CREATE_OBJECT || operation == CV_GENERATE_KEY)
        return fake_create(args, out);
    return with_object(operation, args, logged_in, out);
}

static CK_RV serve(unsigned operation, const uint8_t *ticket, size_t ticket_length,
                   const cv_writer *args, cv_writer *out, char *new_ticket)
{
    cv_reader reader;
    cv_reader_init(&reader, args->bytes, args->length);
    fake.calls[operation]++;
    if (fake.refuse[operation] != CKR_OK) {
        if (fake.keep_ticket)
            strcpy(new_ticket, fake.ticket);
        return fake.refuse[operation];
    }
    if (fake.odd_answers > 0) {
        fake.odd_answers--;
        cv_write_raw(out, fake.odd, fake.odd_length);
        return fake.odd_value;
    }
    if (ticket != NULL && (ticket_length != strlen(fake.ticket) ||
                           memcmp(ticket, fake.ticket, ticket_length) != 0))
        return CKR_USER_NOT_LOGGED_IN;
    CK_RV value = answer(operation, &reader, ticket != NULL, out);
    CHECK(!reader.broken);
    if (value == CKR_OK && fake.next_ticket[0] != 0) {
        strcpy(fake.ticket, fake.next_ticket);
        fake.next_ticket[0] = 0;
        strcpy(new_ticket, fake.ticket);
    }
    if (operation == CV_LOGIN)
        strcpy(new_ticket, fake.ticket);
    return value;
}

static CK_RV hang(void)
{
    pthread_mutex_lock(&mutex);
    while (running)
        pthread_cond_wait(&stopped, &mutex);
    pthread_mutex_unlock(&mutex);
    return CKR_CRYPTOKI_NOT_INITIALIZED;
}

CK_RV cv_call(cv_cluster *cluster, unsigned operation, const uint8_t *ticket, size_t ticket_length,
              const cv_writer *args, enum cv_retry retry, struct cv_reply *reply)
{
    char new_ticket[32] = "";
    cv_writer out;
    (void)retry;
    memset(reply, 0, sizeof *reply);
    if (!running)
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (fake.before != NULL)
        fake.before(operation);
    if (fake.dead[(char *)cluster - clusters])
        return CKR_DEVICE_ERROR;
    if (fake.hung[(char *)cluster - clusters])
        return hang();
    cv_writer_init(&out);
    pthread_mutex_lock(&mutex);
    reply->value = serve(operation, ticket, ticket_length, args, &out, new_ticket);
    pthread_mutex_unlock(&mutex);
    size_t result_length = out.length;
    cv_write_raw(&out, (const uint8_t *)new_ticket, strlen(new_ticket));
    CHECK(!out.failed);
    reply->storage = out.bytes;
    reply->storage_length = out.length;
    cv_reader_init(&reply->result, out.bytes, result_length);
    if (new_ticket[0] != 0) {
        reply->ticket = out.bytes + result_length;
        reply->ticket_length = strlen(new_ticket);
    }
    return reply->value;
}

/* ---------------------------------------------------------------- for tests */

void fake_set_tokens(unsigned tokens)
{
    pthread_mutex_lock(&mutex);
    fake.tokens = tokens;
    pthread_mutex_unlock(&mutex);
}

unsigned fake_calls(unsigned operation)
{
    pthread_mutex_lock(&mutex);
    unsigned calls = fake.calls[operation];
    pthread_mutex_unlock(&mutex);
    return calls;
}

CK_SESSION_HANDLE fake_session(CK_FLAGS flags)
{
    CK_SESSION_HANDLE session;
    CHECK_RV(CKR_OK, C_OpenSession(0, CKF_SERIAL_SESSION | flags, NULL, NULL, &session));
    return session;
}

CK_OBJECT_HANDLE fake_find(CK_SESSION_HANDLE session, unsigned object)
{
    char label[2] = {(char)('0' + object), 0};
    CK_ATTRIBUTE template[] = {{CKA_LABEL, label, 1}};
    CK_OBJECT_HANDLE handle = 0;
    CK_ULONG found;
    CHECK_RV(CKR_OK, C_FindObjectsInit(session, template, 1));
    CHECK_RV(CKR_OK, C_FindObjects(session, &handle, 1, &found));
    CHECK_RV(CKR_OK, C_FindObjectsFinal(session));
    CHECK(found == 1);
    return handle;
}
