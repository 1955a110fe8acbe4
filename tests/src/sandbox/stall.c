/* A disk that stands still, for programs that preload this: calls that write to or sync a file below MHA_STALL_DIR do not
 * return while the file MHA_STALL_FLAG exists. Reads are answered, as they are from memory. What it cannot do: a real
 * stalled disk holds the caller in the kernel, where SIGKILL waits as well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int stalled(int fd)
{
    const char *flag = getenv("MHA_STALL_FLAG");
    const char *dir = getenv("MHA_STALL_DIR");
    char link[64];
    char path[PATH_MAX];
    ssize_t length;
    size_t prefix;

    if (flag == NULL || dir == NULL || access(flag, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    prefix = strlen(dir);
    return strncmp(path, dir, prefix) == 0 && path[prefix] == '/';
}

static void wait_for_disk(int fd)
{
    const struct timespec pause = {0, 5000000};
    int before = errno;

    while (stalled(fd))
        nanosleep(&pause, NULL);
    errno = before;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd)
{
    wait_for_disk(fd);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    wait_for_disk(fd);
    return REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    wait_for_disk(fd);
    return REAL(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    wait_for_disk(fd);
    return REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
    wait_for_disk(fd);
    return REAL(pwrite64)(fd, bytes, count, offset);
}
