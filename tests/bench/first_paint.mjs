#!/usr/bin/env node
// SPDX-License-Identifier: BSD-2-Clause
//
// first_paint - how long a browser takes to show the status page.
//
// usage: tests/bench/first_paint.mjs URL DEVICES
//
// Prints JSON: milliseconds from the request to the first paint, and until
// all devices are shown; the median of some loads, each in a browser that has
// nothing of the page yet.

import { launchBrowser } from '../gui/browser.mjs';

const LOADS = 5;

const median = (values) =>
    [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function load(browser, url, devices) {
    const context = await browser.newContext(
        { viewport: { width: 1600, height: 1000 } });
    const page = await context.newPage();
    await page.addInitScript((wanted) => {
        globalThis.shown = new Promise((resolve) => {
            const look = () => {
                const cards = document.querySelectorAll('.card .badge');
                if (cards.length >= wanted)
                    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
                else
                    requestAnimationFrame(look);
            };
            look();
        });
    }, devices);
    await page.goto(url);
    const shown = await page.evaluate(() => globalThis.shown);
    const paint = await page.evaluate(() => performance
        .getEntriesByName('first-contentful-paint')[0].startTime);
    await context.close();
    return { paint, shown };
}

const [url, devices] = process.argv.slice(2);
const browser = await launchBrowser();
try {
    await load(browser, url, Number(devices)); // the browser itself, for once
    const loads = [];
    for (let i = 0; i < LOADS; i++)
        loads.push(await load(browser, url, Number(devices)));
    console.log(JSON.stringify({
        paint_ms: Math.round(median(loads.map(({ paint }) => paint))),
        shown_ms: Math.round(median(loads.map(({ shown }) => shown))),
    }));
} finally {
    await browser.close();
}
