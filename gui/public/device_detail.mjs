// SPDX-License-Identifier: BSD-2-Clause
//
// device_detail - the lower half of an open card: plots of an hour or a day,
// the map of chunks, and all numbers.

import { ChunkMap } from './chunk_map.mjs';
import { numbersOf } from './device_facts.mjs';
import { Facts, fromTemplate } from './dom.mjs';
import { bytes, bytesPerSecond, latency, rate } from './format.mjs';
import { askFor } from './live.mjs';
import { Plot } from './plot.mjs';

const PLOTS = [
    {
        title: 'Requests a second',
        format: rate,
        series: [['read_iops', 'Read', 'a'], ['write_iops', 'Write', 'b'],
            ['flush_iops', 'Flush', 'c']],
    },
    {
        title: 'Throughput',
        format: bytesPerSecond,
        isBytes: true,
        series: [['read_bytes', 'Read', 'a'], ['written_bytes', 'Written', 'b'],
            ['uploaded', 'Uploaded', 'c'], ['fetched', 'Fetched', 'd']],
    },
    {
        title: 'Latency',
        format: latency,
        series: [['read_p50', 'Read p50', 'a'], ['read_p99', 'Read p99', 'a', true],
            ['write_p50', 'Write p50', 'b'], ['write_p99', 'Write p99', 'b', true]],
    },
    {
        title: 'Cache',
        format: bytes,
        isBytes: true,
        series: [['cache_used', 'Used', 'c'], ['dirty_bytes', 'Not uploaded', 'b']],
    },
];

export class Detail {
    #live;
    #name;
    #range = 'hour';
    #plots;
    #map;
    #numbers;
    #ranges;
    #timer = null;
    #isEnded = false;

    constructor(parent, live, name) {
        const { root, parts } = fromTemplate('detail-template');
        this.#live = live;
        this.#name = name;
        this.#ranges = [...parts.ranges.children];
        this.#numbers = new Facts(parts.numbers);
        parent.append(root);
        this.#plots = PLOTS.map((plot) => new Plot(parts.plots, plot, `device ${name}`));
        this.#map = new ChunkMap(parts, live, name);
        for (const button of this.#ranges) {
            button.addEventListener('click', () => {
                this.#range = button.dataset.range;
                void this.#showHistory();
            });
        }
        this.setDevice(live.devices.get(name));
        void this.#showHistory();
    }

    end() {
        this.#isEnded = true;
        clearTimeout(this.#timer);
        this.#map.end();
        for (const plot of this.#plots)
            plot.end();
    }

    setDevice(device) {
        this.#numbers.set(numbersOf(device, this.#live.now()));
        this.#map.setDevice(device);
    }

    async #showHistory() {
        const range = this.#range;
        for (const button of this.#ranges)
            button.setAttribute('aria-pressed', String(button.dataset.range === range));
        clearTimeout(this.#timer);
        const history = this.#live.isConnected
            ? await askFor('api/history', { range, device: this.#name }) : null;
        if (this.#isEnded || range !== this.#range)
            return;
        for (const plot of this.#plots)
            plot.show(history, range, this.#live.now() / 1000);
        this.#timer = setTimeout(() => void this.#showHistory(),
            history?.step_ms ?? 5000);
    }
}
