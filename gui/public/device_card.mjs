// SPDX-License-Identifier: BSD-2-Clause
//
// device_card - what is shown of one device: at a glance always, with plots
// and map once they are asked for.

import { Detail } from './device_detail.mjs';
import { HEALTHS, KINDS, cacheOf, chunksOf } from './device_facts.mjs';
import { Facts, fromTemplate, make, setAttribute, setHidden,
    setShare, setText } from './dom.mjs';
import { ago, bytes, bytesPerSecond, count, duration, latency, moment, nsToMs,
    percent, rate } from './format.mjs';

const REQUESTS = [
    ['Read', 'read', 'read_bytes'],
    ['Write', 'write', 'written_bytes'],
    ['Flush', 'flush', null],
];

let cards = 0;

export class DeviceCard {
    #parts;
    #live;
    #detail = null;
    #facts;
    #bars = new Map();
    #legend = new Map();
    #rates = new Map();
    #number = ++cards;

    constructor(live, name) {
        const { root, parts } = fromTemplate('card-template');
        this.#live = live;
        this.#parts = parts;
        this.name = name;
        this.element = root.firstElementChild;
        this.#facts = new Facts(parts.facts);
        this.#label();
        for (const [kind, label, title] of KINDS)
            this.#addKind(kind, label, title);
        for (const [label, kind] of REQUESTS)
            this.#addRequests(label, kind);
        parts.more.addEventListener('click', () => this.open(!this.#detail));
        this.setDevice();
    }

    #label() {
        const { name, more, detail, meter } = this.#parts;
        name.textContent = this.name;
        name.id = `device-${this.#number}`;
        detail.id = `detail-${this.#number}`;
        this.element.setAttribute('aria-labelledby', name.id);
        more.setAttribute('aria-controls', detail.id);
        more.id = `more-${this.#number}`;
        more.setAttribute('aria-describedby', name.id);
        meter.setAttribute('aria-label', `Cache of ${this.name}`);
    }

    #addKind(kind, label, title) {
        const bar = make('i', kind);
        const value = make('span', 'value');
        const item = make('li', '', make('i', `swatch ${kind}`),
            make('span', '', label), value);
        item.title = title;
        this.#bars.set(kind, bar);
        this.#legend.set(kind, value);
        this.#parts.shares.append(bar);
        this.#parts.legend.append(item);
    }

    #addRequests(label, kind) {
        const head = make('th', '', label);
        head.scope = 'row';
        const cells = Array.from({ length: 4 }, () => make('td'));
        this.#rates.set(kind, cells);
        this.#parts.rates.append(make('tr', '', head, ...cells));
    }

    get isOpen() {
        return this.#detail !== null;
    }

    /** Show or hide plots and map. */
    open(isOpen) {
        const { more, detail } = this.#parts;
        if (isOpen === this.isOpen)
            return;
        setAttribute(more, 'aria-expanded', isOpen);
        setText(more, isOpen ? 'Close plots and map' : 'Plots and map');
        this.element.classList.toggle('open', isOpen);
        setHidden(detail, !isOpen);
        if (isOpen) {
            this.#detail = new Detail(detail, this.#live, this.name);
        } else {
            this.#detail.end();
            this.#detail = null;
            detail.replaceChildren();
        }
        this.element.dispatchEvent(new CustomEvent('toggled', { bubbles: true }));
    }

    /** Forget it: it is not shown any more. */
    end() {
        this.#detail?.end();
    }

    /** The device has changed. */
    setDevice() {
        const device = this.#live.devices.get(this.name);
        this.#setShares(device);
        this.#setCache(device);
        this.#detail?.setDevice(device);
        this.tick();
    }

    /** What depends on the time, and on whether the daemon answers. */
    tick() {
        const device = this.#live.devices.get(this.name);
        const { health, reason, size } = this.#parts;
        const word = this.#live.isCurrent ? device.health.word : 'unknown';
        const reasons = this.#live.isConnected ? device.health.reasons
            : ['the server of this page does not answer'];
        setAttribute(this.element, 'data-health', word);
        setText(health, HEALTHS[word]);
        setText(reason, reasons.map(sentence).join(' '));
        setAttribute(reason, 'title', reason.textContent);
        setText(size, bytes(device.size));
        this.#setRates(this.#live.isCurrent ? device.rates : {});
        this.#facts.set(this.#factsOf(device));
    }

    #setShares(device) {
        const chunks = chunksOf(device);
        const { resident } = this.#parts;
        for (const [kind] of KINDS) {
            setShare(this.#bars.get(kind), 'width',
                chunks[kind] / device.all_chunks);
            setText(this.#legend.get(kind), percent(chunks[kind], device.all_chunks));
        }
        const here = chunks.dirty === undefined
            ? undefined : chunks.dirty + chunks.clean;
        setText(resident, here === undefined ? ''
            : `${percent(here, device.all_chunks)} resident`);
    }

    #setCache(device) {
        const { used, size, isDisk } = cacheOf(device);
        const parts = this.#parts;
        const marks = [device.room_end_percent, device.room_begin_percent];
        setText(parts['cache-title'], isDisk ? 'Cache disk' : 'Cache');
        setText(parts.cache, used === undefined ? 'not known'
            : `${bytes(used)} of ${bytes(size)}`);
        setShare(parts['meter-fill'], 'width', used / size);
        [parts['mark-end'], parts['mark-begin']].forEach((mark, i) => {
            setHidden(mark, marks[i] === undefined);
            setShare(mark, 'left', marks[i] / 100);
        });
        const isFull = used / size * 100 >= marks[1];
        setAttribute(parts.meter, 'data-full', isFull ? 'yes' : null);
        setAttribute(parts.meter, 'aria-valuenow',
            size > 0 ? Math.round(used / size * 100) : 0);
        setAttribute(parts.meter, 'aria-valuetext', parts.cache.textContent);
        setText(parts['cache-note'], this.#cacheNote(device, used, size, isDisk));
    }

    #cacheNote(device, used, size, isDisk) {
        const known = [];
        if (used !== undefined)
            known.push(`${percent(used, size)} used`);
        if (device.room_begin_percent !== undefined)
            known.push(`makes room from ${device.room_begin_percent} % ` +
                `down to ${device.room_end_percent} %`);
        if (isDisk && device.cache_used !== undefined)
            known.push(`${bytes(device.cache_used)} are this cache`);
        return known.join(' · ') || '\u00a0';
    }

    #setRates(rates) {
        for (const [, kind, key] of REQUESTS) {
            const [iops, size, p50, p99] = this.#rates.get(kind);
            setText(iops, rate(rates[`${kind}_iops`]));
            setText(size, key ? bytesPerSecond(rates[key]) : '');
            setText(p50, latency(rates[`${kind}_p50`]));
            setText(p99, latency(rates[`${kind}_p99`]));
        }
    }

    #factsOf(device) {
        const now = this.#live.now();
        const oldestMs = nsToMs(device.oldest_unpublished_ns);
        const limit = device.max_age_ns > 0
            ? `; it should be at most ${duration(device.max_age_ns / 1e9)}` : '';
        const imageMs = nsToMs(device.image_time_ns);
        return [
            ['Not in the bucket', device.dirty_bytes === undefined ? '–'
                : bytes(device.dirty_bytes)],
            ['Oldest such write', oldestMs === undefined ? 'none'
                : ago(oldestMs, now), oldestMs === undefined
                ? null : `${moment(oldestMs, now)}${limit}`],
            ['Last image', device.image_epoch === undefined ? 'none yet'
                : `${ago(imageMs, now)} · number ${count(device.image_epoch)}`,
            imageMs === undefined ? null : moment(imageMs, now)],
            ['Journal', device.journal_size === undefined ? '–'
                : `${bytes(device.journal_used)} of ${bytes(device.journal_size)}`],
        ];
    }
}

/** Words of the server as a sentence. */
function sentence(text) {
    return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
