/* The course of a measurement: clients gather, warm up, are measured, and what is late is waited for. */

#include "load.h"

#include <sys/timerfd.h>

#define DRAIN_NS 5000000000ULL
#define QUIET_NS 200000000ULL

enum phase { GATHERING, WARMING, MEASURING, DRAINING };

static enum phase phase = GATHERING;
static uint32_t started, ready_count;
static uint64_t first_connect, window_begin, window_end, last_heard, sending_since, sends_due;
static struct totals at_begin, at_end;

bool is_gathering(void) { return phase == GATHERING; }

bool is_sending(void) { return phase == WARMING || phase == MEASURING; }

void begin(void) { first_connect = now_ns(); }

static void start_some(void) {
    while (started < client_count && started - ready_count < options.at_once)
        start_connecting(&clients[started++]);
}

void become_ready(struct client *client) {
    if (client->state == READY) return;
    client->state = READY;
    ready_count++;
}

/* A copy of a message that was written then. */
void heard(uint64_t written_at) {
    if (phase < MEASURING) return;
    last_heard = now_ns();
    if (written_at >= window_begin && written_at < window_end) time_delivery(last_heard - written_at);
}

static void start_timer(void) {
    struct itimerspec often = {.it_interval.tv_nsec = 200000, .it_value.tv_nsec = 200000};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0 || timerfd_settime(timer, 0, &often, NULL) < 0) fail("no timer: %s", strerror(errno));
    watch_timer(timer);
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
    if (options.rate > 0) start_timer();
}

/* What is due by now, from clients in turn; timed from when it was due, not from when it left. */
void send_due(void) {
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

static void start_measuring(void) {
    /* Or a message that was due before the window would be written in it, and not timed. */
    send_due();
    phase = MEASURING;
    at_begin = totals;
    window_begin = now_ns();
    window_end = options.seconds > 0 ? window_begin + (uint64_t)(options.seconds * 1e9) : UINT64_MAX;
    puts("{\"event\":\"begin\"}");
    fflush(stdout);
}

/* What is in flight is waited for, so that nothing late is left out of the latencies. The end of
 * the window is told at once, for who reads the server's processor time then. */
static void stop_sending(uint64_t now) {
    at_end = totals;
    window_end = now;
    phase = DRAINING;
    last_heard = now;
    puts("{\"event\":\"stop\"}");
    fflush(stdout);
}

void input_ended(void) {
    if (phase < MEASURING) exit(1);
    if (phase == MEASURING) window_end = now_ns();
}

/* Returns whether all is over. */
bool go_on(void) {
    uint64_t now = now_ns();
    if (phase == GATHERING) {
        start_some();
        if (ready_count == client_count) start_sending();
    }
    if (phase == WARMING && now >= window_end) start_measuring();
    if (phase == MEASURING && now >= window_end) stop_sending(now);
    if (phase == DRAINING) {
        bool quiet = unanswered() == 0 && now - last_heard > QUIET_NS;
        return quiet || writer_count == 0 || now - window_end > DRAIN_NS;
    }
    return false;
}

void say_end(void) {
#define DIFFERENCE(name) (unsigned long long)(at_end.name - at_begin.name)
    printf("{\"event\":\"end\",\"seconds\":%.6f,\"written\":%llu,\"sent\":%llu,\"received\":%llu,"
           "\"receipted\":%llu,\"pings\":%llu,\"gaps\":%llu,\"errors\":%llu,\"unanswered\":%llu,"
           "\"timed\":%llu,\"acked\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n",
           (double)(window_end - window_begin) / 1e9, DIFFERENCE(written), DIFFERENCE(sent),
           DIFFERENCE(received), DIFFERENCE(receipted), DIFFERENCE(pings), DIFFERENCE(gaps),
           DIFFERENCE(errors), (unsigned long long)unanswered(), (unsigned long long)timed_count(),
           (unsigned long long)totals.sent, percentile_ms(0.5), percentile_ms(0.99), longest_ms());
    fflush(stdout);
}
