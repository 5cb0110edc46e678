/*
 * NATS's own protocol over WebSocket: lines, and behind a line that begins with MSG so many bytes
 * as it ends with. A client subscribes to its request target without the slash, and publishes to
 * its target.
 */

#include "load.h"

static void put(struct client *client, const char *text) {
    char payload[1024];
    int length = snprintf(payload, sizeof payload, "PUB %s %d\r\n%s\r\n", client->target, TEXT_BYTES, text);
    if (length < 0 || (size_t)length >= sizeof payload) fail("the target of client %u is too long", client->number);
    put_frame(client, BINARY, payload, (size_t)length);
}

static void take_message(struct client *client, const char *text) {
    arrived(text, text + TEXT_BYTES);
    if (writer_of(text) != client) return;
    totals.sent++;
    answered(client);
}

static void subscribe(struct client *client) {
    char hello[512];
    int length = snprintf(hello, sizeof hello,
                          "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\nPING\r\n",
                          client->path + 1);
    if (length < 0 || (size_t)length >= sizeof hello) fail("the subject of client %u is too long", client->number);
    put_frame(client, BINARY, hello, (size_t)length);
}

/* Returns how many bytes were taken, 0 where some are yet to come. */
static size_t take_line(struct client *client, const char *line, size_t length, size_t available) {
    size_t size = 0;
    if (memcmp(line, "MSG ", 4) == 0) {
        const char *last = memrchr(line, ' ', length);
        for (const char *digit = last + 1; digit < line + length && *digit != '\r'; digit++)
            size = size * 10 + (size_t)(*digit - '0');
        size += 2;
        if (length + size > available) return 0;
        take_message(client, line + length);
    } else if (memcmp(line, "INFO", 4) == 0) {
        subscribe(client);
    } else if (memcmp(line, "PONG", 4) == 0) {
        become_ready(client);
    } else if (memcmp(line, "PING", 4) == 0) {
        put_frame(client, BINARY, "PONG\r\n", 6);
    } else if (memcmp(line, "-ERR", 4) == 0) {
        fail("NATS says: %.*s", (int)length, line);
    }
    return length + size;
}

static void hear(struct client *client, const char *payload, size_t length) {
    struct bytes *stream = &client->stream;
    append(stream, payload, length);
    size_t done = 0;
    while (stream->length - done >= 4) {
        const char *line = stream->data + done, *end = memchr(line, '\n', stream->length - done);
        if (end == NULL) break;
        size_t taken = take_line(client, line, (size_t)(end - line) + 1, stream->length - done);
        if (taken == 0) break;
        done += taken;
    }
    drop(stream, done);
}

const struct dialect nats = {"nats", shake_hands, take_websocket, hear, put};
