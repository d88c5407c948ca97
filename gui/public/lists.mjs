// SPDX-License-Identifier: BSD-2-Clause
//
// lists - the syncs that run, with progress and time left, and the last
// warnings and errors.

import { Children, make, setAttribute, setHidden, setShare, setText } from './dom.mjs';
import { bytes, count, duration, moment, nsToMs, plural } from './format.mjs';

class SyncRow {
    #title = make('strong');
    #left = make('span', 'muted');
    #fill = make('i', 'fill');
    #bar = make('div', 'meter progress', this.#fill);
    #text = make('p', 'muted small');

    constructor(name) {
        this.#title.textContent = name;
        this.#bar.setAttribute('role', 'progressbar');
        this.#bar.setAttribute('aria-label', `Upload of ${name}`);
        this.element = make('article', 'sync',
            make('div', 'line', this.#title, this.#left), this.#bar, this.#text);
    }

    update({ device, isCurrent, now }) {
        const { upload } = device;
        setHidden(this.#bar, !upload);
        if (upload) {
            const share = upload.chunks > 0 ? upload.done / upload.chunks : 0;
            setShare(this.#fill, 'width', share);
            setAttribute(this.#bar, 'aria-valuenow', Math.floor(share * 100));
        }
        setText(this.#left, leftText(upload, isCurrent));
        const parts = upload
            ? [`${count(upload.done)} of ${plural(upload.chunks, 'chunk', 'chunks')}`,
                `${bytes(upload.left_bytes)} left`] : [];
        setText(this.#text, [...parts, ...workersOf(device, now)].join(' · '));
    }
}

function leftText(upload, isCurrent) {
    if (!isCurrent)
        return 'not known now';
    if (!upload)
        return 'getting ready';
    if (upload.left === 0)
        return 'publishing';
    return upload.left_s === null ? 'time left not known'
        : `${duration(upload.left_s)} left`;
}

/** Who uploads a device. */
function workersOf(device, now) {
    const syncs = (device.syncs ?? []).map((sync) =>
        `s3blkdev-sync for ${duration((now - nsToMs(sync.since_ns)) / 1000)}, ` +
        `${bytes(sync.bytes)} so far`);
    const leased = (device.syncs ?? [])
        .reduce((sum, sync) => sum + (sync.leased ?? 0), 0);
    if ((device.leases ?? 0) > leased)
        syncs.unshift('by the daemon');
    return syncs;
}

export class SyncList {
    #live;
    #parent = document.getElementById('syncs');
    #rows;
    #none = make('p', 'empty');

    constructor(live) {
        this.#live = live;
        const list = make('div');
        this.#parent.append(this.#none, list);
        this.#rows = new Children(list, ({ device }) => new SyncRow(device.device));
    }

    update() {
        const { isCurrent } = this.#live;
        const now = this.#live.now();
        const running = this.#live.order
            .map((name) => this.#live.devices.get(name))
            .filter(({ upload, syncs }) => upload || syncs?.length > 0)
            .map((device) => ({ device, isCurrent, now }));
        setHidden(this.#none, running.length > 0);
        setText(this.#none, isCurrent ? 'Nothing is being uploaded.'
            : 'It is not known whether anything is being uploaded.');
        this.#rows.set(running, ({ device }) => device.device);
    }
}

export class LogList {
    #live;
    #none = make('p', 'empty');
    #list = make('ol', 'lines');
    #shown = null;

    constructor(live) {
        this.#live = live;
        document.getElementById('log').append(this.#none, this.#list);
    }

    update() {
        const { log, daemon } = this.#live;
        setText(this.#none, daemon.start_time_ns === undefined
            ? 'The daemon has told nothing yet.'
            : 'There were none since the daemon started.');
        if (log === this.#shown)
            return;
        this.#shown = log;
        setHidden(this.#none, log.length > 0);
        this.#list.replaceChildren(...[...log].reverse().map((line) => this.#row(line)));
    }

    #row({ time_ns, level, text }) {
        const time = make('time', 'muted', moment(nsToMs(time_ns), this.#live.now()));
        if (time_ns > 0)
            time.dateTime = new Date(nsToMs(time_ns)).toISOString();
        const isError = level === 'error';
        return make('li', isError ? 'error' : 'warning',
            make('span', 'level', isError ? 'Error' : 'Warning'), time,
            make('p', '', text));
    }
}
