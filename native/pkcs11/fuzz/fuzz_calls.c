/* fuzz_calls.c - any calls of the exported functions, with any arguments and any answers. */
#include "hostile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hostile_run(data, size);
    return 0;
}
