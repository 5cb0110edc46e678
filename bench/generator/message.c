/* Messages: what is in them, how many are in flight, and what became of them. */

#include "load.h"

struct totals totals;

static char letters[TEXT_BYTES];

void make_up_text(void) {
    for (int n = 0; n < TEXT_BYTES; n++) letters[n] = (char)('a' + random64() % 26);
}

/* The text of a message begins with when it was written and by whom, in hexadecimal digits. */
void put_message(struct client *client, uint64_t at) {
    char text[TEXT_BYTES + 1];
    snprintf(text, sizeof text, "%016llx%08x", (unsigned long long)at, client->number);
    memcpy(text + 24, letters, TEXT_BYTES - 24);
    text[TEXT_BYTES] = 0;
    options.dialect->put(client, text);
    client->in_flight++;
    totals.written++;
}

void refill(struct client *client) {
    if (client->target == NULL || options.in_flight == 0 || !is_sending()) return;
    while (client->in_flight < options.in_flight) put_message(client, now_ns());
}

static uint64_t hexadecimal(const char *digits, int count) {
    uint64_t number = 0;
    for (int n = 0; n < count; n++)
        number = number << 4 | (uint64_t)((digits[n] & 15) + (digits[n] > '9' ? 9 : 0));
    return number;
}

/* A copy of a message; one with a text shorter than ours is not timed. */
void arrived(const char *text, const char *end) {
    totals.received++;
    heard(text != NULL && text + 24 <= end ? hexadecimal(text, 16) : 0);
}

struct client *writer_of(const char *text) {
    uint64_t number = hexadecimal(text + 16, 8);
    if (number >= client_count) fail("a message came of client %llu", (unsigned long long)number);
    return &clients[number];
}

/* One that the client wrote is out of flight. */
void answered(struct client *client) {
    if (client->in_flight > 0) client->in_flight--;
}

void refused(struct client *client, const char *why, size_t length) {
    if (totals.errors++ == 0) fprintf(stderr, "load: refused: %.*s\n", (int)length, why);
    answered(client);
}

uint64_t unanswered(void) {
    uint64_t count = 0;
    for (uint32_t n = 0; n < writer_count; n++) count += writers[n]->in_flight;
    return count;
}
