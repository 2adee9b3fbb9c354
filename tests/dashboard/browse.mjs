// A real browser for the stories of this folder: nothing may go wrong in it unheard, and nothing may come from elsewhere.
import { chromium } from 'playwright-core';

export const [url, shots, ...args] = process.argv.slice(2);
const WAIT_MS = 90_000; // on a machine that does ten other things
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

// A story that waits for what never comes ends all the same.
setTimeout(() => process.stderr.write('gave up after 360 s\n', () => process.exit(1)), 360_000).unref();

// Runs `story` with a page at the dashboard; prints what it returns, with what went wrong meanwhile.
export async function tell(story, { prepare = async () => {} } = {}) {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
  const context = await browser.newContext({ viewport: { width: 1180, height: 900 }, colorScheme: 'light' });
  context.setDefaultTimeout(WAIT_MS);
  const wrong = [];
  const hosts = new Set();
  const page = await context.newPage();
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && wrong.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => wrong.push(`${error}`));
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  page.on('websocket', (socket) => hosts.add(new URL(socket.url()).host));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await prepare(context, page);
  try {
    const told = await story(page);
    wrong.push(...(await page.evaluate(() => window.violations)));
    process.stdout.write(JSON.stringify({ ...told, wrong, hosts: [...hosts] }));
  } catch (error) {
    await shoot(page, 'failed');
    process.stderr.write(`${error.stack}\n${wrong.join('\n')}\n${await page.innerText('body').catch(() => '')}\n`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

// One line for who runs the story, which answers by what it does.
export const say = (line) => process.stdout.write(`${line}\n`);

export async function visit(page, path, heading) {
  await page.goto(`${url}#/${path}`);
  await page.locator('h1', { hasText: heading }).waitFor();
  await page.waitForFunction(() => document.querySelector('[aria-busy]') === null);
}

export async function shoot(page, name) {
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

// What the cells of a table say, by row, with its columns' names.
export const rows = (page, caption) =>
  page.evaluate((wanted) => {
    const table = [...document.querySelectorAll('table')].find((each) => each.caption.textContent.startsWith(wanted));
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    return [...table.tBodies[0].rows].map((row) => Object.fromEntries([...row.cells].map((cell, index) => [names[index], cell.innerText.replace(/\u00a0/g, " ").trim()])));
  }, caption);

// What keeps somebody from reading or using a page: text that is too faint, controls without a name, a page too wide.
const flaws = (page) =>
  page.evaluate(() => {
    const found = [];
    const colour = (text) => (text.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((each) => each / 255).map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)).reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
      for (let each = element; each; each = each.parentElement) {
        const [r, g, b, alpha = 1] = colour(getComputedStyle(each).backgroundColor);
        if (alpha === 1) return [r, g, b];
      }
      return [255, 255, 255];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('svg, .hidden, .skip, script, noscript, :disabled')) continue;
      const style = getComputedStyle(element);
      const [a, b] = [light(colour(style.color)), light(ground(element))].sort((x, y) => y - x);
      const contrast = (a + 0.05) / (b + 0.05);
      if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
    }
    for (const control of document.querySelectorAll('input, select, textarea')) {
      if (!control.labels.length && !control.ariaLabel) found.push(`no label: ${control.outerHTML.slice(0, 80)}`);
    }
    for (const control of document.querySelectorAll('a, button, summary')) {
      if (!control.textContent.trim() && !control.ariaLabel) found.push(`no name: ${control.outerHTML.slice(0, 80)}`);
    }
    if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
    const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    if (new Set(ids).size !== ids.length) found.push('an id is there twice');
    const width = document.documentElement.scrollWidth;
    if (width > window.innerWidth) found.push(`${width} pixels wide in a window of ${window.innerWidth}`);
    return found;
  });

// Pictures of pages, each a name, a path and a heading: on a desk and on a phone, in the light and in the dark; their flaws.
export async function looks(page, pages) {
  const wrong = {};
  for (const [scheme, width] of [['light', 1180], ['dark', 1180], ['light', 360], ['dark', 360]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: width === 360 ? 780 : 900 });
    for (const [name, path, heading] of pages) {
      await visit(page, path, heading);
      const look = `${name}-${scheme}${width === 360 ? '-phone' : ''}`;
      const problems = await flaws(page);
      if (problems.length) wrong[look] = problems;
      await shoot(page, look);
    }
  }
  return wrong;
}
