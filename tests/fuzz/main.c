/* main.c: the entry of libFuzzer, and, without it (-DREPLAY), a program that runs inputs kept in files.
 *
 *   SYNCX_FUZZ_TARGET=cells fuzz [libFuzzer's options] [corpus]
 *   replay TARGET FILE...            a file may hold many inputs, see pack.py
 *   replay --random N [SEED]         N inputs of chance for each target
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "kernel.h"
#include "targets.h"

static const struct fuzz_target *find(const char *name)
{
    for (uint32_t i = 0; name != NULL && i < fuzz_target_count; i++)
        if (strcmp(fuzz_targets[i].name, name) == 0)
            return &fuzz_targets[i];
    fprintf(stderr, "expected the name of a target, got %s; there are:", name == NULL ? "none" : name);
    for (uint32_t i = 0; i < fuzz_target_count; i++)
        fprintf(stderr, " %s", fuzz_targets[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

static void run(const struct fuzz_target *t, const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    t->run(&in, t->damage);
}

#ifndef REPLAY

#include "mutate.h"

static const struct fuzz_target *chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    chosen = find(getenv("SYNCX_FUZZ_TARGET"));
    scene_make();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run(chosen, data, size);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    return mutate(chosen, data, size, most, seed);
}

#else

/* Inputs one after the other: two bytes of length, then as many bytes. */
static long replay(const struct fuzz_target *t, const char *path)
{
    static uint8_t data[1 << 20];
    long n = 0;
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    size_t length = strlen(path);
    if (length < 5 || strcmp(path + length - 5, ".pack") != 0) {
        fprintf(stderr, "%s: %s\n", t->name, path);
        run(t, data, size);
        return 1;
    }
    for (size_t at = 0; at + 2 <= size; n++) {
        size_t bytes = (size_t)(data[at] | data[at + 1] << 8);
        at += 2;
        if (bytes > size - at)
            bytes = size - at;
        uint8_t *copy = malloc(bytes + 1); /* of its size, so that reading beyond it is seen */
        memcpy(copy, data + at, bytes);
        run(t, copy, bytes);
        free(copy);
        at += bytes;
    }
    return n;
}

static long by_chance(uint64_t seed, long n)
{
    uint8_t data[512];
    for (uint32_t t = 0; t < fuzz_target_count; t++)
        for (long i = 0; i < n; i++) {
            size_t size = 0;
            do {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                data[size++] = (uint8_t)(seed >> 24);
            } while (size < 16 + (size_t)i % (sizeof data - 16));
            run(&fuzz_targets[t], data, size);
        }
    return n * fuzz_target_count;
}

int main(int argc, char **argv)
{
    long n = 0;
    if (argc < 3) {
        fprintf(stderr, "expected TARGET FILE..., or --random N [SEED]\n");
        return 2;
    }
    scene_make();
    if (strcmp(argv[1], "--random") == 0)
        n = by_chance(argc > 3 ? strtoull(argv[3], NULL, 10) | 1 : UINT64_C(88172645463325252), atol(argv[2]));
    else
        for (int i = 2; i < argc; i++)
            n += replay(find(argv[1]), argv[i]);
    printf("%ld inputs\n", n);
    return 0;
}

#endif
