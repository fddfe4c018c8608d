/* test_hostile.c - every function, wrong in one place and in two, and none of them breaks. */
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "hostile.h"
#include "hostile_arguments.h"

#define CHOICES 10 /* more than any function but those with templates makes */
#define LONGEST 80

static size_t index_of(const char *name)
{
    for (size_t i = 0; i < hostile_count(); i++)
        if (strcmp(hostile_name(i), name) == 0)
            return i;
    fprintf(stderr, "no hostile call of %s\n", name);
    exit(1);
}

/* The module's own list of functions, one by one. */
static void test_every_function_is_called(void)
{
#define NAMED(name) index_of(#name);
    CV_FUNCTIONS_2_40(NAMED)
    CV_FUNCTIONS_3_0(NAMED)
#ifdef CV_FUNCTIONS_3_2
    CV_FUNCTIONS_3_2(NAMED)
#endif
}

/* How an operation is begun well, as far as all of its choices are sane: with a mechanism that fits. */
static const struct { const char *name; uint8_t mechanism, object; } beginnings[] = {
    {"C_DigestInit", 25, 0}, {"C_EncryptInit", 0, 0},        {"C_DecryptInit", 0, 0},
    {"C_SignInit", 27, 2},   {"C_VerifyInit", 27, 2},        {"C_SignRecoverInit", 15, 3},
    {"C_VerifyRecoverInit", 15, 3}, {"C_MessageEncryptInit", 4, 0}, {"C_MessageDecryptInit", 4, 0},
    {"C_MessageSignInit", 21, 4},   {"C_MessageVerifyInit", 21, 4},
};

/* A good beginning: session, mechanism, the rest of its choices being zeros, and the key last.  Where
 * choices are left over the calls they make are those of C_Initialize, which is refused. */
static size_t begin(uint8_t *program, size_t function)
{
    size_t first = hostile_begins(function);
    if (first == function)
        return 0;
    program[0] = (uint8_t)first;
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        if (strcmp(beginnings[i].name, hostile_name(first)) != 0)
            continue;
        program[2] = beginnings[i].mechanism;
        /* AES-CBC has a byte for its block and one for the structure, others only the latter. */
        size_t fields = beginnings[i].mechanism == 0 ? 2 : beginnings[i].mechanism == 4 ? 5 : 1;
        program[3 + fields] = beginnings[i].object;
        return 3 + fields + (strcmp(beginnings[i].name, "C_DigestInit") != 0);
    }
    return 3; /* C_FindObjectsInit: session and a template of two */
}

static void test_one_oddity(size_t function)
{
    for (size_t place = 0; place < CHOICES; place++) {
        for (size_t odd = 0; odd <= cv_hostile_mechanisms(); odd++) {
            uint8_t program[LONGEST] = {0};
            size_t length = begin(program, function);
            program[length++] = (uint8_t)function;
            program[length + place] = (uint8_t)(odd == cv_hostile_mechanisms() ? 255 : odd);
            hostile_run(program, length + CHOICES);
        }
    }
}

/* Pseudo-random programs, the same in each run. */
static void test_many_oddities(unsigned programs)
{
    uint32_t state = 1;
    for (unsigned i = 0; i < programs; i++) {
        uint8_t program[LONGEST];
        for (size_t j = 0; j < sizeof program; j++) {
            state = state * 1664525u + 1013904223u;
            program[j] = (state >> 30) == 0 ? (uint8_t)(state >> 16) : 0;
        }
        for (size_t j = 0; j < sizeof program; j += 9) {
            state = state * 1664525u + 1013904223u;
            program[j] = (uint8_t)(state >> 16);
        }
        hostile_run(program, sizeof program);
    }
}

/* The world is as it was: the module signs, and what it signed is right. */
static void test_the_module_still_works(void)
{
    CK_MECHANISM hmac = {CKM_SHA256_HMAC, NULL, 0};
    uint8_t made[32], data[32] = {0};
    CK_ULONG length = sizeof made;
    fake_reset();
    C_CloseAllSessions(0);
    CK_SESSION_HANDLE session = fake_session(CKF_RW_SESSION);
    CK_OBJECT_HANDLE key = fake_find(session, FAKE_MAC);
    CHECK_RV(CKR_OK, C_SignInit(session, &hmac, key));
    CHECK_RV(CKR_OK, C_Sign(session, data, sizeof data, made, &length));
    CHECK_RV(CKR_OK, C_VerifyInit(session, &hmac, key));
    CHECK_RV(CKR_OK, C_Verify(session, data, sizeof data, made, length));
}

int main(void)
{
    fake_reset();
    CHECK_RV(CKR_OK, C_Initialize(NULL));
    test_every_function_is_called();
    for (size_t i = 0; i < hostile_count(); i++)
        test_one_oddity(i);
    test_many_oddities(4000);
    test_the_module_still_works();
    CHECK_RV(CKR_OK, C_Finalize(NULL));
    return 0;
}
