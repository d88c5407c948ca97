#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Clock } from '../../gui/lib/clock.mjs';
import { healthOf } from '../../gui/lib/health.mjs';
import { History } from '../../gui/lib/history.mjs';
import { percentile, since } from '../../gui/lib/latency.mjs';
import { cleanMap, cleanStatus } from '../../gui/lib/status.mjs';
import { Watcher } from '../../gui/lib/watcher.mjs';
import { makeStatus } from './fake_daemon.mjs';

// ---- what the daemon says --------------------------------------------------

test('a good answer stays as it is, but for what is not known', () => {
    const good = makeStatus({ log: [{ number: 1, time_ns: 2, level: 'error', text: 'x' }] });
    const clean = cleanStatus({ ...good, news: 1 });
    assert.deepEqual(clean.devices, good.devices);
    assert.deepEqual(clean.daemon, good.daemon);
    assert.deepEqual(clean.log, good.log);
    assert.equal(clean.store, null);
    assert(!('news' in clean));
});

test('nothing that is not of its kind comes through', () => {
    const bad = [null, 1, 'x', [], {}, [null], [1], [[]], true, -1, 1e999,
        'x'.repeat(5000)];
    for (const value of bad) {
        const clean = cleanStatus({
            daemon: value, store: value, log: value, devices: value,
        });
        assert(Array.isArray(clean.devices) && clean.devices.length === 0);
        assert(Array.isArray(clean.log) && clean.log.length === 0);
    }
    const { devices: [device] } = cleanStatus({ devices: [{
        device: 'a', size: '1', state: 1, behind: 1, syncs: [1, { bytes: 'x' }],
        read_latency: [1, -1], held: { toString: 1 }, __proto__: { evil: 1 },
        connections: NaN,
    }] });
    assert.deepEqual(device, { device: 'a', syncs: [{}] });
});

test('a device without a name, or with that of another one, is left out', () => {
    const { devices } = cleanStatus({ devices: [
        {}, { device: '' }, { device: 'a', size: 1 }, { device: 'a', size: 2 },
        { device: 7 }, { device: '__proto__' },
    ] });
    assert.deepEqual(devices, [{ device: 'a', size: 1 }, { device: '__proto__' }]);
});

test('an endpoint that is told of twice is shown, and counted, once', () => {
    const { store: { endpoints } } = cleanStatus({ store: { endpoints: [
        { host: 'h', port: 1, requests: 1 }, { host: 'h', port: 1, requests: 2 },
        { port: 1 }, { host: 'h', port: 2 },
    ] } });
    assert.deepEqual(endpoints,
        [{ host: 'h', port: 1, requests: 1 }, { host: 'h', port: 2 }]);
});

test('the ends of buckets grow, and the last one has none', () => {
    const ends = (value) => cleanStatus({ daemon: { latency_le_ns: value } })
        .daemon.latency_le_ns;
    assert.deepEqual(ends([1, 2, null]), [1, 2, null]);
    for (const bad of [[1, 2], [2, 1, null], [1, 1, null], [null, 1, null],
        [1, null, null], ['1', null]])
        assert.equal(ends(bad), undefined, JSON.stringify(bad));
});

test('there are no more devices, endpoints and lines than there may be', () => {
    const clean = cleanStatus({
        devices: Array.from({ length: 5000 }, (_, i) => ({ device: `d${i}` })),
        log: Array.from({ length: 5000 }, () => ({ text: 'x' })),
        store: { endpoints: Array.from({ length: 5000 }, (_, port) => ({ host: 'h', port })) },
    });
    assert.equal(clean.devices.length, 1000);
    assert.equal(clean.log.length, 64);
    assert.equal(clean.store.endpoints.length, 64);
});

test('a map is whole, or none', () => {
    const map = {
        device: 'a', chunk_size: 1, all_chunks: 2, from: 0, to: 2, step: 1,
        cells: [[2, 0, 0, 0, 1]],
    };
    assert.deepEqual(cleanMap(map), map);
    for (const [key, value] of [['device', 1], ['step', undefined],
        ['cells', null], ['cells', [[1]]], ['cells', [[1, 2, 3, 4, 'x']]],
        ['cells', Array.from({ length: 4097 }, () => [1, 0, 0, 0, 0])],
        ['cells', [[1, 0, 0, 0, 0], [4096, 0, 0, 0, 0]]]])
        assert.equal(cleanMap({ ...map, [key]: value }), null);
});

// ---- its documentation -------------------------------------------------------

const sourceOf = (path) =>
    readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

/** The words in code in the first cells of the tables of a text. */
const keysIn = (text) => [...text.matchAll(/^\| (`[^|]*) \|/gm)]
    .flatMap(([, cell]) => [...cell.matchAll(/`(\w+)`/g)].map(([, key]) => key));

test('docs/STATUS.md has the keys of a device that the daemon tells, and no others', () => {
    const part = /### devices\n([^]*?)\n### store/.exec(sourceOf('docs/STATUS.md'))[1];
    const told = [...sourceOf('lib/cache/status_text.c')
        .matchAll(/^ {4}\{"(\w+)", (?:TEXT|NUMBER|YES_OR_NO|LIST|ROWS)\},$/gm)]
        .map(([, key]) => key);
    assert(told.length > 60);
    for (const key of told)
        assert(part.includes(`\`${key}\``), key);
    for (const key of keysIn(part))
        assert(told.includes(key), key);
});

test('docs/STATUS.md has all other keys, too', () => {
    const text = sourceOf('docs/STATUS.md');
    const words = new Set([...text.matchAll(/`(\w+)`/g)].map(([, word]) => word));
    for (const path of ['common_status.c', 'lib/cache/device_tell.c', 'lib/s3/s3_describe.c',
        'lib/s3/s3_endpoint.c', 'lib/s3/s3_tally.c']) {
        const source = sourceOf(path);
        const keys = [...source.matchAll(/\\"(\w+)\\":/g),
            ...source.matchAll(/write_\w+\(\w+, "(\w+)",/g)].map(([, key]) => key);
        assert(keys.length > 4, path);
        for (const key of keys)
            assert(words.has(key), `${key} of ${path}`);
    }
});

// ---- health ----------------------------------------------------------------

const health = (device, others = {}, isUp = true) => {
    const status = cleanStatus(makeStatus({ device, ...others }));
    return healthOf(status.devices[0], status, isUp);
};

test('each trouble has its word, the worst comes first', () => {
    const cases = [
        ['safe', {}],
        ['safe', { state: 'read-only' }],
        ['safe', { state: 'new', image_epoch: undefined }],
        ['safe', { oldest_unpublished_ns: 1 }],
        ['uploading', { checkpoint: 'open', checkpoint_left: 3 }],
        ['uploading', { checkpoint: 'open', checkpoint_left: 0 }],
        ['uploading', { checkpoint: 'folding' }],
        ['behind', { behind: true }],
        ['behind', { behind: true, checkpoint: 'open', checkpoint_left: 3 }],
        ['degraded', { state: 'waiting' }],
        ['degraded', { held: 'the claim is lost' }],
        ['degraded', { damaged: 1, behind: true }],
        ['degraded', { alarms: 2 }],
        ['degraded', { parked: 1 }],
        ['degraded', { upload_error: 'Input/output error' }],
        ['degraded', { conditional_put: false }],
        ['failed', { state: 'failed', damaged: 1 }],
        ['failed', { state: 'fenced', claim_host: 'other' }],
    ];
    for (const [word, device] of cases) {
        const { word: is, reasons } = health(device);
        assert.equal(is, word, JSON.stringify(device));
        assert(reasons.length > 0 && reasons.every((r) => typeof r === 'string'));
    }
    assert.match(health({ behind: true, max_age_ns: 36 * 3600e9 }).reasons[0],
        /older than maxage, 36 h$/);
    assert.match(health({ state: 'fenced', claim_host: 'other' }).reasons[0], /other/);
    assert.equal(health({ damaged: 1, behind: true }).reasons.length, 2);
    assert.equal(health({}, {}, false).word, 'unknown');
});

test('the S3 service is away when all endpoints rest', () => {
    const store = (...states) => ({
        store: { endpoints: states.map((state, port) => ({ host: 'h', port, state })) },
    });
    assert.equal(health({}, store('resting', 'resting')).word, 'degraded');
    assert.equal(health({}, store('resting', 'slow')).word, 'safe');
    assert.equal(health({}, store()).word, 'safe');
});

test('a device is not well if the store may not be asked', () => {
    const store = (credentials) => ({ store: { endpoints: [], credentials } });
    assert.equal(health({}, store({ problem: '', expires_ns: 0 })).word, 'safe');
    const lost = health({}, store({ problem: 'HTTP status 404' }));
    assert.equal(lost.word, 'degraded');
    assert.match(lost.reasons[0], /credentials.*HTTP status 404/);
    // As the clock of the daemon says.
    assert.equal(health({}, store({ expires_ns: 1.1e18 + 1e9 })).word, 'safe');
    assert.equal(health({}, store({ expires_ns: 1.1e18 - 1e9 })).word, 'degraded');
});

// ---- latencies -------------------------------------------------------------

test('percentiles lie in the bucket that they fall into', () => {
    const ends = [1e9, 2e9, 4e9, null];
    assert.equal(percentile([], ends, 0.5), null);
    assert.equal(percentile([0, 0], ends, 0.5), null);
    assert.equal(percentile([2], ends, 0.5), 0.5);
    assert.equal(percentile([0, 4], ends, 0.5), 1.5);
    assert.equal(percentile([1, 1, 2], ends, 0.99), 3.96);
    assert.equal(percentile([0, 0, 0, 5], ends, 0.5), 4); // at least
});

test('what came since is the difference, or unknown if it began anew', () => {
    assert.deepEqual(since([1, 2], [1, 5, 7]), [0, 3, 7]);
    assert.equal(since([5], [4]), null);
    assert.equal(since([1, 1], [2]), null);
});

// ---- history ---------------------------------------------------------------

const at = (device, daemon = {}) => {
    const status = makeStatus({ device });
    Object.assign(status.daemon, daemon);
    return cleanStatus(status);
};

test('a point is about the time since the one before', () => {
    const history = new History();
    const start = 1e12;
    history.add(start, at({ read_requests: 10, cache_used: 5 }));
    history.add(start + 1000, at({ read_requests: 1000 })); // the same point
    history.add(start + 5000, at({
        read_requests: 20, cache_used: 7, read_latency: [0, 10],
    }));
    const { times, step_ms: step, series } = history.get('hour', 'device', 'disk');
    assert.equal(step, 5000);
    assert.deepEqual(times, [1e9, 1e9 + 5]);
    assert.deepEqual(series.read_iops, [null, 2]);
    assert.deepEqual(series.cache_used, [5, 7]);
    assert(series.read_p50[1] > 16e-6 && series.read_p50[1] < 25e-6);
    assert.deepEqual(series.write_p50, [null, null]);
    assert.equal(history.get('day', 'device', 'disk').times.length, 1);
});

test('there is a gap while the daemon was away, and when it began anew', () => {
    const history = new History();
    history.add(0, at({ read_requests: 10 }));
    history.add(60000, at({ read_requests: 1000 }));
    history.add(65000, at({ read_requests: 1005 }));
    history.add(70000, at({ read_requests: 2000 }, { start_time_ns: 7 }));
    history.add(75000, at({ read_requests: 2010 }, { start_time_ns: 7 }));
    assert.deepEqual(history.get('hour', 'device', 'disk').series.read_iops,
        [...new Array(13).fill(null), 1, null, 2]);
});

test('an hour is an hour, and what is not there any more leaves', () => {
    const history = new History();
    for (let ms = 0; ms <= 2 * 3600e3; ms += 5000)
        history.add(ms, at({ device: ms === 0 ? 'old' : 'disk', cache_used: ms }));
    const { times, series } = history.get('hour', 'device', 'disk');
    assert.equal(times.length, 720);
    assert.equal(times.at(-1), 7200);
    assert.equal(series.cache_used.at(-1), 7200e3);
    assert.equal(series.cache_used[0], 3605e3);
    assert.equal(history.get('hour', 'device', 'old'), null);
    assert.notEqual(history.get('day', 'device', 'old'), null);
    assert.equal(history.get('week', 'device', 'disk'), null);
});

test('a clock that goes back adds nothing', () => {
    const history = new History();
    history.add(10000, at({}));
    history.add(5000, at({}));
    assert.equal(history.get('hour', 'device', 'disk').times.length, 1);
});

test('what comes back after a while begins anew: no peak of all that was meanwhile', () => {
    const history = new History();
    history.add(0, at({ read_requests: 10 }));
    history.add(5000, at({ read_requests: 15 }));
    for (let ms = 10000; ms < 60000; ms += 5000)
        history.add(ms, at({ device: 'other' }));
    history.add(60000, at({ read_requests: 10000 }));
    history.add(65000, at({ read_requests: 10005 }));
    assert.deepEqual(history.get('hour', 'device', 'disk').series.read_iops,
        [null, 1, ...new Array(11).fill(null), 1]);
});

test('when the clock is set, what was moves with it, and now stays now', () => {
    const history = new History();
    const time = { steady: 1e12, wall: 1e12 };
    const clock = new Clock({ steady: () => time.steady, wall: () => time.wall });
    history.add(clock.now(), at({ cache_used: 1 }));
    time.steady += 5000;
    time.wall += 3600e3 + 5000; // an hour forward
    history.add(clock.now(), at({ cache_used: 2 }));
    assert.deepEqual(history.get('hour', 'device', 'disk', clock.shiftMs()).times,
        [1e9 + 3600, 1e9 + 3605]);
    time.wall -= 7200e3;
    assert.equal(clock.toWall(clock.now()), time.wall);
    assert.deepEqual(history.get('hour', 'device', 'disk', clock.shiftMs()).times,
        [1e9 - 3600, 1e9 - 3595]);
});

test('a clock that is off by a little is left alone', () => {
    const time = { steady: 1e12, wall: 1e12 };
    const clock = new Clock({ steady: () => time.steady, wall: () => time.wall });
    assert.equal(clock.toWall(5), 5);
    time.wall += 900;
    assert.equal(clock.toWall(5), 5);
    time.wall += 900;
    assert.equal(clock.toWall(5), 1805);
});

// ---- watcher ---------------------------------------------------------------

/** A watcher that is told one status after the other; look() asks for it. */
function watch() {
    const time = { steady: 1e12, wall: 1e12 };
    const clock = new Clock({ steady: () => time.steady, wall: () => time.wall });
    const told = { status: null };
    const watcher = new Watcher('/none', { askFor: async () => told.status, clock });
    return {
        watcher,
        async look(device, { afterMs = 1000, ...others } = {}) {
            time.steady += afterMs;
            time.wall += afterMs;
            told.status = makeStatus({ device, ...others });
            await watcher.look();
            return watcher.devices[0];
        },
    };
}

test('an upload that stands still has no time left that anybody could wait for', async () => {
    const { look } = watch();
    const upload = (done) => ({
        checkpoint: 'open', checkpoint_chunks: 1000, checkpoint_left: 1000 - done,
        uploaded_chunks: done,
    });
    await look(upload(0));
    let device = await look(upload(10));
    assert.equal(device.upload.left_s, 99);
    for (let i = 0; i < 600; i++)
        device = await look(upload(10));
    assert.equal(device.upload.left_s, null);
});

test('requests of clients that failed are told of for a while', async () => {
    const { look } = watch();
    assert.equal((await look({ errors_io: 7, errors_space: 1 })).health.word, 'safe');
    let device = await look({ errors_io: 9, errors_space: 1 });
    assert.equal(device.health.word, 'degraded');
    assert.match(device.health.reasons[0], /^2 requests of clients failed/);
    device = await look({ errors_io: 9, errors_space: 2 });
    assert.match(device.health.reasons[0], /^3 requests of clients failed/);
    // What clients must not do is their own fault.
    device = await look({ errors_io: 9, errors_space: 2, errors_refused: 4 },
        { afterMs: 11 * 60e3 });
    assert.equal(device.health.word, 'safe');
});

test('failed requests of a daemon that was started anew are counted from none', async () => {
    const { look } = watch();
    const anew = { daemon: { ...makeStatus().daemon, start_time_ns: 2e18 } };
    await look({ errors_io: 7 });
    assert.equal((await look({ errors_io: 1 }, anew)).health.word, 'degraded');
    assert.equal((await look({ errors_io: 1 }, { ...anew, afterMs: 11 * 60e3 }))
        .health.word, 'safe');
});
