/* hostile_arguments.c - see hostile_arguments.h. */
#include "hostile_arguments.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define NOTHING (~(CK_ULONG)0)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define LONGEST_TEMPLATE 6u

uint8_t cv_hostile_byte(struct choices *choices)
{
    return choices->at < choices->end ? *choices->at++ : 0;
}

static CK_ULONG pick(struct choices *choices, const CK_ULONG *from, size_t count)
{
    return from[cv_hostile_byte(choices) % count];
}
#define PICK(choices, array) pick((choices), (array), COUNT(array))

/* ---------------------------------------------------------------- memory of exact size */

static void *block(struct arena *arena, size_t size, uint8_t fill)
{
    CHECK(arena->count < ARENA_BLOCKS);
    uint8_t *bytes = malloc(size);
    CHECK(bytes != NULL || size == 0);
    if (size > 0)
        memset(bytes, fill, size);
    arena->blocks[arena->count++] = bytes;
    return bytes;
}

void cv_hostile_release(struct arena *arena)
{
    while (arena->count > 0)
        free(arena->blocks[--arena->count]);
}

/* A pointer and its length: bytes that are there, or nothing with any length. */
struct span {
    void *bytes;
    CK_ULONG length;
};

static struct span span_of(struct choices *choices, struct arena *arena, size_t sane)
{
    static const struct { bool there; CK_ULONG length; } spans[] = {
        {true, 0}, {false, 0}, {false, 1}, {false, NOTHING}, {false, 16}, {true, 0}, {true, 1},
        {true, 7}, {true, 8}, {true, 12}, {true, 15}, {true, 16}, {true, 17}, {true, 32},
        {true, 64}, {true, 132}, {true, 256}, {true, 5000}, {true, 66000}, {true, 1u << 20},
        {true, (1u << 20) + 4096}, {false, 1ul << 32}, {false, NOTHING >> 1},
    };
    size_t which = cv_hostile_byte(choices) % COUNT(spans);
    CK_ULONG length = which == 0 ? sane : spans[which].length;
    return (struct span){spans[which].there ? block(arena, length, (uint8_t)(which + 1)) : NULL,
                         length};
}

/* ---------------------------------------------------------------- parameters of mechanisms */

/* Fields of a structure: u number, p pointer and length, k length and pointer, * 16 bytes, B
 * two truth values, o object, E pointer to a structure of OAEP, P number of and pointer to
 * parts of a key derivation, A a list that must be empty, t room for a tag and its bits, g what
 * generates a nonce. */
struct shape {
    CK_MECHANISM_TYPE type;
    const char *fields;
    CK_ULONG sane; /* for numbers and lengths */
};

static const struct shape shapes[] = {
    {CKM_AES_CBC, "*", 0}, {CKM_AES_ECB, "", 0}, {CKM_AES_CBC_PAD, "*", 0},
    {CKM_AES_CTR, "u*", 64}, {CKM_AES_GCM, "pupu", 128}, {CKM_AES_CCM, "uppu", 12},
    {CKM_AES_CMAC, "", 0}, {CKM_AES_CMAC_GENERAL, "u", 8}, {CKM_AES_GMAC, "pupu", 128},
    {CKM_AES_XTS, "*", 0}, {CKM_CHACHA20_POLY1305, "pp", 12}, {CKM_AES_KEY_WRAP, "", 0},
    {CKM_AES_KEY_WRAP_KWP, "", 0}, {CKM_RSA_AES_KEY_WRAP, "uE", 256}, {CKM_DES3_CBC, "u", 0},
    {CKM_RSA_PKCS, "", 0}, {CKM_RSA_X_509, "", 0}, {CKM_RSA_PKCS_OAEP, "uuup", CKM_SHA256},
    {CKM_RSA_PKCS_PSS, "uuu", 32}, {CKM_SHA256_RSA_PKCS_PSS, "uuu", 32},
    {CKM_SHA256_RSA_PKCS, "", 0}, {CKM_ECDSA, "", 0}, {CKM_ECDSA_SHA512, "", 0},
    {CKM_EDDSA, "Bk", 0}, {CKM_ML_DSA, "up", 16}, {CKM_SHA256, "", 0}, {CKM_SHA3_512, "", 0},
    {CKM_SHA256_HMAC, "", 0}, {CKM_SHA512_HMAC_GENERAL, "u", 32}, {CKM_ECDH1_DERIVE, "ukk", 1},
    {CKM_HKDF_DERIVE, "Buupop", CKM_SHA256}, {CKM_SP800_108_COUNTER_KDF, "uPA", CKM_SHA256},
    {CKM_CONCATENATE_BASE_AND_KEY, "o", 0}, {CKM_CONCATENATE_BASE_AND_DATA, "p", 16},
    {CKM_EXTRACT_KEY_FROM_KEY, "u", 8}, {CKM_AES_KEY_GEN, "", 0},
    {CKM_RSA_PKCS_KEY_PAIR_GEN, "", 0}, {CKM_EC_KEY_PAIR_GEN, "", 0},
    {CKM_GENERIC_SECRET_KEY_GEN, "", 0}, {NOTHING, "", 0}, {0x80001234UL, "uu", 0},
    /* What came later stands behind: seeds name places. */
    {CKM_ML_KEM, "", 0}, {CKM_PKCS5_PBKD2, "upuupp", 1},
    {CKM_SP800_108_FEEDBACK_KDF, "uPkA", CKM_SHA256},
    {CKM_SP800_108_DOUBLE_PIPELINE_KDF, "uPA", CKM_SHA256},
    {CKM_AES_GCM, "pugpu", 96}, {CKM_AES_CCM, "upugpu", 16},
    {CKM_DH_PKCS_DERIVE, "p", 256}, {CKM_DH_PKCS_KEY_PAIR_GEN, "", 0},
    {CKM_SHA3_256_RSA_PKCS_PSS, "uuu", 32},
};

/* Parameters of messages: of GCM, CCM and ChaCha20-Poly1305. */
static const struct shape messages[] = {{0, "pugt", 96}, {0, "upugt", 16}, {0, "pT", 12}};

size_t cv_hostile_mechanisms(void)
{
    return COUNT(shapes);
}

static CK_ULONG number_of(struct choices *choices, CK_ULONG sane)
{
    static const CK_ULONG numbers[] = {
        0, 1, 2, 3, 4, 7, 8, 12, 13, 16, 32, 96, 127, 128, 129, 192, 255, 256, 1024, 65535, 65536,
        CKM_SHA256, CKM_SHA_1, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, 1u << 20, 0x7fffffff,
        0x80000000, 0xffffffff, 1ul << 32, NOTHING >> 1, NOTHING,
    };
    uint8_t which = cv_hostile_byte(choices);
    return which == 0 ? sane : numbers[which % COUNT(numbers)];
}

struct builder {
    struct choices *choices;
    const struct world *world;
    struct arena *arena;
    CK_ULONG sane;
    uintptr_t words[16];
    size_t count;
};

static void put_word(struct builder *builder, uintptr_t word)
{
    CHECK(builder->count < COUNT(builder->words));
    builder->words[builder->count++] = word;
}

static CK_OBJECT_HANDLE object_of(struct choices *choices, const struct world *world)
{
    uint8_t which = cv_hostile_byte(choices) % (FAKE_OBJECTS + 3);
    return which == 0                 ? world->objects[FAKE_AES]
           : which < FAKE_OBJECTS     ? world->objects[which]
           : which == FAKE_OBJECTS    ? 0
           : which == FAKE_OBJECTS + 1 ? NOTHING
                                      : world->objects[FAKE_AES] + 100000;
}

/* Parts of a key derivation; a structure of the standard's, or bytes. */
static void put_parts(struct builder *builder)
{
    uint8_t count = cv_hostile_byte(builder->choices) % 5;
    uint8_t odd = cv_hostile_byte(builder->choices) % 4;
    CK_PRF_DATA_PARAM *parts = block(builder->arena, count * sizeof *parts, 0);
    for (uint8_t i = 0; i < count; i++) {
        struct span span = span_of(builder->choices, builder->arena, 16);
        parts[i] = (CK_PRF_DATA_PARAM){cv_hostile_byte(builder->choices) % 6, span.bytes,
                                       span.length};
    }
    put_word(builder, odd == 1 ? NOTHING : count);
    put_word(builder, odd == 0 ? (uintptr_t)parts : 0);
}

static void put_oaep(struct builder *builder)
{
    struct span label = span_of(builder->choices, builder->arena, 0);
    CK_RSA_PKCS_OAEP_PARAMS *oaep = block(builder->arena, sizeof *oaep, 0);
    *oaep = (CK_RSA_PKCS_OAEP_PARAMS){number_of(builder->choices, CKM_SHA256), CKG_MGF1_SHA256,
                                      number_of(builder->choices, CKZ_DATA_SPECIFIED), label.bytes,
                                      label.length};
    put_word(builder, cv_hostile_byte(builder->choices) % 2 == 0 ? (uintptr_t)oaep : 0);
}

/* Room for 64 bytes, however many bits are named; or none at all. */
static void put_tag(struct builder *builder, bool with_bits)
{
    static const CK_ULONG bits[] = {128, 0, 1, 8, 32, 96, 127, 512};
    bool there = cv_hostile_byte(builder->choices) % 2 == 0;
    put_word(builder, there ? (uintptr_t)block(builder->arena, 64, 0) : 0);
    if (with_bits)
        put_word(builder, there ? PICK(builder->choices, bits) : number_of(builder->choices, 0));
}

static void put_field(struct builder *builder, char field)
{
    struct span span = {NULL, 0};
    if (strchr("pk", field) != NULL)
        span = span_of(builder->choices, builder->arena, 12);
    switch (field) {
    case 'p':
        put_word(builder, (uintptr_t)span.bytes);
        put_word(builder, span.length);
        break;
    case 'k':
        put_word(builder, span.length);
        put_word(builder, (uintptr_t)span.bytes);
        break;
    case '*':
        put_word(builder, 0x0102030405060708);
        put_word(builder, cv_hostile_byte(builder->choices) * 0x0101010101010101UL);
        break;
    case 'B':
        put_word(builder, cv_hostile_byte(builder->choices) * 0x0101UL);
        break;
    case 'o':
        put_word(builder, object_of(builder->choices, builder->world));
        break;
    case 'E':
        put_oaep(builder);
        break;
    case 'P':
        put_parts(builder);
        break;
    case 'A':
        put_word(builder, number_of(builder->choices, 0));
        put_word(builder, 0);
        break;
    case 'g':
        put_word(builder, number_of(builder->choices, CKG_NO_GENERATE));
        break;
    case 't':
    case 'T':
        put_tag(builder, field == 't');
        break;
    default:
        put_word(builder, number_of(builder->choices, builder->sane));
    }
}

/* A structure, whole; or too short, or missing, with any length. */
static struct span structure_of(struct builder *builder, const char *fields)
{
    builder->count = 0;
    for (; *fields != 0; fields++)
        put_field(builder, *fields);
    CK_ULONG size = builder->count * sizeof builder->words[0];
    uint8_t how = cv_hostile_byte(builder->choices) % 6;
    if (how == 1 || how == 2)
        return (struct span){NULL, how == 1 ? size : NOTHING};
    if (how == 3 && size > 0)
        size--;
    else if (how == 4)
        size = 0;
    else if (how == 5)
        return span_of(builder->choices, builder->arena, 12 % (size + 1));
    void *made = block(builder->arena, size, 0);
    if (size > 0)
        memcpy(made, builder->words, size);
    return (struct span){made, size};
}

static CK_MECHANISM *mechanism_of(struct builder *builder)
{
    uint8_t which = cv_hostile_byte(builder->choices);
    if (which == 255)
        return NULL;
    const struct shape *shape = &shapes[which % COUNT(shapes)];
    builder->sane = shape->sane;
    CK_MECHANISM *made = block(builder->arena, sizeof *made, 0);
    struct span parameter = structure_of(builder, shape->fields);
    *made = (CK_MECHANISM){shape->type, parameter.bytes, parameter.length};
    return made;
}

static struct span message_of(struct builder *builder)
{
    const struct shape *shape = &messages[cv_hostile_byte(builder->choices) % COUNT(messages)];
    builder->sane = shape->sane;
    return structure_of(builder, shape->fields);
}

/* ---------------------------------------------------------------- templates */

static CK_ATTRIBUTE attribute_of(struct choices *choices, struct arena *arena)
{
    static const CK_ULONG types[] = {
        CKA_LABEL, CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_ID, CKA_VALUE, CKA_VALUE_LEN,
        CKA_KEY_TYPE, CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_ENCRYPT, CKA_SIGN, CKA_DERIVE,
        CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT,
        CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_ALLOWED_MECHANISMS, CKA_START_DATE,
        CKA_OWNER, CKA_ALWAYS_AUTHENTICATE, CKA_PARAMETER_SET, 0x80001234UL, NOTHING,
        CKA_ENCAPSULATE_TEMPLATE, CKA_DECAPSULATE_TEMPLATE,
    };
    CK_ULONG type = PICK(choices, types);
    bool is_array = (type & CKF_ARRAY_ATTRIBUTE) != 0 || type == CKA_ENCAPSULATE_TEMPLATE ||
                    type == CKA_DECAPSULATE_TEMPLATE;
    struct span span = span_of(choices, arena, 5);
    uint8_t fill = cv_hostile_byte(choices);
    if (span.bytes != NULL) /* a template within a template would hold pointers */
        memset(span.bytes, is_array ? 0 : fill, span.length);
    return (CK_ATTRIBUTE){type, span.bytes, span.length};
}

static struct span template_of(struct choices *choices, struct arena *arena)
{
    static const CK_ULONG counts[] = {2, 1, 3, LONGEST_TEMPLATE};
    uint8_t how = cv_hostile_byte(choices) % 8;
    if (how >= 4)
        return (struct span){NULL, how == 4 ? 0 : how == 5 ? 1 : how == 6 ? 65536 : NOTHING};
    CK_ATTRIBUTE *made = block(arena, counts[how] * sizeof *made, 0);
    for (CK_ULONG i = 0; i < counts[how]; i++)
        made[i] = attribute_of(choices, arena);
    return (struct span){made, counts[how]};
}

/* ---------------------------------------------------------------- results */

/* Room for `capacity` things of a size, and a length that says so. */
static void put_room(struct choices *choices, struct arena *arena, size_t size, uintptr_t *out)
{
    static const CK_ULONG capacities[] = {600, 0, 1, 2, 15, 16, 17, 31, 32, 63, 64, 131, 256, 8192};
    uint8_t which = cv_hostile_byte(choices) % (COUNT(capacities) + 4);
    CK_ULONG capacity = capacities[which % COUNT(capacities)];
    bool with_room = which < COUNT(capacities) || which == COUNT(capacities);
    bool with_length = which != COUNT(capacities) && which != COUNT(capacities) + 1;
    CK_ULONG *length = with_length ? block(arena, sizeof *length, 0) : NULL;
    out[0] = with_room ? (uintptr_t)block(arena, capacity * size, 0xee) : 0;
    out[1] = (uintptr_t)length;
    if (length == NULL)
        return;
    *length = which == COUNT(capacities) + 3 ? NOTHING : capacity;
    if (with_room && arena->rooms < ARENA_ROOMS) {
        arena->room[arena->rooms].length = length;
        arena->room[arena->rooms++].capacity = capacity;
    }
}

/* C_FindObjects has a length of the room and another of what was put there. */
static void put_found(struct choices *choices, struct arena *arena, uintptr_t *out)
{
    struct span span = span_of(choices, arena, 10 * sizeof(CK_OBJECT_HANDLE));
    CK_ULONG *count = block(arena, sizeof *count, 0);
    out[0] = (uintptr_t)span.bytes;
    out[1] = span.bytes != NULL ? span.length / sizeof(CK_OBJECT_HANDLE) : span.length;
    out[2] = cv_hostile_byte(choices) % 3 != 1 ? (uintptr_t)count : 0;
}

/* ---------------------------------------------------------------- one letter */

static CK_SESSION_HANDLE session_of(struct choices *choices, const struct world *world)
{
    const CK_ULONG sessions[] = {world->read_write, world->read_only, world->closed, 0, NOTHING,
                                 world->read_write + 1, 1ul << 32};
    return PICK(choices, sessions);
}

static void *initialize_arguments(struct choices *choices, struct arena *arena)
{
    uint8_t how = cv_hostile_byte(choices) % 4;
    CK_C_INITIALIZE_ARGS *made = block(arena, sizeof *made, 0);
    made->flags = number_of(choices, CKF_OS_LOCKING_OK);
    if (how == 1)
        return NULL;
    if (how == 2)
        made->pReserved = made;
    if (how == 3)
        made->CreateMutex = (CK_CREATEMUTEX)(uintptr_t)1;
    return made;
}

static uintptr_t plain_argument(char kind, struct choices *choices, const struct world *world,
                                struct arena *arena)
{
    static const CK_ULONG slots[] = {0, 1, 2, 4096, NOTHING, 1ul << 32, 0x80000000UL};
    static const CK_ULONG users[] = {CKU_USER, CKU_SO, CKU_CONTEXT_SPECIFIC, 3, NOTHING};
    static const CK_ULONG flags[] = {CKF_SERIAL_SESSION | CKF_RW_SESSION, CKF_SERIAL_SESSION, 0,
                                     CKF_RW_SESSION, NOTHING};
    static const char *const names[] = {"PKCS 11", NULL, "", "PKCS 11 ", "another"};
    uint8_t which;
    switch (kind) {
    case 's':
        return session_of(choices, world);
    case 'S':
        return PICK(choices, slots);
    case 'o':
        return object_of(choices, world);
    case 'u':
        return number_of(choices, 1);
    case 'U':
        return PICK(choices, users);
    case 'F':
        return PICK(choices, flags);
    case 'D':
        return number_of(choices, CKF_DONT_BLOCK) | CKF_DONT_BLOCK;
    case 'c':
        return (uintptr_t)names[cv_hostile_byte(choices) % COUNT(names)];
    case 'a':
        return (uintptr_t)initialize_arguments(choices, arena);
    default: /* nothing, or memory of a size that is enough for what is asked */
        which = cv_hostile_byte(choices) % 2;
        if (kind == 'n' || kind == 'v')
            which = !which;
        return which == 0 ? (uintptr_t)block(arena, kind == 'h' ? 8 : kind == 'L' ? 32 : 512, 3) : 0;
    }
}

size_t cv_hostile_argument(char kind, struct choices *choices, const struct world *world,
                           struct arena *arena, uintptr_t *out)
{
    struct builder builder = {.choices = choices, .world = world, .arena = arena};
    struct span span;
    switch (kind) {
    case 'r':
    case 'l':
    case 'j':
        put_room(choices, arena, kind == 'r' ? 1 : kind == 'l' ? 8 : sizeof(CK_INTERFACE), out);
        return 2;
    case 'H':
        put_found(choices, arena, out);
        return 3;
    case 'm':
        out[0] = (uintptr_t)mechanism_of(&builder);
        return 1;
    case 'd':
    case 'w':
        span = span_of(choices, arena, 32);
        break;
    case 't':
        span = template_of(choices, arena);
        break;
    case 'p':
        span = message_of(&builder);
        break;
    default:
        out[0] = plain_argument(kind, choices, world, arena);
        return 1;
    }
    out[0] = (uintptr_t)span.bytes;
    out[1] = span.length;
    return 2;
}
