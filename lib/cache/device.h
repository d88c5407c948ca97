/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device - an exported virtual disk on its cache directory.
 *
 * Third of the five files of a request: nbd_transmission.c before it; after
 * it journal.c for a write, fetch.c for a read of what is not here.
 *
 * A request is submitted with many others and answers through its done
 * function: at once, in the submitting thread, when nothing has to be waited
 * for, else later from another thread.  Requests that are in flight together
 * are not ordered, unless they overlap and write: then they take effect one
 * after the other, in any order, page by page.
 *
 * Threads: any.  A device is open in one process at a time.
 */
#ifndef CACHE_DEVICE_H
#define CACHE_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/chunk_work.h"

struct cache_dir;
struct catalog;
struct chunk_block;
struct chunk_dir;
struct chunk_reader;
struct claim;
struct device;
struct fetch;
struct object_id;
struct object_store;
struct put_probe;
struct state_log;
struct use;
struct workers;

enum {
    DEVICE_SECTOR = 512,             /* what a torn write never splits */
    DEVICE_CHUNK_SIZE_MIN = 1 << 18, /* 256 KiB */
    DEVICE_CHUNK_SIZE_MAX = 1 << 25, /* 32 MiB */
    DEVICE_NAME_MAX = 63,
    DEVICE_REQUEST_MAX = 64 << 20, /* bytes of data in one READ or WRITE */
    DEVICE_INCARNATION_SIZE = 54,  /* "<32 hex>-<20 digits>" and the end mark */
};

/* What the user wants, should the device have gone on elsewhere. */
enum device_attach {
    DEVICE_ATTACH_NORMAL,   /* then it is refused */
    DEVICE_ATTACH_TAKEOVER, /* it is ours from now on, with that content */
    DEVICE_ATTACH_DISCARD,  /* what no image has may be lost */
    DEVICE_ATTACH_FORK,     /* it is opened fenced, to be read and forked */
};

struct device_options {
    const char *name;        /* for messages and as prefix in the store */
    const char *cachedir;    /* an existing directory */
    const char *journal_dir; /* an existing directory, or NULL: in cachedir */
    uint64_t size;           /* bytes, a multiple of DEVICE_SECTOR */
    uint32_t chunk_size;     /* bytes, a power of two */
    uint64_t journal_size;   /* bytes of all segments together */
    uint32_t segment_size;   /* bytes of one, a multiple of 4096; 0: choose */
    size_t block_cache_size; /* bytes of plain blocks kept in memory */
    size_t readahead;        /* bytes of these for what nobody asked for yet;
                                0: nothing is fetched ahead */
    uint64_t cachesize; /* bytes that chunk files may take; 0: the disk's */
    bool write_through; /* every write is durable when answered */
    bool read_only;     /* serve only reads, and also after damage */
    struct object_store *store;  /* where remote chunks are */
    struct put_probe *put_probe; /* of the store; NULL: one of its own */
    uint64_t read_back_ns;       /* see claim_options; 0: choose */
    enum device_attach attach;
    const char *image_device; /* serve a snapshot of that device, which is */
    const char *image_name;   /* only read; NULL: serve what name says */
    struct workers *workers;  /* for what waits for a local disk */
    struct workers *fetchers; /* for what waits for the store */
};

/*
 * Open the device, or create it in an empty cache directory: take the lock,
 * read state log and catalog, replay the journal, make all of it durable.
 * The strings and the pointed-to objects must outlive the device.
 *
 * -EWOULDBLOCK: another process has it; -EUCLEAN: damaged, see the log;
 * -EINVAL: size or chunk size do not fit what is there; -ENXIO: part of it
 * (journal or cache directory) is missing, or the device is another host's by
 * now; -EHOSTDOWN: the store does not answer, and without it nothing can be
 * served.  The reason is logged.
 */
int device_open(const struct device_options *options,
                struct device **ret_device);

/*
 * Sync the journal, mark the device clean, free everything.  No request may
 * be in flight.  Returns the error of the sync.  NULL does nothing.
 */
int device_close(struct device *device);

/* What the device was opened with; the name lives as long as it does. */
const char *device_name(const struct device *device);
uint64_t device_size(const struct device *device); /* bytes */
uint32_t device_chunk_size(const struct device *device);
bool device_is_read_only(const struct device *device);
/* Whether answered writes may still be volatile, so that FLUSH has a use. */
bool device_has_volatile_cache(const struct device *device);

enum device_operation {
    DEVICE_READ,
    DEVICE_WRITE,
    DEVICE_ZERO,     /* reads as zeros afterwards */
    DEVICE_TRIM,     /* whole pages inside the range read as zeros */
    DEVICE_FLUSH,    /* what was answered before is durable afterwards */
    DEVICE_PREFETCH, /* will be read soon; never fails for lack of a store */
    DEVICE_EXTENTS,  /* what is zero or a hole */
};

enum device_flags {
    DEVICE_FUA = 1 << 0,        /* durable when answered */
    DEVICE_NO_HOLE = 1 << 1,    /* ZERO: not reported as a hole afterwards */
    DEVICE_ONE_EXTENT = 1 << 2, /* EXTENTS: one, not past the range */
};

/* A run of bytes of one kind; the bits are those of base:allocation. */
struct device_extent {
    uint64_t length;
    uint32_t flags;
};
enum device_extent_flags {
    DEVICE_EXTENT_HOLE = 1 << 0,
    DEVICE_EXTENT_ZERO = 1 << 1,
};

struct device_request {
    /* Filled in by the caller, unchanged until done. */
    enum device_operation operation;
    unsigned flags; /* of device_flags */
    uint64_t offset;
    uint64_t length; /* bytes; READ and WRITE: up to DEVICE_REQUEST_MAX */
    void *data;      /* READ: filled; WRITE: the source; else NULL */
    struct device_extent *extents; /* EXTENTS: filled, neighbours differ */
    size_t extents_max;            /* EXTENTS: room there, at least 1 */
    /*
     * Set, by the caller, when the client is known to be gone: a request
     * without a place in the journal is then answered -ECANCELED.
     */
    const atomic_bool *client_is_gone;
    /*
     * Called exactly once, by any thread, without a lock of the device; the
     * request belongs to the caller again.  error is 0 or a negative errno;
     * -ECANCELED: it was not carried out, nor did it fail, and whoever asks
     * again may succeed: the client is gone, or the store was interrupted.
     */
    void (*done)(struct device_request *request, int error);
    void *caller; /* the caller's own; device_run uses it */

    /* The answer of EXTENTS: how many were filled in; they cover the range
     * from its start, the last may end before the range does. */
    size_t extents_count;

    /* The device's own, from submit to done. */
    struct device_request *next;
    void *scratch;
    uint64_t progress;
    uint64_t due_ns;
};

/*
 * Run count requests, each inside the device (device_check_range) and, on a
 * read-only device, none that writes.  Those that write and need not wait go
 * to the journal in one append.
 */
void device_submit(struct device *device, struct device_request *requests[],
                   size_t count);

/* Whether length bytes at offset lie inside the device; nothing wraps. */
bool device_check_range(const struct device *device, uint64_t offset,
                        uint64_t length);

/*
 * Wait for one request: what done() would have been given is returned.  For
 * tests and tools; done and caller are overwritten.
 */
int device_run(struct device *device, struct device_request *request);

/*
 * Return when no request of a client that is gone can take a place in the
 * journal any more.  Called after client_is_gone was set.
 */
void device_expel(struct device *device);

/* Who may write. */
enum device_gate {
    DEVICE_GATE_OPEN,
    DEVICE_GATE_WAIT,   /* what writes waits; flushes and reads go on */
    DEVICE_GATE_FENCED, /* what writes, and flushes, is -EIO; reads go on */
};

/*
 * Set the gate, OPEN at first.  On return no request that came before takes a
 * place in the journal any more, unless it is OPEN.
 */
void device_set_gate(struct device *device, enum device_gate gate);

/*
 * Refuse whatever is asked, reads too, with -EIO; and no longer.  For its
 * owner, while the content is exchanged: who attaches meanwhile must neither
 * remember what was, nor write over what is to come.
 */
void device_shut(struct device *device, bool is_shut);

/* From now on chunk files may take so many bytes; 0: the disk's. */
void device_set_cachesize(struct device *device, uint64_t cachesize);

/* What the device knows about itself, at one moment. */
struct device_status {
    bool failed; /* the journal is lost: writes get -EIO */
    enum device_gate gate;
    uint64_t journal_used;  /* bytes */
    uint64_t journal_size;  /* bytes */
    uint64_t chunks_mapped; /* in catalog: not all zeros */
    uint64_t damaged_reads; /* blocks and pages that failed their check */
    uint64_t passes;        /* of destage, finished */
    uint64_t cache_written; /* bytes written to the cache directory */
    uint64_t user_written;  /* bytes of WRITE requests answered */
    uint64_t parked;        /* requests that wait for space, now */
    uint64_t cold_reads;    /* reads that wait for the bucket, now */
    uint64_t cache_used;    /* bytes that the chunk files take */
    uint64_t cache_limit;   /* cachesize, or what the file system could give
                               them: used and still free */
    uint64_t dirty_chunks;  /* that are not in the bucket as they are */
    uint64_t dirty_bytes;   /* what the files of these take, and the journal */
    /*
     * Time (since 1970) of the oldest write that no image holds; 0: all are.
     * After a crash it may be told older than it is, never younger.
     */
    uint64_t unpublished_since_ns;
};
void device_status(struct device *device, struct device_status *ret_status);

/*
 * Fold everything the journal holds into chunk files now, and return when the
 * segments are free.
 */
int device_destage(struct device *device);

/*
 * Calls of the device's owner, each as that of destage.h; -EROFS if it is
 * read-only.
 */
int device_checkpoint(struct device *device, uint64_t time_ns);
int device_uploaded(struct device *device, struct uploaded *list[],
                    size_t count);
int device_evict(struct device *device, const uint64_t chunks[], size_t count,
                 enum evict_depth depth, uint64_t *ret_pages_freed);
int device_distrust(struct device *device, const struct distrusted *what);
void device_keep(struct device *device, uint64_t chunk, uint32_t block,
                 const struct chunk_block *as_read, const struct object_id *id,
                 const void *stored);
int device_published(struct device *device, const uint8_t epoch_record[512]);
int device_drop_checkpoint(struct device *device);
int device_adopt(struct device *device, int (*adopt)(void *context),
                 void *context);

/*
 * Make the catalog equal to the image that claim_publish was told to replace
 * the content with; nobody may be attached.  After an error it can be called
 * again, or the next start does it; until then all that is asked is -EIO.
 */
int device_adopt_published(struct device *device);

/*
 * Parts of it, for its owner: they live as long as the device, NULL is told
 * where the device has none (read-only: use; no store: fetch).  Chunk files
 * are only read through them.
 */
struct claim *device_claim(const struct device *device); /* or NULL */
struct cache_dir *device_cache_dir(const struct device *device);
struct catalog *device_catalog(const struct device *device);
struct catalog *device_checkpoint_catalog(const struct device *device);
struct state_log *device_state_log(const struct device *device);
struct chunk_dir *device_chunk_dir(const struct device *device);
struct chunk_reader *device_reader(struct device *device);
struct fetch *device_fetch(const struct device *device);
struct use *device_use(const struct device *device);
void device_ids(const struct device *device, uint8_t ret_device_id[16],
                uint8_t ret_cachedir_id[16]);

/*
 * Write what tells a client whether it may go on after a connection was lost:
 * "<cachedir id, 32 hex>-<number>".  It is another one, durably, before a
 * content is served that lacks answered writes, or that took the place of
 * what was there.
 */
void device_incarnation(const struct device *device,
                        char ret_text[DEVICE_INCARNATION_SIZE]);

#endif
