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

/** {health, word, text} of everything. */
export function verdictOf(live) {
    const { server, devices } = live;
    const now = live.now();
    if (!live.isConnected && server.state !== 'starting')
        return {
            health: 'failed', word: 'Connection lost',
            text: 'The server of this page does not answer; all is as it was last known.',
        };
    if (server.state !== 'up')
        return {
            health: server.state === 'starting' ? 'unknown' : 'failed',
            word: SERVER_WORDS[server.state] ?? SERVER_WORDS.wrong,
            text: server.state === 'starting' ? '\u00a0'
                : `since ${moment(server.since_ms, now)}: ${server.text}. ` +
                    'All is as it was last known.',
        };
    if (devices.size === 0)
        return { health: 'unknown', word: 'No devices', text: 'None is open.' };
    return verdictOfDevices(healthCounts(live), devices.size);
}

function verdictOfDevices(counts, total) {
    const worst = WORDS.find((word) => counts[word] > 0);
    const told = WORDS.filter((word) => counts[word] > 0)
        .map((word) => `${count(counts[word])} ${word}`).join(', ');
    const bad = WORDS.reduce((sum, word) => sum + (BAD.has(word) ? counts[word] : 0), 0);
    if (bad > 0)
        return {
            health: worst,
            word: bad === 1 ? 'A device needs attention'
                : `${count(bad)} devices need attention`,
            text: `${told}.`,
        };
    const all = total === 1 ? 'The device is' : `All ${count(total)} devices are`;
    return worst === 'safe'
        ? { health: 'safe', word: `${all} safe`, text: '\u00a0' }
        : { health: worst, word: `${all} well`, text: `${told}.` };
}

const sum = (devices, of) =>
    devices.reduce((total, device) => total + (of(device) ?? 0), 0);

/** The sum of what is known of all devices; undefined: nothing is. */
function sumOfRates(devices, key) {
    const known = devices.filter(({ rates }) => rates[key] !== undefined);
    return known.length > 0 ? sum(known, ({ rates }) => rates[key]) : undefined;
}

const perSecond = (value) => value === undefined ? UNKNOWN : `${rate(value)}/s`;

function tilesOf(live) {
    const devices = [...live.devices.values()];
    const oldest = Math.min(...devices.map(
        ({ oldest_unpublished_ns: ns }) => ns ?? Infinity));
    const total = (key) => sumOfRates(devices, key);
    return [
        ['Devices', count(devices.length), `${bytes(sum(devices, (d) => d.size))} in all`],
        ['Not in the bucket', bytes(sum(devices, (d) => d.dirty_bytes)),
            oldest === Infinity ? 'all is in the bucket'
                : `oldest ${duration((live.now() - nsToMs(oldest)) / 1000)}`],
        ['In caches', bytes(sum(devices, (d) => d.cache_used)),
            `of ${bytes(sum(devices, (d) => d.chunks * d.chunk_size))} in use`],
        ['Reads', perSecond(total('read_iops')), bytesPerSecond(total('read_bytes'))],
        ['Writes', perSecond(total('write_iops')), bytesPerSecond(total('written_bytes'))],
        ['Uploads', bytesPerSecond(total('uploaded')),
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
    #announce({ word, text }) {
        const startNs = this.#live.daemon.start_time_ns ?? null;
        const isAnew = this.#startNs !== null && startNs !== this.#startNs;
        this.#startNs = startNs ?? this.#startNs;
        const told = this.#live.server.state === 'up' && this.#live.isConnected
            ? `${word}. ${text}` : word;
        if (isAnew)
            setText(byId('announcement'), `The daemon was started anew. ${told}`);
        else if (told !== this.#announced)
            setText(byId('announcement'), told);
        this.#announced = told;
    }
}

const byId = (id) => document.getElementById(id);
