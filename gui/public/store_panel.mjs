// SPDX-License-Identifier: BSD-2-Clause
//
// store_panel - the S3 service: each endpoint with its state and traffic, how
// many requests may be in flight, and by which credentials.

import { Children, Facts, make, setAttribute, setHidden, setText }
    from './dom.mjs';
import { ago, bytes, bytesPerSecond, count, duration, latency, nsToMs, rate }
    from './format.mjs';
import { askFor } from './live.mjs';
import { Plot } from './plot.mjs';

const STATES = { healthy: 'Healthy', slow: 'Slow', resting: 'Resting' };
const HISTORY_MS = 5000;
const PLOTS_MAX = 8;
const PLOT = {
    title: 'Throughput of the last hour',
    format: bytesPerSecond,
    isBytes: true,
    series: [['bytes_up', 'Up', 'c'], ['bytes_down', 'Down', 'a']],
};

class Endpoint {
    #live;
    #name;
    #title;
    #state;
    #since;
    #facts;
    #error;
    #plot = null;

    constructor(live, name) {
        this.#live = live;
        this.#name = name;
        this.#title = make('h3', '', name);
        this.#state = make('span', 'badge');
        this.#since = make('p', 'muted small');
        this.#error = make('p', 'small last-error');
        const list = make('dl', 'facts');
        this.#facts = new Facts(list);
        this.element = make('article', 'endpoint',
            make('header', 'card-head', this.#title, this.#state),
            this.#since, list, this.#error);
    }

    update(endpoint) {
        const { rates } = endpoint;
        const now = this.#live.now();
        const state = this.#live.isCurrent ? endpoint.state : 'unknown';
        setAttribute(this.element, 'data-state', state);
        setText(this.#state, STATES[state] ?? 'Unknown');
        const sinceMs = nsToMs(endpoint.state_since_ns);
        setText(this.#since, sinceMs > 0
            ? `For ${duration((now - sinceMs) / 1000)}` : '\u00a0');
        this.#facts.set([
            ['Up', bytesPerSecond(rates.bytes_up), `${bytes(endpoint.bytes_up)} in all`],
            ['Down', bytesPerSecond(rates.bytes_down), `${bytes(endpoint.bytes_down)} in all`],
            ['Requests', `${rate(rates.requests)}/s · ${count(endpoint.in_flight)} now`,
                `${count(endpoint.requests)} in all`],
            ['Latency p50, p99', endpoint.latency_p50_ns > 0
                ? `${latency(endpoint.latency_p50_ns / 1e9)}, ` +
                    latency(endpoint.latency_p99_ns / 1e9)
                : '–', 'to the first byte, in the last minutes'],
            ['Errors', `${count(endpoint.errors)} of ${count(endpoint.requests)}`],
            ['Slowed down, rested', `${count(endpoint.throttled)}×, ` +
                `${count(endpoint.rests)}×`],
        ]);
        setText(this.#error, endpoint.last_error
            ? `Last error ${ago(nsToMs(endpoint.last_error_ns), now)}: ${endpoint.last_error}`
            : 'No error yet.');
        setAttribute(this.#error, 'title', this.#error.textContent);
    }

    /** Draw what it was doing; parent is where, for the first time. */
    async drawHistory() {
        this.#plot ??= new Plot(this.element, PLOT, this.#name);
        const history = await askFor('api/history',
            { range: 'hour', endpoint: this.#name });
        this.#plot.show(history, 'hour', this.#live.now() / 1000);
    }

    end() {
        this.#plot?.end();
    }
}

export class StorePanel {
    #live;
    #note = document.getElementById('store-note');
    #trouble = document.getElementById('store-trouble');
    #facts = new Facts(document.getElementById('store-facts'));
    #endpoints = new Map();
    #children;
    #drawnMs = -Infinity;

    constructor(live) {
        this.#live = live;
        this.#children = new Children(document.getElementById('endpoints'),
            ({ name }) => {
                this.#endpoints.get(name)?.end();
                const endpoint = new Endpoint(live, name);
                this.#endpoints.set(name, endpoint);
                return endpoint;
            });
    }

    update() {
        const { store, endpoints } = this.#live;
        setText(this.#note, store
            ? `${store.bucket ?? ''}${store.prefix ? `/${store.prefix}` : ''}`
            : this.#live.daemon.start_time_ns === undefined ? '\u00a0'
                : 'objects are in a directory');
        setAttribute(this.#note, 'title', this.#note.textContent);
        this.#facts.set(store ? this.#factsOf(store) : []);
        const problem = store?.credentials?.problem ?? '';
        setHidden(this.#trouble, problem === '');
        setText(this.#trouble, problem ? `Credentials: ${problem}` : '');
        this.#children.set(endpoints, ({ name }) => name);
        this.#drawHistories(endpoints);
    }

    #factsOf({ requests = {}, credentials = {}, region, hedges = {} }) {
        const expires = credentials.expires_ns > 0
            ? `, for ${duration(credentials.expires_ns / 1e9 - this.#live.now() / 1000)}` : '';
        const inFlight = (requests.waited_for ?? 0) + (requests.ahead ?? 0) +
            (requests.background ?? 0);
        return [
            ['Region', region || '–'],
            ['Credentials', credentials.source
                ? `${credentials.source}${expires}` : '–',
            credentials.access_key_start
                ? `the key begins with ${credentials.access_key_start}` : null],
            ['In flight', `${count(inFlight)} of at most ${count(requests.places)}`,
                `${count(requests.waited_for)} that somebody waits for, ` +
                `${count(requests.ahead)} ahead of that, ` +
                `${count(requests.background)} in the background; ` +
                `never more than ${count(requests.places_max)}`],
            ['Second attempts', `${count(hedges.begun)} of ${count(hedges.gets)} reads`,
                `${count(hedges.won)} were first`],
        ];
    }

    #drawHistories(endpoints) {
        if (!this.#live.isConnected || performance.now() - this.#drawnMs < HISTORY_MS)
            return;
        this.#drawnMs = performance.now();
        for (const { name } of endpoints.slice(0, PLOTS_MAX))
            void this.#endpoints.get(name).drawHistory();
    }
}
