/* Faults at the calls by which a process writes below one folder, see preload.py.

   Loaded before libc, it counts those calls and lets one of them, or some in a row, end as they do
   when a process is killed, a disk is full or a folder cannot be written. Another process's files
   can be kept from view for a while after they change, and the clock can be off. Nothing happens
   until `torture_arm` is called, and nothing ever to files elsewhere. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING, KILL_BEFORE, KILL_HALF_WAY, KILL_AFTER, FAIL };

static char root[PATH_MAX];
static size_t root_length;
static int kind, error_number, armed;
static long first, last, calls, clock_offset;
static double lag;
static char *own[1 << 14]; /* what this process made, which it always sees */
static int owned;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void torture_arm(const char *folder, int what, long nth, long times, int error, double seconds,
                 long clock) {
  snprintf(root, sizeof root, "%s", folder);
  root_length = strlen(root);
  kind = what, first = nth, last = nth + times - 1, error_number = error;
  lag = seconds, clock_offset = clock, calls = 0, owned = 0, armed = 1;
}

long torture_calls(void) { return calls; }

static int below(const char *path) {
  return armed && path && !strncmp(path, root, root_length);
}

static int below_fd(int fd) {
  char name[64], path[PATH_MAX];
  if (!armed || fd < 3) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(name, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return below(path);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); }

/* Whether this call is to fail; a process that is to die before it does not come back. */
static int due(void) {
  long now = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
  if (now < first || now > last) return 0;
  if (kind == KILL_BEFORE) die();
  if (kind == FAIL) { errno = error_number; return 1; }
  return 0;
}

static void after(void) {
  if ((kind == KILL_AFTER || kind == KILL_HALF_WAY) && calls >= first && calls <= last) die();
}

static void remember(const char *path) {
  if (lag > 0 && owned < (int)(sizeof own / sizeof *own)) own[owned++] = strdup(path);
}

/* Whether another process changed it so lately that this one does not see it yet. */
static int hidden(const char *path) {
  struct stat found;
  struct timespec now;
  if (!(lag > 0) || !below(path)) return 0;
  for (int i = 0; i < owned; i++)
    if (!strncmp(path, own[i], strlen(own[i]))) return 0;
  if (syscall(SYS_newfstatat, AT_FDCWD, path, &found, 0)) return 0;
  if (S_ISDIR(found.st_mode) && !strcmp(path, root)) return 0;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  double age = (now.tv_sec - found.st_ctim.tv_sec) + (now.tv_nsec - found.st_ctim.tv_nsec) / 1e9;
  return age < lag;
}

#define CHANGES (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)
#define OPENED(name, call) \
  va_list rest; \
  va_start(rest, flags); \
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
  va_end(rest); \
  REAL(name); \
  if (!(flags & CHANGES) || !below(path)) { \
    if (hidden(path)) { errno = ENOENT; return -1; } \
    return real call; \
  } \
  if (due()) return -1; \
  remember(path); \
  int found = real call; \
  after(); \
  return found;

int open(const char *path, int flags, ...) { OPENED(open, (path, flags, mode)) }
int open64(const char *path, int flags, ...) { OPENED(open64, (path, flags, mode)) }
int openat(int at, const char *path, int flags, ...) { OPENED(openat, (at, path, flags, mode)) }
int openat64(int at, const char *path, int flags, ...) { OPENED(openat64, (at, path, flags, mode)) }

FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  if (!below(path) || !strpbrk(mode, "wa+")) return real(path, mode);
  if (due()) return NULL;
  remember(path);
  return real(path, mode);
}
FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

ssize_t write(int fd, const void *bytes, size_t size) {
  REAL(write);
  if (!below_fd(fd)) return real(fd, bytes, size);
  if (due()) return -1;
  if (kind == KILL_HALF_WAY && calls >= first && calls <= last) real(fd, bytes, size / 2);
  else { ssize_t found = real(fd, bytes, size); after(); return found; }
  after();
  return (ssize_t)(size / 2);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  if (!below_fd(fd)) return real(fd, parts, count);
  if (due()) return -1;
  ssize_t found = real(fd, parts, count);
  after();
  return found;
}

#define AT_PLACE(name) \
  ssize_t name(int fd, const void *bytes, size_t size, off_t place) { \
    REAL(name); \
    if (!below_fd(fd)) return real(fd, bytes, size, place); \
    if (due()) return -1; \
    ssize_t found = real(fd, bytes, size, place); \
    after(); \
    return found; \
  }
AT_PLACE(pwrite)
AT_PLACE(pwrite64)

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
  REAL(fwrite);
  if (!below_fd(fileno(file))) return real(bytes, size, count, file);
  if (due()) return 0;
  size_t found = real(bytes, size, count, file);
  if (kind == KILL_AFTER && calls >= first && calls <= last) fflush(file);
  after();
  return found;
}

#define CHANGED(name, parameters, call, path, result) \
  int name parameters { \
    REAL(name); \
    if (!below(path)) return real call; \
    if (due()) return -1; \
    remember(result); \
    int found = real call; \
    after(); \
    return found; \
  }
CHANGED(rename, (const char *from, const char *to), (from, to), to, to)
CHANGED(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), to, to)
CHANGED(link, (const char *from, const char *to), (from, to), to, to)
CHANGED(mkdir, (const char *path, mode_t mode), (path, mode), path, path)
CHANGED(unlink, (const char *path), (path), path, path)
CHANGED(rmdir, (const char *path), (path), path, path)
CHANGED(truncate, (const char *path, off_t size), (path, size), path, path)

#define ON_FD(name, parameters, call) \
  int name parameters { \
    REAL(name); \
    if (!below_fd(fd)) return real call; \
    if (due()) return -1; \
    int found = real call; \
    after(); \
    return found; \
  }
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off_t size), (fd, size))
ON_FD(fsync, (int fd), (fd))

#define LOOKED(name, parameters, call) \
  int name parameters { \
    REAL(name); \
    if (hidden(path)) { errno = ENOENT; return -1; } \
    return real call; \
  }
LOOKED(stat, (const char *path, struct stat *found), (path, found))
LOOKED(lstat, (const char *path, struct stat *found), (path, found))
LOOKED(stat64, (const char *path, struct stat64 *found), (path, found))
LOOKED(lstat64, (const char *path, struct stat64 *found), (path, found))
LOOKED(fstatat64, (int at, const char *path, struct stat64 *found, int flags),
       (at, path, found, flags))
LOOKED(access, (const char *path, int mode), (path, mode))
LOOKED(fstatat, (int at, const char *path, struct stat *found, int flags), (at, path, found, flags))

int clock_gettime(clockid_t which, struct timespec *now) {
  int found = (int)syscall(SYS_clock_gettime, which, now);
  if (which == CLOCK_REALTIME && armed) now->tv_sec += clock_offset;
  return found;
}
