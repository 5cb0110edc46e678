/*
 * A load generator for chat servers over WebSocket (RFC 6455): many clients in one thread.
 *
 *     load PORT [name=value ...] < clients
 *
 * Standard input has a line for each client: the request target of its handshake and, behind a
 * tab, how it names whom it writes to; a client without that only listens. An empty line ends
 * the list. The end of the input, now or later, ends the measuring.
 *
 *     dialect=chatd   or nats: what is spoken inside the frames. To NATS, a client subscribes to
 *                     the request target without its slash, and publishes to what is behind the tab
 *     at_once=64      how many clients may be connecting at a time
 *     in_flight=0     how many messages each writing client keeps in flight,
 *     until=sent      until its `sent` has come, or the `receipt` that covers it
 *     rate=0          or: messages per second of all together, whatever the server does
 *     warm_up=0       seconds of that before what counts
 *     seconds=0       how long it is measured; 0 is until the input ends
 *
 * Standard output has a JSON object a line: "ready" when every client is, "begin", and "end" with
 * what was counted in between. Whatever goes wrong ends the program with one sentence.
 *
 * Frames are not parsed as JSON: chatd's begin with their type, and have their fields in one order.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 200
#define READ_BYTES (1 << 18)
#define FRAME_BYTES (1 << 22)
#define CLIENTS_PER_ADDRESS 5000
#define DRAIN_NS 5000000000ULL
#define QUIET_NS 200000000ULL
#define STDIN_MARK UINT64_MAX
#define TIMER_MARK (UINT64_MAX - 1)

enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum state { ABSENT, CONNECTING, SHAKING, OPEN, READY };
enum phase { GATHERING, WARMING, MEASURING, DRAINING };

struct bytes {
    char *data;
    size_t length, capacity;
};

struct client {
    enum state state;
    int fd;
    bool wants_out, touched;
    uint32_t number, in_flight;
    char *path, *target;
    struct bytes in, out, stream; /* unread frames, unwritten frames, an unread line of NATS */
    uint64_t *awaited;            /* seqs that no receipt has covered: a ring */
    uint32_t awaited_from, awaited_count, awaited_room;
};

static struct {
    int port;
    bool nats, until_receipt;
    uint32_t at_once, in_flight;
    double rate, warm_up, seconds;
} options = {.at_once = 64};

/* `written` counts what was given to the system; the others what has come back. */
static struct totals {
    uint64_t written, sent, received, receipted, pings, gaps, errors;
} totals, at_begin;

static struct client *clients, **writers;
static uint32_t client_count, writer_count, started, ready_count;
static enum phase phase = GATHERING;
static int poller, timer = -1;
static uint64_t first_connect, window_begin, window_end, last_heard, sending_since, sends_due;
static uint64_t timed, run_id, chance = 88172645463325252ULL;
static char letters[TEXT_BYTES];

/* -- time ---------------------------------------------------------------------------------- */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* Latencies in microseconds: 128 buckets for each power of two, so less than 1 % wide. */
#define FINE_BITS 7
#define BUCKETS (40 << FINE_BITS)
static uint64_t histogram[BUCKETS];
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

static void time_delivery(uint64_t written_at) {
    if (phase < MEASURING || written_at < window_begin || written_at >= window_end) return;
    double us = (double)(now_ns() - written_at) / 1000.0;
    histogram[bucket_of((uint64_t)us)]++;
    timed++;
    if (us > longest_us) longest_us = us;
}

static double percentile_ms(double share) {
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

/* -- small things -------------------------------------------------------------------------- */

static _Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL) fail("out of memory");
    return memory;
}

static uint64_t random64(void) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

static char *room_in(struct bytes *bytes, size_t more) {
    if (bytes->length + more > bytes->capacity) {
        bytes->capacity = (bytes->length + more) * 2;
        bytes->data = checked(realloc(bytes->data, bytes->capacity));
    }
    return bytes->data + bytes->length;
}

static void append(struct bytes *bytes, const char *data, size_t length) {
    if (length == 0) return;
    memcpy(room_in(bytes, length), data, length);
    bytes->length += length;
}

/* Idle clients must not keep what they once needed. */
static void release(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static void interest(struct client *client, bool out, bool is_new) {
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.u64 = client->number};
    client->wants_out = out;
    if (epoll_ctl(poller, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, client->fd, &event) < 0)
        fail("epoll: %s", strerror(errno));
}

static void watch(int fd, uint64_t mark) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = mark};
    /* A file on standard input can't be watched, and needs not: it doesn't end later. */
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0 && errno != EPERM)
        fail("epoll: %s", strerror(errno));
}

/* -- out ----------------------------------------------------------------------------------- */

/* A whole frame, masked as RFC 6455 section 5.3 obliges a client to. */
static void put_frame(struct client *client, enum opcode opcode, const char *payload, size_t length) {
    uint8_t header[8] = {(uint8_t)(0x80 | opcode)};
    uint32_t mask = (uint32_t)random64(), size = 2;
    if (length < 126) {
        header[1] = (uint8_t)(0x80 | length);
    } else if (length < 65536) {
        header[1] = 0x80 | 126;
        header[2] = (uint8_t)(length >> 8);
        header[3] = (uint8_t)length;
        size = 4;
    } else {
        fail("a frame of %zu bytes is too long to write", length);
    }
    memcpy(header + size, &mask, sizeof mask);
    append(&client->out, (const char *)header, size + 4);
    char *out = room_in(&client->out, length);
    const char *key = (const char *)&mask;
    for (size_t n = 0; n < length; n++) out[n] = (char)(payload[n] ^ key[n & 3]);
    client->out.length += length;
}

static void flush_out(struct client *client) {
    size_t done = 0;
    while (done < client->out.length) {
        ssize_t wrote = send(client->fd, client->out.data + done, client->out.length - done, MSG_NOSIGNAL);
        if (wrote < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) break;
            if (errno == EINTR) continue;
            fail("client %u can't write: %s", client->number, strerror(errno));
        }
        done += (size_t)wrote;
    }
    memmove(client->out.data, client->out.data + done, client->out.length - done);
    client->out.length -= done;
    if ((client->out.length > 0) != client->wants_out) interest(client, client->out.length > 0, false);
}

/* The text of a message begins with when it was written and by whom, in hexadecimal digits. */
static void put_message(struct client *client, uint64_t at) {
    char text[TEXT_BYTES + 1], payload[1024];
    snprintf(text, sizeof text, "%016llx%08x", (unsigned long long)at, client->number);
    memcpy(text + 24, letters, TEXT_BYTES - 24);
    text[TEXT_BYTES] = 0;
    int length;
    if (options.nats)
        length = snprintf(payload, sizeof payload, "PUB %s %d\r\n%s\r\n", client->target, TEXT_BYTES, text);
    else
        length = snprintf(payload, sizeof payload,
                          "{\"type\":\"send\",%s,\"client_id\":\"%016llx%016llx\",\"text\":\"%s\"}",
                          client->target, (unsigned long long)run_id, (unsigned long long)totals.written, text);
    if (length < 0 || (size_t)length >= sizeof payload) fail("the target of client %u is too long", client->number);
    put_frame(client, options.nats ? BINARY : TEXT, payload, (size_t)length);
    client->in_flight++;
    totals.written++;
}

static bool is_sending(void) { return phase == WARMING || phase == MEASURING; }

static void refill(struct client *client) {
    if (client->target == NULL || options.in_flight == 0 || !is_sending()) return;
    while (client->in_flight < options.in_flight) put_message(client, now_ns());
}

/* What is due by now, from clients in turn; timed from when it was due, not from when it left. */
static void send_due(void) {
    if (!is_sending() || options.rate <= 0) return;
    uint64_t now = now_ns();
    for (;;) {
        uint64_t due = sending_since + (uint64_t)((double)sends_due * 1e9 / options.rate);
        if (due > now) return;
        struct client *client = writers[sends_due++ % writer_count];
        put_message(client, due);
        flush_out(client);
    }
}

/* -- in ------------------------------------------------------------------------------------ */

static void become_ready(struct client *client) {
    if (client->state == READY) return;
    client->state = READY;
    ready_count++;
}

static uint64_t number_behind(const char *data, size_t length, const char *name) {
    const char *found = memmem(data, length, name, strlen(name));
    if (found == NULL) fail("a frame without %s: %.*s", name, (int)length, data);
    uint64_t number = 0;
    for (found += strlen(name); found < data + length && *found >= '0' && *found <= '9'; found++)
        number = number * 10 + (uint64_t)(*found - '0');
    return number;
}

static uint64_t hexadecimal(const char *digits, int count) {
    uint64_t number = 0;
    for (int n = 0; n < count; n++)
        number = number << 4 | (uint64_t)((digits[n] & 15) + (digits[n] > '9' ? 9 : 0));
    return number;
}

static void await_receipt(struct client *client, uint64_t seq) {
    if (client->awaited_count == client->awaited_room) {
        uint32_t room = client->awaited_room ? client->awaited_room * 2 : 16;
        uint64_t *ring = checked(malloc(room * sizeof *ring));
        for (uint32_t n = 0; n < client->awaited_count; n++)
            ring[n] = client->awaited[(client->awaited_from + n) % client->awaited_room];
        free(client->awaited);
        client->awaited = ring;
        client->awaited_room = room;
        client->awaited_from = 0;
    }
    client->awaited[(client->awaited_from + client->awaited_count++) % client->awaited_room] = seq;
}

static void take_receipt(struct client *client, uint64_t seq) {
    while (client->awaited_count > 0 && client->awaited[client->awaited_from] <= seq) {
        client->awaited_from = (client->awaited_from + 1) % client->awaited_room;
        client->awaited_count--;
        totals.receipted++;
        if (options.until_receipt && client->in_flight > 0) client->in_flight--;
    }
}

static bool is_type(const char *payload, size_t length, const char *type) {
    size_t name = strlen(type);
    return length > 10 + name && memcmp(payload + 9, type, name) == 0 && payload[9 + name] == '"';
}

static void take_message(const char *payload, size_t length) {
    totals.received++;
    if (phase < MEASURING) return;
    last_heard = now_ns();
    const char *text = memmem(payload, length, "\"text\":\"", 8);
    if (text != NULL && text + 24 < payload + length) time_delivery(hexadecimal(text + 8, 16));
}

static void take_frame(struct client *client, const char *payload, size_t length) {
    if (length < 10 || memcmp(payload, "{\"type\":\"", 9) != 0) return;
    if (is_type(payload, length, "message")) {
        take_message(payload, length);
    } else if (is_type(payload, length, "sent")) {
        totals.sent++;
        if (!options.until_receipt && client->in_flight > 0) client->in_flight--;
        await_receipt(client, number_behind(payload, length, "\"seq\":"));
    } else if (is_type(payload, length, "receipt")) {
        if (memmem(payload, length, "\"kind\":\"delivered\"", 18) != NULL)
            take_receipt(client, number_behind(payload, length, "\"seq\":"));
    } else if (is_type(payload, length, "ready")) {
        become_ready(client);
    } else if (is_type(payload, length, "gap")) {
        totals.gaps++;
    } else if (is_type(payload, length, "error")) {
        if (totals.errors++ == 0) fprintf(stderr, "load: refused: %.*s\n", (int)length, payload);
        if (client->in_flight > 0) client->in_flight--;
    } else if (is_type(payload, length, "bye")) {
        fail("client %u was sent away: %.*s", client->number, (int)length, payload);
    }
}

/* NATS's own protocol: lines, and behind a line that begins with MSG so many bytes as it ends with. */
static size_t take_nats_line(struct client *client, const char *line, size_t length, size_t available) {
    size_t size = 0;
    if (length >= 4 && memcmp(line, "MSG ", 4) == 0) {
        const char *last = memrchr(line, ' ', length);
        for (const char *digit = last + 1; digit < line + length && *digit != '\r'; digit++)
            size = size * 10 + (size_t)(*digit - '0');
        size += 2;
        if (length + size > available) return 0;
        totals.received++;
        last_heard = now_ns();
        time_delivery(hexadecimal(line + length, 16));
        if (hexadecimal(line + length + 16, 8) == client->number) {
            totals.sent++;
            if (client->in_flight > 0) client->in_flight--;
        }
    } else if (memcmp(line, "INFO", 4) == 0) {
        char hello[512];
        int bytes = snprintf(hello, sizeof hello,
                             "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\nPING\r\n",
                             client->path + 1);
        put_frame(client, BINARY, hello, (size_t)bytes);
    } else if (memcmp(line, "PONG", 4) == 0) {
        become_ready(client);
    } else if (memcmp(line, "PING", 4) == 0) {
        put_frame(client, BINARY, "PONG\r\n", 6);
    } else if (memcmp(line, "-ERR", 4) == 0) {
        fail("NATS says: %.*s", (int)length, line);
    }
    return length + size;
}

static void take_nats(struct client *client, const char *payload, size_t length) {
    struct bytes *stream = &client->stream;
    append(stream, payload, length);
    size_t done = 0;
    while (stream->length - done >= 4) {
        const char *line = stream->data + done, *end = memchr(line, '\n', stream->length - done);
        if (end == NULL) break;
        size_t taken = take_nats_line(client, line, (size_t)(end - line) + 1, stream->length - done);
        if (taken == 0) break;
        done += taken;
    }
    memmove(stream->data, stream->data + done, stream->length - done);
    stream->length -= done;
}

/* Takes the whole frames of what was read; returns how many bytes they were. */
static size_t take_frames(struct client *client, const char *data, size_t length) {
    size_t done = 0;
    while (length - done >= 2) {
        const uint8_t *frame = (const uint8_t *)data + done;
        size_t header = 2, size = frame[1] & 127;
        if (size == 126) {
            if (length - done < 4) break;
            size = (size_t)frame[2] << 8 | frame[3];
            header = 4;
        } else if (size == 127) {
            if (length - done < 10) break;
            size = 0;
            for (int n = 2; n < 10; n++) size = size << 8 | frame[n];
            header = 10;
        }
        if (size > FRAME_BYTES) fail("a frame of %zu bytes came", size);
        if (length - done < header + size) break;
        const char *payload = (const char *)frame + header;
        switch (frame[0] & 15) {
        case TEXT:
        case BINARY:
        case 0:
            if (options.nats) take_nats(client, payload, size);
            else take_frame(client, payload, size);
            break;
        case PING:
            totals.pings++;
            put_frame(client, PONG, payload, size);
            break;
        case CLOSE:
            fail("client %u was closed with %d: %.*s", client->number,
                 size >= 2 ? (uint8_t)payload[0] << 8 | (uint8_t)payload[1] : 0,
                 size >= 2 ? (int)size - 2 : 0, payload + 2);
        }
        done += header + size;
    }
    return done;
}

static size_t take_handshake(struct client *client, const char *data, size_t length) {
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    if (length < 12 || memcmp(data + 9, "101", 3) != 0)
        fail("client %u was refused: %.*s", client->number, (int)length, data);
    client->state = OPEN;
    return (size_t)(end - data) + 4;
}

static void read_from(struct client *client) {
    static char buffer[FRAME_BYTES + READ_BYTES + 16];
    size_t length = client->in.length;
    if (length > 0) memcpy(buffer, client->in.data, length);
    client->in.length = 0;
    ssize_t got = recv(client->fd, buffer + length, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) got = 0;
    else if (got == 0) fail("the server closed the connection of client %u", client->number);
    else if (got < 0) fail("client %u can't read: %s", client->number, strerror(errno));
    length += (size_t)got;
    size_t done = 0;
    if (client->state == SHAKING) done = take_handshake(client, buffer, length);
    if (client->state >= OPEN) done += take_frames(client, buffer + done, length - done);
    if (done < length) append(&client->in, buffer + done, length - done);
    else if (client->in.capacity > 0 && phase == GATHERING) release(&client->in);
    refill(client);
    if (client->out.length > 0) flush_out(client);
}

/* -- connecting ---------------------------------------------------------------------------- */

static void start_connecting(struct client *client) {
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) fail("client %u gets no socket: %s", client->number, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    /* One address has ports for some 28,000 connections to another. */
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + client->number / CLIENTS_PER_ADDRESS);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from) < 0)
        fail("client %u can't bind: %s", client->number, strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("client %u can't connect: %s", client->number, strerror(errno));
    client->state = CONNECTING;
    interest(client, true, true);
}

static void start_some(void) {
    while (started < client_count && started - ready_count < options.at_once)
        start_connecting(&clients[started++]);
}

static void shake_hands(struct client *client) {
    int problem = 0;
    socklen_t size = sizeof problem;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    if (problem) fail("client %u can't connect: %s", client->number, strerror(problem));
    char *request;
    int length = asprintf(&request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                          client->path, options.port);
    if (length < 0) fail("out of memory");
    client->state = SHAKING;
    append(&client->out, request, (size_t)length);
    free(request);
    flush_out(client);
    /* Once only: a token is as long as several messages. */
    if (client->out.length == 0) release(&client->out);
}

/* -- the course of a measurement ----------------------------------------------------------- */

static void say_begin(void) {
    phase = MEASURING;
    at_begin = totals;
    window_begin = now_ns();
    window_end = options.seconds > 0 ? window_begin + (uint64_t)(options.seconds * 1e9) : UINT64_MAX;
    puts("{\"event\":\"begin\"}");
    fflush(stdout);
}

static void start_sending(void) {
    uint64_t now = now_ns();
    printf("{\"event\":\"ready\",\"seconds\":%.6f,\"received\":%llu,\"gaps\":%llu}\n",
           (double)(now - first_connect) / 1e9, (unsigned long long)totals.received,
           (unsigned long long)totals.gaps);
    fflush(stdout);
    phase = WARMING;
    sending_since = now;
    window_end = now + (uint64_t)(options.warm_up * 1e9);
    for (uint32_t n = 0; n < writer_count && options.in_flight > 0; n++) {
        refill(writers[n]);
        flush_out(writers[n]);
    }
    if (options.rate > 0) {
        struct itimerspec often = {.it_interval.tv_nsec = 200000, .it_value.tv_nsec = 200000};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (timer < 0 || timerfd_settime(timer, 0, &often, NULL) < 0) fail("no timer: %s", strerror(errno));
        watch(timer, TIMER_MARK);
    }
}

static struct totals counted;

/* What is in flight is waited for, so that nothing late is left out of the latencies. */
static void stop_sending(uint64_t now) {
    counted = totals;
    window_end = now;
    phase = DRAINING;
    last_heard = now;
}

static uint64_t unanswered(void) {
    uint64_t count = 0;
    for (uint32_t n = 0; n < writer_count; n++) count += writers[n]->in_flight;
    return count;
}

static void say_end(void) {
#define DIFFERENCE(name) (unsigned long long)(counted.name - at_begin.name)
    printf("{\"event\":\"end\",\"seconds\":%.6f,\"written\":%llu,\"sent\":%llu,\"received\":%llu,"
           "\"receipted\":%llu,\"pings\":%llu,\"gaps\":%llu,\"errors\":%llu,\"unanswered\":%llu,"
           "\"timed\":%llu,\"acked\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           (double)(window_end - window_begin) / 1e9, DIFFERENCE(written), DIFFERENCE(sent),
           DIFFERENCE(received), DIFFERENCE(receipted), DIFFERENCE(pings), DIFFERENCE(gaps),
           DIFFERENCE(errors), (unsigned long long)unanswered(), (unsigned long long)timed,
           (unsigned long long)totals.sent, percentile_ms(0.5), percentile_ms(0.99), longest_us / 1000.0);
    fflush(stdout);
}

/* Returns whether all is over. The end of the window is told at once, for who reads the server's
 * processor time then. */
static bool go_on(void) {
    uint64_t now = now_ns();
    if (phase == GATHERING) {
        start_some();
        if (ready_count == client_count) start_sending();
    }
    if (phase == WARMING && now >= window_end) say_begin();
    if (phase == MEASURING && now >= window_end) {
        stop_sending(now);
        puts("{\"event\":\"stop\"}");
        fflush(stdout);
    }
    if (phase == DRAINING) {
        bool quiet = unanswered() == 0 && now - last_heard > QUIET_NS;
        return quiet || writer_count == 0 || now - window_end > DRAIN_NS;
    }
    return false;
}

static void input_ended(void) {
    char ignored[256];
    if (read(0, ignored, sizeof ignored) > 0) return;
    if (phase < MEASURING) exit(1);
    if (epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL) < 0) fail("epoll: %s", strerror(errno));
    if (phase == MEASURING) window_end = now_ns();
}

static void serve(const struct epoll_event *event) {
    if (event->data.u64 == STDIN_MARK) {
        input_ended();
    } else if (event->data.u64 == TIMER_MARK) {
        uint64_t ticks;
        if (read(timer, &ticks, sizeof ticks) > 0) send_due();
    } else {
        struct client *client = &clients[event->data.u64];
        if (client->state == CONNECTING) {
            shake_hands(client);
            return;
        }
        if (event->events & EPOLLOUT) flush_out(client);
        if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_from(client);
    }
}

/* -- the command line ---------------------------------------------------------------------- */

static void read_option(const char *argument) {
    const char *equals = strchr(argument, '=');
    if (equals == NULL) fail("%s is not name=value", argument);
    const char *value = equals + 1;
    size_t length = (size_t)(equals - argument);
#define IS(name) (length == strlen(name) && memcmp(argument, name, length) == 0)
    if (IS("dialect")) options.nats = strcmp(value, "nats") == 0;
    else if (IS("until")) options.until_receipt = strcmp(value, "receipt") == 0;
    else if (IS("at_once")) options.at_once = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("in_flight")) options.in_flight = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("rate")) options.rate = strtod(value, NULL);
    else if (IS("warm_up")) options.warm_up = strtod(value, NULL);
    else if (IS("seconds")) options.seconds = strtod(value, NULL);
    else fail("there is no option %.*s", (int)length, argument);
}

static void read_clients(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    uint32_t capacity = 0;
    while ((length = getline(&line, &room, stdin)) > 1) {
        if (line[length - 1] == '\n') line[--length] = 0;
        if (client_count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            clients = checked(realloc(clients, capacity * sizeof *clients));
        }
        char *tab = strchr(line, '\t');
        if (tab != NULL) *tab = 0;
        clients[client_count] = (struct client){
            .number = client_count,
            .path = checked(strdup(line)),
            .target = tab != NULL && tab[1] ? checked(strdup(tab + 1)) : NULL,
        };
        client_count++;
    }
    free(line);
    writers = checked(calloc(client_count + 1, sizeof(struct client *)));
    for (uint32_t n = 0; n < client_count; n++)
        if (clients[n].target != NULL) writers[writer_count++] = &clients[n];
    if (client_count == 0) fail("there is no client on standard input");
    if (options.rate > 0 && writer_count == 0) fail("nobody is there to write");
}

int main(int count, char **arguments) {
    if (count < 2) fail("usage: load PORT [name=value ...] < clients");
    options.port = atoi(arguments[1]);
    for (int n = 2; n < count; n++) read_option(arguments[n]);
    read_clients();
    run_id = now_ns() ^ (uint64_t)getpid() << 48;
    for (int n = 0; n < TEXT_BYTES; n++) letters[n] = (char)('a' + random64() % 26);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll: %s", strerror(errno));
    watch(0, STDIN_MARK);
    first_connect = now_ns();
    while (!go_on()) {
        struct epoll_event events[512];
        int found = epoll_wait(poller, events, 512, phase == GATHERING ? 100 : 5);
        if (found < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        for (int n = 0; n < found; n++) serve(&events[n]);
    }
    say_end();
    return 0;
}
