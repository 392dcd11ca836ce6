/* A stand-in for VMware's libvixDiskLib: the exported functions of the real one, over a raw file.
 *
 * It is stricter than the real one: calls out of order, from another thread than the one that began, buffers that are
 * not aligned to 512 bytes, and anything that would write are noted as VIOLATION in the log, and fail.
 *
 *   STANDIN_DISK    raw file with the disk's bytes
 *   STANDIN_LOG     file to which each call is appended, a line each
 *   STANDIN_ACCOUNT user, a slash, the password
 *   STANDIN_FAIL    init | connect | open | read:N (the Nth read fails) | crash:N (the process dies in the Nth read) |
 *                   once:N (as crash, but only while the file STANDIN_LOG.crashed is not there) | blocks
 *   STANDIN_MILLIS  how long a read takes at least
 *   STANDIN_SYNC    hides the asynchronous functions' effect: ReadAsync answers at once
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t VixError;
typedef void Log(const char *format, va_list arguments);
enum { OK = 0, FAILED = 1, NOT_FOUND = 4000, DENIED = 18000, LOST = 14009, VIOLATED = 77777, ASYNC = 25000 };

typedef struct {
    char *vmxSpec, *serverName, *thumbPrint;
    long privateUse;
    int credType;
    union { struct { char *userName, *password; } uid; struct { char *cookie, *userName, *key; } sessionId; } creds;
    uint32_t port, nfcHostPort;
    char *vimApiVer;
    char reserved[8];
    void *state;
    struct { char *id, *datastoreMoRef, *ssId; } spec;
    int specType;
    char newer[64]; /* what a later version has more */
} Params;

typedef struct { uint32_t geometry[6]; uint64_t capacity; int adapter, links; char *hint, *uuid; } Info;
typedef struct { uint32_t count; uint64_t blocks[][2]; } __attribute__((aligned(8))) Blocks;
typedef struct { int live; } Connection;
typedef struct { Connection *connection; int fd, live, pending; uint64_t size; } Handle;
typedef struct { Handle *handle; uint64_t offset, length; uint8_t *buffer; void (*done)(void *, VixError); void *data; } Job;

__attribute__((unused)) static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
__attribute__((unused)) static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static Log *information, *warning;
static int initialised, connections, handles, params, reads;

static void note(const char *format, ...) {
    const char *path = getenv("STANDIN_LOG");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (fd < 0) return;
    line[length] = '\n';
    if (write(fd, line, (size_t)length + 1) < 0) abort();
    close(fd);
}

static void say(Log *log, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (log) log(format, arguments);
    va_end(arguments);
}

static VixError violated(const char *what) {
    note("VIOLATION %s", what);
    return VIOLATED;
}

static int fails(const char *what) {
    const char *order = getenv("STANDIN_FAIL");
    return order && !strcmp(order, what);
}

/* Returns the number behind NAME: in the order, or 0. */
static int number(const char *name) {
    const char *order = getenv("STANDIN_FAIL");
    size_t length = strlen(name);
    return order && !strncmp(order, name, length) && order[length] == ':' ? atoi(order + length + 1) : 0;
}

static int elsewhere(void) { return !pthread_equal(pthread_self(), thread); }

VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, Log *log, Log *warn, Log *panic, const char *folder, const char *config) {
    note("InitEx %u.%u %s %s", major, minor, folder, config ? config : "-");
    if (initialised++) return violated("InitEx twice");
    thread = pthread_self();
    information = log;
    warning = warn;
    (void)panic;
    say(information, "stand-in %s, %d", "begins", 42);
    printf("the library writes to the standard output\n");
    fflush(stdout);
    return fails("init") ? FAILED : OK;
}

void VixDiskLib_Exit(void) {
    note("Exit");
    if (!initialised || connections || handles || params || elsewhere()) violated("Exit with something open, or on another thread");
    initialised = 0;
}

char *VixDiskLib_GetErrorText(VixError code, const char *locale) {
    char *text = NULL;
    (void)locale;
    if (asprintf(&text, "%s", code == DENIED ? "Insufficient permissions" : code == LOST ? "The server refused connection"
            : code == NOT_FOUND ? "The file is not found" : "One of the parameters was invalid") < 0) return NULL;
    return text;
}

void VixDiskLib_FreeErrorText(char *text) { free(text); }

Params *VixDiskLib_AllocateConnectParams(void) {
    params++;
    return calloc(1, sizeof(Params));
}

void VixDiskLib_FreeConnectParams(Params *given) {
    note("FreeConnectParams");
    if (connections) violated("FreeConnectParams before Disconnect");
    params--;
    free(given);
}

VixError VixDiskLib_ConnectEx(const Params *given, char readOnly, const char *snapshot, const char *transports, Connection **out) {
    char account[256];
    note("ConnectEx %s %s %s %s %s port %u", given->vmxSpec, given->serverName, given->thumbPrint, snapshot ? snapshot : "-", transports, given->port);
    if (!initialised || elsewhere()) return violated("ConnectEx before InitEx, or on another thread");
    if (!readOnly) return violated("ConnectEx for writing");
    if (given->credType != 1) return violated("ConnectEx without user and password");
    snprintf(account, sizeof account, "%s/%s", given->creds.uid.userName, given->creds.uid.password);
    if (fails("connect") || strcmp(account, getenv("STANDIN_ACCOUNT") ? getenv("STANDIN_ACCOUNT") : "")) return DENIED;
    *out = calloc(1, sizeof **out);
    (*out)->live = 1;
    connections++;
    return OK;
}

VixError VixDiskLib_Disconnect(Connection *connection) {
    note("Disconnect");
    if (!connection->live || handles || elsewhere()) return violated("Disconnect with an open disk, or on another thread");
    connection->live = 0;
    connections--;
    free(connection);
    return OK;
}

VixError VixDiskLib_Open(Connection *connection, const char *path, uint32_t flags, Handle **out) {
    struct stat status;
    note("Open %s %u", path, flags);
    if (!connection->live || elsewhere()) return violated("Open without a connection, or on another thread");
    if (!(flags & 4)) return violated("Open for writing");
    int fd = open(getenv("STANDIN_DISK"), O_RDONLY);
    if (fails("open") || fd < 0 || fstat(fd, &status)) return NOT_FOUND;
    Handle *handle = calloc(1, sizeof *handle);
    *handle = (Handle){ connection, fd, 1, 0, (uint64_t)status.st_size };
    handles++;
    *out = handle;
    return OK;
}

VixError VixDiskLib_Close(Handle *handle) {
    note("Close");
    if (!handle->live || handle->pending || elsewhere()) return violated("Close while reads are under way, or on another thread");
    handle->live = 0;
    handles--;
    close(handle->fd);
    free(handle);
    return OK;
}

const char *VixDiskLib_GetTransportMode(Handle *handle) { return handle->live ? "nbdssl" : NULL; }

VixError VixDiskLib_GetInfo(Handle *handle, Info **out) {
    *out = calloc(1, sizeof **out);
    (*out)->capacity = handle->size / 512;
    return OK;
}

void VixDiskLib_FreeInfo(Info *info) { free(info); }

static VixError check(Handle *handle, uint64_t first, uint64_t count, uint8_t *buffer) {
    if (elsewhere()) return violated("a read on another thread");
    if (!handle->live) return violated("a read of a closed disk");
    if ((uintptr_t)buffer % 512) return violated("a buffer that is not aligned");
    if (!count || first + count > handle->size / 512) return violated("a read out of range");
    int this = ++reads;
    if (this == number("crash")) abort();
    if (this == number("once")) {
        char path[512];
        snprintf(path, sizeof path, "%s.crashed", getenv("STANDIN_LOG"));
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd >= 0) abort();
    }
    if (this == number("read")) {
        say(warning, "read %llu fails as it was told", (unsigned long long)first);
        return LOST;
    }
    return OK;
}

static VixError fill(Handle *handle, uint64_t offset, uint64_t length, uint8_t *buffer) {
    if (getenv("STANDIN_MILLIS")) usleep((useconds_t)atoi(getenv("STANDIN_MILLIS")) * 1000);
    while (length) {
        ssize_t got = pread(handle->fd, buffer, length, (off_t)offset);
        if (got <= 0) return FAILED;
        buffer += got, offset += (uint64_t)got, length -= (uint64_t)got;
    }
    return OK;
}

VixError VixDiskLib_Read(Handle *handle, uint64_t first, uint64_t count, uint8_t *buffer) {
    VixError code = check(handle, first, count, buffer);
    return code ? code : fill(handle, first * 512, count * 512, buffer);
}

#ifndef STANDIN_OLD
static void *serve(void *given) {
    Job *job = given;
    VixError code = fill(job->handle, job->offset, job->length, job->buffer);
    job->done(job->data, code);
    pthread_mutex_lock(&lock);
    job->handle->pending--;
    pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
    free(job);
    return NULL;
}

VixError VixDiskLib_ReadAsync(Handle *handle, uint64_t first, uint64_t count, uint8_t *buffer, void (*done)(void *, VixError), void *data) {
    VixError code = check(handle, first, count, buffer);
    if (code || getenv("STANDIN_SYNC")) return code ? code : fill(handle, first * 512, count * 512, buffer);
    pthread_t worker;
    Job *job = malloc(sizeof *job);
    *job = (Job){ handle, first * 512, count * 512, buffer, done, data };
    pthread_mutex_lock(&lock);
    if (++handle->pending > 1) note("ReadAsync %d under way", handle->pending);
    pthread_mutex_unlock(&lock);
    if (pthread_create(&worker, NULL, serve, job)) abort();
    pthread_detach(worker);
    return ASYNC;
}

VixError VixDiskLib_Wait(Handle *handle) {
    pthread_mutex_lock(&lock);
    while (handle->pending) pthread_cond_wait(&idle, &lock);
    pthread_mutex_unlock(&lock);
    return OK;
}

/* Says of each unit whether the file has data there. */
VixError VixDiskLib_QueryAllocatedBlocks(Handle *handle, uint64_t first, uint64_t count, uint64_t unit, Blocks **out) {
    note("QueryAllocatedBlocks %llu %llu", (unsigned long long)first, (unsigned long long)count);
    if (elsewhere() || unit < 128 || first % unit || count % unit || count / unit > 512 * 1024) return violated("QueryAllocatedBlocks of no whole units");
    if (fails("blocks")) return FAILED;
    Blocks *list = malloc(sizeof *list + (count / unit + 1) * 16);
    list->count = 0;
    for (uint64_t at = first; at < first + count; at += unit) {
        off_t data = lseek(handle->fd, (off_t)(at * 512), SEEK_DATA);
        if (data < 0 || (uint64_t)data >= (at + unit) * 512) continue;
        list->blocks[list->count][0] = at;
        list->blocks[list->count++][1] = unit;
    }
    *out = list;
    return OK;
}

VixError VixDiskLib_FreeBlockList(Blocks *list) {
    free(list);
    return OK;
}
#endif
