/* WebSocket (RFC 6455), as a client speaks it. */

#include "load.h"

void shake_hands(struct client *client) {
    char *request;
    int length = asprintf(&request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                          client->path, client->port);
    if (length < 0) fail("out of memory");
    append(&client->out, request, (size_t)length);
    free(request);
}

/* A whole frame, masked as section 5.3 obliges a client to. */
void put_frame(struct client *client, enum opcode opcode, const char *payload, size_t length) {
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

static size_t take_handshake(struct client *client, const char *data, size_t length) {
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    if (length < 12 || memcmp(data + 9, "101", 3) != 0)
        fail("client %u was refused: %.*s", client->number, (int)length, data);
    client->state = OPEN;
    return (size_t)(end - data) + 4;
}

static void take_frame(struct client *client, enum opcode opcode, const char *payload, size_t size) {
    switch (opcode) {
    case TEXT:
    case BINARY:
    case CONTINUATION:
        options.dialect->hear(client, payload, size);
        break;
    case PING:
        totals.pings++;
        put_frame(client, PONG, payload, size);
        break;
    case PONG:
        break;
    case CLOSE:
        fail("client %u was closed with %d: %.*s", client->number,
             size >= 2 ? (uint8_t)payload[0] << 8 | (uint8_t)payload[1] : 0,
             size >= 2 ? (int)size - 2 : 0, payload + 2);
    }
}

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
        if (size > UNIT_BYTES) fail("a frame of %zu bytes came", size);
        if (length - done < header + size) break;
        take_frame(client, frame[0] & 15, (const char *)frame + header, size);
        done += header + size;
    }
    return done;
}

size_t take_websocket(struct client *client, const char *data, size_t length) {
    size_t done = 0;
    if (client->state == SHAKING) done = take_handshake(client, data, length);
    if (client->state >= OPEN) done += take_frames(client, data + done, length - done);
    return done;
}
