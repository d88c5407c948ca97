// SPDX-License-Identifier: BSD-2-Clause
//
// plot - lines over the last hour or day, drawn by uPlot, with a legend that
// tells the newest values or those under the pointer.

import { make, setAttribute, setText } from './dom.mjs';
import { moment } from './format.mjs';

const SPANS = { hour: 3600, day: 86400 };
const HEIGHT = 168;
const NEWEST_MAX = 4; // what is older than so many steps is not of now
const DASH = [4, 3];
const POWERS = Array.from({ length: 60 }, (_, i) => 2 ** i);
const LABELS = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });

const loading = import('./uplot/uPlot.esm.js')
    .then(({ default: uPlot }) => uPlot, () => null);

const plots = new Set();

/** All of them in other colours, after the theme has changed. */
export function repaintPlots() {
    for (const plot of plots)
        plot.repaint();
}

function colourOf(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Plot {
    #format;
    #isBytes;
    #series;
    #values;
    #time;
    #box;
    #uplot = null;
    #data;
    #range = 'hour';
    #now = 0;
    #stepSeconds = Infinity;
    #isEnded = false;
    #observer;

    /** what: title, format, series of [key, label, colour, is dashed]. */
    constructor(parent, what, whose) {
        this.#format = what.format;
        this.#isBytes = what.isBytes ?? false;
        this.#series = what.series;
        this.#time = make('span', 'muted');
        this.#values = what.series.map(() => make('span', 'value', '–'));
        const legend = make('ul', 'keys', ...what.series.map(
            ([, label, colour, isDashed], i) => make('li', '',
                make('i', `stroke ${colour}${isDashed ? ' dashed' : ''}`),
                make('span', '', label), this.#values[i])));
        this.#box = make('div', 'canvas');
        this.#box.setAttribute('role', 'img');
        this.#box.setAttribute('aria-label',
            `Plot of ${what.title.toLowerCase()} of ${whose}; newest values follow`);
        this.figure = make('figure', 'plot',
            make('figcaption', '', make('span', '', what.title), this.#time),
            this.#box, legend);
        this.#data = [[], ...what.series.map(() => [])];
        parent.append(this.figure);
        this.#observer = new ResizeObserver(() => this.#fit());
        this.#observer.observe(this.#box);
        plots.add(this);
        void this.repaint();
    }

    end() {
        this.#isEnded = true;
        this.#observer.disconnect();
        this.#uplot?.destroy();
        plots.delete(this);
    }

    /** Show a history, or, if it is null, what was there until now. */
    show(history, range, nowSeconds) {
        this.#range = range;
        this.#now = nowSeconds;
        if (history) {
            this.#stepSeconds = history.step_ms / 1000;
            this.#data = [history.times,
                ...this.#series.map(([key]) => history.series[key] ?? [])];
        }
        this.#draw();
        this.#tell();
    }

    async repaint() {
        const uPlot = await loading;
        if (this.#isEnded)
            return;
        if (!uPlot) {
            setText(this.#box, 'The library of the plots is not installed.');
            return;
        }
        this.#uplot?.destroy();
        this.#uplot = new uPlot(this.#options(), this.#data, this.#box);
        this.#draw();
    }

    #draw() {
        if (!this.#uplot)
            return;
        this.#uplot.batch(() => {
            this.#uplot.setData(this.#data, false);
            const max = Math.max(this.#now, this.#data[0].at(-1) ?? 0);
            this.#uplot.setScale('x', { min: max - SPANS[this.#range], max });
        });
    }

    #fit() {
        const width = Math.floor(this.#box.clientWidth);
        if (this.#uplot && width > 0 && width !== this.#uplot.width)
            this.#uplot.setSize({ width, height: HEIGHT });
    }

    #options() {
        const muted = colourOf('--muted');
        const axis = {
            stroke: muted,
            font: `11px ${colourOf('--font')}`,
            grid: { stroke: colourOf('--grid'), width: 1 },
            ticks: { show: false },
        };
        return {
            width: Math.max(1, Math.floor(this.#box.clientWidth)),
            height: HEIGHT,
            padding: [8, 8, 0, 0],
            legend: { show: false },
            cursor: {
                y: false, drag: { setScale: false, x: false, y: false },
                points: { size: 6 },
                sync: { key: 'time' },
            },
            scales: {
                x: { time: true },
                y: { range: (_, min, max) => [0, max > 0 ? max * 1.05 : 1] },
            },
            axes: [
                {
                    ...axis, size: 28, gap: 8, space: 60,
                    values: (_, splits) => splits.map(
                        (time) => LABELS.format(new Date(time * 1000))),
                },
                {
                    ...axis, size: 68, gap: 6, space: 34,
                    ...this.#isBytes ? { incrs: POWERS } : {},
                    values: (_, splits) => splits.map((value) => this.#format(value)),
                },
            ],
            series: [{}, ...this.#series.map(([, label, colour, isDashed]) => ({
                label,
                stroke: colourOf(`--line-${colour}`),
                width: 1.5,
                dash: isDashed ? DASH : undefined,
                points: { show: false },
            }))],
            hooks: { setCursor: [() => this.#tell()] },
        };
    }

    /** Whether what is told is the newest, and of now. */
    #isOfNow(under) {
        const newest = this.#data[0].at(-1) ?? this.#now;
        return under === null &&
            this.#now - newest < NEWEST_MAX * this.#stepSeconds;
    }

    /** The values under the pointer, or the newest ones. */
    #tell() {
        const under = this.#uplot?.cursor.idx ?? null;
        const index = under ?? this.#data[0].length - 1;
        this.#values.forEach((element, i) =>
            setText(element, this.#format(this.#data[i + 1][index] ?? undefined)));
        setText(this.#time, this.#isOfNow(under) ? 'now'
            : moment(this.#data[0][index] * 1000, this.#now * 1000));
        setAttribute(this.figure, 'data-points', this.#data[0].length);
    }
}
