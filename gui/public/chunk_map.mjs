// SPDX-License-Identifier: BSD-2-Clause
//
// chunk_map - what the chunks of a device are, a square each, or one for many
// on a large device; any part of it can be looked at more closely.
//
// The pointer or the arrow keys choose a square, Enter, a click or "+" zooms
// in there.  The table below says the same in words.

import { KINDS } from './device_facts.mjs';
import { make, setAttribute, setText } from './dom.mjs';
import { bytes, count } from './format.mjs';
import { askFor } from './live.mjs';

const ZOOM = 8;
const SIZE_MIN = 8; // of a square, with the gap to the next one
const SIZE_MAX = 24;
const GAP = 1;
const CELLS_MAX = 4096;
const ROWS_MAX = 16; // of the table
const REFRESH_MS = 2000;

const maps = new Set();

/** All of them in other colours, after the theme has changed. */
export function repaintMaps() {
    for (const map of maps)
        map.repaint();
}

/** The cells of an answer one by one: {from, to, dirty, clean, ...}. */
export function cellsOf(answer) {
    const cells = [];
    let from = answer.from;
    for (const [number, zero, remote, clean, dirty] of answer.cells) {
        for (let i = 0; i < number && cells.length < CELLS_MAX; i++) {
            const to = Math.min(from + answer.step, answer.to);
            const hole = Math.max(0, to - from - zero - remote - clean - dirty);
            cells.push({ from, to, dirty, clean, remote, zero, hole });
            from = to;
        }
    }
    return cells;
}

/** The same in at most max cells. */
export function joined(cells, max) {
    const each = Math.max(1, Math.ceil(cells.length / max));
    const result = [];
    for (let i = 0; i < cells.length; i += each) {
        const part = cells.slice(i, i + each);
        const sum = { from: part[0].from, to: part.at(-1).to };
        for (const [kind] of KINDS)
            sum[kind] = part.reduce((total, cell) => total + cell[kind], 0);
        result.push(sum);
    }
    return result;
}

function kindsIn(cell) {
    return KINDS.filter(([kind]) => cell[kind] > 0)
        .map(([kind]) => `${count(cell[kind])} ${kind}`).join(', ');
}

function spanText({ from, to }) {
    return to - from === 1 ? `chunk ${count(from)}`
        : `chunks ${count(from)} to ${count(to - 1)}`;
}

export class ChunkMap {
    #live;
    #name;
    #canvas;
    #where;
    #readout;
    #table;
    #buttons;
    #observer;
    #device = null;
    #from = 0;
    #to = null; // null: the end
    #answer = null;
    #cells = [];
    #chosen = null;
    #columns = 1;
    #size = SIZE_MIN;
    #timer = null;
    #isAsking = false;
    #isEnded = false;
    #shownKey = '';

    constructor(parts, live, name) {
        this.#live = live;
        this.#name = name;
        this.#canvas = parts.map;
        this.#where = parts['map-where'];
        this.#readout = parts['map-readout'];
        this.#table = parts['map-table'];
        this.#buttons = new Map([...parts.tools.children]
            .map((button) => [button.dataset.go, button]));
        for (const [way, button] of this.#buttons)
            button.addEventListener('click', () => this.#go(way));
        this.#listen();
        this.#observer = new ResizeObserver(() => this.#look());
        this.#observer.observe(this.#canvas);
        maps.add(this);
    }

    end() {
        this.#isEnded = true;
        clearTimeout(this.#timer);
        this.#observer.disconnect();
        maps.delete(this);
    }

    setDevice(device) {
        this.#device = device;
        this.#refresh();
    }

    #listen() {
        const canvas = this.#canvas;
        canvas.addEventListener('pointermove', (event) => this.#choose(this.#at(event)));
        canvas.addEventListener('pointerleave', () => this.#choose(null));
        canvas.addEventListener('blur', () => this.#choose(null));
        canvas.addEventListener('click', (event) => {
            this.#choose(this.#at(event));
            this.#go('in');
        });
        canvas.addEventListener('keydown', (event) => this.#press(event));
    }

    #press(event) {
        const steps = {
            ArrowLeft: -1, ArrowRight: 1,
            ArrowUp: -this.#columns, ArrowDown: this.#columns,
            Home: -Infinity, End: Infinity,
        };
        const ways = {
            Enter: 'in', '+': 'in', '-': 'out', Escape: 'all',
            PageUp: 'earlier', PageDown: 'later',
        };
        if (event.ctrlKey || event.altKey || event.metaKey)
            return;
        if (event.key in steps)
            this.#choose(Math.min(this.#cells.length - 1,
                Math.max(0, (this.#chosen ?? 0) + steps[event.key])));
        else if (event.key in ways)
            this.#go(ways[event.key]);
        else
            return;
        event.preventDefault();
    }

    // ---- which part ---------------------------------------------------------

    get #all() {
        return this.#device?.all_chunks ?? 0;
    }

    #go(way) {
        const all = this.#all;
        const to = Math.min(this.#to ?? all, all);
        const span = to - this.#from;
        const cell = this.#cells[this.#chosen ?? -1];
        const middle = cell ? (cell.from + cell.to) / 2 : this.#from + span / 2;
        const closest = Math.min(all, 64);
        const spans = {
            in: Math.max(closest, Math.round(span / ZOOM)), out: span * ZOOM,
            all: Infinity, earlier: span, later: span,
        };
        const centre = way === 'earlier' ? middle - span
            : way === 'later' ? middle + span : middle;
        this.#show(centre, Math.min(all, spans[way]));
    }

    #show(centre, span) {
        const all = this.#all;
        const from = Math.min(all - span, Math.max(0, Math.round(centre - span / 2)));
        this.#from = from;
        this.#to = from + span >= all && from === 0 ? null : from + span;
        this.#chosen = null;
        void this.#ask();
    }

    #setTools() {
        const { from, to } = this.#answer;
        const isWhole = from === 0 && to === this.#answer.all_chunks;
        const possible = {
            in: to - from > Math.min(64, this.#answer.all_chunks),
            out: !isWhole, all: !isWhole, earlier: from > 0,
            later: to < this.#answer.all_chunks,
        };
        for (const [way, button] of this.#buttons)
            setAttribute(button, 'aria-disabled', possible[way] ? null : 'true');
    }

    // ---- asking -------------------------------------------------------------

    /** Ask again if the chunks have changed, but not all the time. */
    #refresh() {
        const { chunks, zero_chunks, remote_chunks, clean_chunks, dirty_chunks,
            all_chunks } = this.#device;
        const key = JSON.stringify([chunks, zero_chunks, remote_chunks,
            clean_chunks, dirty_chunks, all_chunks]);
        if (key === this.#shownKey || this.#timer || !this.#columnsFit())
            return;
        this.#shownKey = key;
        void this.#ask();
    }

    /** The room has changed: how many squares fit now? */
    #look() {
        this.#shownKey = '';
        if (this.#device)
            this.#refresh();
        this.repaint();
    }

    #columnsFit() {
        return Math.floor(this.#canvas.clientWidth / SIZE_MIN);
    }

    async #ask() {
        if (this.#isAsking || !this.#live.isCurrent || this.#all === 0) {
            this.#shownKey = '';
            return;
        }
        this.#isAsking = true;
        const [from, to] = [this.#from, this.#to];
        const rows = Math.floor(this.#canvas.clientHeight / SIZE_MIN);
        const answer = await askFor('api/map', {
            device: this.#name, from, to: to ?? this.#all,
            cells: Math.max(1, Math.min(CELLS_MAX, this.#columnsFit() * rows)),
        });
        this.#isAsking = false;
        if (this.#isEnded)
            return;
        if (from !== this.#from || to !== this.#to)
            return void this.#ask();
        if (answer)
            this.#take(answer);
        else
            this.#shownKey = ''; // it is asked for once more
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => {
            this.#timer = null;
            this.#refresh();
        }, REFRESH_MS);
    }

    #take(answer) {
        this.#answer = answer;
        this.#cells = cellsOf(answer);
        if (this.#chosen !== null && this.#chosen >= this.#cells.length)
            this.#chosen = null;
        const span = { from: answer.from, to: answer.to };
        const size = answer.step * answer.chunk_size;
        setText(this.#where, `${capital(spanText(span))} of ` +
            `${count(answer.all_chunks)}. A square is ` +
            `${answer.step === 1 ? 'one chunk' : `${count(answer.step)} chunks`}, ` +
            `${bytes(size)}.`);
        const [sum] = joined(this.#cells, 1);
        setAttribute(this.#canvas, 'aria-label',
            `Map of ${this.#name}, ${spanText(span)}: ${kindsIn(sum)}. ` +
            'Arrow keys choose a square, Enter zooms in, minus zooms out.');
        this.#setTable();
        this.#setTools();
        this.repaint();
        this.#tell();
    }

    #setTable() {
        const rows = joined(this.#cells, ROWS_MAX).map((cell) => {
            const head = make('th', '', cell.to - cell.from === 1 ? count(cell.from)
                : `${count(cell.from)} – ${count(cell.to - 1)}`);
            head.scope = 'row';
            return make('tr', '', head,
                ...KINDS.map(([kind]) => make('td', '', count(cell[kind]))));
        });
        this.#table.replaceChildren(...rows);
    }

    // ---- choosing a square --------------------------------------------------

    #at(event) {
        const column = Math.floor(event.offsetX / this.#size);
        const index = Math.floor(event.offsetY / this.#size) * this.#columns + column;
        return column < this.#columns && index < this.#cells.length ? index : null;
    }

    #choose(index) {
        if (index === this.#chosen)
            return;
        this.#chosen = index;
        this.repaint();
        this.#tell();
    }

    #tell() {
        const cell = this.#cells[this.#chosen ?? -1];
        setText(this.#readout, cell
            ? `${capital(spanText(cell))}, at ` +
                `${bytes(cell.from * this.#answer.chunk_size)}: ${kindsIn(cell)}`
            : 'Point at a square, or choose one with the arrow keys; Enter or a click zooms in.');
    }

    // ---- painting -----------------------------------------------------------

    repaint() {
        const { clientWidth: width, clientHeight: height } = this.#canvas;
        if (width === 0 || height === 0)
            return;
        const scale = window.devicePixelRatio || 1;
        this.#canvas.width = Math.round(width * scale);
        this.#canvas.height = Math.round(height * scale);
        const context = this.#canvas.getContext('2d');
        context.scale(scale, scale);
        if (this.#cells.length === 0)
            return;
        this.#size = this.#sizeFor(width, height);
        this.#columns = Math.max(1, Math.floor(width / this.#size));
        const style = getComputedStyle(document.documentElement);
        const colours = Object.fromEntries(KINDS.map(
            ([kind]) => [kind, style.getPropertyValue(`--${kind}`).trim()]));
        this.#cells.forEach((cell, i) => this.#paint(context, cell, i, colours));
        if (this.#chosen !== null)
            this.#mark(context, style.getPropertyValue('--text').trim());
    }

    /** The largest squares of which all fit. */
    #sizeFor(width, height) {
        for (let size = SIZE_MAX; size > SIZE_MIN; size--) {
            const rows = Math.ceil(this.#cells.length / Math.floor(width / size));
            if (rows * size <= height)
                return size;
        }
        return SIZE_MIN;
    }

    #placeOf(index) {
        return [index % this.#columns * this.#size,
            Math.floor(index / this.#columns) * this.#size];
    }

    // From the bottom: what is worst is never hidden by what is more.
    #paint(context, cell, index, colours) {
        const [x, y] = this.#placeOf(index);
        const side = this.#size - GAP;
        let bottom = y + side;
        context.fillStyle = colours.hole;
        context.fillRect(x, y, side, side);
        for (const [kind] of KINDS) {
            if (cell[kind] === 0 || kind === 'hole')
                continue;
            const part = Math.min(bottom - y,
                Math.max(2, cell[kind] / (cell.to - cell.from) * side));
            context.fillStyle = colours[kind];
            context.fillRect(x, bottom - part, side, part);
            bottom -= part;
        }
    }

    #mark(context, colour) {
        const [x, y] = this.#placeOf(this.#chosen);
        context.strokeStyle = colour;
        context.lineWidth = 2;
        context.strokeRect(x - 0.5, y - 0.5, this.#size, this.#size);
    }
}

function capital(text) {
    return text[0].toUpperCase() + text.slice(1);
}
