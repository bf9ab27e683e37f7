/* Lets one call of the system fail: the n-th of a kind, over all processes, of a file below a directory.
 *
 * FAULTS_UNDER   the directory
 * FAULTS_COUNTS  a file of five 64-bit numbers, one per kind, which all processes count up together
 * FAULT          kind:n:errno:times, kind 0 open, 1 read, 2 write, 3 fsync, 4 rename; n from 1 on; so many
 *                calls fail from the n-th on
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, FSYNC, RENAME, KINDS };

static const char *under;
static uint64_t *counts;
static uint64_t first, times;
static int kind_of_fault = -1, error_of_fault;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_COUNTS"), *fault = getenv("FAULT");
    unsigned long n = 0, many = 0;
    if (!path)
        return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (file < 0)
        return;
    void *shared = mmap(NULL, KINDS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (shared == MAP_FAILED)
        return;
    if (fault && sscanf(fault, "%d:%lu:%d:%lu", &kind_of_fault, &n, &error_of_fault, &many) == 4)
        first = n, times = many;
    under = getenv("FAULTS_UNDER");
    counts = shared;
}

static int fails(int kind, const char *path)
{
    if (!counts || !under || !path || strncmp(path, under, strlen(under)) != 0)
        return 0;
    uint64_t n = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
    if (kind != kind_of_fault || n < first || n >= first + times)
        return 0;
    errno = error_of_fault;
    return 1;
}

static int fails_on(int kind, int file)
{
    char link[64], path[4096];
    if (!counts)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return fails(kind, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                  \
    int name(const char *path, int flags, ...)                       \
    {                                                                \
        va_list rest;                                                \
        va_start(rest, flags);                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                \
        return fails(OPEN, path) ? -1 : NEXT(name)(path, flags, mode); \
    }
#define OPENS_AT(name)                                               \
    int name(int at, const char *path, int flags, ...)               \
    {                                                                \
        va_list rest;                                                \
        va_start(rest, flags);                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                \
        return fails(OPEN, path) ? -1 : NEXT(name)(at, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t read(int file, void *to, size_t size)
{
    return fails_on(READ, file) ? -1 : NEXT(read)(file, to, size);
}
ssize_t pread(int file, void *to, size_t size, off_t at)
{
    return fails_on(READ, file) ? -1 : NEXT(pread)(file, to, size, at);
}
ssize_t pread64(int file, void *to, size_t size, off64_t at)
{
    return fails_on(READ, file) ? -1 : NEXT(pread64)(file, to, size, at);
}
ssize_t write(int file, const void *from, size_t size)
{
    return fails_on(WRITE, file) ? -1 : NEXT(write)(file, from, size);
}
ssize_t pwrite(int file, const void *from, size_t size, off_t at)
{
    return fails_on(WRITE, file) ? -1 : NEXT(pwrite)(file, from, size, at);
}
ssize_t pwrite64(int file, const void *from, size_t size, off64_t at)
{
    return fails_on(WRITE, file) ? -1 : NEXT(pwrite64)(file, from, size, at);
}
int fsync(int file)
{
    return fails_on(FSYNC, file) ? -1 : NEXT(fsync)(file);
}
int fdatasync(int file)
{
    return fails_on(FSYNC, file) ? -1 : NEXT(fdatasync)(file);
}
int rename(const char *from, const char *to)
{
    return fails(RENAME, to) ? -1 : NEXT(rename)(from, to);
}
int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return fails(RENAME, to) ? -1 : NEXT(renameat)(from_at, from, to_at, to);
}
