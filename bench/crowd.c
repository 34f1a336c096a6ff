/* The ears of a crowd: reads thousands of connections, and notes what each of them hears.
 *
 * A delivery is told by "@SEQUENCE:NANOSECONDS@" in its payload: its number, and when it was
 * sent by CLOCK_MONOTONIC.  Whatever has none is read and forgotten.  One thread does it all, by
 * epoll, with one read() for all that has come to a connection; nothing is allocated for a message
 * that has come in one piece.
 *
 * bench/crowd.py compiles this, and is the only one who calls it.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WEBSOCKET, BOSH, SSE };

enum {
    EVENTS = 512,
    READ = 128 * 1024,         /* what is read at once */
    LONGEST = 1024 * 1024,     /* of a message that has not come in one piece */
    PATIENCE = 3,              /* attempts to send a BOSH request again */
};

#define GONE ((size_t)-1)

struct connection {
    int fd;
    uint64_t due;              /* the sequence number that comes next */
    uint64_t came;             /* which of the 64 before it came, the last one lowest */
    char *kept;                /* the beginning of a message */
    size_t length, room;
    /* BOSH */
    struct sockaddr_storage peer;
    socklen_t peer_length;
    uint64_t rid;              /* of the request that waits for its answer */
    int attempts, connecting;
    char *host, *path, *sid;
    /* SSE */
    int chunked, phase;
    size_t chunk;
    struct connection *next;
};

/* What bench/crowd.py reads; its fields are in the same order there. */
struct heard {
    uint64_t connections, deliveries, disordered, repeated, others, closed, reconnected;
    uint64_t noted;            /* how many latencies there are */
    uint64_t last;             /* when the last delivery came */
    uint64_t cpu;              /* nanoseconds of this thread, since it was started */
};

struct crowd {
    int kind, epoll, wake, stopping, started;
    pthread_t thread;
    pthread_mutex_t being_told;
    pthread_cond_t told;
    uint64_t first, target;
    struct heard heard;
    uint64_t *latencies, room;
    struct connection *connections;
    char *buffer;
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Deliveries ---- */

static void hear_one(struct crowd *crowd, struct connection *c, uint64_t number, uint64_t sent,
                     uint64_t time)
{
    struct heard *heard = &crowd->heard;
    if (number < crowd->first)
        return;                                     /* of another phase */
    if (c->due < crowd->first) {
        c->due = crowd->first;
        c->came = 0;
    }
    if (number >= c->due) {
        uint64_t step = number - c->due + 1;
        c->came = step >= 64 ? 1 : c->came << step | 1;
        c->due = number + 1;
    } else {
        uint64_t back = c->due - 1 - number;
        if (back >= 64 || c->came >> back & 1) {
            heard->repeated++;
            return;
        }
        c->came |= (uint64_t)1 << back;
        heard->disordered++;
    }
    heard->deliveries++;
    heard->last = time;
    if (heard->noted < crowd->room)
        crowd->latencies[heard->noted++] = time > sent ? time - sent : 0;
}

static const char *digits(const char *at, const char *end, uint64_t *value)
{
    const char *start = at;
    *value = 0;
    while (at < end && *at >= '0' && *at <= '9')
        *value = *value * 10 + (uint64_t)(*at++ - '0');
    return at > start && at < end ? at : NULL;
}

/* All deliveries in a piece of text that is complete. */
static void hear(struct crowd *crowd, struct connection *c, const char *at, size_t length,
                 uint64_t time)
{
    const char *end = at + length;
    int any = 0;
    while ((at = memchr(at, '@', (size_t)(end - at)))) {
        uint64_t number, sent;
        const char *after = digits(++at, end, &number);
        if (!after || *after != ':' || !(after = digits(after + 1, end, &sent)) || *after != '@')
            continue;
        hear_one(crowd, c, number, sent, time);
        any = 1;
        at = after + 1;
    }
    if (!any)
        crowd->heard.others++;
}

/* ---- Protocols: each returns how many bytes it has done with, or GONE ---- */

static size_t websocket(struct crowd *crowd, struct connection *c, char *start, size_t length,
                        uint64_t time)
{
    const unsigned char *at = (unsigned char *)start, *end = at + length;
    while (end - at >= 2) {
        size_t size = at[1] & 127, head = 2;
        int code = at[0] & 15;
        if (at[1] & 128)
            return GONE;                            /* servers do not mask */
        if (size == 126) {
            if (end - at < 4)
                break;
            size = (size_t)at[2] << 8 | at[3];
            head = 4;
        } else if (size == 127) {
            if (end - at < 10)
                break;
            size = 0;
            for (int i = 2; i < 10; i++)
                size = size << 8 | at[i];
            head = 10;
            if (size > LONGEST)
                return GONE;
        }
        if ((size_t)(end - at) < head + size)
            break;
        if (code <= 2) {
            hear(crowd, c, (const char *)at + head, size, time);
        } else if (code == 8) {
            return GONE;
        } else if (code == 9 && size <= 125) {      /* a ping: the pong is masked with zeros */
            unsigned char pong[6 + 125] = {0x8a, (unsigned char)(0x80 | size)};
            memcpy(pong + 6, at + head, size);
            if (send(c->fd, pong, 6 + size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)(6 + size))
                return GONE;
        }
        at += head + size;
    }
    return (size_t)((char *)at - start);
}

/* Takes the chunks apart in place, and hears line by line. */
static size_t event_stream(struct crowd *crowd, struct connection *c, char *start, size_t length,
                           size_t kept, uint64_t time)
{
    enum { SIZE, EXTENSION, DATA, AFTER, LAST };
    char *to = start + kept, *from = to, *end = start + length;
    if (!c->chunked) {
        to = end;
    } else {
        while (from < end) {
            if (c->phase == DATA) {
                size_t part = (size_t)(end - from) < c->chunk ? (size_t)(end - from) : c->chunk;
                memmove(to, from, part);
                to += part;
                from += part;
                if (!(c->chunk -= part))
                    c->phase = AFTER;
                continue;
            }
            char byte = *from++;
            if (c->phase == AFTER) {
                if (byte == '\n')
                    c->phase = SIZE;
            } else if (byte == '\n') {
                if (!c->chunk)
                    return GONE;                    /* the last chunk */
                c->phase = DATA;
            } else if (c->phase == SIZE) {
                if (byte >= '0' && byte <= '9')
                    c->chunk = c->chunk << 4 | (size_t)(byte - '0');
                else if ((byte | 32) >= 'a' && (byte | 32) <= 'f')
                    c->chunk = c->chunk << 4 | (size_t)((byte | 32) - 'a' + 10);
                else
                    c->phase = EXTENSION;
            }
        }
    }
    char *line = memrchr(start, '\n', (size_t)(to - start));
    size_t done = line ? (size_t)(line + 1 - start) : 0;
    if (done)
        hear(crowd, c, start, done, time);
    /* What is left is moved to where the caller looks for it: the end of the bytes that came. */
    memmove(end - (to - start - (ssize_t)done), start + done, (size_t)(to - start) - done);
    return (size_t)(end - start) - ((size_t)(to - start) - done);
}

/* Sends the request of c->rid. */
static int ask(struct crowd *crowd, struct connection *c)
{
    char body[512], request[1536];
    int size = snprintf(body, sizeof body,
                        "<body rid='%llu' xmlns='http://jabber.org/protocol/httpbind' sid='%s'/>",
                        (unsigned long long)c->rid, c->sid);
    int length = snprintf(request, sizeof request,
                          "POST %s HTTP/1.1\r\nHost: %s\r\n"
                          "Content-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s",
                          c->path, c->host, size, body);
    (void)crowd;
    if (length >= (int)sizeof request)
        return 0;
    return send(c->fd, request, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length;
}

/* Opens a new connection to the same address; the request is sent when it is open. */
static int reconnect(struct crowd *crowd, struct connection *c)
{
    int yes = 1, fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (c->attempts++ >= PATIENCE || !c->peer_length)
        return 0;
    close(c->fd);
    c->fd = -1;
    if ((fd = socket(c->peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
        return 0;
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(fd, (struct sockaddr *)&c->peer, c->peer_length) && errno != EINPROGRESS)
        return 0;
    c->connecting = 1;
    c->length = 0;
    crowd->heard.reconnected++;
    return !epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* The value of a header among those of a response, or NULL. */
static const char *header(const char *head, const char *end, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = head; (line = memchr(line, '\n', (size_t)(end - line)));) {
        line++;
        if ((size_t)(end - line) > length && !strncasecmp(line, name, length) &&
            line[length] == ':') {
            for (line += length + 1; line < end && *line == ' '; line++)
                ;
            return line;
        }
    }
    return NULL;
}

static size_t bosh(struct crowd *crowd, struct connection *c, char *start, size_t length,
                   uint64_t time)
{
    char *at = start, *end = start + length, *body;
    while ((body = memmem(at, (size_t)(end - at), "\r\n\r\n", 4))) {
        body += 4;
        uint64_t size;
        const char *value = header(at, body, "Content-Length");
        if (body - at < 16 || strncmp(at + 8, " 200", 4) || !value || !digits(value, body, &size) ||
            size > LONGEST)
            return GONE;
        if ((uint64_t)(end - body) < size)
            break;
        value = header(at, body, "Connection");
        int closes = value && !strncasecmp(value, "close", 5);
        hear(crowd, c, body, size, time);
        char *tag = memchr(body, '>', size);
        if (!tag || memmem(body, (size_t)(tag - body), "terminate", 9))
            return GONE;
        c->rid++;
        c->attempts = 0;
        at = body + size;
        if (closes || !ask(crowd, c))
            return reconnect(crowd, c) ? length : GONE;
    }
    return (size_t)(at - start);
}

/* ---- Connections ---- */

static void leave(struct crowd *crowd, struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->length = 0;
    crowd->heard.closed++;
}

/* Digests bytes in the buffer, of which the first `kept` had been there before. */
static int digest(struct crowd *crowd, struct connection *c, size_t length, size_t kept)
{
    uint64_t time = now();
    size_t done = crowd->kind == WEBSOCKET ? websocket(crowd, c, crowd->buffer, length, time)
                  : crowd->kind == BOSH    ? bosh(crowd, c, crowd->buffer, length, time)
                                        : event_stream(crowd, c, crowd->buffer, length, kept, time);
    if (done == GONE)
        return 0;
    size_t left = length - done;
    if (left > c->room) {
        if (left > LONGEST)
            return 0;
        char *more = realloc(c->kept, left + 4096);
        if (!more)
            return 0;
        c->kept = more;
        c->room = left + 4096;
    }
    if (left)
        memcpy(c->kept, crowd->buffer + done, left);
    c->length = left;
    return 1;
}

static void attend(struct crowd *crowd, struct connection *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (c->connecting) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        c->connecting = 0;
        epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, c->fd, &event);
        if ((events & (EPOLLERR | EPOLLHUP) || !ask(crowd, c)) && !reconnect(crowd, c))
            leave(crowd, c);
        return;
    }
    size_t kept = c->length;
    if (kept)
        memcpy(crowd->buffer, c->kept, kept);
    ssize_t got = recv(c->fd, crowd->buffer + kept, READ, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        if (crowd->kind != BOSH || !reconnect(crowd, c))
            leave(crowd, c);
    } else if (!digest(crowd, c, kept + (size_t)got, kept)) {
        leave(crowd, c);
    }
}

static void *listen_to_all(void *argument)
{
    struct crowd *crowd = argument;
    struct epoll_event events[EVENTS];
    while (!__atomic_load_n(&crowd->stopping, __ATOMIC_ACQUIRE)) {
        int count = epoll_wait(crowd->epoll, events, EVENTS, -1);
        pthread_mutex_lock(&crowd->being_told);
        for (int i = 0; i < count; i++)
            if (events[i].data.ptr)
                attend(crowd, events[i].data.ptr, events[i].events);
        if (crowd->target && crowd->heard.deliveries >= crowd->target)
            pthread_cond_signal(&crowd->told);
        pthread_mutex_unlock(&crowd->being_told);
    }
    return NULL;
}

/* ---- What bench/crowd.py calls ---- */

/* A crowd that can note so many latencies in each phase; NULL when the system gives nothing. */
struct crowd *crowd_new(int kind, uint64_t room)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    struct epoll_event event = {.events = EPOLLIN};
    pthread_condattr_t monotonic;
    if (!crowd)
        return NULL;
    crowd->kind = kind;
    crowd->room = room;
    crowd->latencies = malloc(room * sizeof *crowd->latencies);
    crowd->buffer = malloc(LONGEST + READ + 4096);
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&crowd->being_told, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&crowd->told, &monotonic);
    if (!crowd->latencies || !crowd->buffer || crowd->epoll < 0 || crowd->wake < 0 ||
        epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, crowd->wake, &event))
        return NULL;
    return crowd;
}

/* Takes an open connection over, and the bytes that were read of it; 0, or an errno. */
int crowd_add(struct crowd *crowd, int fd, const char *rest, size_t length, int chunked,
              const char *host, const char *path, const char *sid, uint64_t rid)
{
    struct connection *c = calloc(1, sizeof *c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int error = 0, yes = 1;
    if (!c || length > LONGEST)
        return ENOMEM;
    c->fd = fd;
    c->chunked = chunked;
    c->rid = rid;
    c->host = strdup(host);
    c->path = strdup(path);
    c->sid = strdup(sid);
    c->peer_length = sizeof c->peer;
    if (getpeername(fd, (struct sockaddr *)&c->peer, &c->peer_length) ||
        c->peer.ss_family == AF_UNIX)
        c->peer_length = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    pthread_mutex_lock(&crowd->being_told);
    c->next = crowd->connections;
    crowd->connections = c;
    crowd->heard.connections++;
    memcpy(crowd->buffer, rest, length);
    if ((crowd->kind == BOSH && !ask(crowd, c)) ||
        (length && !digest(crowd, c, length, 0)))
        leave(crowd, c);
    else if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, c->fd, &event))
        error = errno;
    pthread_mutex_unlock(&crowd->being_told);
    return error;
}

/* Listens from now on; 0, or an errno. */
int crowd_start(struct crowd *crowd)
{
    int error = pthread_create(&crowd->thread, NULL, listen_to_all, crowd);
    crowd->started = !error;
    return error;
}

/* Forgets what was heard; what has a number below `first` is not heard from now on. */
void crowd_reset(struct crowd *crowd, uint64_t first)
{
    pthread_mutex_lock(&crowd->being_told);
    uint64_t connections = crowd->heard.connections, closed = crowd->heard.closed;
    crowd->heard = (struct heard){.connections = connections, .closed = closed};
    crowd->first = first;
    pthread_mutex_unlock(&crowd->being_told);
}

/* Waits for so many deliveries since the last reset; whether they came in time. */
int crowd_wait(struct crowd *crowd, uint64_t deliveries, uint64_t nanoseconds)
{
    uint64_t end = now() + nanoseconds;
    struct timespec until = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
    int error = 0;
    pthread_mutex_lock(&crowd->being_told);
    crowd->target = deliveries;
    while (crowd->heard.deliveries < deliveries && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&crowd->told, &crowd->being_told, &until);
    int came = crowd->heard.deliveries >= deliveries;
    crowd->target = 0;
    pthread_mutex_unlock(&crowd->being_told);
    return came;
}

/* What was heard since the last reset; the latencies are copied as far as there is room. */
void crowd_tell(struct crowd *crowd, struct heard *heard, uint64_t *latencies, uint64_t room)
{
    clockid_t clock;
    struct timespec cpu = {0, 0};
    pthread_mutex_lock(&crowd->being_told);
    if (crowd->started && !pthread_getcpuclockid(crowd->thread, &clock))
        clock_gettime(clock, &cpu);
    crowd->heard.cpu = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    *heard = crowd->heard;
    if (room)
        memcpy(latencies, crowd->latencies,
               sizeof *latencies * (heard->noted < room ? heard->noted : room));
    pthread_mutex_unlock(&crowd->being_told);
}

/* Closes all connections, and is no more. */
void crowd_close(struct crowd *crowd)
{
    uint64_t one = 1;
    __atomic_store_n(&crowd->stopping, 1, __ATOMIC_RELEASE);
    if (write(crowd->wake, &one, sizeof one) < 0)
        perror("crowd: eventfd");
    if (crowd->started)
        pthread_join(crowd->thread, NULL);
    while (crowd->connections) {
        struct connection *c = crowd->connections;
        crowd->connections = c->next;
        if (c->fd >= 0)
            close(c->fd);
        free(c->kept);
        free(c->host);
        free(c->path);
        free(c->sid);
        free(c);
    }
    close(crowd->epoll);
    close(crowd->wake);
    free(crowd->latencies);
    free(crowd->buffer);
    pthread_mutex_destroy(&crowd->being_told);
    pthread_cond_destroy(&crowd->told);
    free(crowd);
}
