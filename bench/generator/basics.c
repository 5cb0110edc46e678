/* Time, chance, failing, and bytes that grow. */

#include "load.h"

#include <stdarg.h>
#include <time.h>

static uint64_t chance = 88172645463325252ULL;

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

uint64_t random64(void) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

_Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *checked(void *memory) {
    if (memory == NULL) fail("out of memory");
    return memory;
}

char *room_in(struct bytes *bytes, size_t more) {
    if (bytes->length + more > bytes->capacity) {
        bytes->capacity = (bytes->length + more) * 2;
        bytes->data = checked(realloc(bytes->data, bytes->capacity));
    }
    return bytes->data + bytes->length;
}

void append(struct bytes *bytes, const char *data, size_t length) {
    if (length == 0) return;
    memcpy(room_in(bytes, length), data, length);
    bytes->length += length;
}

/* Those at the beginning. */
void drop(struct bytes *bytes, size_t length) {
    if (length == 0) return;
    memmove(bytes->data, bytes->data + length, bytes->length - length);
    bytes->length -= length;
}

/* Idle clients must not keep what they once needed. */
void release(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}
