// Somebody looks at a chain that goes on meanwhile: at its blocks, a round in which not all was well, and what search finds.
import { looks, rows, say, shoot, tell, url, visit, args } from './browse.mjs';

const [account] = args;
// The pages that show what went wrong: the testnet's tour has the others.
const PAGES = [
  ['flawed-task', 'task/0', 'digits'],
  ['flawed-round', 'task/0/round/0', 'Round 0'],
  ['slashed-worker', 'workers', 'Workers'],
];

const height = async (page) => Number((await page.innerText('#height')).replace(/,/g, ''));

await tell(async (page) => {
  await visit(page, '', 'Chain');
  await page.locator('#height').waitFor();
  await page.evaluate(() => (window.notReloaded = true));
  const heights = [await height(page)];
  say('watching'); // a transfer and a round of training follow, from elsewhere
  const line = page.locator('.lines li', { hasText: 'balances.transfer_keep_alive' }).first();
  await line.waitFor();
  const transfer = await line.innerText();
  heights.push(await height(page));

  // The element that has the focus outlives the blocks that come.
  await page.locator('tbody tr a').first().focus();
  const focused = await page.evaluate(() => document.activeElement.textContent);
  await page.waitForFunction((before) => Number(document.querySelector('#height').textContent.replace(/,/g, '')) > before, heights[1] + 2);
  heights.push(await height(page));
  const lag = await page.locator('.stats div', { hasText: 'Finality lag' }).innerText();
  const stayed = (await page.evaluate(() => document.activeElement.textContent)) === focused;

  await line.locator('a').first().click();
  await page.locator('details[open]').waitFor();
  const block = await page.innerText('details[open]');
  const hash = await page.locator('details[open] .whole .mono').innerText();
  await shoot(page, 'block-light');

  // Search finds what it is about, and says when it does not.
  const search = async (text, expected) => {
    await page.keyboard.press('/');
    await page.keyboard.type(text);
    await page.keyboard.press('Enter');
    await page.locator('h1', { hasText: expected }).waitFor();
    return page.evaluate(() => location.hash);
  };
  const found = {
    height: await search('1', 'Block 1'),
    account: await search(account, 'Account'),
    transaction: await search(hash, 'Block'),
    nothing: await search('0x12', 'Nothing found'),
  };

  // The curve grows while it is looked at.
  await visit(page, 'task/0', 'digits');
  const curve = () => page.locator('pot-curve svg').first().getAttribute('aria-label');
  const before = await curve();
  say('training');
  await page.waitForFunction((old) => document.querySelector('pot-curve svg').getAttribute('aria-label') !== old, before);
  const curves = [before, await curve()];
  const finals = await rows(page, 'Final rounds');

  await visit(page, 'task/0/round/0', 'Round 0');
  await page.locator('#agreement').waitFor();
  const round = { slots: await rows(page, 'Slots'), steps: await rows(page, 'How the round'), payments: await rows(page, 'Who was paid'), agreement: (await page.innerText('#agreement')).replace('\u00a0', ' ') };
  await visit(page, 'workers', 'Workers');
  const workers = await rows(page, 'Workers by');
  await visit(page, 'validators', 'Validators');
  const validators = { table: await rows(page, 'Validators of'), track: await page.locator('.cells').first().getAttribute('aria-label') };
  const notReloaded = await page.evaluate(() => window.notReloaded === true);

  const wrong = await looks(page, PAGES);
  // The switch counts before the system, and is remembered.
  await page.emulateMedia({ colorScheme: 'light' });
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const themes = [await ground()];
  await page.click('#theme');
  await page.click('#theme');
  themes.push(await ground());
  await page.reload();
  themes.push(await ground());
  return { heights, lag, stayed, transfer, block, hash, found, curves, finals, round, workers, validators, notReloaded, flaws: wrong, themes, url };
});
