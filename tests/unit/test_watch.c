/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/watch.h"

#include <pthread.h>

#include "attach/attach_state.h"
#include "support/export_server.h"
#include "support/nbd_kernel.h"
#include "unit/test.h"

static struct nbd_kernel *kernel;
static struct export_server *server;
static struct attach_host host;
static struct nbd_driver *events;
static struct target target;
static char path[PATH_MAX + 8], state_dir[PATH_MAX + 8];

static const uint64_t SIZE = 1 << 20;

/* The watcher runs in a thread of its own, and tells. */
static pthread_t thread;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static char last_told[512];
static int result;
static struct net_failure failure;

static void tell(void *context, const char *text)
{
    (void)context;
    (void)pthread_mutex_lock(&mutex);
    (void)snprintf(last_told, sizeof(last_told), "%s", text);
    (void)pthread_cond_broadcast(&told);
    (void)pthread_mutex_unlock(&mutex);
}

/* Wait until so much was told, the last of it with these words. */
static void wait_told(const char *words)
{
    (void)pthread_mutex_lock(&mutex);
    while (strstr(last_told, words) == NULL)
        (void)pthread_cond_wait(&told, &mutex);
    (void)pthread_mutex_unlock(&mutex);
}

/* Wait until it was told that some of so many connections are lost. */
static void wait_lost(const char *all)
{
    (void)pthread_mutex_lock(&mutex);
    while (strstr(last_told, all) != NULL)
        (void)pthread_cond_wait(&told, &mutex);
    (void)pthread_mutex_unlock(&mutex);
}

static void *run_watcher(void *argument)
{
    struct watch_options options = {
        .host = &host, .events = events, .tell = tell};

    (void)argument;
    result = watch_run(&options, &target, &failure);
    return NULL;
}

static void start_watcher(uint32_t connections)
{
    target_init(&target);
    target.index = 1;
    target.connections = connections;
    last_told[0] = '\0';
    CHECK(target_set_server(&target, path, &failure) == 0);
    CHECK(target_set_export(&target, "disk", &failure) == 0);
    CHECK(pthread_create(&thread, NULL, run_watcher, NULL) == 0);
}

/* Wait for the watcher's end; returns its result. */
static int join_watcher(void)
{
    CHECK(pthread_join(thread, NULL) == 0);
    return result;
}

static bool begin(void)
{
    const char *root = test_dir();

    (void)snprintf(path, sizeof(path), "%s/s", root);
    (void)snprintf(state_dir, sizeof(state_dir), "%s/run", root);
    kernel = nbd_kernel_start(root);
    host = (struct attach_host){.root = root, .state_dir = state_dir};
    (void)close(attach_state_lock(state_dir, 1));
    return nbd_driver_open_over(nbd_kernel_open(kernel, false), &host.driver,
                                &failure) == 0 &&
           nbd_driver_open_over(nbd_kernel_open(kernel, true), &events,
                                &failure) == 0;
}

static void done(void)
{
    nbd_driver_close(host.driver);
    nbd_driver_close(events);
    nbd_kernel_stop(kernel);
    if (server)
        export_server_kill(server);
    server = NULL;
}

static void restart(struct export_server_script script)
{
    export_server_kill(server);
    server = export_server_start(path, script);
}

TEST("a watcher attaches, tells, and ends when the device is detached")
{
    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE));
    start_watcher(2);
    wait_told("nbd1: 2 of 2 connections to export disk");
    CHECK(nbd_kernel_device(kernel, 1).connections == 2);
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("a watcher waits for a server that is not there yet")
{
    NEED(begin());
    start_watcher(1);
    server = export_server_start(path, export_server_good(SIZE));
    wait_told("1 of 1");
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("connections that a killed server lost are brought back, again and again")
{
    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE));
    start_watcher(3);
    wait_told("3 of 3");
    for (int i = 0; i < 3; i++) {
        restart(export_server_good(SIZE));
        wait_lost("3 of 3");
        CHECK(nbd_kernel_notice(kernel, 1, i != 1) == 3);
        wait_told("3 of 3");
        CHECK(nbd_kernel_device(kernel, 1).dead == 0);
        export_server_wait_chosen(server, 3);
    }
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("a death that the driver sees late: it is offered more until it has")
{
    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE));
    start_watcher(1);
    wait_told("1 of 1");
    restart(export_server_good(SIZE));
    nbd_kernel_wait_offers(kernel, 2);
    CHECK(nbd_kernel_notice(kernel, 1, true) == 1);
    wait_told("1 of 1");
    CHECK(nbd_kernel_device(kernel, 1).dead == 0);
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("a watcher goes on with a device that another one attached")
{
    struct links *links;
    size_t offers;

    NEED(begin());
    NEED(links_new(&links) == 0);
    server = export_server_start(path, export_server_good(SIZE));
    target_init(&target);
    target.index = 1;
    target.connections = 2;
    NEED(target_set_server(&target, path, &failure) == 0);
    NEED(target_set_export(&target, "disk", &failure) == 0);
    NEED(attach_device(&host, &target, links, &failure) == 0);
    links_free(links);
    /* A file that says otherwise now does not count. */
    start_watcher(1);
    wait_told("2 of 2");
    /* It looks whether one is missing, by offering one. */
    nbd_kernel_wait_offers(kernel, 1);
    /* The driver's events are all that it has. */
    restart(export_server_good(SIZE));
    offers = nbd_kernel_offers(kernel);
    CHECK(nbd_kernel_notice(kernel, 1, true) == 2);
    nbd_kernel_wait_offers(kernel, offers + 2);
    export_server_wait_chosen(server, 2);
    CHECK(nbd_kernel_device(kernel, 1).dead == 0);
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("another incarnation ends the watcher, and the device stays as it is")
{
    struct export_server_script script = export_server_good(SIZE);

    NEED(begin());
    server = export_server_start(path, script);
    start_watcher(2);
    wait_told("2 of 2");
    script.incarnation = "0123456789abcdef-2";
    restart(script);
    CHECK(join_watcher() == -ESTALE);
    CHECK(strstr(failure.text, "nbd1") != NULL);
    CHECK(nbd_kernel_notice(kernel, 1, true) == 2);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    CHECK(nbd_kernel_offers(kernel) == 0);
    /* A watcher that is started again does not make it good. */
    start_watcher(2);
    CHECK(join_watcher() == -ESTALE);
    CHECK(nbd_kernel_device(kernel, 1).dead == 2);
    done();
}

TEST("a device that is attached to something else is left alone")
{
    struct export_server_script script = export_server_good(SIZE);
    struct links *links;

    NEED(begin());
    NEED(links_new(&links) == 0);
    script.incarnation = NULL;
    server = export_server_start(path, script);
    target_init(&target);
    target.index = 1;
    NEED(target_set_server(&target, path, &failure) == 0);
    NEED(target_set_export(&target, "other", &failure) == 0);
    NEED(attach_device(&host, &target, links, &failure) == 0);
    start_watcher(1);
    CHECK(join_watcher() == -EBUSY);
    CHECK(strstr(failure.text, "other means") != NULL);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    links_free(links);
    done();
}

TEST("a device that somebody has open is waited for, as a server is")
{
    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE));
    nbd_kernel_keep_open(kernel, 1, 4);
    start_watcher(1);
    wait_told("1 of 1");
    CHECK(nbd_kernel_device(kernel, 1).connections == 1);
    nbd_kernel_detach(kernel, 1);
    CHECK(join_watcher() == 0);
    done();
}

TEST("what others attach in the place of the device is not the watcher's")
{
    struct target kept;
    uint32_t alive, attached_by;

    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE));
    start_watcher(1);
    wait_told("1 of 1");
    attached_by = nbd_kernel_device(kernel, 1).attached_by;
    CHECK(attach_state_load(state_dir, 1, attached_by, &kept, &alive) == 0);
    nbd_kernel_attach_foreign(kernel, 1, SIZE);
    CHECK(join_watcher() == 0);
    CHECK(nbd_kernel_offers(kernel) == 0);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    /* Nothing is kept of what is over. */
    CHECK(attach_state_load(state_dir, 1, attached_by, &kept, &alive) ==
          -ENOENT);
    done();
}

TEST("what can never be is not tried again")
{
    NEED(begin());
    server = export_server_start(path, export_server_good(SIZE + 1));
    start_watcher(1);
    CHECK(join_watcher() == -EINVAL);
    export_server_change(server, export_server_good(SIZE));
    done();
}

TEST("attempts are at first quick, and never more than 2 s apart")
{
    unsigned delay_ms = 0, sum_ms = 0;

    for (int i = 0; i < 5; i++) {
        unsigned next_ms = watch_next_delay_ms(delay_ms);

        CHECK(next_ms > delay_ms);
        delay_ms = next_ms;
        sum_ms += delay_ms;
    }
    CHECK(watch_next_delay_ms(0) <= 100 && sum_ms <= 3500);
    for (int i = 0; i < 100; i++)
        delay_ms = watch_next_delay_ms(delay_ms);
    CHECK(delay_ms == 2000);
}
