/* hostile_arguments.h - arguments for hostile.c: sane ones for byte zero, odd ones for others. */
#ifndef CONCLAVE_HOSTILE_ARGUMENTS_H
#define CONCLAVE_HOSTILE_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "fake_worker.h"

struct choices {
    const uint8_t *at;
    const uint8_t *end;
};

/* The next choice; zero, the sane one, when none is left. */
uint8_t cv_hostile_byte(struct choices *choices);

struct world {
    CK_SESSION_HANDLE read_write, read_only, closed;
    CK_OBJECT_HANDLE objects[FAKE_OBJECTS];
};

#define ARENA_BLOCKS 128
#define ARENA_ROOMS 4

/* What a call's arguments live in, and what it may have filled. */
struct arena {
    void *blocks[ARENA_BLOCKS];
    size_t count;
    struct {
        CK_ULONG *length;
        CK_ULONG capacity;
    } room[ARENA_ROOMS];
    size_t rooms;
};

/* How many kinds of mechanisms a choice has. */
size_t cv_hostile_mechanisms(void);

/* Makes the arguments of one letter (hostile.c) and returns how many they are. */
size_t cv_hostile_argument(char kind, struct choices *choices, const struct world *world,
                           struct arena *arena, uintptr_t *out);
void cv_hostile_release(struct arena *arena);

#endif
