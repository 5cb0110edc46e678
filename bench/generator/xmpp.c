/*
 * XMPP over plain TCP (RFC 6120): a client signs in with SASL PLAIN, and chats or is in a room
 * (XEP-0045). Its request target is its address, user@host, and behind a space that of the room
 * that it enters; its target is the attributes of what it writes, as type='chat' to='b@host'.
 *
 * These servers confirm nothing. The generator has both ends, so a message to one is out of flight
 * when it is there, and counts as sent and receipted; one to a room when its writer has a copy.
 *
 * Stanzas are not parsed as XML: one ends with the first end tag of the name that it begins with.
 * Where one is inside another, as in what archives send, that would not do.
 */

#include "load.h"

#define PASSWORD "any"

static void say(struct client *client, const char *words) { append(&client->out, words, strlen(words)); }

static bool begins(const char *stanza, size_t length, const char *with) {
    return length >= strlen(with) && memcmp(stanza, with, strlen(with)) == 0;
}

static bool has(const char *stanza, size_t length, const char *what) {
    return memmem(stanza, length, what, strlen(what)) != NULL;
}

static int host_begin(const struct client *client) { return (int)strcspn(client->path, "@"); }

/* -- signing in ---------------------------------------------------------------------------- */

static void open_stream(struct client *client) {
    int user = host_begin(client);
    if (client->path[user] == 0) fail("client %u has no address: %s", client->number, client->path);
    const char *host = client->path + user + 1;
    char header[512];
    snprintf(header, sizeof header,
             "<?xml version='1.0'?><stream:stream to='%.*s' version='1.0' xmlns='jabber:client' "
             "xmlns:stream='http://etherx.jabber.org/streams'>",
             (int)strcspn(host, " "), host);
    say(client, header);
}

static void put_base64(struct client *client, const uint8_t *data, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t n = 0; n < length; n += 3) {
        size_t bytes = length - n < 3 ? length - n : 3;
        uint32_t bits = 0;
        for (size_t byte = 0; byte < 3; byte++) bits = bits << 8 | (byte < bytes ? data[n + byte] : 0);
        char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63], digits[bits >> 6 & 63], digits[bits & 63]};
        if (bytes < 3) four[3] = '=';
        if (bytes < 2) four[2] = '=';
        append(&client->out, four, 4);
    }
}

static void authenticate(struct client *client) {
    char plain[256];
    int length = snprintf(plain, sizeof plain, "%c%.*s%c%s", 0, host_begin(client), client->path, 0, PASSWORD);
    if (length < 0 || (size_t)length >= sizeof plain) fail("the address of client %u is too long", client->number);
    say(client, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>");
    put_base64(client, (const uint8_t *)plain, (size_t)length);
    say(client, "</auth>");
}

static void bind_resource(struct client *client) {
    say(client, "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
}

static const char *room_of(const struct client *client) {
    const char *space = strchr(client->path, ' ');
    return space == NULL ? NULL : space + 1;
}

/* In a room somebody has the name that is the user's. */
static void appear(struct client *client) {
    say(client, "<presence/>");
    if (room_of(client) == NULL) return;
    char join[512];
    int length = snprintf(join, sizeof join,
                          "<presence to='%s/%.*s'><x xmlns='http://jabber.org/protocol/muc'>"
                          "<history maxstanzas='0'/></x></presence>",
                          room_of(client), host_begin(client), client->path);
    if (length < 0 || (size_t)length >= sizeof join) fail("the room of client %u is too long", client->number);
    say(client, join);
}

/* -- stanzas ------------------------------------------------------------------------------- */

static void put(struct client *client, const char *text) {
    char stanza[1024];
    int length = snprintf(stanza, sizeof stanza, "<message %s id='%032llx'><body>%s</body></message>",
                          client->target, (unsigned long long)totals.written, text);
    if (length < 0 || (size_t)length >= sizeof stanza) fail("the target of client %u is too long", client->number);
    append(&client->out, stanza, (size_t)length);
}

static void take_message(struct client *client, const char *stanza, size_t length) {
    const char *attributes_end = memchr(stanza, '>', length);
    size_t attributes = (size_t)(attributes_end - stanza);
    if (has(stanza, attributes, "type='error'")) {
        refused(client, stanza, length);
        return;
    }
    const char *body = memmem(stanza, length, "<body>", 6);
    if (body == NULL) return; /* a room has a subject */
    const char *text = body + 6;
    if (text + TEXT_BYTES > stanza + length) fail("a message that nobody here wrote: %.*s", (int)length, stanza);
    arrived(text, stanza + length);
    struct client *writer = writer_of(text);
    bool is_of_room = has(stanza, attributes, "type='groupchat'");
    if (is_of_room && writer != client) return;
    totals.sent++;
    if (!is_of_room) totals.receipted++;
    answered(writer);
    touch(writer);
}

/* Both servers send a client its own presence: that of itself, and 110 marks that in a room. */
static void take_presence(struct client *client, const char *stanza, size_t length) {
    if (has(stanza, length, "type='error'"))
        fail("client %u may not be there: %.*s", client->number, (int)length, stanza);
    if (room_of(client) == NULL || has(stanza, length, "code='110'")) become_ready(client);
}

static void take_stanza(struct client *client, const char *stanza, size_t length) {
    if (begins(stanza, length, "<message")) {
        take_message(client, stanza, length);
    } else if (begins(stanza, length, "<presence")) {
        take_presence(client, stanza, length);
    } else if (begins(stanza, length, "<stream:features")) {
        if (client->state == SHAKING) authenticate(client);
        else bind_resource(client);
    } else if (begins(stanza, length, "<success")) {
        client->state = OPEN;
        open_stream(client);
    } else if (begins(stanza, length, "<iq") && has(stanza, length, "type='result'")) {
        appear(client);
    } else if (!begins(stanza, length, "<?xml") && !begins(stanza, length, "<stream:stream")) {
        fail("client %u was told: %.*s", client->number, (int)length, stanza);
    }
}

/* How long the first stanza is, 0 where its end is yet to come. */
static size_t length_of(const char *data, size_t length) {
    const char *tag_end = memchr(data, '>', length);
    if (tag_end == NULL) return 0;
    size_t tag = (size_t)(tag_end - data) + 1;
    if (data[0] != '<') fail("this is no stanza: %.*s", (int)tag, data);
    bool is_alone = data[1] == '?' || data[1] == '/' || tag_end[-1] == '/';
    if (is_alone || begins(data, length, "<stream:stream")) return tag;
    char end[64];
    size_t name = strcspn(data + 1, " >");
    int size = snprintf(end, sizeof end, "</%.*s>", (int)name, data + 1);
    if (size < 0 || (size_t)size >= sizeof end) fail("a stanza has too long a name: %.*s", (int)tag, data);
    const char *found = memmem(tag_end, length - tag + 1, end, (size_t)size);
    return found == NULL ? 0 : (size_t)(found - data) + (size_t)size;
}

static size_t take(struct client *client, const char *data, size_t length) {
    size_t done = 0;
    while (done < length) {
        if (data[done] == ' ' || data[done] == '\n') { /* keeps a silent connection open */
            done++;
            continue;
        }
        size_t size = length_of(data + done, length - done);
        if (size == 0) break;
        take_stanza(client, data + done, size);
        done += size;
    }
    return done;
}

const struct dialect xmpp = {"xmpp", open_stream, take, NULL, put};
