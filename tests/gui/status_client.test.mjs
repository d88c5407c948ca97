#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { ask, encodeValue, parseLine } from '../../gui/lib/status_client.mjs';
import { FakeDaemon, frame, makeDir } from './fake_daemon.mjs';

/** What asking a socket that responds like that comes to. */
async function askOne(t, respond, timeoutMs = 5000) {
    const daemon = new FakeDaemon(join(makeDir(t), 's'), respond);
    await daemon.start();
    try {
        return await ask(daemon.path, 'status', timeoutMs);
    } finally {
        await daemon.stop();
    }
}

const fails = (t, code, respond, timeoutMs) => assert.rejects(
    askOne(t, respond, timeoutMs), (error) => error.code === code);

test('an answer is its payload, in however many pieces it comes', async (t) => {
    const value = { devices: [], text: 'ä'.repeat(100) };
    assert.deepEqual(
        await askOne(t, (question, socket) => socket.write(frame(value))), value);
    assert.deepEqual(await askOne(t, async (question, socket) => {
        for (const byte of Buffer.from(frame(value))) {
            socket.write(Buffer.from([byte]));
            await new Promise(setImmediate);
        }
    }), value);
});

test('what the daemon says no to is told in its words', async (t) => {
    await assert.rejects(askOne(t, (question, socket) =>
        socket.write('error errno=19 text=no%20such%20device\n')),
    (error) => error.code === 'refused' && error.message === 'no such device');
});

test('what it says no with stays one line', async (t) => {
    await assert.rejects(askOne(t, (question, socket) =>
        socket.write('error errno=1 text=a%0Aerror:%20b%1B%C3\n')),
    (error) => error.code === 'refused' && error.message === 'a?error: b??');
});

test('an answer that is none is called wrong', async (t) => {
    for (const bad of ['\n', 'OK payload=1\n1', 'ok payload=-1\n', 'ok payload=x\n',
        'ok payload=99999999\n', 'ok payload=4194305\n', 'yes payload=2\n{}',
        'ok payload=2\n[]', 'ok payload=1\n1', 'ok payload=4\nnull',
        'ok payload=2\n{"', 'ok\n', 'ok a b\n', `${'x'.repeat(9000)}`])
        await fails(t, 'wrong', (question, socket) => socket.write(bad));
});

test('what comes after the answer is of no interest', async (t) => {
    assert.deepEqual(await askOne(t, (question, socket) =>
        socket.write(`${frame({ a: 1 })}rubbish`)), { a: 1 });
});

test('a daemon that says nothing, or does not go on, hangs', async (t) => {
    await fails(t, 'hung', () => {}, 50);
    await fails(t, 'hung', (question, socket) => socket.write('ok payl'), 50);
    await fails(t, 'hung', (question, socket) =>
        socket.write('ok payload=10\n{}'), 50);
});

test('one that ends before its answer does, or is not there, is down', async (t) => {
    await fails(t, 'down', (question, socket) => socket.end('ok payload=9\n{'));
    const dir = makeDir(t);
    await assert.rejects(ask(join(dir, 'none'), 'status'),
        (error) => error.code === 'down');
    writeFileSync(join(dir, 'file'), '');
    await assert.rejects(ask(join(dir, 'file'), 'status'),
        (error) => error.code === 'down');
});

test('one that takes no connections any more hangs, and is not down', async (t) => {
    const path = join(makeDir(t), 's');
    const listener = spawn(process.execPath, ['-e', `
        require('node:net').createServer().listen(
            { path: process.argv[1], backlog: 1 }, () => {
                require('node:fs').writeSync(1, 'listening');
                Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
            });`, path], { stdio: ['ignore', 'pipe', 'ignore'] });
    t.after(() => listener.kill('SIGKILL'));
    await once(listener.stdout, 'data');
    const answers = await Promise.allSettled(
        Array.from({ length: 8 }, () => ask(path, 'status', 500)));
    assert.deepEqual(answers.map(({ reason }) => reason.code),
        new Array(8).fill('hung'));
});

test('lines are read strictly, and values escaped both ways', () => {
    assert.equal(parseLine('ok a=1 b'), null);
    assert.equal(parseLine('Ok'), null);
    assert.equal(parseLine('ok a=b=c'), null);
    assert.equal(parseLine('ok text=a%20b%25').keys.get('text'), 'a b%');
    assert.equal(encodeValue('disk-1_x.y'), 'disk-1_x.y');
    assert.equal(encodeValue('a b\n=%ä'), 'a%20b%0A%3D%25%C3%A4');
});
