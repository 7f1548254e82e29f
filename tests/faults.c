/* Stands between a program and the C library, and lets a call fail while a file of its name lies in the folder $FAULTS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_ordered(const char *call)
{
    char path[4096];
    const char *folder = getenv("FAULTS");
    return folder && snprintf(path, sizeof path, "%s/%s", folder, call) < (int)sizeof path && access(path, F_OK) == 0;
}

int fdatasync(int file)
{
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
