// SPDX-License-Identifier: BSD-2-Clause
//
// page - puts the parts together: what the server tells goes to all of them,
// once a frame; the clock once a second.

import { repaintMaps } from './chunk_map.mjs';
import { DeviceCard } from './device_card.mjs';
import { HEALTHS } from './device_facts.mjs';
import { Children, make, setAttribute, setHidden, setText } from './dom.mjs';
import { count, plural } from './format.mjs';
import { LogList, SyncList } from './lists.mjs';
import { Live } from './live.mjs';
import { repaintPlots } from './plot.mjs';
import { StorePanel } from './store_panel.mjs';
import { Summary, healthCounts } from './summary.mjs';

const OPEN_AT_FIRST = 1; // that many devices or fewer are open at once
const TICK_MS = 1000;
const SEARCH_FROM = 7; // so many devices have a field to search them

const byId = (id) => document.getElementById(id);

class Devices {
    #live;
    #cards = new Map();
    #children;
    #filter = 'all';
    #filters = new Map();
    #isFirst = true;

    constructor(live) {
        this.#live = live;
        this.#children = new Children(byId('cards'), (name) => {
            this.#cards.get(name)?.end();
            const card = new DeviceCard(live, name);
            this.#cards.set(name, card);
            return { element: card.element, update() {} };
        });
        this.#addFilter('all', 'All');
        for (const [word, label] of Object.entries(HEALTHS))
            this.#addFilter(word, label);
        byId('search').addEventListener('input', () => this.#choose());
        byId('cards').addEventListener('toggled', () => this.#remember());
    }

    #addFilter(word, label) {
        const number = make('span', 'number', '0');
        const button = make('button', '', make('span', '', label), number);
        button.type = 'button';
        button.dataset.health = word;
        button.addEventListener('click', () => {
            this.#filter = this.#filter === word ? 'all' : word;
            this.#choose();
        });
        this.#filters.set(word, { button, number });
        byId('filters').append(button);
    }

    /** Names of the devices that have changed. */
    update(changed) {
        const { order, devices } = this.#live;
        const isNew = order.filter((name) => !this.#cards.has(name));
        this.#children.set(order, (name) => name);
        for (const name of this.#cards.keys()) {
            if (!devices.has(name)) {
                this.#cards.get(name).end();
                this.#cards.delete(name);
            }
        }
        for (const [name, card] of this.#cards) {
            if (changed.has(name) && !isNew.includes(name))
                card.setDevice();
            else
                card.tick();
        }
        this.#choose();
        if (this.#isFirst && order.length > 0) {
            this.#isFirst = false;
            this.#openFirst();
        }
    }

    #choose() {
        const counts = healthCounts(this.#live);
        const words = byId('search').value.trim().toLowerCase();
        for (const [word, { button, number }] of this.#filters) {
            setText(number, count(counts[word] ?? this.#live.order.length));
            setAttribute(button, 'aria-pressed', word === this.#filter);
        }
        let shown = 0;
        for (const [name, { element }] of this.#cards) {
            const isShown = name.toLowerCase().includes(words) &&
                (this.#filter === 'all' || element.dataset.health === this.#filter);
            setHidden(element, !isShown);
            shown += isShown ? 1 : 0;
        }
        setHidden(byId('search'), this.#live.order.length < SEARCH_FROM);
        setHidden(byId('no-devices'), shown > 0 || this.#live.server.state === 'starting');
        setText(byId('no-devices'), this.#live.order.length === 0
            ? 'No device is known.' : 'No device is like that now.');
        setText(byId('devices-note'), this.#note());
    }

    #note() {
        const leftOut = this.#live.daemon.left_out ?? 0;
        return leftOut === 0 ? '\u00a0'
            : `${plural(leftOut, 'one more', 'more')} could not be opened`;
    }

    // What is open stays open when the page is loaded again.
    #openFirst() {
        const names = location.hash.startsWith('#open=')
            ? new URLSearchParams(location.hash.slice(1)).getAll('open')
            : this.#live.order.length <= OPEN_AT_FIRST ? this.#live.order : [];
        for (const name of names)
            this.#cards.get(name)?.open(true);
    }

    #remember() {
        const query = new URLSearchParams();
        for (const [name, card] of this.#cards) {
            if (card.isOpen)
                query.append('open', name);
        }
        history.replaceState(null, '', `#${query}`);
    }
}

function watchTheme() {
    const root = document.documentElement;
    const buttons = [...byId('theme').children];
    const show = () => {
        for (const button of buttons)
            setAttribute(button, 'aria-pressed',
                button.dataset.themeChoice === (root.dataset.theme ?? 'auto'));
    };
    const repaint = () => {
        repaintPlots();
        repaintMaps();
    };
    for (const button of buttons) {
        button.addEventListener('click', () => {
            const choice = button.dataset.themeChoice;
            if (choice === 'auto')
                delete root.dataset.theme;
            else
                root.dataset.theme = choice;
            try {
                localStorage.setItem('theme', choice);
            } catch {
                // storage is switched off: it holds until the page is closed
            }
            show();
            repaint();
        });
    }
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
    show();
}

function main() {
    const live = new Live();
    const devices = new Devices(live);
    const parts = [new Summary(live), new StorePanel(live), new SyncList(live),
        new LogList(live)];
    const changed = new Set();
    let isWaiting = false;
    let updatedMs = -Infinity;

    const update = () => {
        isWaiting = false;
        updatedMs = performance.now();
        devices.update(changed);
        changed.clear();
        for (const part of parts)
            part.update();
    };
    live.addEventListener('update', ({ detail }) => {
        for (const name of detail)
            changed.add(name);
        if (!isWaiting)
            requestAnimationFrame(update);
        isWaiting = true;
    });
    setInterval(() => {
        if (!isWaiting && !document.hidden && performance.now() - updatedMs > TICK_MS / 2)
            update();
    }, TICK_MS);
    watchTheme();
    for (const part of parts)
        part.update();
    live.start();
}

main();
