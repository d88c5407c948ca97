#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
//
// The real server against a status socket that answers what a test wants.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { hashPassword } from '../../gui/lib/password.mjs';
import {
    EventReader, ENDS, FakeDaemon, frame, get, goodDaemon, makeDir, makeStatus,
    startServer, until,
} from './fake_daemon.mjs';

const TEXT = { timeout: 60000 };

/** A server, and a daemon that answers with what state.status is. */
async function begin(t, { lines, map } = {}) {
    const dir = makeDir(t);
    const state = { status: makeStatus() };
    const daemon = goodDaemon(join(dir, 'status'), () => state.status, map);
    await daemon.start();
    t.after(() => daemon.stop());
    const server = await startServer(t, dir, lines);
    return { dir, state, daemon, server, port: server.port };
}

const json = async (port, path, options) =>
    JSON.parse((await get(port, path, options)).text);

const isUp = (status) => status.server.state === 'up';
const statusOf = (port) => json(port, '/api/status');

/** What a raw connection is answered with, until it is closed. */
function talk(port, text) {
    return new Promise((resolve) => {
        const socket = connect(port, '127.0.0.1', () => socket.write(text));
        let answer = '';
        socket.on('data', (data) => { answer += data; });
        socket.on('error', () => {});
        socket.on('close', () => resolve(answer));
    });
}

// ---- what is shown ---------------------------------------------------------

test('the status is what the daemon says, with what follows from it', TEXT, async (t) => {
    const { port, state } = await begin(t);
    state.status.store = {
        bucket: 'b', endpoints: [{ host: '::1', port: 443, state: 'healthy', requests: 5 }],
    };
    state.status.log = [{ number: 1, time_ns: 5, level: 'warning', text: 'careful' }];
    const status = await until((s) => isUp(s) && s.endpoints.length > 0,
        () => statusOf(port));
    const [device] = status.devices;
    assert.equal(device.device, 'disk');
    assert.equal(device.dirty_chunks, 4);
    assert.deepEqual(device.health,
        { word: 'safe', reasons: ['all of it is in the bucket'] });
    assert(!('read_latency' in device));
    assert.equal(status.daemon.pid, 42);
    assert.equal(status.store.bucket, 'b');
    assert.equal(status.endpoints[0].name, '[::1]:443');
    assert.equal(status.log[0].text, 'careful');
});

test('rates are what happened within a second', TEXT, async (t) => {
    const { port, state } = await begin(t);
    let asked = 0;
    // Each answer has 100 reads more than the one before.
    Object.defineProperty(state, 'status', { get: () => makeStatus({ device: {
        read_requests: 100 * ++asked, read_bytes: 409600 * asked,
        read_latency: [100 * asked],
    } }) });
    const { devices: [{ rates }] } = await until(
        (s) => s.devices[0]?.rates.read_iops > 0, () => statusOf(port));
    // How many a second depends on when it was asked.
    assert(Math.abs(rates.read_bytes / rates.read_iops - 4096) < 10);
    assert(rates.read_p50 > 0 && rates.read_p99 < 17e-6);
    assert(!('write_p50' in rates));
});

test('what is left of an upload is told with its time', TEXT, async (t) => {
    const { port, state } = await begin(t);
    let asked = 0;
    Object.defineProperty(state, 'status', { get: () => makeStatus({ device: {
        checkpoint: 'open', checkpoint_chunks: 1000, uploaded_chunks: 10 * ++asked,
        checkpoint_left: 1000 - 10 * asked, checkpoint_bytes: 5,
        syncs: [{ number: 1, since_ns: 1, leased: 2, chunks: 3, bytes: 4 }],
    } }) });
    const { devices: [device] } = await until(
        (s) => s.devices[0]?.upload?.left_s > 0, () => statusOf(port));
    assert.equal(device.upload.chunks, 1000);
    assert.equal(device.upload.done + device.upload.left, 1000);
    assert.equal(device.health.word, 'uploading');
    assert.equal(device.syncs[0].leased, 2);
});

test('an open page hears of everything at first, and then of what changes', TEXT, async (t) => {
    const { port, state } = await begin(t);
    await until(isUp, () => statusOf(port));
    const reader = new EventReader(port);
    t.after(() => reader.close());
    const first = await reader.next();
    assert.equal(first.event, 'status');
    assert.equal(first.data.devices[0].dirty_chunks, 4);
    state.status.devices[0].dirty_chunks = 3;
    const { data } = await reader.find(({ data: d }) => d.devices);
    assert.equal(data.devices[0].dirty_chunks, 3);
    assert(!('store' in data) && !('order' in data));
    state.status.devices.push({ device: 'second', state: 'new' });
    assert.deepEqual((await reader.find(({ data: d }) => d.order)).data.order,
        ['disk', 'second']);
    state.status.devices.shift();
    assert.deepEqual((await reader.find(({ data: d }) => d.order)).data.order,
        ['second']);
});

test('an open page hears something all the time, also while nothing changes', TEXT, async (t) => {
    const { port } = await begin(t);
    await until(isUp, () => statusOf(port));
    const reader = new EventReader(port);
    t.after(() => reader.close());
    for (let i = 0; i < 3; i++) {
        const { data } = await reader.find(({ event }) => event === 'beat');
        assert(Math.abs(data.now_ms - Date.now()) < 60000);
    }
});

test('more maps than may be asked for at once are asked for in turn', TEXT, async (t) => {
    let asked = 0;
    const waiting = [];
    const { port, daemon } = await begin(t);
    const respond = daemon.respond;
    const cells = (question) => /cells=([0-9]+)/.exec(question)[1];
    daemon.respond = (question, socket) => {
        if (question === 'status')
            return respond(question, socket);
        asked++;
        waiting.push(() => socket.write(frame({
            device: 'disk', chunk_size: 1, all_chunks: 1, from: 0, to: 1,
            step: 1, cells: [[Number(cells(question)), 0, 0, 0, 1]],
        })));
    };
    await until(isUp, () => statusOf(port));
    const answers = Array.from({ length: 8 },
        (_, i) => json(port, `/api/map?device=disk&cells=${i + 1}`));
    await until(() => waiting.length === 4, async () => null);
    for (let i = 0; i < 8; i++) {
        await until(() => waiting.length > 0, async () => null);
        waiting.shift()();
    }
    assert.deepEqual((await Promise.all(answers)).map((map) => map.cells[0][0]),
        [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(asked, 8);
});

test('the history of devices and endpoints is kept, and the map is asked for', TEXT, async (t) => {
    const map = {
        device: 'disk', chunk_size: 1, all_chunks: 2, from: 0, to: 2, step: 1,
        cells: [[2, 0, 0, 0, 1]],
    };
    const { port, daemon } = await begin(t, {
        map: (question) => question.includes('device=disk') ? map : null,
    });
    await until(isUp, () => statusOf(port));
    const history = await json(port, '/api/history?device=disk&range=day');
    assert.equal(history.step_ms, 60000);
    assert.equal(history.series.cache_used.at(-1), 1.049e6);
    assert.equal((await get(port, '/api/history?device=none')).status, 404);
    assert.equal((await get(port, '/api/history?device=disk&range=x')).status, 400);
    assert.deepEqual(await json(port, '/api/map?device=disk&from=0&to=2&cells=5'), map);
    assert(daemon.questions.includes('map device=disk from=0 to=2 cells=5'));
    for (const bad of ['cells=0', 'cells=4097', 'cells=x', 'from=-1',
        'to=99999999999999999999', 'from=1e3'])
        assert.equal((await get(port, `/api/map?device=disk&${bad}`)).status, 400, bad);
    assert.equal((await get(port, '/api/map?device=none')).status, 404);
    assert.equal((await get(port, '/api/map')).status, 404);
});

/** A device and an endpoint of which everything is known. */
const richStatus = () => makeStatus({
    device: {
        device: 'a"b\\c\nd', read_requests: 7, read_ns: 5e9,
        read_latency: [1, 2, 3], oldest_unpublished_ns: 2e18,
    },
    store: { endpoints: [{
        host: 'h', port: 1, state: 'slow', requests: 3, errors: 1,
        throttled: 0, rests: 0, bytes_up: 1, bytes_down: 2, in_flight: 0,
        latency_sum_ns: 4e9,
        latency_buckets: [{ le_ns: 2 ** 21 - 1, count: 2 }, { le_ns: null, count: 1 }],
    }], credentials: { expires_ns: 0 } },
});

test('metrics have every number, each family together', TEXT, async (t) => {
    const { port, state } = await begin(t);
    state.status = richStatus();
    const { text, headers } = await until(({ text: s }) => s.includes('s3blkdev_s3_requests_total'),
        () => get(port, '/metrics'));
    assert.match(headers['content-type'], /^text\/plain; version=0\.0\.4/);
    const name = 'device="a\\"b\\\\c\\nd"';
    for (const line of [
        `s3blkdev_device_requests_total{${name},operation="read"} 7`,
        `s3blkdev_device_request_duration_seconds_bucket{${name},operation="read",le="0.000016384"} 1`,
        `s3blkdev_device_request_duration_seconds_bucket{${name},operation="read",le="0.000032768"} 6`,
        `s3blkdev_device_request_duration_seconds_bucket{${name},operation="read",le="+Inf"} 6`,
        `s3blkdev_device_request_duration_seconds_sum{${name},operation="read"} 5`,
        `s3blkdev_device_oldest_unpublished_timestamp_seconds{${name}} 2000000000`,
        `s3blkdev_device_health{${name},health="safe"} 1`,
        's3blkdev_s3_endpoint_state{endpoint="h:1",state="slow"} 1',
        's3blkdev_s3_request_duration_seconds_bucket{endpoint="h:1",le="0.002097152"} 2',
        's3blkdev_s3_request_duration_seconds_count{endpoint="h:1"} 3',
    ])
        assert(text.includes(`${line}\n`), line);
    // Every family once, with its samples together.
    const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, family]) => family);
    assert.equal(new Set(families).size, families.length);
});

test('metrics are packed for who accepts it', TEXT, async (t) => {
    const { port, state } = await begin(t);
    state.status = richStatus();
    await until(isUp, () => statusOf(port));
    const answer = await fetch(`http://127.0.0.1:${port}/metrics`,
        { headers: { 'Accept-Encoding': 'gzip' } });
    assert.equal(answer.headers.get('content-encoding'), 'gzip');
    assert.match(await answer.text(), /^s3blkdev_device_requests_total\{.*\} 7$/m);
    assert(!('content-encoding' in (await get(port, '/metrics')).headers));
});

/** Every series of a text: {name, labels, value}; labels as they are there. */
const seriesOf = (text) => text.split('\n')
    .map((line) => /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line)).filter(Boolean)
    .map(([, name, labels = '', value]) => ({ name, labels, value: Number(value) }));

/** A status in which every list of latencies has something in all places. */
function manyLatencies() {
    const status = richStatus();
    const [device] = status.devices;
    for (const operation of ['read', 'write', 'flush'])
        device[`${operation}_latency`] = ENDS.map((_, i) => i % 7);
    status.devices.push({ ...device, device: 'short', write_latency: [0, 0, 5] });
    return status;
}

test('series are told once, and histograms grow up to their count', TEXT, async (t) => {
    const { port, state } = await begin(t);
    state.status = manyLatencies();
    const { text } = await until(({ text: s }) => s.includes('"short"'),
        () => get(port, '/metrics'));
    const series = seriesOf(text);
    const keys = series.map(({ name, labels }) => `${name}{${labels}}`);
    assert.equal(new Set(keys).size, keys.length);
    assert(series.every(({ value }) => Number.isFinite(value)));
    const valueOf = (name, labels) =>
        series.find((s) => s.name === name && s.labels === labels).value;
    const counts = series.filter(({ name }) => name.endsWith('_seconds_count'));
    assert.equal(counts.length, 7);
    for (const { name, labels, value } of counts) {
        const family = name.replace(/_count$/, '');
        const buckets = series.filter((s) => s.name === `${family}_bucket` &&
            s.labels.startsWith(`${labels},le=`));
        const ends = buckets.map((s) => /le="(.*)"$/.exec(s.labels)[1])
            .map((end) => end === '+Inf' ? Infinity : Number(end));
        assert(ends.length > 8 && ends.at(-1) === Infinity);
        assert(ends.every((end, i) => i === 0 || end > ends[i - 1]));
        assert(buckets.every((s, i) => i === 0 || s.value >= buckets[i - 1].value));
        assert.equal(buckets.at(-1).value, value);
        assert(valueOf(`${family}_sum`, labels) >= 0);
    }
    const total = ENDS.reduce((sum, _, i) => sum + i % 7, 0);
    assert.equal(valueOf('s3blkdev_device_request_duration_seconds_count',
        'device="short",operation="read"'), total);
    assert.equal(valueOf('s3blkdev_left_out_devices', ''), 0);
});

test('the dashboard asks for nothing but these, with labels that they have', TEXT, async (t) => {
    const { port, state } = await begin(t);
    state.status = manyLatencies();
    const { text } = await until(({ text: s }) => s.includes('"short"'),
        () => get(port, '/metrics'));
    const labelsOf = new Map(seriesOf(text).map(({ name, labels }) =>
        [name, [...labels.matchAll(/(?:^|,)(\w+)="/g)].map(([, label]) => label)]));
    const { panels } = JSON.parse(readFileSync(
        new URL('../../gui/grafana.json', import.meta.url), 'utf8'));
    const targets = panels.flatMap((panel) => panel.targets);
    assert(targets.length > 25);
    for (const { expr, legendFormat } of targets) {
        const names = expr.match(/s3blkdev_\w+/g);
        const labels = [...expr.matchAll(/by \(([^)]*)\)/g)]
            .flatMap(([, list]) => list.split(/, */))
            .concat([...expr.matchAll(/[{,](\w+)=/g)].map(([, label]) => label))
            .concat([...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label))
            .filter((label) => label !== 'instance'); // Prometheus' own
        for (const name of names)
            for (const label of labels)
                assert(labelsOf.get(name)?.includes(label), `${label} of ${expr}`);
        assert(names.every((name) => labelsOf.has(name)), expr);
    }
    // What does not apply any more is not shown as the last that is known.
    for (const { type, title, targets: asked } of panels)
        if (type === 'stat')
            assert(asked.every(({ instant }) => instant), title);
});

const PROMTOOL = spawnSync('promtool', ['--version']).error ? 'promtool is not there' : false;

test('promtool has nothing to say of the metrics', { ...TEXT, skip: PROMTOOL }, async (t) => {
    const { port, state } = await begin(t);
    state.status = richStatus();
    const { text } = await until(({ text: s }) => s.includes('s3blkdev_s3_requests_total'),
        () => get(port, '/metrics'));
    const promtool = spawnSync('promtool', ['check', 'metrics'],
        { input: text, encoding: 'utf8' });
    assert.equal(promtool.status, 0, promtool.stdout + promtool.stderr);
    assert.equal(promtool.stdout + promtool.stderr, '');
});

// ---- when the daemon is away -----------------------------------------------

test('that the daemon ends, hangs or talks nonsense is said, and it comes back', TEXT, async (t) => {
    const { port, state, daemon } = await begin(t);
    const reader = new EventReader(port);
    t.after(() => reader.close());
    await reader.find(({ data }) => data.server?.state === 'up');
    assert.deepEqual({ ...await get(port, '/healthz'), headers: null },
        { status: 200, headers: null, text: 'the daemon answers; devices: 1 safe\n' });

    await daemon.stop();
    await reader.find(({ data }) => data.server?.state === 'down');
    assert.equal((await get(port, '/healthz')).status, 503);
    const status = await statusOf(port);
    assert.equal(status.devices[0].dirty_chunks, 4); // as it was last known
    assert.equal(status.devices[0].health.word, 'unknown');
    assert.match((await get(port, '/metrics')).text, /^s3blkdev_up 0\n/m);
    assert.equal((await get(port, '/api/history?device=disk')).status, 200);

    const respond = daemon.respond;
    daemon.respond = (question, socket) => socket.write('ok payload=3\n{]}');
    await daemon.start();
    await reader.find(({ data }) => data.server?.state === 'wrong');
    daemon.respond = () => {};
    await reader.find(({ data }) => data.server?.state === 'hung');
    state.status = makeStatus({ device: { dirty_chunks: 9 } });
    state.status.daemon.start_time_ns += 1e9;
    daemon.respond = respond;
    await reader.find(({ data }) => data.server?.state === 'up');
    assert.equal((await statusOf(port)).devices[0].dirty_chunks, 9);
});

test('it starts without a daemon, and ends when it is told to', TEXT, async (t) => {
    const dir = makeDir(t);
    const { port, child, ended } = await startServer(t, dir);
    const status = await until((s) => s.server.state === 'down', () => statusOf(port));
    assert.deepEqual(status.devices, []);
    const reader = new EventReader(port);
    await reader.next();
    child.kill('SIGTERM');
    assert.equal(await ended, 0);
    await reader.ended;
});

// ---- who means harm --------------------------------------------------------

test('nothing but what it knows is answered, whatever is asked for', TEXT, async (t) => {
    const { port, server } = await begin(t);
    for (const path of ['/../server.mjs', '/%2e%2e/server.mjs', '/lib/http.mjs',
        '/server.mjs', '/package.json', '//etc/passwd', '/uplot/../../server.mjs',
        '/api', '/api/', '/api/status/', '/constructor', '/__proto__',
        '/api/../metrics', '/uplot/package.json', '/%00', '/index.html%00.js'])
        assert.equal((await get(port, path)).status, 404, path);
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE']) {
        const { status } = await get(port, '/api/status', { method });
        assert.equal(status, 405, method);
    }
    assert.equal((await get(port, `/${'x'.repeat(5000)}`)).status, 414);
    assert.equal((await get(port, '/', { headers: { x: 'x'.repeat(9000) } })).status, 431);
    const head = await get(port, '/api/status', { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.text, '');
    assert.doesNotMatch(server.said(), /Error/);
});

test('every answer says what a browser may do with it', TEXT, async (t) => {
    const { port } = await begin(t);
    for (const path of ['/api/status', '/metrics', '/healthz', '/none',
        '/uplot/uPlot.min.css', '/uplot/uPlot.esm.js']) {
        const { headers } = await get(port, path);
        assert.match(headers['content-security-policy'],
            /^default-src 'none'; script-src 'self'; style-src 'self';/);
        assert.doesNotMatch(headers['content-security-policy'], /unsafe|http|data:|\*/);
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['x-frame-options'], 'DENY');
        assert(!('access-control-allow-origin' in headers));
        assert(!('x-powered-by' in headers) && !('server' in headers));
    }
    const { headers: { etag } } = await get(port, '/style.css');
    const again = await get(port, '/style.css',
        { headers: { 'if-none-match': etag } });
    assert.equal(again.status, 304);
});

test('a name that is not ours is not answered, for it may be anybody\'s', TEXT, async (t) => {
    const { port } = await begin(t, { lines: ['hostname disk.example'] });
    for (const host of ['evil.example', 'localhost.evil.example', 'disk.example.',
        'a@localhost', 'localhost:x', '127.0.0.1.evil.example', '[::1', '1.2.3'])
        assert.equal((await get(port, '/healthz', { headers: { host } })).status,
            421, host);
    for (const host of ['localhost', `localhost:${port}`, '127.0.0.1', '10.0.0.1:80',
        '[::1]:8080', 'DISK.example:99'])
        assert.notEqual((await get(port, '/healthz', { headers: { host } })).status,
            421, host);
});

test('a broken request is answered with an error, and the next one is served', TEXT, async (t) => {
    const { port } = await begin(t);
    const host = 'Host: localhost\r\n';
    for (const text of ['\r\n\r\n', 'GET\r\n\r\n', 'rubbish\0\r\n\r\n',
        'GET / HTTP/9.9\r\n\r\n', 'GET / HTTP/1.1\r\n\r\n',
        `GET /none\r\nX: y HTTP/1.1\r\n${host}\r\n`,
        `GET / HTTP/1.1\r\n${host}Content-Length: x\r\n\r\n`,
        `GET / HTTP/1.1\r\n${host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`])
        assert.match(await talk(port, text), /^HTTP\/1\.1 [45]|^$/, JSON.stringify(text));
    // What a client puts into its request comes back in no header.
    const injected = await talk(port,
        `GET /x%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\n${host}Connection: close\r\n\r\n`);
    assert.match(injected, /^HTTP\/1\.1 404/);
    assert.doesNotMatch(injected, /^set-cookie/im);
    assert.equal((await get(port, '/style.css')).status, 200);
});

test('many connections that say nothing keep nobody else out', TEXT, async (t) => {
    const { port } = await begin(t);
    const idle = Array.from({ length: 200 }, () => {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', () => {});
        return socket.resume();
    });
    t.after(() => idle.forEach((socket) => socket.destroy()));
    await Promise.all(idle.map((socket) =>
        new Promise((resolve) => socket.once('connect', resolve))));
    const answers = await Promise.all(Array.from({ length: 40 }, () => statusOf(port)));
    assert.equal(answers.length, 40);
    // Those who are slow to ask are not waited for: the server ends them.
    await Promise.all(idle.map((socket) => new Promise((resolve) =>
        socket.closed ? resolve() : socket.once('close', resolve))));
});

test('more pages than there is room for are turned away, until one is closed', TEXT, async (t) => {
    const { port } = await begin(t);
    const readers = Array.from({ length: 64 }, () => new EventReader(port));
    t.after(() => readers.forEach((reader) => reader.close()));
    await Promise.all(readers.map((reader) => reader.next()));
    assert.equal((await get(port, '/api/events')).status, 503);
    readers.pop().close();
    const next = await until((reader) => reader.response?.statusCode === 200, async () => {
        const reader = new EventReader(port);
        readers.push(reader);
        await new Promise((resolve) => reader.request.once('response', resolve));
        return reader;
    });
    assert.equal((await next.next()).event, 'status');
});

test('a page that does not read is not sent more than there is room for', TEXT, async (t) => {
    const { port, state, server } = await begin(t);
    // Three megabytes, of which all changes each second.
    let asked = 0;
    Object.defineProperty(state, 'status', { get: () => {
        const status = makeStatus();
        asked++;
        status.devices = Array.from({ length: 900 }, (_, i) => ({
            device: `disk${i}`, held: 'x'.repeat(900),
            upload_error: 'x'.repeat(900), claim_host: 'x'.repeat(900),
            checkpoint: 'x'.repeat(900), size: asked,
        }));
        return status;
    } });
    await until(isUp, () => statusOf(port));
    const reader = new EventReader(port);
    t.after(() => reader.close());
    await reader.next();
    reader.response.pause();
    const before = asked;
    await until(() => asked > before + 7, () => get(port, '/healthz'));
    reader.response.resume();
    // It catches up with one whole status, and not with all that it missed.
    let came = 0;
    const { data } = await reader.find(({ event, data: d }) => {
        came++;
        return event === 'status' && d.devices[0].size > before + 3;
    });
    assert.equal(data.devices.length, 900);
    assert(came < asked - before, `${came} of ${asked - before}`);
    assert.doesNotMatch(server.said(), /Error/);
});

test('with a password nothing is told without it', TEXT, async (t) => {
    const { port } = await begin(t,
        { lines: [`password ${await hashPassword('secret')}`] });
    const with_ = (password) => ({ headers: {
        authorization: `Basic ${Buffer.from(`u:${password}`).toString('base64')}`,
    } });
    for (const path of ['/', '/api/status', '/api/events', '/api/history?device=disk',
        '/api/map?device=disk', '/metrics', '/healthz', '/uplot/uPlot.esm.js', '/none']) {
        const { status, headers, text } = await get(port, path);
        assert.equal(status, 401, path);
        assert.match(headers['www-authenticate'], /^Basic realm="s3blkdev"/);
        assert.equal(text, 'a password is needed\n');
        // Guesses are few a second: else it is too busy.
        const guess = await until((answer) => answer.status !== 503,
            () => get(port, path, with_('wrong')));
        assert.equal(guess.status, 401, path);
        assert.equal(guess.text, 'a password is needed\n');
    }
    assert.equal((await get(port, '/api/status', { method: 'POST' })).status, 401);
    await until(({ status }) => status === 200,
        () => get(port, '/api/status', with_('secret')));
    const reader = new EventReader(port, with_('secret').headers);
    assert.equal((await reader.next()).event, 'status');
    reader.close();
});

test('names made of anything are told as they are, and harm nothing', TEXT, async (t) => {
    const { port, state, daemon } = await begin(t);
    const names = ['<script>alert(1)</script>', '"; x="', '__proto__', 'constructor',
        'a b', '../../etc', '\u2028', 'ä\n\r\n', '${x}'];
    state.status.devices = names.map((device) => ({ device, state: 'new' }));
    const status = await until((s) => s.devices.length === names.length,
        () => statusOf(port));
    assert.deepEqual(status.devices.map(({ device }) => device), names);
    for (const name of names) {
        const query = `device=${encodeURIComponent(name)}`;
        assert.equal((await get(port, `/api/history?${query}`)).status, 200, name);
        assert.equal((await get(port, `/api/map?${query}`)).status, 404, name);
    }
    // Each question stayed one line of the kind that was meant.
    assert(daemon.questions.every((question) =>
        question === 'status' || /^map device=[0-9A-Za-z%._,:/+-]+ from=0 to=\d+ cells=2048$/.test(question)));
    const { headers } = await get(port, '/api/status');
    assert.equal(headers['content-type'], 'application/json');
});

test('a daemon that answers too much, or too slowly, takes no memory', TEXT, async (t) => {
    const dir = makeDir(t);
    const endless = new FakeDaemon(join(dir, 'status'), (question, socket) => {
        const more = () => {
            while (socket.writable && socket.write('x'.repeat(65536)))
                ;
            socket.once('drain', more);
        };
        socket.write('ok payload=4194304\n');
        more();
    });
    await endless.start();
    t.after(() => endless.stop());
    const { port } = await startServer(t, dir);
    const status = await until((s) => s.server.state === 'wrong', () => statusOf(port));
    assert.match(status.server.text, /no object of JSON/);
    endless.respond = (question, socket) => socket.write(frame(makeStatus()));
    assert.equal((await until(isUp, () => statusOf(port))).devices.length, 1);
    assert.equal(ENDS.length, 48);
});
