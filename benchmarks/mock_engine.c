/* A server of OpenAI completions that costs next to nothing and knows when it wrote every chunk.
 *
 *   cc -O2 -o mock_engine mock_engine.c && ./mock_engine [--ttft-us N] [--itl-us N] [--core N]
 *
 * One thread, one epoll loop. It prints the port it listens on and serves until its standard input
 * ends. A request is answered with max_tokens events, each in a chunk and a write() of its own, then
 * the usage, then [DONE]. Chunk i of a request is due at t0 + ttft + i * itl, t0 being the instant
 * when the last byte of the request was read: a late chunk does not delay those behind it. Without
 * delays every connection writes one chunk in turn, as fast as its socket takes them.
 *
 *   GET /stats   what was really done since the last reset, from clock readings around each write()
 *   GET /reset   forget it;  /reset?ttft_us=N&itl_us=N also sets new delays
 *   GET /health, GET /v1/models
 *
 * All times are CLOCK_MONOTONIC, which Python's time.perf_counter_ns reads as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 8192
#define BUFFER (1 << 20)
#define SPIN_NS 60000

typedef struct {
  int fd;
  int streaming, chat;
  long tokens, sent, prompt_tokens;
  int64_t t0, due, first, last;
  int heap_at; /* place in the heap of due chunks, -1 for none */
  size_t have;
  char *in;
} Connection;

static Connection *connections[MAX_CONNECTIONS];
static Connection *heap[MAX_CONNECTIONS];
static int heap_size;
static int64_t ttft_ns, itl_ns;

/* What was done since the last reset. */
static long requests_done, chunks, accepted;
static double ttft_sum, itl_sum;
static long itl_count;
static int64_t first_request, last_write;
static double ttft_max, itl_max;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void heap_swap(int a, int b) {
  Connection *c = heap[a];
  heap[a] = heap[b];
  heap[b] = c;
  heap[a]->heap_at = a;
  heap[b]->heap_at = b;
}

static void heap_up(int at) {
  while (at && heap[(at - 1) / 2]->due > heap[at]->due) {
    heap_swap(at, (at - 1) / 2);
    at = (at - 1) / 2;
  }
}

static void heap_down(int at) {
  for (;;) {
    int least = at, left = 2 * at + 1, right = left + 1;
    if (left < heap_size && heap[left]->due < heap[least]->due) least = left;
    if (right < heap_size && heap[right]->due < heap[least]->due) least = right;
    if (least == at) return;
    heap_swap(at, least);
    at = least;
  }
}

static void heap_push(Connection *c) {
  heap[heap_size] = c;
  c->heap_at = heap_size++;
  heap_up(c->heap_at);
}

static void heap_remove(Connection *c) {
  int at = c->heap_at;
  if (at < 0) return;
  heap_swap(at, --heap_size);
  c->heap_at = -1;
  if (at < heap_size) {
    heap_up(at);
    heap_down(at);
  }
}

static void drop(Connection *c) {
  heap_remove(c);
  connections[c->fd] = NULL;
  close(c->fd);
  free(c->in);
  free(c);
}

/* Everything, waiting for a reader that is slow; 0 when it is gone. */
static int send_all(int fd, const char *data, size_t length) {
  while (length) {
    ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      struct timespec pause = {0, 50000};
      nanosleep(&pause, NULL);
      continue;
    }
    if (n <= 0) return 0;
    data += n;
    length -= (size_t)n;
  }
  return 1;
}

static int framed(char *out, const char *event) {
  return sprintf(out, "%zx\r\n%s\r\n", strlen(event), event);
}

static const char *const COMPLETION =
    "data: {\"id\":\"cmpl-0123456789abcdef\",\"object\":\"text_completion\",\"created\":1700000000,"
    "\"model\":\"mock\",\"choices\":[{\"index\":0,\"text\":\" token\",\"logprobs\":null,"
    "\"finish_reason\":%s,\"stop_reason\":null}],\"usage\":null}\n\n";
static const char *const CHAT =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
    "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
    "\" token\"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n";
static const char *const ROLE =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
    "\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{\"role\":"
    "\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";

static void account(Connection *c, int64_t at) {
  if (!c->sent) {
    double ttft = (double)(at - c->t0);
    ttft_sum += ttft;
    if (ttft > ttft_max) ttft_max = ttft;
    c->first = at;
  } else {
    double gap = (double)(at - c->last);
    itl_sum += gap;
    itl_count++;
    if (gap > itl_max) itl_max = gap;
  }
  c->last = last_write = at;
  chunks++;
}

/* Write the next chunk; with the last one, the end of the response. 0 when the client is gone. */
static int write_chunk(Connection *c) {
  char event[1024], out[4096];
  int n = 0, final = c->sent + 1 == c->tokens;
  if (!c->sent) {
    n += sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                      "transfer-encoding: chunked\r\n\r\n");
    if (c->chat) n += framed(out + n, ROLE);
  }
  snprintf(event, sizeof event, c->chat ? CHAT : COMPLETION, final ? "\"length\"" : "null");
  n += framed(out + n, event);
  int64_t at = now_ns();
  if (!send_all(c->fd, out, (size_t)n)) return 0;
  account(c, at);
  c->sent++;
  if (!final) return 1;
  snprintf(event, sizeof event,
           "data: {\"id\":\"cmpl-0123456789abcdef\",\"object\":\"%s\",\"created\":1700000000,"
           "\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,"
           "\"completion_tokens\":%ld}}\n\n",
           c->chat ? "chat.completion.chunk" : "text_completion", c->prompt_tokens,
           c->prompt_tokens + c->tokens, c->tokens);
  n = framed(out, event);
  n += framed(out + n, "data: [DONE]\n\n");
  n += sprintf(out + n, "0\r\n\r\n");
  c->streaming = 0;
  requests_done++;
  return send_all(c->fd, out, (size_t)n);
}

static long number_after(const char *text, const char *name, long otherwise) {
  const char *at = strstr(text, name);
  return at ? atol(at + strlen(name)) : otherwise;
}

/* Token ids in the prompt array; one for a text. */
static long prompt_length(const char *body) {
  const char *at = strstr(body, "\"prompt\":");
  if (!at) return 1;
  at += strlen("\"prompt\":");
  while (*at == ' ') at++;
  if (*at != '[') return 1;
  long commas = 0;
  for (; *at && *at != ']'; at++) commas += *at == ',';
  return commas + 1;
}

static int answer(Connection *c, const char *type, const char *body) {
  char out[4096];
  int n = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s",
                   type, strlen(body), body);
  return send_all(c->fd, out, (size_t)n);
}

static int stats(Connection *c) {
  char body[1024];
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
               (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
  snprintf(body, sizeof body,
           "{\"requests\":%ld,\"chunks\":%ld,\"connections\":%ld,\"ttft_mean_ms\":%.6f,"
           "\"ttft_max_ms\":%.6f,\"itl_mean_ms\":%.6f,\"itl_max_ms\":%.6f,\"first_request_ns\":%lld,"
           "\"last_write_ns\":%lld,\"cpu_s\":%.6f}",
           requests_done, chunks, accepted, requests_done ? ttft_sum / (double)requests_done / 1e6 : 0.0,
           ttft_max / 1e6, itl_count ? itl_sum / (double)itl_count / 1e6 : 0.0, itl_max / 1e6,
           (long long)first_request, (long long)last_write, cpu);
  return answer(c, "application/json", body);
}

static void reset(const char *head) {
  requests_done = chunks = accepted = itl_count = 0;
  ttft_sum = itl_sum = ttft_max = itl_max = 0;
  first_request = last_write = 0;
  ttft_ns = number_after(head, "ttft_us=", ttft_ns / 1000) * 1000;
  itl_ns = number_after(head, "itl_us=", itl_ns / 1000) * 1000;
}

/* One complete request in c->in. 0 when the connection is to be dropped. */
static int handle(Connection *c, const char *body) {
  if (!strncmp(c->in, "GET /stats", 10)) return stats(c);
  if (!strncmp(c->in, "GET /reset", 10)) {
    reset(c->in);
    return answer(c, "application/json", "{}");
  }
  if (!strncmp(c->in, "GET /v1/models", 14))
    return answer(c, "application/json", "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}]}");
  if (!strncmp(c->in, "GET ", 4)) return answer(c, "text/plain", "");
  c->chat = !strncmp(c->in, "POST /v1/chat/completions", 25);
  c->tokens = number_after(body, "\"max_tokens\":", 0);
  if (c->tokens < 1) c->tokens = number_after(body, "\"max_completion_tokens\":", 16);
  c->prompt_tokens = prompt_length(body);
  c->t0 = now_ns();
  if (!first_request) first_request = c->t0;
  c->sent = 0;
  c->streaming = 1;
  c->due = c->t0 + ttft_ns;
  heap_push(c);
  return 1;
}

static void readable(Connection *c) {
  for (;;) {
    ssize_t n = recv(c->fd, c->in + c->have, BUFFER - 1 - c->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      drop(c);
      return;
    }
    c->have += (size_t)n;
    c->in[c->have] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) continue;
    const char *length = strcasestr(c->in, "\r\ncontent-length:");
    size_t body = length && length < end ? (size_t)atol(length + 17) : 0;
    size_t head = (size_t)(end + 4 - c->in);
    if (head + body >= BUFFER) {
      drop(c);
      return;
    }
    if (c->have < head + body) continue;
    if (!handle(c, c->in + head)) {
      drop(c);
      return;
    }
    c->have = 0;
  }
}

static void accept_all(int listening, int poll) {
  for (;;) {
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    if (fd >= MAX_CONNECTIONS) {
      close(fd);
      continue;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->heap_at = -1;
    c->in = malloc(BUFFER);
    connections[fd] = c;
    accepted++;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  }
}

/* Write what is due; without delays one chunk for every stream, so that they advance in step. */
static void write_due(void) {
  int64_t now = now_ns();
  int most = heap_size;
  while (heap_size && heap[0]->due <= now && most-- > 0) {
    Connection *c = heap[0];
    if (!write_chunk(c)) {
      drop(c);
      continue;
    }
    if (!c->streaming) {
      heap_remove(c);
      continue;
    }
    c->due = itl_ns || ttft_ns ? c->t0 + ttft_ns + c->sent * itl_ns : now + c->sent;
    heap_down(0);
  }
}

static int wait_ms(void) {
  if (!heap_size) return -1;
  int64_t left = heap[0]->due - now_ns();
  return left <= SPIN_NS ? 0 : (int)((left - SPIN_NS) / 1000000);
}

int main(int count, char **arguments) {
  for (int i = 1; i + 1 < count; i += 2) {
    long value = atol(arguments[i + 1]);
    if (!strcmp(arguments[i], "--ttft-us")) ttft_ns = value * 1000;
    if (!strcmp(arguments[i], "--itl-us")) itl_ns = value * 1000;
    if (!strcmp(arguments[i], "--core")) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET((int)value, &set);
      sched_setaffinity(0, sizeof set, &set);
    }
  }
  signal(SIGPIPE, SIG_IGN);
  int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 4096)) return 1;
  getsockname(listening, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int poll = epoll_create1(0);
  struct epoll_event own = {.events = EPOLLIN, .data.fd = listening};
  epoll_ctl(poll, EPOLL_CTL_ADD, listening, &own);
  struct epoll_event input = {.events = EPOLLIN | EPOLLHUP, .data.fd = 0};
  epoll_ctl(poll, EPOLL_CTL_ADD, 0, &input);
  struct epoll_event ready[256];
  for (;;) {
    int n = epoll_wait(poll, ready, 256, wait_ms());
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      char byte;
      if (fd == listening) {
        accept_all(listening, poll);
      } else if (fd == 0) {
        if (read(0, &byte, 1) <= 0) return 0;
      } else if (connections[fd]) {
        readable(connections[fd]);
      }
    }
    write_due();
  }
}
