/* Latencies in microseconds: 128 buckets for each power of two, so less than 1 % wide. */

#include "load.h"

#define FINE_BITS 7
#define BUCKETS (40 << FINE_BITS)

static uint64_t histogram[BUCKETS], timed;
static double longest_us;

static uint32_t bucket_of(uint64_t us) {
    if (us < (1U << FINE_BITS)) return (uint32_t)us;
    int shift = 63 - __builtin_clzll(us) - FINE_BITS;
    uint32_t bucket = (uint32_t)((shift + 1) << FINE_BITS) + (uint32_t)((us >> shift) - (1U << FINE_BITS));
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The upper edge of a bucket. */
static double edge_of(uint32_t bucket) {
    uint32_t shift = bucket >> FINE_BITS;
    if (shift == 0) return bucket + 1.0;
    uint64_t fine = (bucket & ((1U << FINE_BITS) - 1)) + (1U << FINE_BITS) + 1;
    return (double)(fine << (shift - 1));
}

void time_delivery(uint64_t ns) {
    double us = (double)ns / 1000.0;
    histogram[bucket_of((uint64_t)us)]++;
    timed++;
    if (us > longest_us) longest_us = us;
}

uint64_t timed_count(void) { return timed; }

double longest_ms(void) { return longest_us / 1000.0; }

double percentile_ms(double share) {
    uint64_t wanted = (uint64_t)(share * (double)timed), seen = 0;
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen > wanted || (seen == timed && seen > 0)) {
            double edge = edge_of(bucket);
            return (edge < longest_us ? edge : longest_us) / 1000.0;
        }
    }
    return 0;
}
