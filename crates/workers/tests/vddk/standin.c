/* A stand-in for VMware's libvixDiskLib: the exported functions of the real one, over a raw file.
 *
 * It is stricter than the real one: calls out of order, from another thread than the one that began, buffers that are
 * not aligned to a page or into which another read is under way, and anything that would write are noted as VIOLATION
 * in the log, and fail. Reads that are begun end on other threads, in any order; as many as the configuration file has
 * buffers (VixDiskLib.nfcAio.Session.BufCount) are under way at once, a further one waits.
 *
 * Its settings are variables of the environment; those that are not set are looked for in the file standin.conf beside it.
 *
 *   STANDIN_DISK    raw file with the disk's bytes; a name without a slash is a file beside the library
 *   STANDIN_CONFIG  a line without which the configuration file is not right
 *   STANDIN_LOG     file to which each call is appended, a line each
 *   STANDIN_ACCOUNT user, a slash, the password
 *   STANDIN_FAIL    init | connect | open | crash:N (the process dies in the Nth read) |
 *                   blocks | blocks-order | blocks-beyond (the list of blocks is refused, or makes no sense) |
 *                   read:N (the Nth read fails) | once:N (as crash) | async:N (it fails after it was begun) |
 *                   lost:N (that one and all after it fail) | hang:N (it never ends); of these one in a copy, while the
 *                   file STANDIN_LOG.crashed is not there
 *   STANDIN_OUTAGE  so many connections are refused after such a failure
 *   STANDIN_MILLIS  how long a read takes at least
 *   STANDIN_JITTER  microseconds that a read may take longer, at random
 *   STANDIN_SYNC    hides the asynchronous functions' effect: ReadAsync answers at once
 *   STANDIN_MODES   transports that can be used, nbdssl:nbd
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t VixError;
typedef void Log(const char *format, va_list arguments);
enum { OK = 0, FAILED = 1, UNSUPPORTED = 6, NOT_FOUND = 4000, DENIED = 18000, LOST = 14009, VIOLATED = 77777, ASYNC = 25000 };

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
typedef struct { int live; char transport[16]; } Connection;
typedef struct { Connection *connection; int fd, live, pending; uint64_t size; } Handle;
typedef struct { Handle *handle; uint64_t offset, length; uint8_t *buffer; void (*done)(void *, VixError); void *data; VixError code; } Job;

__attribute__((unused)) static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
__attribute__((unused)) static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static Log *information, *warning;
static int initialised, connections, handles, params, reads, buffers = 64, lost;
__attribute__((unused)) static uint8_t *busy[64];

/* Returns a setting, or NULL. */
static const char *setting(const char *name) {
    static char kept[8][600];
    static int count;
    char path[512], line[600];
    static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
    const char *told = getenv(name), *slash, *found = NULL;
    size_t length = strlen(name);
    Dl_info here;
    if (told) return told;
    if (!dladdr(&count, &here) || !here.dli_fname || !(slash = strrchr(here.dli_fname, '/'))) return NULL;
    pthread_mutex_lock(&reading);
    for (int at = 0; at < count; at++) if (!strncmp(kept[at], name, length) && kept[at][length] == '=') found = kept[at] + length + 1;
    snprintf(path, sizeof path, "%.*s/standin.conf", (int)(slash - here.dli_fname), here.dli_fname);
    FILE *file = found ? NULL : fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, name, length) || line[length] != '=') continue;
        if (count == 8) abort();
        found = strcpy(kept[count++], line) + length + 1;
    }
    if (file) fclose(file);
    pthread_mutex_unlock(&reading);
    return found;
}

static void note(const char *format, ...) {
    const char *path = setting("STANDIN_LOG");
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
    const char *order = setting("STANDIN_FAIL");
    return order && !strcmp(order, what);
}

/* Returns the number behind NAME: in the order, or 0. */
static int number(const char *name) {
    const char *order = setting("STANDIN_FAIL");
    size_t length = strlen(name);
    return order && !strncmp(order, name, length) && order[length] == ':' ? atoi(order + length + 1) : 0;
}

static int elsewhere(void) { return !pthread_equal(pthread_self(), thread); }

VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, Log *log, Log *warn, Log *panic, const char *folder, const char *config) {
    note("InitEx %u.%u %s %s", major, minor, folder, config ? config : "-");
    if (initialised++) return violated("InitEx twice");
    if (config) {
        char line[256];
        const char *wanted = setting("STANDIN_CONFIG");
        FILE *file = fopen(config, "r");
        if (!file) return NOT_FOUND;
        while (fgets(line, sizeof line, file)) {
            line[strcspn(line, "\n")] = 0;
            note("config %s", line);
            if (wanted && !strcmp(line, wanted)) wanted = NULL;
            sscanf(line, "VixDiskLib.nfcAio.Session.BufCount=%d", &buffers);
        }
        fclose(file);
        if (wanted) return UNSUPPORTED;
    }
#ifdef STANDIN_BROKEN
    return FAILED;
#endif
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
            : code == NOT_FOUND ? "The file is not found" : code == UNSUPPORTED ? "The operation is not supported" : "One of the parameters was invalid") < 0) return NULL;
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
    if (fails("connect") || strcmp(account, setting("STANDIN_ACCOUNT") ? setting("STANDIN_ACCOUNT") : "")) return DENIED;
    for (int refused = 0; setting("STANDIN_OUTAGE") && refused < atoi(setting("STANDIN_OUTAGE")); refused++) {
        char path[512];
        snprintf(path, sizeof path, "%s.crashed", setting("STANDIN_LOG"));
        if (access(path, F_OK)) break;
        snprintf(path, sizeof path, "%s.refused-%d", setting("STANDIN_LOG"), refused);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0) continue;
        close(fd);
        return LOST;
    }
    const char *modes = setting("STANDIN_MODES") ? setting("STANDIN_MODES") : "nbdssl:nbd";
    char wanted[128], available[128], transport[16] = "", *end, *ends;
    snprintf(wanted, sizeof wanted, "%s", transports);
    for (char *want = strtok_r(wanted, ":", &end); want && !*transport; want = strtok_r(NULL, ":", &end)) {
        snprintf(available, sizeof available, "%s", modes);
        for (char *mode = strtok_r(available, ":", &ends); mode; mode = strtok_r(NULL, ":", &ends))
            if (!strcmp(mode, want)) snprintf(transport, sizeof transport, "%.15s", mode);
    }
    if (!*transport) return UNSUPPORTED;
    *out = calloc(1, sizeof **out);
    (*out)->live = 1;
    memcpy((*out)->transport, transport, sizeof transport);
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
    char beside[512];
    const char *disk = setting("STANDIN_DISK");
    Dl_info here;
    if (disk && !strchr(disk, '/') && dladdr(&initialised, &here) && strrchr(here.dli_fname, '/')) {
        int length = (int)(strrchr(here.dli_fname, '/') - here.dli_fname);
        snprintf(beside, sizeof beside, "%.*s/%s", length, here.dli_fname, disk);
        disk = beside;
    }
    int fd = open(disk ? disk : "", O_RDONLY);
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

const char *VixDiskLib_GetTransportMode(Handle *handle) { return handle->live ? handle->connection->transport : NULL; }

VixError VixDiskLib_GetInfo(Handle *handle, Info **out) {
    *out = calloc(1, sizeof **out);
    (*out)->capacity = handle->size / 512;
    return OK;
}

void VixDiskLib_FreeInfo(Info *info) { free(info); }

/* Whether what fails only once is to fail now. */
static int first_time(void) {
    char path[512];
    snprintf(path, sizeof path, "%s.crashed", setting("STANDIN_LOG"));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static VixError check(Handle *handle, uint64_t first, uint64_t count, uint8_t *buffer) {
    if (elsewhere()) return violated("a read on another thread");
    if (!handle->live) return violated("a read of a closed disk");
    if ((uintptr_t)buffer % 4096) return violated("a buffer that is not aligned");
    if (!count || first + count > handle->size / 512) return violated("a read out of range");
    int this = ++reads;
    if (this == number("crash")) abort();
    if (this == number("once") && first_time()) abort();
    if (this == number("lost") && first_time()) lost = 1;
    if (lost) return LOST;
    if (this == number("read") && first_time()) {
        say(warning, "read %llu fails as it was told", (unsigned long long)first);
        return LOST;
    }
    return OK;
}

static VixError fill(Handle *handle, uint64_t offset, uint64_t length, uint8_t *buffer) {
    if (setting("STANDIN_MILLIS")) usleep((useconds_t)atoi(setting("STANDIN_MILLIS")) * 1000);
    if (setting("STANDIN_JITTER")) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        usleep((useconds_t)((uint64_t)now.tv_nsec * 2654435761u % (uint64_t)atoi(setting("STANDIN_JITTER"))));
    }
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
    VixError code = job->code ? job->code : fill(job->handle, job->offset, job->length, job->buffer);
    pthread_mutex_lock(&lock);
    for (int at = 0; at < 64; at++) if (busy[at] == job->buffer) busy[at] = NULL;
    pthread_mutex_unlock(&lock);
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
    if (code || setting("STANDIN_SYNC")) return code ? code : fill(handle, first * 512, count * 512, buffer);
    pthread_t worker;
    Job *job = malloc(sizeof *job);
    int fails = reads == number("async") && first_time(), hangs = reads == number("hang") && first_time(), at = 0;
    *job = (Job){ handle, first * 512, count * 512, buffer, done, data, fails ? LOST : OK };
    pthread_mutex_lock(&lock);
    for (int other = 0; other < 64; other++) if (busy[other] == buffer) violated("a buffer into which another read is under way");
    while (handle->pending >= buffers) pthread_cond_wait(&idle, &lock);
    if (++handle->pending > 1) note("ReadAsync %d under way", handle->pending);
    while (busy[at] && at < 63) at++;
    busy[at] = buffer;
    pthread_mutex_unlock(&lock);
    if (hangs) return ASYNC;
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
    Blocks *list = malloc(sizeof *list + (count / unit + 3) * 16);
    list->count = 0;
    if (fails("blocks-order") || fails("blocks-beyond")) {
        uint64_t second = fails("blocks-order") ? first : first + count + 1024 * 1024;
        uint64_t lies[2][2] = { { first + unit, unit }, { second, unit * 2 } };
        memcpy(list->blocks, lies, sizeof lies);
        list->count = 2;
        *out = list;
        return OK;
    }
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
