/* check.h - the little that these tests need of a framework. */
#ifndef CONCLAVE_CHECK_H
#define CONCLAVE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#define CHECK_RV(expected, call)                                                        \
    do {                                                                                \
        unsigned long wanted_ = (expected), got_ = (call);                              \
        if (wanted_ != got_) {                                                          \
            fprintf(stderr, "%s:%d: %s gave 0x%lx, not 0x%lx\n", __FILE__, __LINE__,    \
                    #call, got_, wanted_);                                              \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#endif
