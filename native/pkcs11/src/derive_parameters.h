/* derive_parameters.h - how the parameters of derivations go on the wire. */
#ifndef CONCLAVE_DERIVE_PARAMETERS_H
#define CONCLAVE_DERIVE_PARAMETERS_H

#include "mechanisms.h"

CK_RV cv_put_ecdh(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts);
CK_RV cv_put_number(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                    struct cv_parameter *facts);
CK_RV cv_put_hkdf(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts);
CK_RV cv_put_counter_kdf(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                         struct cv_parameter *facts);
CK_RV cv_put_feedback_kdf(const struct cv_mechanism *row, const CK_MECHANISM *given,
                          cv_writer *out, struct cv_parameter *facts);
CK_RV cv_put_pbkdf2(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                    struct cv_parameter *facts);
CK_RV cv_put_other_key(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                       struct cv_parameter *facts);
CK_RV cv_put_text(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                  struct cv_parameter *facts);
CK_RV cv_put_first_bit(const struct cv_mechanism *row, const CK_MECHANISM *given, cv_writer *out,
                       struct cv_parameter *facts);

#endif
