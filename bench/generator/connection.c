/* A client's TCP connection: opened, written to, and read. */

#include "load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define READ_BYTES (1 << 18)
#define CLIENTS_PER_ADDRESS 5000

static struct client *first_touched;

void start_connecting(struct client *client) {
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) fail("client %u gets no socket: %s", client->number, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    /* One address has ports for some 28,000 connections to another. */
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + client->number / CLIENTS_PER_ADDRESS);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)client->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from) < 0)
        fail("client %u can't bind: %s", client->number, strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("client %u can't connect: %s", client->number, strerror(errno));
    client->state = CONNECTING;
    interest(client, true, true);
}

/* It is connected, or has failed to. */
void established(struct client *client) {
    int problem = 0;
    socklen_t size = sizeof problem;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    if (problem) fail("client %u can't connect: %s", client->number, strerror(problem));
    client->state = SHAKING;
    options.dialect->greet(client);
    flush_out(client);
    /* Once only: a token is as long as several messages. */
    if (client->out.length == 0) release(&client->out);
}

void flush_out(struct client *client) {
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
    drop(&client->out, done);
    if ((client->out.length > 0) != client->wants_out) interest(client, client->out.length > 0, false);
}

void read_from(struct client *client) {
    static char buffer[UNIT_BYTES + READ_BYTES + 16];
    size_t length = client->in.length;
    if (length > UNIT_BYTES + 16) fail("client %u gets more than it can take", client->number);
    if (length > 0) memcpy(buffer, client->in.data, length);
    client->in.length = 0;
    ssize_t got = recv(client->fd, buffer + length, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) got = 0;
    else if (got == 0) fail("the server closed the connection of client %u", client->number);
    else if (got < 0) fail("client %u can't read: %s", client->number, strerror(errno));
    length += (size_t)got;
    size_t done = options.dialect->take(client, buffer, length);
    if (done < length) append(&client->in, buffer + done, length - done);
    else if (client->in.capacity > 0 && is_gathering()) release(&client->in);
    refill(client);
    if (client->out.length > 0) flush_out(client);
}

/* It may write again because of what another client has read. */
void touch(struct client *client) {
    if (client->touched) return;
    client->touched = true;
    client->next_touched = first_touched;
    first_touched = client;
}

void serve_touched(void) {
    while (first_touched != NULL) {
        struct client *client = first_touched;
        first_touched = client->next_touched;
        client->touched = false;
        refill(client);
        if (client->out.length > 0) flush_out(client);
    }
}
