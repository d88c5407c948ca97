#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { healthOf } from '../../gui/lib/health.mjs';
import { History } from '../../gui/lib/history.mjs';
import { percentile, since } from '../../gui/lib/latency.mjs';
import { cleanMap, cleanStatus } from '../../gui/lib/status.mjs';
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
