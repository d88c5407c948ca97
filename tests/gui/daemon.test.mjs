#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
//
// The page's server against the real daemon and a real client.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EventReader, get, until } from './fake_daemon.mjs';
import { PROGRAMS_PROBLEM, beginDaemon } from './real_daemon.mjs';

const OPTIONS = { timeout: 60000, skip: PROGRAMS_PROBLEM };

test('what a client does is shown, from its requests to the image', OPTIONS, async (t) => {
    const { daemon, port, status, disk } = await beginDaemon(t);
    assert.deepEqual((await status()).devices.map((d) => d.device), ['disk', 'second']);
    assert.equal((await disk()).state, 'new');

    daemon.io('write -P 7 0 3M', 'write -z 8M 2M', 'flush', 'read 0 1M');
    let device = await until((d) => d.read_bytes > 0, disk);
    assert.equal(device.written_bytes, 3 << 20);
    assert.equal(device.read_bytes, 1 << 20);
    assert(device.write_requests > 0 && device.flush_requests > 0);
    assert(device.write_ns > 0 && device.errors_io === 0);
    assert(device.oldest_unpublished_ns > 0 && device.dirty_bytes > 0);

    daemon.sync();
    device = await until((d) => d.image_epoch > 0 &&
        d.oldest_unpublished_ns === undefined, disk);
    assert.equal(device.state, 'serving');
    assert.equal(device.dirty_chunks, 0);
    assert.equal(device.clean_chunks, 3);
    assert.equal(device.uploaded_chunks, 3);
    assert.deepEqual(device.health,
        { word: 'safe', reasons: ['all of it is in the bucket'] });

    const map = JSON.parse((await get(port, '/api/map?device=disk&cells=64')).text);
    assert.equal(map.all_chunks, 64);
    assert.equal(map.step, 1);
    assert.deepEqual(map.cells[0], [3, 0, 0, 1, 0]);
    assert.equal(map.cells.reduce((sum, [count]) => sum + count, 0), 64);

    const { text } = await get(port, '/metrics');
    assert.match(text, /^s3blkdev_device_bytes_total\{device="disk",direction="written"\} 3145728$/m);
    assert.match(text, /^s3blkdev_device_request_duration_seconds_count\{device="disk",operation="flush"\} [1-9]/m);
});

test('that the daemon is killed and comes back is told to an open page', OPTIONS, async (t) => {
    const { daemon, port, disk } = await beginDaemon(t);
    const reader = new EventReader(port);
    t.after(() => reader.close());
    await reader.find(({ event }) => event === 'status');
    daemon.io('write -P 7 0 1M', 'flush');
    await until((d) => d.written_bytes === 1 << 20, disk);

    await daemon.end('SIGKILL');
    await reader.find(({ data }) => data.server?.state === 'down');
    const before = (await disk());
    assert.equal(before.written_bytes, 1 << 20);
    assert.equal(before.health.word, 'unknown');
    daemon.start();
    await reader.find(({ data }) => data.server?.state === 'up');
    const after = await disk();
    assert.equal(after.written_bytes, 0); // counters begin anew
    assert.equal((await get(port, '/api/history?device=disk')).status, 200);
    assert.equal(await daemon.end('SIGTERM'), 0);
});
