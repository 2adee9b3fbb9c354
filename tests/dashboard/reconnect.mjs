// A page whose node goes away and comes back: it says so, keeps what it shows, and goes on by itself.
import { say, shoot, tell, visit } from './browse.mjs';

await tell(async (page) => {
  await visit(page, '', 'Chain');
  await page.locator('#height').waitFor();
  const before = Number(await page.innerText('#height'));
  say('connected');
  const banner = page.locator('#banner .notice');
  await banner.waitFor();
  const told = [await banner.innerText(), await page.innerText('#connection')];
  const shown = await page.locator('tbody tr').count();
  await shoot(page, 'disconnected-light');
  say('disconnected');
  await page.locator('#connection', { hasText: 'live' }).waitFor();
  await page.waitForFunction((old) => Number(document.querySelector('#height').textContent) > old, before);
  const banners = await page.locator('#banner .notice').count();
  return { told, shown, banners, after: Number(await page.innerText('#height')) - before };
});
