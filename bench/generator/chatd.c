/*
 * chatd's own frames over WebSocket. The request target of a client is that of its handshake, its
 * target is the JSON members that name whom it writes to.
 *
 * Frames are not parsed as JSON: chatd's begin with their type, and have their fields in one order.
 */

#include "load.h"

#include <unistd.h>

static void put(struct client *client, const char *text) {
    static uint64_t run_id;
    if (run_id == 0) run_id = now_ns() ^ (uint64_t)getpid() << 48;
    char payload[1024];
    int length = snprintf(payload, sizeof payload,
                          "{\"type\":\"send\",%s,\"client_id\":\"%016llx%016llx\",\"text\":\"%s\"}",
                          client->target, (unsigned long long)run_id, (unsigned long long)totals.written, text);
    if (length < 0 || (size_t)length >= sizeof payload) fail("the target of client %u is too long", client->number);
    put_frame(client, TEXT, payload, (size_t)length);
}

static uint64_t number_behind(const char *data, size_t length, const char *name) {
    const char *found = memmem(data, length, name, strlen(name));
    if (found == NULL) fail("a frame without %s: %.*s", name, (int)length, data);
    uint64_t number = 0;
    for (found += strlen(name); found < data + length && *found >= '0' && *found <= '9'; found++)
        number = number * 10 + (uint64_t)(*found - '0');
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
        if (options.until_receipt) answered(client);
    }
}

static bool is_type(const char *payload, size_t length, const char *type) {
    size_t name = strlen(type);
    return length > 10 + name && memcmp(payload + 9, type, name) == 0 && payload[9 + name] == '"';
}

static void take_message(const char *payload, size_t length) {
    const char *text = memmem(payload, length, "\"text\":\"", 8);
    arrived(text == NULL ? NULL : text + 8, payload + length);
}

static void hear(struct client *client, const char *payload, size_t length) {
    if (length < 10 || memcmp(payload, "{\"type\":\"", 9) != 0) return;
    if (is_type(payload, length, "message")) {
        take_message(payload, length);
    } else if (is_type(payload, length, "sent")) {
        totals.sent++;
        if (!options.until_receipt) answered(client);
        await_receipt(client, number_behind(payload, length, "\"seq\":"));
    } else if (is_type(payload, length, "receipt")) {
        if (memmem(payload, length, "\"kind\":\"delivered\"", 18) != NULL)
            take_receipt(client, number_behind(payload, length, "\"seq\":"));
    } else if (is_type(payload, length, "ready")) {
        become_ready(client);
    } else if (is_type(payload, length, "gap")) {
        totals.gaps++;
    } else if (is_type(payload, length, "error")) {
        refused(client, payload, length);
    } else if (is_type(payload, length, "bye")) {
        fail("client %u was sent away: %.*s", client->number, (int)length, payload);
    }
}

const struct dialect chatd = {"chatd", shake_hands, take_websocket, hear, put};
