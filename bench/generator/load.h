/* What the files of the load generator share; main.c says what it is. */

#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 200
#define UNIT_BYTES (1 << 22) /* as long as a frame or a stanza may be that a server sends */

enum state { ABSENT, CONNECTING, SHAKING, OPEN, READY };

struct bytes {
    char *data;
    size_t length, capacity;
};

struct client {
    enum state state;
    int fd, port;
    bool wants_out, touched;
    uint32_t number, in_flight;
    char *path, *target;
    struct bytes in, out;        /* what is not taken yet, and what is not written yet */
    struct client *next_touched;
    struct bytes stream;         /* nats: an unread line */
    uint64_t *awaited;           /* chatd: seqs that no receipt has covered, a ring */
    uint32_t awaited_from, awaited_count, awaited_room;
};

/* What a server speaks. Those over WebSocket share greet and take, and hear what is in a frame. */
struct dialect {
    const char *name;
    /* The connection is there: begin. */
    void (*greet)(struct client *client);
    /* Takes what is whole of what was read; returns how many bytes that were. */
    size_t (*take)(struct client *client, const char *data, size_t length);
    void (*hear)(struct client *client, const char *payload, size_t length);
    /* Writes a message with this text, of TEXT_BYTES. */
    void (*put)(struct client *client, const char *text);
};

extern const struct dialect chatd, nats, xmpp;

/* -- main.c -------------------------------------------------------------------------------- */

struct options {
    const struct dialect *dialect;
    int port;
    bool until_receipt;
    uint32_t at_once, in_flight;
    double rate, warm_up, seconds;
};

extern struct options options;
extern struct client *clients, **writers;
extern uint32_t client_count, writer_count;

/* -- basics.c ------------------------------------------------------------------------------ */

uint64_t now_ns(void);
uint64_t random64(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *checked(void *memory);
char *room_in(struct bytes *bytes, size_t more);
void append(struct bytes *bytes, const char *data, size_t length);
void drop(struct bytes *bytes, size_t length);
void release(struct bytes *bytes);

/* -- loop.c -------------------------------------------------------------------------------- */

void interest(struct client *client, bool out, bool is_new);
void watch_timer(int fd);
void run(void);

/* -- connection.c -------------------------------------------------------------------------- */

void start_connecting(struct client *client);
void established(struct client *client);
void flush_out(struct client *client);
void read_from(struct client *client);
void touch(struct client *client);
void serve_touched(void);

/* -- message.c ----------------------------------------------------------------------------- */

/* `written` counts what was given to the system; the others what has come back. */
struct totals {
    uint64_t written, sent, received, receipted, pings, gaps, errors;
};

extern struct totals totals;

void make_up_text(void);
void put_message(struct client *client, uint64_t at);
void refill(struct client *client);
void arrived(const char *text, const char *end);
struct client *writer_of(const char *text);
void answered(struct client *client);
void refused(struct client *client, const char *why, size_t length);
uint64_t unanswered(void);

/* -- latency.c ----------------------------------------------------------------------------- */

void time_delivery(uint64_t ns);
uint64_t timed_count(void);
double percentile_ms(double share);
double longest_ms(void);

/* -- course.c ------------------------------------------------------------------------------ */

bool is_gathering(void);
bool is_sending(void);
void become_ready(struct client *client);
void heard(uint64_t written_at);
void send_due(void);
void begin(void);
bool go_on(void);
void input_ended(void);
void say_end(void);

/* -- websocket.c --------------------------------------------------------------------------- */

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

void shake_hands(struct client *client);
size_t take_websocket(struct client *client, const char *data, size_t length);
void put_frame(struct client *client, enum opcode opcode, const char *payload, size_t length);

#endif
