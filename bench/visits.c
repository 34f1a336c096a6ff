/* Visitors who come, log in, subscribe and leave again, or stay; driven by bench/visiting.py.
 *
 *     visits PORT SCRIPT
 *
 * SCRIPT is the file of a visit's steps, each of them a line "SENT EXPECTED KIND WHO", with so many
 * bytes to send and so many that the answer must hold, and then these bytes.  KIND is `h` for an HTTP
 * response, which is read to its end, and `f` for whatever is read until it holds what is expected.
 * WHO takes the step: `a` all, `l` who leaves, `s` who stays, and has then come: he waits for no
 * answer, and if one comes he takes the step again (BOSH).
 * Where a step has a run of the bytes 1, 2, 3 or 4, the visitor's name, its base64, his next request
 * id and his session's id are put: 15, 20, 10 and 40 characters.  Nothing is sent before the answer
 * to the step before it has come, as in Strophe.
 *
 * Commands come by stdin, a line each: "visit COUNT AT_ONCE" comes and leaves so many times, "stay
 * COUNT AT_ONCE" comes only, "leave" closes who has stayed.  Each is answered by a line: visits made,
 * seconds, seconds of our own CPU, connections that were closed too early and made again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NAME = 15, NAME64 = 20, RID = 10, SID = 40, STEPS = 16, BUFFER = 16384, EVENTS = 256 };
static const double PATIENCE = 30; /* seconds without any answer to anybody */
static const char PONG[] = {(char)0x8a, (char)0x80, 0, 0, 0, 0};

typedef struct {
    char *send, *expect, kind, who;
    size_t sent, expected;
} step_t;

typedef struct {
    int fd, step, staying;
    size_t got;
    unsigned long rid;
    char name[NAME + 1], name64[NAME64 + 1], sid[SID + 1];
    char *in; /* BUFFER bytes while somebody is on his way */
} visitor_t;

static step_t steps[STEPS];
static int count_steps, poller, stay, underway, made, wanted, repeated;
static struct sockaddr_in server;
static visitor_t *visitors;
static unsigned long long number;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void read_script(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("%s: %s", path, strerror(errno));
    for (step_t *step = steps; count_steps < STEPS; step++, count_steps++) {
        if (fscanf(file, "%zu %zu %c %c", &step->sent, &step->expected, &step->kind,
                   &step->who) != 4) break;
        if (fgetc(file) != '\n' || step->sent > BUFFER) fail("%s is no script", path);
        step->send = malloc(step->sent + 1);
        step->expect = malloc(step->expected + 1);
        if (fread(step->send, 1, step->sent, file) != step->sent ||
            fread(step->expect, 1, step->expected, file) != step->expected)
            fail("%s is too short", path);
    }
    fclose(file);
}

static void encode64(const char *in, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int at = 0; at < NAME; at += 3) {
        unsigned three = (unsigned char)in[at] << 16 | (unsigned char)in[at + 1] << 8 |
                         (unsigned char)in[at + 2];
        for (int shift = 18; shift >= 0; shift -= 6) *out++ = digits[three >> shift & 63];
    }
    *out = 0;
}

/* Puts the visitor's own in place of each run of a byte below 5. */
static void fill(char *text, size_t size, visitor_t *visitor) {
    char rid[RID + 1];
    snprintf(rid, sizeof rid, "%0*lu", RID, ++visitor->rid);
    const char *own[] = {0, visitor->name, visitor->name64, rid, visitor->sid};
    for (size_t at = 0; at < size; at++) {
        if (text[at] < 1 || text[at] > 4) continue;
        const char *value = own[(int)text[at]];
        size_t length = strlen(value);
        memcpy(text + at, value, length);
        at += length - 1;
    }
}

static void send_step(visitor_t *visitor) {
    char text[BUFFER];
    step_t *step = &steps[visitor->step];
    memcpy(text, step->send, step->sent);
    fill(text, step->sent, visitor);
    visitor->got = 0;
    /* What a visit sends at once fits into an empty socket's buffer. */
    if (send(visitor->fd, text, step->sent, MSG_NOSIGNAL) != (ssize_t)step->sent) visitor->got = 0;
}

static void come(visitor_t *visitor) {
    int one = 1;
    visitor->step = 0;
    visitor->staying = 0;
    visitor->got = 0;
    visitor->rid = 1000000000 + (unsigned long)(number % 1000) * 1000;
    snprintf(visitor->name, sizeof visitor->name, "%0*llx", NAME, number++);
    encode64(visitor->name, visitor->name64);
    if (!visitor->in) visitor->in = malloc(BUFFER);
    visitor->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (visitor->fd < 0 || connect(visitor->fd, (struct sockaddr *)&server, sizeof server))
        fail("cannot connect: %s", strerror(errno));
    setsockopt(visitor->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = visitor};
    epoll_ctl(poller, EPOLL_CTL_ADD, visitor->fd, &event);
    send_step(visitor);
}

static void go(visitor_t *visitor) {
    close(visitor->fd);
    visitor->fd = -1;
}

/* One has done what he came for; the next one comes in his place. */
static void done(visitor_t *visitor) {
    made++;
    underway--;
    if (stay) {
        free(visitor->in); /* an idle one needs little */
        visitor->in = NULL;
        visitor->staying = 1;
    } else {
        go(visitor);
    }
    if (made + underway < wanted) {
        underway++;
        come(stay ? &visitors[made + underway - 1] : visitor);
    }
}

static int answered(visitor_t *visitor) {
    step_t *step = &steps[visitor->step];
    if (step->kind == 'f') return memmem(visitor->in, visitor->got, step->expect, step->expected) != NULL;
    char *end = memmem(visitor->in, visitor->got, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(visitor->in, "\r\nContent-Length:");
    size_t head = (size_t)(end + 4 - visitor->in), body = length ? strtoul(length + 17, NULL, 10) : 0;
    *end = '\r';
    if (visitor->got < head + body) return 0;
    if (!*visitor->sid || visitor->step == 0) {
        char *sid = memmem(visitor->in, visitor->got, "sid='", 5);
        if (sid) snprintf(visitor->sid, sizeof visitor->sid, "%.*s", SID, sid + 5);
    }
    if (!memmem(visitor->in, visitor->got, step->expect, step->expected))
        fail("step %d: instead of %.*s came: %.*s", visitor->step, (int)step->expected, step->expect,
             (int)visitor->got, visitor->in);
    return 1;
}

static void proceed(visitor_t *visitor) {
    char other = stay ? 'l' : 's';
    do visitor->step++;
    while (visitor->step < count_steps && steps[visitor->step].who == other);
    if (visitor->step < count_steps) send_step(visitor);
    if (visitor->step == count_steps || steps[visitor->step].who == 's') done(visitor);
}

static void hear(visitor_t *visitor) {
    char idle[BUFFER];
    if (visitor->staying) {
        ssize_t size = recv(visitor->fd, idle, sizeof idle, MSG_DONTWAIT);
        if (size == 0 || (size < 0 && errno != EAGAIN)) fail("who stayed was put out: %d", visitor->step);
        if (size < 0) return;
        if (visitor->step < count_steps) send_step(visitor); /* BOSH: the next request */
        else if ((unsigned char)idle[0] == 0x89) send(visitor->fd, PONG, sizeof PONG, MSG_NOSIGNAL);
        return;
    }
    if (visitor->got == BUFFER) fail("step %d: an answer too long", visitor->step);
    ssize_t size = recv(visitor->fd, visitor->in + visitor->got, BUFFER - visitor->got, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        if (visitor->step > 1) fail("step %d: closed after: %.*s", visitor->step, (int)visitor->got, visitor->in);
        repeated++; /* ejabberd closes one in some thousands right after the upgrade */
        go(visitor);
        come(visitor);
        return;
    }
    visitor->got += (size_t)size;
    if (answered(visitor)) proceed(visitor);
}

/* Serves everybody until so many have done what they came for; or, with none, for a moment. */
static void serve(int timeout) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, timeout);
    if (ready == 0 && underway)
        fail("no answer within %d ms; step %d of %d visitors", timeout, 0, underway);
    for (int at = 0; at < ready; at++)
        if (events[at].data.ptr) hear(events[at].data.ptr);
}

static void run(int count, int at_once) {
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    wanted = count;
    made = underway = repeated = 0;
    visitors = calloc((size_t)(stay ? count : at_once), sizeof *visitors);
    for (int at = 0; at < at_once && at < count; at++) {
        underway++;
        come(&visitors[at]);
    }
    while (made < wanted) serve((int)(PATIENCE * 1000));
    printf("%d %.6f %.6f %d\n", made, now(CLOCK_MONOTONIC) - start,
           now(CLOCK_PROCESS_CPUTIME_ID) - cpu, repeated);
    fflush(stdout);
}

int main(int count, char **arguments) {
    char line[256];
    int visits, at_once;
    struct rlimit files;
    if (count != 3) fail("usage: visits PORT SCRIPT");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_script(arguments[2]);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)atoi(arguments[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    poller = epoll_create1(0);
    number = (unsigned long long)time(NULL) << 28 | (unsigned long long)(getpid() & 0xfff) << 16;
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input);
    for (;;) {
        struct pollfd commands = {.fd = 0, .events = POLLIN};
        while (poll(&commands, 1, 0) == 0) serve(-1);
        ssize_t size = 0;
        while (size < (ssize_t)sizeof line - 1 && read(0, line + size, 1) == 1 && line[size++] != '\n') {}
        line[size] = 0;
        if (size == 0) return 0;
        if (sscanf(line, "visit %d %d", &visits, &at_once) == 2 ||
            sscanf(line, "stay %d %d", &visits, &at_once) == 2) {
            stay = *line == 's';
            epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL);
            run(visits, at_once);
            epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input);
        } else if (!strcmp(line, "leave\n")) {
            for (int at = 0; at < wanted; at++) go(&visitors[at]);
            puts("left");
            fflush(stdout);
        } else {
            fail("unknown: %s", line);
        }
    }
}
