#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
//
// What is said of all devices together, in a sentence.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { verdictOf } from '../../gui/public/summary.mjs';

const NOW_MS = 2e12;
const MINUTE_NS = 60e9;

/** What the page knows, of devices of [name, word, reason, others]. */
function liveOf(devices, { server = { state: 'up' }, daemon = {}, isConnected = true } = {}) {
    return {
        server, daemon, isConnected,
        isCurrent: isConnected && server.state === 'up',
        now: () => NOW_MS,
        order: devices.map(([name]) => name),
        devices: new Map(devices.map(([name, word, reason = 'it is so', others = {}]) =>
            [name, { device: name, health: { word, reasons: [reason] }, ...others }])),
    };
}

const unsaved = (minutes) =>
    ({ oldest_unpublished_ns: NOW_MS * 1e6 - minutes * MINUTE_NS });

test('that all is safe says what the loss of the host would cost', () => {
    assert.deepEqual(verdictOf(liveOf([['a', 'safe'], ['b', 'safe']])), {
        health: 'safe', word: 'All 2 devices are safe', text: 'Everything is in the bucket.',
        key: '',
    });
    const { word, text } = verdictOf(liveOf([
        ['a', 'safe', '', unsaved(3)], ['b', 'safe', '', unsaved(90)], ['c', 'safe']]));
    assert.equal(word, 'All 3 devices are safe');
    assert.equal(text, 'What was written in the last 1 h 30 min is only on this host.');
    assert.equal(verdictOf(liveOf([['a', 'uploading', '', unsaved(5)], ['b', 'safe']])).text,
        '1 uploading, 1 safe. What was written in the last 5 min is only on this host.');
});

test('what needs attention is named, the worst first, and why if it is one', () => {
    assert.deepEqual(verdictOf(liveOf([['a', 'safe'],
        ['disk', 'degraded', 'the last upload failed: Connection timed out']])), {
        health: 'degraded', word: 'A device needs attention',
        text: 'disk: the last upload failed: Connection timed out.', key: 'disk degraded',
    });
    const { health, word, text } = verdictOf(liveOf([
        ['a', 'behind'], ['b', 'safe'], ['c', 'failed'], ['d', 'behind'], ['e', 'degraded'],
        ['f', 'uploading']]));
    assert.equal(health, 'failed');
    assert.equal(word, '4 devices need attention');
    assert.equal(text, 'c failed, e degraded, a behind and 1 more.');
});

test('nothing is safe while a device could not be opened', () => {
    const daemon = { left_out: 1 };
    assert.deepEqual(verdictOf(liveOf([['a', 'safe']], { daemon })), {
        health: 'failed', word: 'A device needs attention',
        text: 'One could not be opened.', key: '1 left out',
    });
    assert.equal(verdictOf(liveOf([], { daemon })).health, 'failed');
    const { health, word, text } = verdictOf(liveOf([['a', 'behind']],
        { daemon: { left_out: 2 } }));
    assert.equal(health, 'failed');
    assert.equal(word, '3 devices need attention');
    assert.equal(text, '2 could not be opened; a behind.');
});

test('while nobody can say how they are, nothing is safe', () => {
    for (const state of ['down', 'hung', 'denied', 'wrong', 'refused', 'news'])
        assert.equal(verdictOf(liveOf([['a', 'safe']],
            { server: { state, since_ms: NOW_MS, text: 'x' } })).health, 'failed', state);
    assert.equal(verdictOf(liveOf([['a', 'safe']], { isConnected: false })).health, 'failed');
    const server = { state: 'starting' };
    assert.equal(verdictOf(liveOf([], { server, isConnected: null })).word, 'Asking the daemon');
    assert.equal(verdictOf(liveOf([], { server, isConnected: false })).word, 'Connection lost');
});
