/* replay.c - gives every file that it is named to a fuzz target, without a fuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LARGEST (1u << 20)

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(LARGEST);
    if (file == NULL || bytes == NULL) {
        perror(path);
        exit(1);
    }
    LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, LARGEST, file));
    free(bytes);
    fclose(file);
}

int main(int count, char **paths)
{
    for (int i = 1; i < count; i++)
        replay(paths[i]);
    return count > 1 ? 0 : 1; /* no seed was found: a wrong directory */
}
