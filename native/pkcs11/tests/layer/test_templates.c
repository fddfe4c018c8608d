/* test_templates.c - attributes between memory and the wire. */
#include <string.h>

#include "check.h"
#include "templates.h"

static void test_hostile(void)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE one = {CKA_TOKEN, &yes, sizeof yes};
    CHECK_RV(CKR_OK, cv_template_check(&one, 1));
    CHECK_RV(CKR_OK, cv_template_check(NULL, 0));
    CHECK_RV(CKR_ARGUMENTS_BAD, cv_template_check(NULL, 1));
    CHECK_RV(CKR_ARGUMENTS_BAD, cv_template_check(&one, CV_TEMPLATE_MAX + 1));
    CHECK_RV(CKR_ARGUMENTS_BAD, cv_template_check(&one, ~0UL));
    one = (CK_ATTRIBUTE){CKA_LABEL, NULL, 5};
    CHECK_RV(CKR_ARGUMENTS_BAD, cv_template_check(&one, 1));
    one = (CK_ATTRIBUTE){CKA_LABEL, &yes, CK_UNAVAILABLE_INFORMATION};
    CHECK_RV(CKR_ARGUMENTS_BAD, cv_template_check(&one, 1));
    one = (CK_ATTRIBUTE){CKA_LABEL, &yes, CV_ATTRIBUTE_MAX + 1};
    CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID, cv_template_check(&one, 1));
    one = (CK_ATTRIBUTE){CKA_CLASS, &yes, 1};
    CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID, cv_template_check(&one, 1));
    one = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, &one, sizeof one}; /* itself: never followed */
    CHECK_RV(CKR_ATTRIBUTE_TYPE_INVALID, cv_template_check(&one, 1));
    one = (CK_ATTRIBUTE){CKA_VENDOR_DEFINED | CKF_ARRAY_ATTRIBUTE, &yes, 1}; /* of anything */
    CHECK_RV(CKR_ATTRIBUTE_TYPE_INVALID, cv_template_check(&one, 1));
}

static CK_RV check_inner(CK_ATTRIBUTE inner, CK_ULONG length)
{
    CK_ATTRIBUTE outer = {CKA_UNWRAP_TEMPLATE, &inner, length};
    return cv_template_check(&outer, 1);
}

static void test_hostile_inside(void)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE many[CV_INNER_MAX + 1] = {0}, outer = {CKA_DERIVE_TEMPLATE, many, sizeof many};
    CHECK_RV(CKR_OK, check_inner((CK_ATTRIBUTE){CKA_SIGN, &yes, 1}, sizeof(CK_ATTRIBUTE)));
    CHECK_RV(CKR_OK, check_inner((CK_ATTRIBUTE){CKA_SIGN, &yes, 1}, 0));
    CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID, check_inner((CK_ATTRIBUTE){CKA_SIGN, &yes, 1}, 5));
    CHECK_RV(CKR_ARGUMENTS_BAD,
             check_inner((CK_ATTRIBUTE){CKA_SIGN, NULL, 1}, sizeof(CK_ATTRIBUTE)));
    CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID,
             check_inner((CK_ATTRIBUTE){CKA_CLASS, &yes, 1}, sizeof(CK_ATTRIBUTE)));
    CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID, cv_template_check(&outer, 1));
}

static void test_inside(void)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG class = CKO_SECRET_KEY, read = 0;
    CK_ATTRIBUTE inner[] = {{CKA_CLASS, &class, sizeof class}, {CKA_SIGN, &yes, 1}};
    CK_ATTRIBUTE one = {CKA_WRAP_TEMPLATE, inner, sizeof inner}, wanted = one;
    const char expected[] = "\x91\x92\xce\x40\0\x02\x11\xc4\x14"
                            "\x92\x92\x00\xc4\x08\x04\0\0\0\0\0\0\0\x92\xcd\x01\x08\xc4\x01\x01";
    const uint8_t *value = (const uint8_t *)expected + 9;
    cv_writer out;
    cv_writer_init(&out);
    CHECK_RV(CKR_OK, cv_template_put(&one, 1, &out));
    CHECK(out.length == sizeof expected - 1 && memcmp(out.bytes, expected, out.length) == 0);
    cv_writer_free(&out);
    CHECK(cv_attribute_equals(&wanted, value, 20));
    CHECK(!cv_attribute_equals(&wanted, value, 19));
    yes = CK_FALSE;
    CHECK(!cv_attribute_equals(&wanted, value, 20));
    wanted.ulValueLen = sizeof inner[0];
    CHECK(!cv_attribute_equals(&wanted, value, 20));
    CK_ATTRIBUTE got[] = {{0, &read, sizeof read}, {0, NULL, 0}};
    wanted = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, got, sizeof got};
    CHECK_RV(CKR_OK, cv_attribute_give(&wanted, value, 20));
    CHECK(got[0].type == CKA_CLASS && read == CKO_SECRET_KEY);
    CHECK(got[1].type == CKA_SIGN && got[1].ulValueLen == 1);
    got[0].ulValueLen = 1;
    CHECK_RV(CKR_BUFFER_TOO_SMALL, cv_attribute_give(&wanted, value, 20));
    CHECK(got[0].ulValueLen == CK_UNAVAILABLE_INFORMATION);
    wanted = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, NULL, 0};
    CHECK_RV(CKR_OK, cv_attribute_give(&wanted, value, 20));
    CHECK(wanted.ulValueLen == sizeof inner);
    wanted = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, got, sizeof got[0]};
    CHECK_RV(CKR_BUFFER_TOO_SMALL, cv_attribute_give(&wanted, value, 20));
    CHECK(wanted.ulValueLen == CK_UNAVAILABLE_INFORMATION);
    wanted = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, got, sizeof got};
    CHECK_RV(CKR_DEVICE_ERROR, cv_attribute_give(&wanted, value, 19)); /* from a broken worker */
}

/* Their numbers, unlike the others', do not say that they are arrays. */
static void test_templates_of_encapsulation(void)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_ENCAPSULATE_TEMPLATE, CKA_DECAPSULATE_TEMPLATE};
    CK_BBOOL yes = CK_TRUE;
    for (size_t i = 0; i < 2; i++) {
        CK_ATTRIBUTE inner = {CKA_SIGN, &yes, 1}, outer = {types[i], &inner, sizeof inner};
        const uint8_t value[] = "\x91\x92\xcd\x01\x08\xc4\x01\x01";
        cv_writer out;
        cv_writer_init(&out);
        CHECK_RV(CKR_OK, cv_template_check(&outer, 1));
        CHECK_RV(CKR_OK, cv_template_put(&outer, 1, &out));
        CHECK(out.length > 8 && memcmp(out.bytes + out.length - 8, value, 8) == 0);
        cv_writer_free(&out);
        CHECK(cv_attribute_equals(&outer, value, 8));
        CHECK_RV(CKR_ATTRIBUTE_TYPE_INVALID, check_inner(outer, sizeof outer));
        outer.ulValueLen--;
        CHECK_RV(CKR_ATTRIBUTE_VALUE_INVALID, cv_template_check(&outer, 1));
    }
}

static void test_wire(void)
{
    CK_ULONG class = CKO_SECRET_KEY;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, "me", 2}};
    const char expected[] = "\x92\x92\x00\xc4\x08\x04\0\0\0\0\0\0\0\x92\x03\xc4\x02me";
    cv_writer out;
    cv_writer_init(&out);
    CHECK_RV(CKR_OK, cv_template_put(template, 2, &out));
    CHECK(out.length == sizeof expected - 1 && memcmp(out.bytes, expected, out.length) == 0);
    cv_writer_free(&out);
}

static void test_flags(void)
{
    CK_BBOOL no = CK_FALSE;
    CK_ULONG wide = 1;
    CK_ATTRIBUTE template[] = {{CKA_PRIVATE, &wide, sizeof wide}, {CKA_TOKEN, &no, 1}};
    CHECK(!cv_template_flag(template, 2, CKA_TOKEN, true));
    CHECK(cv_template_flag(template, 2, CKA_PRIVATE, true)); /* not a CK_BBOOL: not believed */
    CHECK(cv_template_flag(NULL, 0, CKA_TOKEN, true));
}

static void test_equals(void)
{
    CK_ULONG bits = 2048;
    CK_ATTRIBUTE wanted = {CKA_MODULUS_BITS, &bits, sizeof bits};
    CHECK(cv_attribute_equals(&wanted, (const uint8_t *)"\0\x08\0\0\0\0\0\0", 8));
    CHECK(!cv_attribute_equals(&wanted, (const uint8_t *)"\0\x09\0\0\0\0\0\0", 8));
    CHECK(!cv_attribute_equals(&wanted, (const uint8_t *)"\0\x08", 2));
    wanted = (CK_ATTRIBUTE){CKA_PUBLIC_EXPONENT, "\0\1\0\1", 4};
    CHECK(cv_attribute_equals(&wanted, (const uint8_t *)"\1\0\1", 3)); /* the same number */
    wanted = (CK_ATTRIBUTE){CKA_ID, "\0\1", 2};
    CHECK(!cv_attribute_equals(&wanted, (const uint8_t *)"\1", 1));
    wanted = (CK_ATTRIBUTE){CKA_LABEL, NULL, 0};
    CHECK(cv_attribute_equals(&wanted, NULL, 0));
}

static void test_give(void)
{
    CK_ULONG number = 0;
    char text[4];
    const uint8_t *wire = (const uint8_t *)"\x1f\0\0\0\0\0\0\0";
    CK_ATTRIBUTE wanted = {CKA_KEY_TYPE, &number, sizeof number};
    CHECK_RV(CKR_OK, cv_attribute_give(&wanted, wire, 8));
    CHECK(number == CKK_AES && wanted.ulValueLen == sizeof number);
    wanted = (CK_ATTRIBUTE){CKA_LABEL, NULL, 77};
    CHECK_RV(CKR_OK, cv_attribute_give(&wanted, (const uint8_t *)"label", 5));
    CHECK(wanted.ulValueLen == 5);
    wanted = (CK_ATTRIBUTE){CKA_LABEL, text, sizeof text};
    CHECK_RV(CKR_BUFFER_TOO_SMALL, cv_attribute_give(&wanted, (const uint8_t *)"label", 5));
    CHECK(wanted.ulValueLen == CK_UNAVAILABLE_INFORMATION);
    wanted = (CK_ATTRIBUTE){CKA_LABEL, text, sizeof text};
    CHECK_RV(CKR_OK, cv_attribute_give(&wanted, (const uint8_t *)"", 0));
    CHECK(wanted.ulValueLen == 0);
}

static void test_worse(void)
{
    CHECK(cv_attribute_worse(CKR_OK, CKR_BUFFER_TOO_SMALL) == CKR_BUFFER_TOO_SMALL);
    CHECK(cv_attribute_worse(CKR_ATTRIBUTE_SENSITIVE, CKR_BUFFER_TOO_SMALL) ==
          CKR_ATTRIBUTE_SENSITIVE);
    CHECK(cv_attribute_worse(CKR_ATTRIBUTE_TYPE_INVALID, CKR_OK) == CKR_ATTRIBUTE_TYPE_INVALID);
}

int main(void)
{
    test_hostile();
    test_hostile_inside();
    test_inside();
    test_templates_of_encapsulation();
    test_wire();
    test_flags();
    test_equals();
    test_give();
    test_worse();
    return 0;
}
