#!/usr/bin/env node
// SPDX-License-Identifier: BSD-2-Clause
//
// screenshots - pictures of the page for the documentation, with the day that
// scene.mjs tells of.  Inter (fonts-inter) and pngquant make them nicer and
// smaller.
//
// usage: tests/gui/screenshots.mjs [DIRECTORY]     (docs/screenshots)

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { parseConfig } from '../../gui/lib/config.mjs';
import { loadFiles } from '../../gui/lib/files.mjs';
import { Page } from '../../gui/lib/http.mjs';
import { cleanStatus } from '../../gui/lib/status.mjs';
import { Watcher } from '../../gui/lib/watcher.mjs';
import { launchBrowser } from './browser.mjs';
import { mapOf, sceneAt } from './scene.mjs';

const TREE = fileURLToPath(new URL('../..', import.meta.url));
const STEP_MS = 5000;
const HOURS = 26;

/** A page of which the last day is known already; resolves to its address. */
async function startPage() {
    const startMs = Date.now() - HOURS * 3600e3;
    const now = () => sceneAt(Date.now(), { startMs });
    const askFor = async (path, question) =>
        question === 'status' ? now() : mapOf(now(), question);
    const { config } = parseConfig('', 'none');
    const watcher = new Watcher(config.status, { askFor });
    for (let ms = startMs; ms < Date.now() - STEP_MS; ms += STEP_MS)
        watcher.history.add(ms, cleanStatus(sceneAt(ms, { startMs })));
    const page = new Page(config, watcher, loadFiles(join(TREE, 'gui'), []), { askFor });
    const { port } = await page.listen({ host: '127.0.0.1', port: 0 });
    watcher.start();
    return {
        address: `http://127.0.0.1:${port}/`,
        close() {
            watcher.stop();
            return page.close();
        },
    };
}

async function take(browser, address, directory, { width, height, theme, name, open }) {
    const context = await browser.newContext({
        viewport: { width, height }, colorScheme: theme,
    });
    const page = await context.newPage();
    await page.goto(`${address}${open ? `#open=${open}` : ''}`);
    await page.waitForFunction(() =>
        document.querySelectorAll('.card').length > 0 &&
        [...document.querySelectorAll('.endpoint .plot')]
            .every((plot) => plot.dataset.points > 0) &&
        !document.querySelector('.rates tbody').textContent.startsWith('Read–'));
    if (open)
        await page.waitForFunction(() =>
            document.querySelector('.map').hasAttribute('aria-label') &&
            [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.points > 0));
    const path = join(directory, `${name}.png`);
    await page.screenshot({ path });
    spawnSync('pngquant', ['--force', '--skip-if-larger', '--output', path, path]);
    await context.close();
}

const directory = process.argv[2] ?? join(TREE, 'docs/screenshots');
mkdirSync(directory, { recursive: true });
const page = await startPage();
const browser = await launchBrowser();
try {
    for (const theme of ['light', 'dark']) {
        for (const [size, width, height] of [['wide', 1600, 1150], ['phone', 400, 860]]) {
            await take(browser, page.address, directory,
                { width, height, theme, name: `${size}-${theme}` });
            await take(browser, page.address, directory, {
                width, height: size === 'phone' ? 2400 : 1640, theme,
                name: `${size}-${theme}-device`, open: 'postgres',
            });
        }
    }
} finally {
    await browser.close();
    await page.close();
}
