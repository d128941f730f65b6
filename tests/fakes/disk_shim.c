/* Below SQLite: every change of a watched file is written to a log, and any of them can
 * be made to fail. LD_PRELOAD it; files whose name starts with $SHIM_WATCH are watched.
 *
 * A record of the log: kind, name, other name, offset, length (text, one line), then so many bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum failure { NONE, EIO_ONCE, FULL_ONCE, SHORT_ONCE };

static int log_fd = -1;
static int countdown = -1;
static enum failure failure = NONE;
static int failed = 0;

/* For the process under test: log to a file, or stop to. */
void shim_log(const char *path) {
    if (log_fd >= 0) close(log_fd);
    log_fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
}

/* Let the n-th change from now, counted from 1, fail once. */
void shim_fail(int n, int kind) {
    countdown = n;
    failure = (enum failure)kind;
    failed = 0;
}

/* Whether it came to that. */
int shim_failed(void) { return failed; }

static const char *watched(const char *path) {
    const char *wanted = getenv("SHIM_WATCH");
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    return wanted && strncmp(name, wanted, strlen(wanted)) == 0 ? name : NULL;
}

static const char *watched_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return NULL;
    path[size] = 0;
    const char *name = watched(path);
    /* shared memory of the log is made anew after a crash */
    return name && !strstr(name, "-shm") ? name : NULL;
}

static void note(char kind, const char *name, const char *other, long long offset,
                 const void *data, size_t size) {
    if (log_fd < 0) return;
    dprintf(log_fd, "%c %s %s %lld %zu\n", kind, name, other, offset, size);
    ssize_t (*real)(int, const void *, size_t) = REAL(write);
    if (size && real(log_fd, data, size) != (ssize_t)size) abort();
}

/* Whether this change is the one that fails; errno says how. */
static int fails(void) {
    if (countdown < 0 || --countdown != 0) return 0;
    countdown = -1;
    failed = 1;
    errno = failure == FULL_ONCE ? ENOSPC : EIO;
    return 1;
}

/* offset < 0: where the file stands, which moves on. */
static ssize_t write_at(int fd, const void *data, size_t size, off64_t offset) {
    ssize_t (*real)(int, const void *, size_t) = REAL(write);
    ssize_t (*real_at)(int, const void *, size_t, off64_t) = REAL(pwrite64);
    char path[PATH_MAX];
    const char *name = watched_fd(fd, path);
    if (name && fails()) {
        if (failure != SHORT_ONCE || size < 2) return -1;
        size /= 2;
    }
    off64_t here = name && offset < 0 ? lseek64(fd, 0, SEEK_CUR) : offset;
    ssize_t done = offset < 0 ? real(fd, data, size) : real_at(fd, data, size, offset);
    if (name && done > 0) note('W', name, "-", here, data, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return write_at(fd, data, size, -1); }

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return write_at(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return write_at(fd, data, size, offset);
}

static int sync_with(int (*real)(int), int fd) {
    char path[PATH_MAX];
    const char *name = watched_fd(fd, path);
    if (name && fails()) return -1;
    int done = real(fd);
    if (name && done == 0) note('S', name, "-", 0, NULL, 0);
    return done;
}

int fsync(int fd) { return sync_with(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_with(REAL(fdatasync), fd); }

int ftruncate64(int fd, off64_t size) {
    int (*real)(int, off64_t) = REAL(ftruncate64);
    char path[PATH_MAX];
    const char *name = watched_fd(fd, path);
    if (name && fails()) return -1;
    int done = real(fd, size);
    if (name && done == 0) note('T', name, "-", size, NULL, 0);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = REAL(rename);
    const char *name = watched(from), *other = watched(to);
    if (name && fails()) return -1;
    int done = real(from, to);
    if (name && other && done == 0) note('R', name, other, 0, NULL, 0);
    return done;
}

int unlink(const char *path) {
    int (*real)(const char *) = REAL(unlink);
    const char *name = watched(path);
    if (name && fails()) return -1;
    int done = real(path);
    if (name && done == 0) note('U', name, "-", 0, NULL, 0);
    return done;
}

/* From the process under test: what it holds to be durable from here on. */
void shim_mark(const char *text) { note('M', text, "-", 0, NULL, 0); }
