/* A library to preload (LD_PRELOAD): it refuses every name look-up and every connection that is not to this machine itself, and notes
 * them, and every file or folder that is made, as lines of the file that $REFUSE_LOG names:
 *
 *     lookup NAME · connect ADDRESS · made PATH
 *
 * Unix sockets (workers of one program) and loopback (a server and its client) are let through. A refusal looks like a machine without a
 * network. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(const char *what, const char *which) {
    const char *log = getenv("REFUSE_LOG");
    if (!log) return;
    int before = errno;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%s %s\n", what, which);
        if (size > 0 && write(fd, line, (size_t)size) < 0) abort(); /* a test that does not see is no test */
        close(fd);
    }
    errno = before;
}

/* --- the network --- */

static int is_here(const char *name) {
    return !name || !*name || !strcmp(name, "localhost") || !strncmp(name, "127.", 4) || !strcmp(name, "::1");
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (is_here(name)) return real(name, service, hints, found);
    note("lookup", name);
    return EAI_AGAIN;
}

struct hostent *gethostbyname(const char *name) {
    note("lookup", name);
    h_errno = TRY_AGAIN;
    return NULL;
}

struct hostent *gethostbyname2(const char *name, int family) {
    (void)family;
    return gethostbyname(name);
}

int gethostbyname_r(const char *name, struct hostent *entry, char *buffer, size_t size, struct hostent **found, int *error) {
    (void)entry, (void)buffer, (void)size;
    note("lookup", name);
    *found = NULL;
    *error = TRY_AGAIN;
    return EAGAIN;
}

static int refused(const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (!address) return 0; /* on a socket that was connected, which was asked about then */
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        if (ntohl(in->sin_addr.s_addr) >> 24 == 127) return 0;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_LOOPBACK(&in->sin6_addr)) return 0;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
    } else {
        return 0;
    }
    note("connect", text);
    errno = ENETUNREACH;
    return 1;
}

int connect(int fd, const struct sockaddr *address, socklen_t size) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "connect");
    return refused(address) ? -1 : real(fd, address, size);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendto");
    return refused(address) ? -1 : real(fd, data, size, flags, address, length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
    return refused(message->msg_name) ? -1 : real(fd, message, flags);
}

/* --- files --- */

static void made(int folder, const char *path) {
    char text[2 * PATH_MAX + 2], link[64], base[PATH_MAX];
    ssize_t size = -1;
    if (!path) return;
    if (*path == '/') {
        note("made", path);
        return;
    }
    if (folder == AT_FDCWD) {
        size = getcwd(base, sizeof base) ? (ssize_t)strlen(base) : -1;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        size = readlink(link, base, sizeof base - 1);
    }
    if (size < 0) size = 0;
    base[size] = 0;
    snprintf(text, sizeof text, "%s/%s", base, path);
    note("made", text);
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(NAME) \
    int NAME(const char *path, int flags, ...) { \
        MODE(flags, flags) \
        static int (*real)(const char *, int, ...); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        int fd = real(path, flags, mode); \
        if (fd >= 0 && (flags & O_CREAT)) made(AT_FDCWD, path); \
        return fd; \
    }

#define OPENAT(NAME) \
    int NAME(int folder, const char *path, int flags, ...) { \
        MODE(flags, flags) \
        static int (*real)(int, const char *, int, ...); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        int fd = real(folder, path, flags, mode); \
        if (fd >= 0 && (flags & O_CREAT)) made(folder, path); \
        return fd; \
    }

#define FOPEN(NAME) \
    FILE *NAME(const char *path, const char *how) { \
        static FILE *(*real)(const char *, const char *); \
        if (!real) real = dlsym(RTLD_NEXT, #NAME); \
        FILE *file = real(path, how); \
        if (file && strpbrk(how, "wa")) made(AT_FDCWD, path); \
        return file; \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    if (!real) real = dlsym(RTLD_NEXT, "mkdir");
    int result = real(path, mode);
    if (!result) made(AT_FDCWD, path);
    return result;
}

int mkdirat(int folder, const char *path, mode_t mode) {
    static int (*real)(int, const char *, mode_t);
    if (!real) real = dlsym(RTLD_NEXT, "mkdirat");
    int result = real(folder, path, mode);
    if (!result) made(folder, path);
    return result;
}
