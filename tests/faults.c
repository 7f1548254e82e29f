/* Stands between a program and the C library, so that a test can let it fail or die at a call of its choice.
 *
 * FAULTS=FOLDER                while a file of the call's name lies in that folder, fdatasync and pthread_create fail
 * DIE_IN=FOLDER DIE_AT=NUMBER  the process dies at that call, counted from 1, among those that change what lies in FOLDER:
 *                              making, removing, renaming, cutting, syncing and writing files; a write does half of its work first
 * CLOCK=FILE                   the time of day is so many seconds later as FILE says; what measures durations goes on as it did, as
 *                              on a machine that slept
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int is_ordered(const char *call)
{
    char path[4096];
    const char *folder = getenv("FAULTS");
    return folder && snprintf(path, sizeof path, "%s/%s", folder, call) < (int)sizeof path && access(path, F_OK) == 0;
}

/* Whether the process is to die at this call. */
static int is_last(const char *path)
{
    static int passed;
    const char *folder = getenv("DIE_IN"), *number = getenv("DIE_AT");
    if (!folder || !number || strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    return __atomic_add_fetch(&passed, 1, __ATOMIC_SEQ_CST) == atoi(number);
}

static int is_last_of(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return is_last(path);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (flags & O_CREAT && is_last(path))
        abort();
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int unlink(const char *path)
{
    if (is_last(path))
        abort();
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rename(const char *from, const char *to)
{
    if (is_last(to))
        abort();
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int ftruncate64(int file, off_t length)
{
    if (is_last_of(file))
        abort();
    return syscall(SYS_ftruncate, file, length);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    int last = is_last_of(file);
    ssize_t done = syscall(SYS_write, file, bytes, last ? length / 2 : length);
    if (last)
        abort();
    return done;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off_t at)
{
    /* The head of the audit log lies inside one page: the system writes that much wholly or not. */
    int last = is_last_of(file), whole = length < 512;
    if (last && whole)
        abort();
    ssize_t done = syscall(SYS_pwrite64, file, bytes, last ? length / 2 : length, at);
    if (last)
        abort();
    return done;
}

int fsync(int file)
{
    if (is_last_of(file))
        abort();
    return syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    if (is_last_of(file))
        abort();
    if (is_ordered("fdatasync")) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fdatasync, file);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    return is_ordered("pthread_create") ? EAGAIN : real(thread, attributes, start, argument);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("CLOCK");
    char seconds[32] = "";
    int file = path && clock == CLOCK_REALTIME ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) : -1;
    if (file < 0)
        return done;
    if (read(file, seconds, sizeof seconds - 1) > 0)
        now->tv_sec += atol(seconds);
    close(file);
    return done;
}
