/*
 * check.h - the harness of the C tests: plain functions, run one after the other.
 *
 *     static void reads_nil(void) { CHECK(cv_read_nil(&reader)); }
 *     int main(void) { RUN(reads_nil); return check_report("test_wire"); }
 */
#ifndef CONCLAVE_CHECK_H
#define CONCLAVE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static unsigned check_count;
static const char *check_name;

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        check_count++;                                                                         \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: %s: %s does not hold\n", __FILE__, __LINE__, check_name,   \
                    #condition);                                                               \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

#define RUN(test)            \
    do {                     \
        check_name = #test;  \
        test();              \
    } while (0)

static inline int check_report(const char *program)
{
    printf("%s: %u checks\n", program, check_count);
    return 0;
}

#endif
