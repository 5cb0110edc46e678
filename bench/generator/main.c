/*
 * A load generator for chat servers: many clients in one thread.
 *
 *     load PORT [name=value ...] < clients
 *
 * Standard input has a line for each client: the request target of its handshake and, behind a
 * tab, how it names whom it writes to; a client without that only listens. Behind another tab may
 * stand the port of a server of its own, where not all are clients of one. An empty line ends the
 * list. The end of the input, now or later, ends the measuring.
 *
 *     dialect=chatd   or nats, both over WebSocket, or xmpp over TCP: what the server speaks. The
 *                     file of each says what a client's line has
 *     at_once=64      how many clients may be connecting at a time
 *     in_flight=0     how many messages each writing client keeps in flight,
 *     until=sent      until its `sent` has come, or the `receipt` that covers it
 *     rate=0          or: messages per second of all together, whatever the server does
 *     warm_up=0       seconds of that before what counts
 *     seconds=0       how long it is measured; 0 is until the input ends
 *
 * Standard output has a JSON object a line: "ready" when every client is, "begin" and "stop" where
 * the measured window does, and "end" with what was counted in it. Whatever goes wrong ends the
 * program with one sentence.
 */

#include "load.h"

struct options options = {.dialect = &chatd, .at_once = 64};
struct client *clients, **writers;
uint32_t client_count, writer_count;

static const struct dialect *dialect_of(const char *name) {
    static const struct dialect *const known[] = {&chatd, &nats, &xmpp};
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
        if (strcmp(known[n]->name, name) == 0) return known[n];
    fail("there is no dialect %s", name);
}

static void read_option(const char *argument) {
    const char *equals = strchr(argument, '=');
    if (equals == NULL) fail("%s is not name=value", argument);
    const char *value = equals + 1;
    size_t length = (size_t)(equals - argument);
#define IS(name) (length == strlen(name) && memcmp(argument, name, length) == 0)
    if (IS("dialect")) options.dialect = dialect_of(value);
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
        char *own_port = tab != NULL ? strchr(tab + 1, '\t') : NULL;
        if (tab != NULL) *tab = 0;
        if (own_port != NULL) *own_port = 0;
        clients[client_count] = (struct client){
            .number = client_count,
            .port = own_port != NULL ? atoi(own_port + 1) : options.port,
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
    make_up_text();
    run();
    say_end();
    return 0;
}
