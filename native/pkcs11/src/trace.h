/*
 * trace.h - one line per fault, for whoever has to find out why a token is absent.
 *
 * Off unless CONCLAVE_PKCS11_TRACE names a file to append to ("-" is standard error).  A line
 * says what was refused, by which rule, with which value; never a secret.
 */
#ifndef CONCLAVE_TRACE_H
#define CONCLAVE_TRACE_H

void cv_trace_start(void);
void cv_trace_stop(void);
void cv_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
