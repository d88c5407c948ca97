#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
//
// The page in a real browser: what it shows, live, to everybody, and whatever
// becomes of the daemon.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { parseConfig } from '../../gui/lib/config.mjs';
import { loadFiles } from '../../gui/lib/files.mjs';
import { Page } from '../../gui/lib/http.mjs';
import { Watcher } from '../../gui/lib/watcher.mjs';
import { bytes, bytesPerSecond, count, percent }
    from '../../gui/public/format.mjs';
import { browserProblem, launchBrowser } from './browser.mjs';
import { get, goodDaemon, makeDir, makeStatus, startServer, until }
    from './fake_daemon.mjs';
import { PROGRAMS_PROBLEM, beginDaemon } from './real_daemon.mjs';
import { mapOf, sceneAt } from './scene.mjs';

const GUI = fileURLToPath(new URL('../../gui', import.meta.url));
const problem = await browserProblem();
const OPTIONS = { timeout: 150000, skip: problem ?? false };
const START_MS = Date.now() - 86400e3;

let browser = null;
before(async () => {
    if (!problem)
        browser = await launchBrowser();
});
after(() => browser?.close());

/** The page of a server, and all that it does wrong. */
async function openPage(t, port, { width = 1600, height = 1200, theme = 'light', hash = '' } = {}) {
    const context = await browser.newContext(
        { viewport: { width, height }, colorScheme: theme });
    const page = await context.newPage();
    page.setDefaultTimeout(100000);
    const wrongs = [];
    page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning')
            wrongs.push(`${message.text()} ${message.location().url}`);
    });
    page.on('pageerror', (error) => wrongs.push(String(error)));
    page.on('dialog', (dialog) => {
        wrongs.push(`a dialog: ${dialog.message()}`);
        void dialog.dismiss();
    });
    page.on('request', (request) => {
        const url = new URL(request.url());
        if (url.host !== `127.0.0.1:${port}` && url.protocol !== 'data:')
            wrongs.push(`a request to ${url}`);
    });
    t.after(() => context.close());
    await page.goto(`http://127.0.0.1:${port}/${hash}`);
    await page.waitForFunction(() => document.querySelector('.card'));
    return { page, wrongs };
}

/** A page whose daemon says what state.status() returns. */
async function begin(t, status, options) {
    const dir = makeDir(t);
    const state = { status };
    const daemon = goodDaemon(join(dir, 'status'), () => state.status(),
        (question) => mapOf(state.status(), question));
    await daemon.start();
    t.after(() => daemon.stop());
    const { port, child } = await startServer(t, dir);
    return { state, daemon, port, child, ...await openPage(t, port, options) };
}

const live = () => sceneAt(Date.now(), { startMs: START_MS });

/** A scene in which nothing happens. */
function still() {
    const scene = live();
    return () => scene;
}

/** The text of an element in the card of a device. */
const cardOf = (page, name) => page.locator('.card', {
    has: page.locator('h3').getByText(name, { exact: true }),
});
const partOf = async (page, name, part) =>
    (await cardOf(page, name).locator(`[data-part="${part}"]`).textContent()).trim();
const factOf = (page, name, fact) => cardOf(page, name)
    .locator('[data-part="facts"] > div', { hasText: fact }).locator('dd').textContent();
const textOf = (page, selector) => page.locator(selector).first().textContent();

const verdictIs = (page, words) => page.waitForFunction((wanted) =>
    document.getElementById('verdict-word').textContent === wanted, words);

// ---- what it shows ------------------------------------------------------------

test('every device is shown with the numbers that the daemon tells', OPTIONS, async (t) => {
    const { page, port, state, wrongs } = await begin(t, still());
    const status = state.status();
    const api = JSON.parse((await get(port, '/api/status')).text);
    assert.equal(await page.locator('.card').count(), status.devices.length);
    for (const device of status.devices) {
        const name = device.device;
        const { health } = api.devices.find((d) => d.device === name);
        const reason = await partOf(page, name, 'reason');
        for (const words of health.reasons)
            assert(reason.toLowerCase().includes(words.toLowerCase()), reason);
        assert.equal((await partOf(page, name, 'health')).toLowerCase(), health.word);
        assert.equal(await partOf(page, name, 'size'), bytes(device.size));
        const legend = await partOf(page, name, 'legend');
        for (const [label, kind] of [['Dirty', 'dirty'], ['Clean', 'clean'],
            ['Remote', 'remote'], ['Zero', 'zero']])
            assert(legend.includes(label +
                percent(device[`${kind}_chunks`], device.all_chunks)), legend);
        assert.equal(await partOf(page, name, 'cache'), device.cache_limit > 0
            ? `${bytes(device.cache_used)} of ${bytes(device.cache_limit)}`
            : `${bytes(device.disk_total - device.disk_available)} of ${bytes(device.disk_total)}`);
        assert.match(await partOf(page, name, 'cache-note'), /from 90 % down to 80 %/);
        assert.equal(await factOf(page, name, 'Not in the bucket'), bytes(device.dirty_bytes));
        assert.match(await factOf(page, name, 'Last image'),
            new RegExp(`ago · number ${device.image_epoch}$`));
        assert.match(await factOf(page, name, 'Oldest such write'),
            device.oldest_unpublished_ns ? /(min|h|s) ago$/ : /^none$/);
    }
    assert.equal(await factOf(page, 'postgres', 'Oldest such write')
        .then((text) => text.split(' ')[0]), '9');
    assert.equal(await textOf(page, '#verdict-word'), '2 devices need attention');
    assert.deepEqual(wrongs, []);
});

test('the store, syncs and errors are shown', OPTIONS, async (t) => {
    const { page, state, wrongs } = await begin(t, still());
    const { store, log, devices } = state.status();
    assert.equal(await textOf(page, '#store-note'), 'atlas-disks/rack-7');
    const endpoints = await page.locator('.endpoint').allTextContents();
    assert.equal(endpoints.length, 2);
    store.endpoints.forEach(({ host, state: word, requests, errors }, i) => {
        assert(endpoints[i].startsWith(`${host}:443`));
        assert(endpoints[i].toLowerCase().includes(word));
        assert(endpoints[i].includes(`${count(errors)} of ${count(requests)}`));
    });
    assert.match(endpoints[1], /Last error 13 min .*503 Slow Down/);
    const lines = await page.locator('#log li p').allTextContents();
    assert.deepEqual(lines, log.map(({ text }) => text).reverse());
    const mail = devices.find(({ device }) => device === 'mail');
    const done = mail.checkpoint_chunks - mail.checkpoint_left;
    assert((await textOf(page, '#syncs')).includes(
        `${count(done)} of ${count(mail.checkpoint_chunks)} chunks`));
    assert.equal(await page.locator('#syncs [role="progressbar"]')
        .getAttribute('aria-valuenow'),
    String(Math.floor(done / mail.checkpoint_chunks * 100)));
    assert.deepEqual(wrongs, []);
});

/** Where everything is from above, and how high: nothing of it may move. */
const places = (page) => page.evaluate(() =>
    [...document.querySelectorAll('main *')]
        .filter((element) => !element.closest('.canvas, .map, #log, #syncs'))
        .map((element) => [element, element.getBoundingClientRect()])
        .map(([{ tagName, className }, { top, height }]) =>
            `${tagName}.${className} ${top} ${height}`));

test('rates and percentiles change while it is open, and nothing moves', OPTIONS, async (t) => {
    const { page, port, wrongs } = await begin(t, live, { hash: '#open=postgres' });
    await page.waitForFunction(() => document.querySelector('.rates td').textContent !== '–' &&
        document.querySelector('.map[aria-label]') &&
        document.querySelectorAll('.uplot').length === 6);
    const before = await places(page);
    await page.evaluate(() => {
        globalThis.shift = 0;
        new PerformanceObserver((list) => list.getEntries().forEach(
            ({ value }) => { globalThis.shift += value; }))
            .observe({ type: 'layout-shift' });
    });
    const seen = new Set();
    await until((size) => size >= 4, async () => {
        seen.add(await textOf(page, '.rates td'));
        return seen.size;
    });
    await until((isSame) => isSame, async () => {
        const shown = await partOf(page, 'postgres', 'rates');
        const { devices } = JSON.parse((await get(port, '/api/status')).text);
        const { rates } = devices.find(({ device }) => device === 'postgres');
        return shown.includes(bytesPerSecond(rates.read_bytes)) &&
            shown.includes(bytesPerSecond(rates.written_bytes));
    });
    assert.match(await partOf(page, 'postgres', 'rates'), /\d µs/);
    assert.deepEqual(await places(page), before);
    // Words that are flush right begin elsewhere when they are longer.
    assert(await page.evaluate(() => globalThis.shift) < 0.001);
    assert.deepEqual(wrongs, []);
});

test('devices come and go, and what is not known is a dash', OPTIONS, async (t) => {
    // A map of what is gone would be asked for in vain.
    const { page, state, wrongs } = await begin(t, () => makeStatus(), { hash: '#open=' });
    state.status = () => {
        const status = makeStatus();
        status.devices.push({ device: 'other', size: 2 ** 30, state: 'waiting' });
        return status;
    };
    await cardOf(page, 'other').waitFor();
    assert.equal(await partOf(page, 'other', 'health'), 'Degraded');
    assert.equal(await factOf(page, 'other', 'Journal'), '–');
    assert.match(await textOf(page, '#tiles'), /In caches1 MiBof 80 MiB in use/);
    state.status = () => makeStatus({ device: { device: 'new' } });
    await cardOf(page, 'new').waitFor();
    assert.deepEqual(await page.locator('.card h3').allTextContents(), ['new']);
    assert.deepEqual(wrongs, []);
});

// ---- plots and map ------------------------------------------------------------

test('plots of an hour and a day are drawn', OPTIONS, async (t) => {
    const { page, wrongs } = await begin(t, live, { hash: '#open=postgres' });
    const card = cardOf(page, 'postgres');
    await page.waitForFunction(() =>
        document.querySelectorAll('.plots .uplot canvas').length === 4 &&
        [...document.querySelectorAll('.plots .plot')].every(
            ({ dataset }) => Number(dataset.points) >= 2));
    assert.match(await card.locator('.keys').nth(3).textContent(), /^Used3\d\d GiB/);
    assert.match(await card.locator('.keys').nth(1).textContent(), /^Read[\d.]+ MiB\/s/);
    const day = page.waitForResponse(/history\?range=day&device=postgres/);
    await card.getByRole('button', { name: 'Last day' }).click();
    const { times } = await (await day).json();
    await page.waitForFunction((points) => document.querySelector('.plots .plot')
        .dataset.points === String(points), times.length);
    assert.equal(await card.getByRole('button', { name: 'Last day' })
        .getAttribute('aria-pressed'), 'true');
    assert.deepEqual(wrongs, []);
});

test('the map is zoomed and read by keys alone, also as a table', OPTIONS, async (t) => {
    const { page, daemon, state, wrongs } = await begin(t, still(), { hash: '#open=mail' });
    const map = cardOf(page, 'mail').locator('.map');
    await page.waitForFunction(() => document.querySelector('.map[aria-label]'));
    const all = state.status().devices.find(({ device }) => device === 'mail').all_chunks;
    assert.match(await map.getAttribute('aria-label'),
        new RegExp(`chunks 0 to ${count(all - 1)}: .*dirty.*remote`));
    const whole = await partOf(page, 'mail', 'map-where');
    await map.focus();
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight'])
        await page.keyboard.press(key);
    assert.match(await partOf(page, 'mail', 'map-readout'), /^Chunks? [\d,]+.*: /);
    await page.keyboard.press('Enter');
    await page.waitForFunction((text) =>
        document.querySelector('[data-part="map-where"]').textContent !== text, whole);
    assert(daemon.questions.some((question) =>
        /^map device=mail from=[1-9]/.test(question)));
    const asked = daemon.questions.filter((question) => question.startsWith('map')).at(-1);
    const { cells } = mapOf(state.status(), asked);
    await cardOf(page, 'mail').getByText('The map as a table').click();
    const sum = (await cardOf(page, 'mail').locator('[data-part="map-table"] td:nth-child(2)')
        .allTextContents()).reduce((total, text) => total + Number(text.replaceAll(',', '')), 0);
    assert.equal(sum, cells.reduce((total, cell) => total + cell[0] * cell[4], 0));
    await map.focus();
    await page.keyboard.press('Escape');
    await page.waitForFunction((text) =>
        document.querySelector('[data-part="map-where"]').textContent === text, whole);
    assert.deepEqual(wrongs, []);
});

test('a map that could not be had is asked for once more', OPTIONS, async (t) => {
    const { page, daemon } = await begin(t, still());
    const respond = daemon.respond;
    let refused = 0;
    daemon.respond = (question, socket) => {
        if (question.startsWith('map') && refused++ < 3)
            socket.destroy();
        else
            respond(question, socket);
    };
    await cardOf(page, 'mail').getByRole('button', { name: 'Plots and map' }).click();
    await page.waitForFunction(() => document.querySelector('.map[aria-label]'));
    assert(refused > 3);
});

// ---- for everybody ------------------------------------------------------------

const axePath = problem ? null : createRequire(import.meta.url).resolve('axe-core/axe.min.js');

test('axe finds nothing, in all colours and widths', OPTIONS, async (t) => {
    const { page, wrongs } = await begin(t, live,
        { hash: '#open=postgres&open=builds' });
    await page.waitForFunction(() =>
        document.querySelectorAll('.map[aria-label]').length === 2);
    for (const summary of await page.locator('summary').all())
        await summary.click();
    await page.evaluate(readFileSync(axePath, 'utf8'));
    for (const colorScheme of ['light', 'dark']) {
        for (const width of [400, 1600]) {
            await page.emulateMedia({ colorScheme });
            await page.setViewportSize({ width, height: 1200 });
            const violations = await page.evaluate(async () => {
                const result = await globalThis.axe.run(document,
                    { resultTypes: ['violations'] });
                return result.violations.map(({ id, nodes }) =>
                    `${id}: ${nodes.slice(0, 4).map(({ html, any }) =>
                        `${html} ${any.map(({ message }) => message).join()}`).join('\n')}`);
            });
            assert.deepEqual(violations, [], `${colorScheme}, ${width}`);
            assert(await page.evaluate(() =>
                document.documentElement.scrollWidth <= window.innerWidth), String(width));
        }
    }
    assert.deepEqual(wrongs, []);
});

test('all of it can be done by keys, and colours are remembered', OPTIONS, async (t) => {
    const { page, wrongs } = await begin(t, live);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.keyboard.press('Enter');
    const reach = async (label) => {
        for (let i = 0; i < 80; i++) {
            await page.keyboard.press('Tab');
            const name = await page.evaluate(() => document.activeElement.textContent);
            if (name.startsWith(label))
                return;
        }
        assert.fail(`${label} is not reached`);
    };
    await reach('Behind');
    await page.keyboard.press('Enter');
    assert.deepEqual(await page.locator('.card:visible h3').allTextContents(), ['builds']);
    await reach('Plots and map');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('.card.open .map[aria-label]'));
    assert.match(page.url(), /#open=builds$/);

    await page.getByRole('button', { name: 'Dark' }).focus();
    await page.keyboard.press('Space');
    const background = () => page.evaluate(() =>
        getComputedStyle(document.body).backgroundColor);
    const dark = await background();
    await page.reload();
    await page.waitForFunction(() => document.querySelector('.card.open'));
    assert.equal(await background(), dark);
    await page.getByRole('button', { name: 'Light' }).click();
    assert.notEqual(await background(), dark);
    assert.deepEqual(wrongs, []);
});

test('names and messages made of HTML are text', OPTIONS, async (t) => {
    const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>"\'&';
    const { page, wrongs } = await begin(t, () => makeStatus({
        device: { device: evil, held: evil, claim_host: evil, checkpoint: 'open',
            checkpoint_chunks: 4, checkpoint_left: 2, upload_error: evil },
        log: [{ number: 1, time_ns: 1e18, level: 'error', text: evil }],
        store: {
            bucket: evil, prefix: evil, region: evil,
            credentials: { source: evil, problem: evil },
            endpoints: [{ host: evil, port: 1, state: evil, last_error: evil }],
        },
    }));
    await page.waitForFunction(() => document.querySelector('.map[aria-label]'));
    assert.equal(await page.locator('.card h3').textContent(), evil);
    assert.equal(await page.locator('#log li p').textContent(), evil);
    assert((await page.locator('.endpoint h3').textContent()).includes(evil));
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.deepEqual(wrongs, []);
});

// ---- when something is not there ------------------------------------------------

test('a daemon that is down, hangs and is started anew is told of; history stays', OPTIONS, async (t) => {
    const { page, daemon, state, wrongs } = await begin(t, live, { hash: '#open=postgres' });
    const points = () => page.evaluate(() =>
        Number(document.querySelector('.plots .plot').dataset.points ?? 0));
    await until((number) => number >= 2, points);
    const kept = await points();
    const ofWhen = () => textOf(page, '.plots figcaption .muted');
    assert.equal(await ofWhen(), 'now');
    const used = await partOf(page, 'postgres', 'resident');

    await daemon.stop();
    await verdictIs(page, 'The daemon is down');
    assert.match(await textOf(page, '#verdict-text'), /^Since \d\d:.* as it was last known/);
    assert.equal(await partOf(page, 'postgres', 'health'), 'Unknown');
    assert.equal(await partOf(page, 'postgres', 'resident'), used);
    assert.equal(await textOf(page, '#announcement'), 'The daemon is down');
    assert.equal(await page.locator('#verdict').getAttribute('data-health'), 'failed');
    assert.match(await textOf(page, '#tiles'), /Reads––/);

    const respond = daemon.respond;
    daemon.respond = () => {};
    await daemon.start();
    await verdictIs(page, 'The daemon hangs');
    // What was last known is not of now for long.
    await until((text) => /^\d\d:\d\d:\d\d$/.test(text), ofWhen);

    daemon.respond = respond;
    const startMs = Date.now();
    state.status = () => sceneAt(Date.now(), { startMs });
    await daemon.stop();
    await daemon.start();
    await verdictIs(page, '2 devices need attention');
    assert.match(await textOf(page, '#announcement'), /^The daemon was started anew\./);
    assert.equal(await partOf(page, 'postgres', 'health'), 'Safe');
    await until((number) => number > kept, points);
    // A map may have been asked for just before.
    assert.deepEqual(wrongs.filter((wrong) => !/ 503 .*\/api\/map\?/.test(wrong)), []);
});

test('it comes back when the server of the page does', OPTIONS, async (t) => {
    const { config } = parseConfig('', 'none');
    const watcher = new Watcher(config.status, { askFor: async () => live() });
    const files = loadFiles(GUI, []);
    let server = new Page(config, watcher, files);
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    watcher.start();
    t.after(async () => {
        watcher.stop();
        await server.close();
    });
    const { page } = await openPage(t, port);
    await verdictIs(page, '2 devices need attention');
    await server.close();
    await verdictIs(page, 'Connection lost');
    assert.equal(await partOf(page, 'mail', 'health'), 'Unknown');
    server = new Page(config, watcher, files);
    await server.listen({ host: '127.0.0.1', port });
    await verdictIs(page, '2 devices need attention');
    assert.equal(await partOf(page, 'mail', 'health'), 'Uploading');
});

test('a server that stops, or a connection that is lost unheard, is told of', OPTIONS, async (t) => {
    const { page, child, wrongs } = await begin(t, live);
    await verdictIs(page, '2 devices need attention');
    child.kill('SIGSTOP');
    await verdictIs(page, 'Connection lost');
    assert.equal(await partOf(page, 'mail', 'health'), 'Unknown');
    child.kill('SIGCONT');
    await verdictIs(page, '2 devices need attention');
    assert.equal(await partOf(page, 'mail', 'health'), 'Uploading');
    assert.deepEqual(wrongs, []);
});

test('with the real daemon: what is written is seen, and its restart', {
    ...OPTIONS, skip: problem ?? PROGRAMS_PROBLEM,
}, async (t) => {
    const { daemon, port, disk } = await beginDaemon(t);
    const { page, wrongs } = await openPage(t, port, { hash: '#open=disk' });
    const agrees = (fact, isSo) => until((isSame) => isSame, async () =>
        isSo(await factOf(page, 'disk', fact), await disk()));
    daemon.io('write -P 7 0 3M', 'flush');
    await until((d) => d.written_bytes === 3 << 20, disk);
    await agrees('Not in the bucket', (text, device) =>
        device.dirty_bytes > 0 && text === bytes(device.dirty_bytes));
    assert.match(await factOf(page, 'disk', 'Oldest such write'), / s ago$/);

    daemon.sync();
    await agrees('Oldest such write', (text, device) => text === 'none' &&
        device.oldest_unpublished_ns === undefined);
    await agrees('Last image', (text, device) =>
        device.image_epoch > 0 && text.endsWith(`number ${device.image_epoch}`));
    assert.match(await partOf(page, 'disk', 'legend'), /Clean4\.7 %/);
    await page.waitForFunction(() =>
        /: 3 clean, 61 hole/.test(document.querySelector('.map').ariaLabel ?? ''));

    await daemon.end('SIGKILL');
    await verdictIs(page, 'The daemon is down');
    daemon.start();
    await verdictIs(page, 'All 2 devices are safe');
    assert.deepEqual(wrongs, []);
});

test('all modules are asked for at once', () => {
    const index = readFileSync(join(GUI, 'public/index.html'), 'utf8');
    for (const name of readdirSync(join(GUI, 'public'))) {
        if (name.endsWith('.mjs'))
            assert(index.includes(`"${name}"`), name);
    }
});
