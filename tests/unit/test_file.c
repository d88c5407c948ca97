/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/file.h"

#include <signal.h>
#include <sys/resource.h>

#include "unit/test.h"

enum { PAGE = 4096 };

/* Returns a descriptor of the test's directory. */
static int open_dir(void)
{
    int dir = file_open(AT_FDCWD, test_dir(), O_RDONLY | O_DIRECTORY, 0);

    CHECK(dir >= 0);
    return dir;
}

/* Returns a new, empty file of this name in dir. */
static int make_file(int dir, const char *name)
{
    int fd = file_open(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);

    CHECK(fd >= 0);
    return fd;
}

/* Returns the file's size, or UINT64_MAX if it cannot be told. */
static uint64_t size_of(int fd)
{
    uint64_t size;

    return file_size(fd, &size) == 0 ? size : UINT64_MAX;
}

TEST("files are opened close-on-exec, and errors are negative errnos")
{
    int dir = open_dir();
    int fd = make_file(dir, "a");

    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(file_open(dir, "a", O_RDWR | O_CREAT | O_EXCL, 0600) == -EEXIST);
    CHECK(file_open(dir, "none", O_RDONLY, 0) == -ENOENT);
    CHECK(file_open(dir, "a/b", O_RDONLY, 0) == -ENOTDIR);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(fd) == -EBADF);
    CHECK(file_close(dir) == 0);
}

TEST("what is written is read, at any offset, and fewer only at the end")
{
    static unsigned char data[3 * PAGE + 5], back[4 * PAGE];
    int dir = open_dir();
    int fd = make_file(dir, "a");

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 31 + i / 256);
    CHECK(file_write(fd, data, sizeof(data), 7) == 0);
    CHECK(size_of(fd) == sizeof(data) + 7);
    CHECK(file_read(fd, back, sizeof(data), 7) == sizeof(data));
    CHECK(memcmp(back, data, sizeof(data)) == 0);
    CHECK(file_read(fd, back, sizeof(back), 7) == sizeof(data));
    CHECK(file_read(fd, back, 10, sizeof(data)) == 7);
    CHECK(memcmp(back, data + sizeof(data) - 7, 7) == 0);
    CHECK(file_read(fd, back, 10, 1000000) == 0);
    CHECK(file_read(fd, back, 0, 0) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("offsets that no file can have are refused, whatever the length")
{
    struct iovec piece = {(char[1]){0}, 1};
    int dir = open_dir();
    int fd = make_file(dir, "a");
    char byte = 0;

    CHECK(file_read(fd, &byte, 1, UINT64_MAX) == -EINVAL);
    CHECK(file_read(fd, &byte, 1, INT64_MAX) == -EINVAL);
    CHECK(file_read_nowait(fd, &byte, 1, UINT64_MAX) == -EINVAL);
    CHECK(file_write(fd, &byte, 1, UINT64_MAX) == -EINVAL);
    CHECK(file_write(fd, &byte, SIZE_MAX, 0) == -EINVAL);
    CHECK(file_writev(fd, &piece, 1, UINT64_MAX) == -EINVAL);
    CHECK(file_truncate(fd, UINT64_MAX) == -EINVAL);
    CHECK(size_of(fd) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("pieces are written one after the other, empty ones too")
{
    char one[] = "abc", two[] = "", three[] = "defgh", back[9] = "";
    struct iovec pieces[] = {
        {two, 0}, {one, 3}, {two, 0}, {three, 5}, {two, 0}};
    int dir = open_dir();
    int fd = make_file(dir, "a");

    CHECK(file_writev(fd, pieces, 5, 10) == 0);
    CHECK(size_of(fd) == 18);
    CHECK(file_read(fd, back, 8, 10) == 8);
    CHECK(strcmp(back, "abcdefgh") == 0);
    CHECK(file_writev(fd, pieces, 0, 0) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("as many pieces as are allowed are written")
{
    static unsigned char data[FILE_IOV_MAX], back[FILE_IOV_MAX];
    static struct iovec pieces[FILE_IOV_MAX];
    int dir = open_dir();
    int fd = make_file(dir, "a");

    for (size_t i = 0; i < FILE_IOV_MAX; i++) {
        data[i] = (unsigned char)(i * 7);
        pieces[i] = (struct iovec){&data[i], 1};
    }
    CHECK(file_writev(fd, pieces, FILE_IOV_MAX, 0) == 0);
    CHECK(file_read(fd, back, sizeof(back), 0) == FILE_IOV_MAX);
    CHECK(memcmp(back, data, sizeof(data)) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

/* Let files grow to size bytes and no further: write(2) is short there. */
static void limit_file_size(rlim_t size)
{
    struct rlimit limit;

    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = size;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

TEST("after a short write the rest is tried, and its error is told")
{
    static unsigned char data[2 * PAGE];
    struct iovec pieces[] = {{data, 100}, {data, PAGE}, {data, PAGE}};
    int dir = open_dir();
    int fd = make_file(dir, "a");
    int written, written_by_pieces;

    limit_file_size(PAGE + 50);
    written = file_write(fd, data, sizeof(data), 0);
    written_by_pieces = file_writev(fd, pieces, 3, 0);
    limit_file_size(RLIM_INFINITY);
    CHECK(written == -EFBIG);
    CHECK(written_by_pieces == -EFBIG);
    CHECK(size_of(fd) == PAGE + 50);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("a disk that is full is an error of the write")
{
    struct iovec piece = {(char[1]){0}, 1};
    int fd = file_open(AT_FDCWD, "/dev/full", O_RDWR, 0);

    NEED(fd >= 0);
    CHECK(file_write(fd, "a", 1, 0) == -ENOSPC);
    CHECK(file_writev(fd, &piece, 1, 0) == -ENOSPC);
    CHECK(file_close(fd) == 0);
}

TEST("reading without waiting gives all that is asked for, or says again")
{
    static unsigned char data[4 * PAGE], back[4 * PAGE];
    int dir = open_dir();
    int fd = make_file(dir, "a");
    ssize_t n;

    memset(data, 0x5a, sizeof(data));
    CHECK(file_write(fd, data, sizeof(data), 0) == 0);
    n = file_read_nowait(fd, back, sizeof(back), 0);
    CHECK(n == -EAGAIN ||
          (n == sizeof(back) && memcmp(back, data, sizeof(data)) == 0));
    CHECK(file_read_nowait(fd, back, PAGE, 3 * PAGE + 1) == -EAGAIN);
    CHECK(file_read_nowait(fd, back, PAGE, 8 * PAGE) == -EAGAIN);
    CHECK(file_read_nowait(-1, back, PAGE, 0) == -EBADF);
    CHECK(file_close(fd) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("what has no offsets, or nothing to sync, is told")
{
    int ends[2];
    char byte;

    NEED(pipe2(ends, O_CLOEXEC) == 0);
    CHECK(file_read(ends[0], &byte, 1, 0) == -ESPIPE);
    CHECK(file_sync(ends[0]) == -EINVAL);
    CHECK(file_sync_data(ends[0]) == -EINVAL);
    CHECK(file_close(ends[0]) == 0);
    CHECK(file_close(ends[1]) == 0);
}

TEST("a file becomes as long as it is told")
{
    unsigned char back[10];
    int dir = open_dir();
    int fd = make_file(dir, "a");

    CHECK(file_write(fd, "0123456789", 10, 0) == 0);
    CHECK(file_truncate(fd, 4) == 0);
    CHECK(size_of(fd) == 4);
    CHECK(file_truncate(fd, 10) == 0);
    CHECK(file_read(fd, back, 10, 0) == 10);
    CHECK(memcmp(back, "0123\0\0\0\0\0\0", 10) == 0);
    CHECK(file_sync_data(fd) == 0);
    CHECK(file_sync(fd) == 0);
    CHECK(file_sync(dir) == 0);
    CHECK(file_close(fd) == 0);
    CHECK(file_sync(fd) == -EBADF);
    CHECK(file_sync_data(fd) == -EBADF);
    CHECK(file_truncate(fd, 0) == -EBADF);
    CHECK(size_of(fd) == UINT64_MAX);
    CHECK(file_close(dir) == 0);
}

TEST("a rename replaces its target, a link does not")
{
    int dir = open_dir();
    int a = make_file(dir, "a"), b = make_file(dir, "b");
    char byte;

    CHECK(file_write(a, "a", 1, 0) == 0);
    CHECK(file_link(dir, "a", dir, "b") == -EEXIST);
    CHECK(file_link(dir, "a", dir, "c") == 0);
    CHECK(file_rename(dir, "a", dir, "b") == 0);
    CHECK(file_rename(dir, "a", dir, "d") == -ENOENT);
    CHECK(file_close(b) == 0);
    b = file_open(dir, "b", O_RDONLY, 0);
    CHECK(file_read(b, &byte, 1, 0) == 1 && byte == 'a');
    CHECK(file_unlink(dir, "c") == 0);
    CHECK(file_unlink(dir, "c") == -ENOENT);
    CHECK(file_read(b, &byte, 1, 0) == 1 && byte == 'a');
    CHECK(file_close(a) == 0);
    CHECK(file_close(b) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("directories are made once")
{
    int dir = open_dir();

    CHECK(file_make_dir(dir, "sub", 0700) == 0);
    CHECK(file_make_dir(dir, "sub", 0700) == -EEXIST);
    CHECK(file_make_dir(dir, "none/sub", 0700) == -ENOENT);
    CHECK(file_close(dir) == 0);
}

TEST("a lock belongs to one open file, and ends when that is closed")
{
    int dir = open_dir();
    int first = make_file(dir, "lock");
    int second = file_open(dir, "lock", O_RDWR, 0);

    CHECK(file_lock(first) == 0);
    CHECK(file_lock(first) == 0);
    CHECK(file_lock(second) == -EWOULDBLOCK);
    CHECK(file_close(first) == 0);
    CHECK(file_lock(second) == 0);
    CHECK(file_close(second) == 0);
    CHECK(file_close(dir) == 0);
}

TEST("a file system tells how much there is, and not less than is left")
{
    struct file_space space = {0};
    int dir = open_dir();

    CHECK(file_space(dir, &space) == 0);
    CHECK(space.total > 0);
    CHECK(space.available <= space.total);
    CHECK(space.inodes_available <= space.inodes_total);
    CHECK(file_close(dir) == 0);
    CHECK(file_space(dir, &space) == -EBADF);
}

/* What a listing saw: a bit for each of the names a, b and c. */
struct seen {
    unsigned names;
    unsigned calls;
    int stop_after;
};

static int note_name(void *context, const char *name)
{
    struct seen *seen = context;

    seen->calls++;
    if (strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'c')
        seen->names |= 1U << (name[0] - 'a');
    return --seen->stop_after == 0 ? -ECANCELED : 0;
}

TEST("a listing tells every entry once, and stops when it is told to")
{
    struct seen seen = {0};
    int dir = open_dir();

    CHECK(file_list(dir, ".", note_name, &seen) == 0);
    CHECK(seen.calls == 0);
    CHECK(file_close(make_file(dir, "a")) == 0);
    CHECK(file_close(make_file(dir, "b")) == 0);
    CHECK(file_make_dir(dir, "c", 0700) == 0);
    CHECK(file_list(dir, ".", note_name, &seen) == 0);
    CHECK(seen.calls == 3 && seen.names == 7);
    seen = (struct seen){.stop_after = 2};
    CHECK(file_list(dir, ".", note_name, &seen) == -ECANCELED);
    CHECK(seen.calls == 2);
    CHECK(file_list(dir, "none", note_name, &seen) == -ENOENT);
    CHECK(file_list(dir, "a", note_name, &seen) == -ENOTDIR);
    CHECK(file_close(dir) == 0);
}
