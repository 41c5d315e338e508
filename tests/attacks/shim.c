/* A disk that fails on request: LD_PRELOADed into the gateway by tests/attacks/test_faults.py.
 *
 * The file named by OSTIARY_SHIM holds one word; while it is there, calls on write-ahead files (*.wal) misbehave:
 *   eio    fsync and fdatasync fail with EIO
 *   stall  fsync and fdatasync hang until the file is gone
 *   hold   fsync and fdatasync of payloads (*.osp) hang until the file is gone
 *   short  write, pwrite, writev and pwritev take one byte at a time
 *   kill   the process is killed (SIGKILL) at the Nth call from then on that writes or syncs one ("kill 7"),
 *          counting the moment before and the moment after each
 *
 * Into the file named by OSTIARY_SHIM_SYNCED goes, after each sync of a write-ahead file, "END PATH": what a power cut must leave.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int ends_with(int fd, const char *suffix) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 4) return 0;
    path[n] = 0;
    return strcmp(path + n - 4, suffix) == 0;
}

static int is_wal(int fd) { return ends_with(fd, ".wal"); }

static int asked(const char *word) {
    const char *name = getenv("OSTIARY_SHIM");
    if (!name) return 0;
    char buf[16] = {0};
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t n = real(fd, buf, sizeof buf - 1);
    close(fd);
    return n > 0 && strncmp(buf, word, strlen(word)) == 0;
}

/* How far each descriptor was written; each write-ahead file is written by one thread, front to back. */
static long long written[4096];

static int number_asked(void) {
    const char *name = getenv("OSTIARY_SHIM");
    char buf[32] = {0};
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t n = real(fd, buf, sizeof buf - 1);
    close(fd);
    return n > 5 ? atoi(buf + 5) : 0;
}

/* Called before and after each call, so that every boundary is met: N counts both. */
static void boundary(void) {
    static int seen;
    if (!asked("kill")) return;
    if (++seen >= number_asked()) kill(getpid(), SIGKILL);
}

static void note_synced(int fd, long long end) {
    const char *name = getenv("OSTIARY_SHIM_SYNCED");
    if (!name || fd >= 4096) return;
    char link[64], path[4096], line[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return;
    path[n] = 0;
    int size = snprintf(line, sizeof line, "%lld %s\n", end, path);
    int log = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) return;
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (real(log, line, size) != size) abort();
    close(log);
}

static int sync_of(int fd, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    while (asked("hold") && ends_with(fd, ".osp")) usleep(20000);
    if (!is_wal(fd)) return real(fd);
    if (asked("eio")) { errno = EIO; return -1; }
    while (asked("stall")) usleep(20000);
    boundary();
    long long end = fd < 4096 ? written[fd] : 0;
    int result = real(fd);
    if (result == 0) note_synced(fd, end);
    boundary();
    return result;
}

int fsync(int fd) { return sync_of(fd, "fsync"); }
int fdatasync(int fd) { return sync_of(fd, "fdatasync"); }

ssize_t write(int fd, const void *buf, size_t n) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return real(fd, buf, n > 1 && is_wal(fd) && asked("short") ? 1 : n);
}

static ssize_t pwrite_of(int fd, const void *buf, size_t n, off_t at, const char *name) {
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    return real(fd, buf, n > 1 && is_wal(fd) && asked("short") ? 1 : n, at);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at) { return pwrite_of(fd, buf, n, at, "pwrite"); }
ssize_t pwrite64(int fd, const void *buf, size_t n, off_t at) { return pwrite_of(fd, buf, n, at, "pwrite64"); }

ssize_t writev(int fd, const struct iovec *iov, int count) {
    if (count > 0 && is_wal(fd) && asked("short"))
        for (int i = 0; i < count; i++)
            if (iov[i].iov_len) return write(fd, iov[i].iov_base, 1);
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    return real(fd, iov, count);
}

static ssize_t pwritev_of(int fd, const struct iovec *iov, int count, off_t at, int flags, const char *name) {
    ssize_t (*real)(int, const struct iovec *, int, off_t, int) = dlsym(RTLD_NEXT, name);
    if (!is_wal(fd)) return real(fd, iov, count, at, flags);
    boundary();
    struct iovec one = {0};
    if (count > 0 && asked("short"))
        for (int i = 0; i < count && !one.iov_len; i++)
            if (iov[i].iov_len) one = (struct iovec){iov[i].iov_base, 1};
    ssize_t done = one.iov_len ? real(fd, &one, 1, at, flags) : real(fd, iov, count, at, flags);
    if (done > 0 && fd < 4096 && at + done > written[fd]) written[fd] = at + done;
    boundary();
    return done;
}

/* The same call in its four names; those without flags ignore the last argument. */
ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at) { return pwritev_of(fd, iov, n, at, 0, "pwritev"); }
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t at) { return pwritev_of(fd, iov, n, at, 0, "pwritev64"); }
ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int f) { return pwritev_of(fd, iov, n, at, f, "pwritev2"); }
ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off_t at, int f) { return pwritev_of(fd, iov, n, at, f, "pwritev64v2"); }
