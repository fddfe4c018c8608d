/*
 * hostile.h - calls of every exported function with arguments that a byte string chooses.
 *
 * Byte zero always stands for the sane choice, so a string of zeros is a good call and one odd byte
 * a call that is wrong in one place.  What an application must guarantee is guaranteed: a
 * pointer is NULL or points to as many bytes as its length says, in memory of exactly that
 * size, so that the address sanitizer sees a byte too many in either direction.
 */
#ifndef CONCLAVE_HOSTILE_H
#define CONCLAVE_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Number of functions, their names, and the index of the one that begins an operation which
 * the function goes on with (itself, if there is none). */
size_t hostile_count(void);
const char *hostile_name(size_t index);
size_t hostile_begins(size_t index);

/* Makes the calls that `program` is: each a byte for the function, then one for each choice; and
 * instead of a function, what the worker answers next.  Aborts at a broken promise. */
void hostile_run(const uint8_t *program, size_t length);

#endif
