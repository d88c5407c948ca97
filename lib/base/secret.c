/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"

void *secret_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, size, MADV_DONTDUMP); /* no kernel is too old */
    return memory;
}

void secret_free(void *memory, size_t size)
{
    if (!memory)
        return;
    explicit_bzero(memory, size);
    (void)munmap(memory, size);
}

int secret_check(const char *path, const struct secret_text *text,
                 struct net_failure *ret_failure)
{
    const int error = -EACCES;

    if (text->owner != 0 && text->owner != geteuid()) {
        net_failure_set(ret_failure, error,
                        "%s belongs to user %u, who can change it; "
                        "run: chown root '%s'",
                        path, (unsigned)text->owner, path);
        return error;
    }
    if (text->mode & S_IRWXO) {
        net_failure_set(ret_failure, error,
                        "%s can be read or written by every user; "
                        "run: chmod o-rwx '%s'",
                        path, path);
        return error;
    }
    return 0;
}

/* Tell what the open file is, and get memory for what is in it. */
static int prepare(int fd, size_t max, struct secret_text *text)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return -EFBIG;
    text->owner = st.st_uid;
    text->mode = st.st_mode;
    text->len = (size_t)st.st_size;
    text->size = text->len + 1;
    text->bytes = secret_new(text->size);
    return text->bytes ? 0 : -ENOMEM;
}

int secret_read(const char *path, size_t max, struct secret_text *ret_text,
                struct net_failure *ret_failure)
{
    struct secret_text text = {0};
    ssize_t got;
    int error;
    /* O_NONBLOCK: opening a FIFO that somebody put there does not hang. */
    AUTO_CLOSE int fd = file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);

    error = fd < 0 ? fd : prepare(fd, max, &text);
    if (!error) {
        got = file_read(fd, text.bytes, text.len, 0);
        error = got < 0 ? (int)got : 0;
        text.len = got < 0 ? 0 : (size_t)got;
    }
    if (!error) {
        *ret_text = text;
        return 0;
    }
    net_failure_set(ret_failure, error, "%s: %s", path,
                    error == -EINVAL  ? "is not a regular file"
                    : error == -EFBIG ? "is too long to be what it should be"
                                      : log_errno(error));
    secret_text_free(&text);
    return error == -ENOTDIR ? -ENOENT : error;
}

void secret_text_free(struct secret_text *text)
{
    secret_free(text->bytes, text->size);
    *text = (struct secret_text){0};
}
