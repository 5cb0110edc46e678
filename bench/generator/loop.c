/* What happens on sockets, on standard input and by the timer, one after the other. */

#include "load.h"

#include <sys/epoll.h>
#include <unistd.h>

#define STDIN_MARK UINT64_MAX
#define TIMER_MARK (UINT64_MAX - 1)

static int poller, timer = -1;

void interest(struct client *client, bool out, bool is_new) {
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

void watch_timer(int fd) {
    timer = fd;
    watch(timer, TIMER_MARK);
}

static void read_input(void) {
    char ignored[256];
    if (read(0, ignored, sizeof ignored) > 0) return;
    if (epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL) < 0) fail("epoll: %s", strerror(errno));
    input_ended();
}

static void serve(const struct epoll_event *event) {
    if (event->data.u64 == STDIN_MARK) {
        read_input();
    } else if (event->data.u64 == TIMER_MARK) {
        uint64_t ticks;
        if (read(timer, &ticks, sizeof ticks) > 0) send_due();
    } else {
        struct client *client = &clients[event->data.u64];
        if (client->state == CONNECTING) {
            established(client);
            return;
        }
        if (event->events & EPOLLOUT) flush_out(client);
        if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_from(client);
    }
}

void run(void) {
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll: %s", strerror(errno));
    watch(0, STDIN_MARK);
    begin();
    while (!go_on()) {
        struct epoll_event events[512];
        int found = epoll_wait(poller, events, 512, is_gathering() ? 100 : 5);
        if (found < 0 && errno != EINTR) fail("epoll: %s", strerror(errno));
        for (int n = 0; n < found; n++) serve(&events[n]);
        serve_touched();
    }
}
