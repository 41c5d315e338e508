/* A disk that fails on request: LD_PRELOADed into the gateway by tests/attacks/test_faults.py.
 *
 * The file named by OSTIARY_SHIM holds one word; while it is there, calls on write-ahead files (*.wal) misbehave:
 *   eio    fsync and fdatasync fail with EIO
 *   stall  fsync and fdatasync hang until the file is gone
 *   short  write, pwrite and writev take one byte at a time
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_wal(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 4) return 0;
    path[n] = 0;
    return strcmp(path + n - 4, ".wal") == 0;
}

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

static int sync_of(int fd, const char *name) {
    if (is_wal(fd)) {
        if (asked("eio")) { errno = EIO; return -1; }
        while (asked("stall")) usleep(20000);
    }
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    return real(fd);
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
