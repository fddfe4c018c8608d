/* hostile.c - see hostile.h. */
#include "hostile.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fake_worker.h"
#include "hostile_arguments.h"

#define LAST_STANDARD_VALUE 0x209 /* of 3.2: CKR_PARAMETER_SET_NOT_SUPPORTED */
#define MOST_CALLS 24 /* of one program */
#define MOST_ARGUMENTS 12
#define LONGEST_ANSWER 255

/*
 * Each letter is one parameter, or a pointer and its length:
 *   s session   S slot   o object   m mechanism   u number   D flags, never such that it waits
 *   d bytes in  r room for bytes  t template  p parameter of a message  H handles found
 *   l list of numbers  j list of interfaces  h one number out  i structure out  n nothing or something
 *   c name  v version  L label  a arguments of C_Initialize
 */
struct entry {
    const char *name;
    void (*function)(void);
    const char *kinds;
    const char *begins;
};
#define E(name, kinds, begins) {#name, (void (*)(void))name, kinds, begins}

static const struct entry entries[] = {
    E(C_Initialize, "a", ""), E(C_Finalize, "n", ""), E(C_GetInfo, "i", ""),
    E(C_GetFunctionList, "h", ""), E(C_GetSlotList, "ul", ""), E(C_GetSlotInfo, "Si", ""),
    E(C_GetTokenInfo, "Si", ""), E(C_GetMechanismList, "Sl", ""),
    E(C_GetMechanismInfo, "Sui", ""), E(C_InitToken, "SdL", ""), E(C_InitPIN, "sd", ""),
    E(C_SetPIN, "sdd", ""), E(C_OpenSession, "SFnnh", ""), E(C_CloseSession, "s", ""),
    E(C_CloseAllSessions, "S", ""), E(C_GetSessionInfo, "si", ""),
    E(C_GetOperationState, "sr", "C_DigestInit"), E(C_SetOperationState, "sdoo", ""),
    E(C_Login, "sUd", ""), E(C_Logout, "s", ""), E(C_CreateObject, "sth", ""),
    E(C_CopyObject, "soth", ""), E(C_DestroyObject, "so", ""), E(C_GetObjectSize, "soh", ""),
    E(C_GetAttributeValue, "sot", ""), E(C_SetAttributeValue, "sot", ""),
    E(C_FindObjectsInit, "st", ""), E(C_FindObjects, "sH", "C_FindObjectsInit"),
    E(C_FindObjectsFinal, "s", "C_FindObjectsInit"), E(C_EncryptInit, "smo", ""),
    E(C_Encrypt, "sdr", "C_EncryptInit"), E(C_EncryptUpdate, "sdr", "C_EncryptInit"),
    E(C_EncryptFinal, "sr", "C_EncryptInit"), E(C_DecryptInit, "smo", ""),
    E(C_Decrypt, "sdr", "C_DecryptInit"), E(C_DecryptUpdate, "sdr", "C_DecryptInit"),
    E(C_DecryptFinal, "sr", "C_DecryptInit"), E(C_DigestInit, "sm", ""),
    E(C_Digest, "sdr", "C_DigestInit"), E(C_DigestUpdate, "sd", "C_DigestInit"),
    E(C_DigestKey, "so", "C_DigestInit"), E(C_DigestFinal, "sr", "C_DigestInit"),
    E(C_SignInit, "smo", ""), E(C_Sign, "sdr", "C_SignInit"), E(C_SignUpdate, "sd", "C_SignInit"),
    E(C_SignFinal, "sr", "C_SignInit"), E(C_SignRecoverInit, "smo", ""),
    E(C_SignRecover, "sdr", "C_SignRecoverInit"), E(C_VerifyInit, "smo", ""),
    E(C_Verify, "sdd", "C_VerifyInit"), E(C_VerifyUpdate, "sd", "C_VerifyInit"),
    E(C_VerifyFinal, "sd", "C_VerifyInit"), E(C_VerifyRecoverInit, "smo", ""),
    E(C_VerifyRecover, "sdr", "C_VerifyRecoverInit"),
    E(C_DigestEncryptUpdate, "sdr", "C_EncryptInit"),
    E(C_DecryptDigestUpdate, "sdr", "C_DecryptInit"),
    E(C_SignEncryptUpdate, "sdr", "C_EncryptInit"),
    E(C_DecryptVerifyUpdate, "sdr", "C_DecryptInit"), E(C_GenerateKey, "smth", ""),
    E(C_GenerateKeyPair, "smtthh", ""), E(C_WrapKey, "smoor", ""), E(C_UnwrapKey, "smodth", ""),
    E(C_DeriveKey, "smoth", ""), E(C_SeedRandom, "sd", ""), E(C_GenerateRandom, "sw", ""),
    E(C_GetFunctionStatus, "s", ""), E(C_CancelFunction, "s", ""),
    E(C_WaitForSlotEvent, "Dhn", ""), E(C_GetInterfaceList, "j", ""),
    E(C_GetInterface, "cvhu", ""), E(C_LoginUser, "sUdd", ""), E(C_SessionCancel, "su", ""),
    E(C_MessageEncryptInit, "smo", ""), E(C_EncryptMessage, "spddr", "C_MessageEncryptInit"),
    E(C_EncryptMessageBegin, "spd", "C_MessageEncryptInit"),
    E(C_EncryptMessageNext, "spdru", "C_MessageEncryptInit"),
    E(C_MessageEncryptFinal, "s", "C_MessageEncryptInit"), E(C_MessageDecryptInit, "smo", ""),
    E(C_DecryptMessage, "spddr", "C_MessageDecryptInit"),
    E(C_DecryptMessageBegin, "spd", "C_MessageDecryptInit"),
    E(C_DecryptMessageNext, "spdru", "C_MessageDecryptInit"),
    E(C_MessageDecryptFinal, "s", "C_MessageDecryptInit"), E(C_MessageSignInit, "smo", ""),
    E(C_SignMessage, "spdr", "C_MessageSignInit"),
    E(C_SignMessageBegin, "sp", "C_MessageSignInit"),
    E(C_SignMessageNext, "spdr", "C_MessageSignInit"),
    E(C_MessageSignFinal, "s", "C_MessageSignInit"), E(C_MessageVerifyInit, "smo", ""),
    E(C_VerifyMessage, "spdd", "C_MessageVerifyInit"),
    E(C_VerifyMessageBegin, "sp", "C_MessageVerifyInit"),
    E(C_VerifyMessageNext, "spdd", "C_MessageVerifyInit"),
    E(C_MessageVerifyFinal, "s", "C_MessageVerifyInit"),
#ifdef CV_FUNCTIONS_3_2
    E(C_EncapsulateKey, "smotrh", ""), E(C_DecapsulateKey, "smotdh", ""),
    E(C_VerifySignatureInit, "smod", ""), E(C_VerifySignature, "sd", "C_VerifySignatureInit"),
    E(C_VerifySignatureUpdate, "sd", "C_VerifySignatureInit"),
    E(C_VerifySignatureFinal, "s", "C_VerifySignatureInit"),
    E(C_GetSessionValidationFlags, "suh", ""), E(C_AsyncComplete, "sci", ""),
    E(C_AsyncGetID, "sch", ""), E(C_AsyncJoin, "scud", ""), E(C_WrapKeyAuthenticated, "smoodr", ""),
    E(C_UnwrapKeyAuthenticated, "smodtdh", ""),
#endif
};
#define ENTRIES (sizeof entries / sizeof entries[0])

size_t hostile_count(void)
{
    return ENTRIES;
}

const char *hostile_name(size_t index)
{
    return entries[index].name;
}

size_t hostile_begins(size_t index)
{
    for (size_t i = 0; i < ENTRIES; i++)
        if (strcmp(entries[i].name, entries[index].begins) == 0)
            return i;
    return index;
}

/* ---------------------------------------------------------------- the world of a program */

static CK_UTF8CHAR pin[] = "password";

/* Slots and sessions as at the start; the module itself need not begin anew each time. */
static void restore_world(struct world *world)
{
    fake_reset();
    CK_RV value = C_Initialize(NULL);
    CHECK(value == CKR_OK || value == CKR_CRYPTOKI_ALREADY_INITIALIZED);
    C_CloseAllSessions(0);
    C_CloseAllSessions(1);
    world->read_write = fake_session(CKF_RW_SESSION);
    world->read_only = fake_session(0);
    world->closed = fake_session(0);
    CHECK_RV(CKR_OK, C_CloseSession(world->closed));
    CHECK_RV(CKR_OK, C_Login(world->read_write, CKU_USER, pin, sizeof pin - 1));
    for (unsigned i = 1; i < FAKE_OBJECTS; i++)
        world->objects[i] = fake_find(world->read_write, i);
}

/* ---------------------------------------------------------------- one call */

typedef CK_RV (*any_function)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
                              uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

/* Whether a value is one that an application may see. */
static bool is_public(CK_RV value)
{
    return value <= LAST_STANDARD_VALUE || (value >= 0x80000000UL && value < 0x90000000UL);
}

/* Every argument is an integer or a pointer, and the machine passes both alike. */
static void call(const struct entry *entry, struct choices *choices, const struct world *world)
{
    uintptr_t a[MOST_ARGUMENTS] = {0};
    struct arena arena = {0};
    size_t count = 0;
    for (const char *kind = entry->kinds; *kind != 0; kind++)
        count += cv_hostile_argument(*kind, choices, world, &arena, &a[count]);
    CHECK(count <= MOST_ARGUMENTS);
    CK_RV value = ((any_function)entry->function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7],
                                                  a[8], a[9], a[10], a[11]);
    if (!is_public(value)) {
        fprintf(stderr, "%s gave 0x%lx\n", entry->name, value);
        abort();
    }
    for (size_t i = 0; i < arena.rooms; i++)
        CHECK(value != CKR_OK || *arena.room[i].length <= arena.room[i].capacity);
    cv_hostile_release(&arena);
}

/* What the worker answers next, which need not be of any shape. */
static void plan_answer(struct choices *choices)
{
    size_t length = cv_hostile_byte(choices) % (LONGEST_ANSWER + 1);
    fake.odd_answers = 1;
    fake.odd_value = cv_hostile_byte(choices) == 0 ? CKR_OK : CKR_DEVICE_ERROR;
    fake.odd_length = 0;
    while (fake.odd_length < length && choices->at < choices->end)
        fake.odd[fake.odd_length++] = cv_hostile_byte(choices);
}

void hostile_run(const uint8_t *program, size_t length)
{
    struct choices choices = {program, program + length};
    struct world world = {0};
    restore_world(&world);
    for (unsigned i = 0; i < MOST_CALLS && choices.at < choices.end; i++) {
        size_t index = cv_hostile_byte(&choices) % (ENTRIES + 1);
        if (index == ENTRIES)
            plan_answer(&choices);
        else
            call(&entries[index], &choices, &world);
    }
    fake.odd_answers = 0;
}
