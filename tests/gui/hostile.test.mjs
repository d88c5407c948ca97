#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
//
// Clients that take more than they should, or nothing of what they asked for.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { Page } from '../../gui/lib/http.mjs';
import { Watcher } from '../../gui/lib/watcher.mjs';
import {
    get, goodDaemon, makeDir, makeStatus, startServer, until,
} from './fake_daemon.mjs';

const TEXT = { timeout: 60000 };
const DEVICES = 200;
const QUESTION = 'GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n';

/** A daemon with many devices: an answer of 200 kB. */
function largeStatus() {
    const status = makeStatus();
    const [device] = status.devices;
    status.devices = Array.from({ length: DEVICES },
        (_, i) => ({ ...device, device: `disk${i}` }));
    return status;
}

async function begin(t) {
    const dir = makeDir(t);
    const daemon = goodDaemon(join(dir, 'status'), largeStatus);
    await daemon.start();
    t.after(() => daemon.stop());
    const server = await startServer(t, dir);
    await until(({ text }) => JSON.parse(text).server.state === 'up',
        () => get(server.port, '/api/status'));
    return server;
}

/** A Page in this process, with these files. */
async function beginPage(t, files, options) {
    const config = {
        status: '/none', password: null, hostnames: new Set(['localhost']),
    };
    const page = new Page(config, new Watcher('/none'), files, options);
    const { port } = await page.listen({ host: '127.0.0.1', port: 0 });
    t.after(() => page.close());
    return port;
}

/** How many connections the one who listens on the port has. */
function countServed(port) {
    const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
    const ESTABLISHED = '01';
    return readFileSync('/proc/self/net/tcp', 'utf8').split('\n')
        .map((line) => line.trim().split(/\s+/))
        .filter((fields) => fields[1] === local && fields[3] === ESTABLISHED).length;
}

/** MiB that the process had in memory at most. */
function peakMemory(pid) {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmHWM:\s+([0-9]+)/.exec(text)[1]) / 1024;
}

/** A connection that asks; closed resolves when the server has ended it. */
function asker(t, port, text) {
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    const closed = new Promise((resolve) => socket.on('close', resolve));
    return { socket, closed };
}

test('who asks on before there is an answer is not kept answers for', TEXT, async (t) => {
    const { port, child } = await begin(t);
    const askers = Array.from({ length: 20 },
        () => asker(t, port, QUESTION.repeat(1500)));
    for (const { socket } of askers)
        socket.resume();
    await Promise.all(askers.map(({ closed }) => closed));
    assert.equal((await get(port, '/healthz')).status, 200);
    // All of these answers, kept, would be 6 GB.
    assert(peakMemory(child.pid) < 400, `${peakMemory(child.pid)} MiB`);
});

test('one question after the other is answered on one connection', TEXT, async (t) => {
    const { port } = await begin(t);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    let connections = 0;
    for (let i = 0; i < 100; i++)
        await new Promise((resolve, reject) => {
            const asked = request({ host: '127.0.0.1', port, agent,
                path: i % 2 === 0 ? '/api/status' : '/healthz' }, (response) => {
                response.resume();
                response.on('end', resolve);
                response.on('error', reject);
            });
            asked.on('socket', (socket) => {
                if (socket.connecting)
                    connections++;
            });
            asked.on('error', reject);
            asked.end();
        });
    assert.equal(connections, 1);
});

test('who takes nothing of an answer is disconnected', TEXT, async (t) => {
    const file = { body: Buffer.alloc(64 << 20), type: 'image/png', etag: '"x"' };
    const port = await beginPage(t, new Map([['/large', file]]), { stuckMs: 200 });
    const { socket } = asker(t, port, 'GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await new Promise((resolve) => socket.once('readable', resolve));
    await until((count) => count === 0, async () => countServed(port));
});

test('who sends rubbish and stays is disconnected', TEXT, async (t) => {
    const { port } = await begin(t);
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true },
        () => socket.write('rubbish\r\n\r\n'));
    t.after(() => socket.destroy());
    let error = null;
    socket.on('error', (e) => { error = e; });
    socket.resume();
    await new Promise((resolve) => socket.on('end', resolve));
    // It writes on, until it hears that nobody is there.
    await until(() => error !== null || socket.destroyed,
        async () => socket.write('x'));
});
