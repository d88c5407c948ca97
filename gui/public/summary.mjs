// SPDX-License-Identifier: BSD-2-Clause
//
// summary - all devices in a sentence and a few numbers: the top of the page.

import { HEALTHS } from './device_facts.mjs';
import { make, setAttribute, setText } from './dom.mjs';
import { UNKNOWN, bytes, bytesPerSecond, count, duration, moment, nsToMs, rate }
    from './format.mjs';

// The worst first.
const WORDS = Object.keys(HEALTHS);
const BAD = new Set(['failed', 'degraded', 'behind']);
const NAMED_MAX = 3;

const SERVER_WORDS = {
    starting: 'Asking the daemon',
    down: 'The daemon is down',
    hung: 'The daemon hangs',
    denied: 'The daemon may not be asked',
    wrong: 'The daemon’s answer is none',
    refused: 'The daemon refuses to answer',
};

/** How many devices are how. */
export function healthCounts(live) {
    const counts = Object.fromEntries(WORDS.map((word) => [word, 0]));
    for (const { health } of live.devices.values())
        counts[live.isCurrent ? health.word : 'unknown']++;
    return counts;
}

/**
 * {health, word, text, key} of everything; while word and key are the same, it
 * is no news.
 */
export function verdictOf(live) {
    const { server, devices } = live;
    const now = live.now();
    if (live.isConnected === false)
        return {
            health: 'failed', word: 'Connection lost',
            text: 'The server of this page does not answer' +
                (isKnown(live) ? '; all is as it was last known.' : '.'),
            key: '',
        };
    if (server.state !== 'up')
        return {
            health: server.state === 'starting' ? 'unknown' : 'failed',
            word: SERVER_WORDS[server.state] ?? SERVER_WORDS.wrong,
            text: server.state === 'starting' ? '\u00a0'
                : `Since ${moment(server.since_ms, now)}: ${server.text}.` +
                    (isKnown(live) ? ' All is as it was last known.' : ''),
            key: '',
        };
    const leftOut = live.daemon.left_out ?? 0;
    const bad = badDevices(live);
    if (bad.length + leftOut > 0)
        return verdictOfBad(bad, leftOut);
    if (devices.size === 0)
        return { health: 'unknown', word: 'No devices', text: 'None is open.', key: '' };
    return verdictOfGood(live);
}

/** Those that need attention, the worst first. */
function badDevices({ order, devices }) {
    return WORDS.filter((word) => BAD.has(word)).flatMap((word) => order
        .map((name) => devices.get(name))
        .filter(({ health }) => health.word === word));
}

function verdictOfBad(bad, leftOut) {
    const total = bad.length + leftOut;
    const named = bad.map(({ device, health }) => `${device} ${health.word}`);
    const more = bad.length - NAMED_MAX;
    const names = bad.length === 1 && leftOut === 0
        ? `${bad[0].device}: ${bad[0].health.reasons[0]}`
        : named.slice(0, NAMED_MAX).join(', ') +
            (more > 0 ? ` and ${count(more)} more` : '');
    const without = leftOut === 0 ? ''
        : `${leftOut === 1 ? 'One' : count(leftOut)} could not be opened`;
    return {
        health: leftOut > 0 ? 'failed' : bad[0].health.word,
        word: total === 1 ? 'A device needs attention'
            : `${count(total)} devices need attention`,
        text: `${[without, names].filter(Boolean).join('; ')}.`,
        key: [...named, ...leftOut > 0 ? [`${leftOut} left out`] : []].join(),
    };
}

function verdictOfGood(live) {
    const counts = healthCounts(live);
    const total = live.devices.size;
    const worst = WORDS.find((word) => counts[word] > 0);
    const told = WORDS.filter((word) => counts[word] > 0)
        .map((word) => `${count(counts[word])} ${word}`).join(', ');
    const all = total === 1 ? 'The device is' : `All ${count(total)} devices are`;
    const cost = costOf(live);
    return worst === 'safe'
        ? { health: 'safe', word: `${all} safe`, text: cost, key: '' }
        : { health: worst, word: `${all} well`, text: `${told}. ${cost}`, key: '' };
}

/** The oldest write that no image has, in nanoseconds; Infinity: there is none. */
function oldestOf({ devices }) {
    return Math.min(...[...devices.values()].map(
        ({ oldest_unpublished_ns: ns }) => ns ?? Infinity));
}

/** What the loss of the host would cost. */
function costOf(live) {
    const oldest = oldestOf(live);
    return oldest === Infinity ? 'Everything is in the bucket.'
        : `What was written in the last ${duration((live.now() - nsToMs(oldest)) / 1000)} ` +
            'is only on this host.';
}

const sum = (devices, of) =>
    devices.reduce((total, device) => total + (of(device) ?? 0), 0);

/** The sum of what is known of all devices; undefined: nothing is. */
function sumOfRates(devices, key) {
    const known = devices.filter(({ rates }) => rates[key] !== undefined);
    return known.length > 0 ? sum(known, ({ rates }) => rates[key]) : undefined;
}

const TILES = ['Devices', 'Not in the bucket', 'In caches', 'Reads', 'Writes', 'Uploads'];

/** Whether the daemon has ever answered. */
const isKnown = ({ daemon }) => daemon.start_time_ns !== undefined;

const perSecond = (value) => value === undefined ? UNKNOWN : `${rate(value)}/s`;

const mappedSize = ({ chunks = 0, chunk_size: size = 0 }) => chunks * size;

function tilesOf(live) {
    const devices = [...live.devices.values()];
    const oldest = oldestOf(live);
    const total = (key) => live.isCurrent ? sumOfRates(devices, key) : undefined;
    if (!isKnown(live))
        return TILES.map((name) => [name, UNKNOWN, '\u00a0']);
    return [
        [TILES[0], count(devices.length), `${bytes(sum(devices, (d) => d.size))} in all`],
        [TILES[1], bytes(sum(devices, (d) => d.dirty_bytes)),
            oldest === Infinity ? 'all is in the bucket'
                : `oldest ${duration((live.now() - nsToMs(oldest)) / 1000)}`],
        [TILES[2], bytes(sum(devices, (d) => d.cache_used)),
            `of ${bytes(sum(devices, mappedSize))} in use`],
        [TILES[3], perSecond(total('read_iops')), bytesPerSecond(total('read_bytes'))],
        [TILES[4], perSecond(total('write_iops')), bytesPerSecond(total('written_bytes'))],
        [TILES[5], bytesPerSecond(total('uploaded')),
            `${bytesPerSecond(total('fetched'))} fetched`],
    ];
}

export class Summary {
    #live;
    #tiles = [];
    #announced = null;
    #startNs = null;

    constructor(live) {
        this.#live = live;
    }

    update() {
        const verdict = verdictOf(this.#live);
        setAttribute(document.body, 'data-server',
            this.#live.isConnected ? this.#live.server.state : 'lost');
        setAttribute(byId('verdict'), 'data-health', verdict.health);
        setText(byId('verdict-word'), verdict.word);
        setText(byId('verdict-text'), verdict.text);
        setAttribute(byId('verdict'), 'title', `${verdict.word}. ${verdict.text}`);
        setText(byId('daemon'), this.#daemonText());
        this.#setTitle(verdict);
        this.#setTiles();
        this.#announce(verdict);
    }

    #daemonText() {
        const { daemon, server } = this.#live;
        if (daemon.start_time_ns === undefined)
            return '\u00a0';
        const age = (this.#live.now() - nsToMs(daemon.start_time_ns)) / 1000;
        const name = `daemon ${daemon.version ?? ''}`.trim();
        return server.state === 'up' ? `${name}, up ${duration(age)}` : name;
    }

    #setTitle({ word }) {
        const title = `${word} · s3blkdev`;
        if (document.title !== title)
            document.title = title;
    }

    #setTiles() {
        tilesOf(this.#live).forEach(([name, value, note], i) => {
            this.#tiles[i] ??= this.#addTile(name);
            setText(this.#tiles[i].value, value);
            setText(this.#tiles[i].note, note);
        });
    }

    #addTile(name) {
        const value = make('p', 'value');
        const note = make('p', 'muted small');
        byId('tiles').append(make('div', 'tile', make('h2', '', name), value, note));
        return { value, note };
    }

    /** Tell what has changed to who does not see it. */
    #announce({ word, text, key }) {
        const { daemon, server, isConnected } = this.#live;
        const startNs = daemon.start_time_ns ?? null;
        const isAnew = this.#startNs !== null && startNs !== this.#startNs;
        const news = `${word} ${key}`;
        this.#startNs = startNs ?? this.#startNs;
        if (isAnew || news !== this.#announced) {
            const told = server.state === 'up' && isConnected ? `${word}. ${text}` : word;
            setText(byId('announcement'),
                isAnew ? `The daemon was started anew. ${told}` : told);
        }
        this.#announced = news;
    }
}

const byId = (id) => document.getElementById(id);
