// Somebody with a browser wallet sends a transfer and creates a task: the wallet is the library that wallets are made of,
// behind the API that they inject.
import { Keyring } from '@polkadot/api';
import { TypeRegistry } from '@polkadot/types';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { args, rows, shoot, tell, visit } from './browse.mjs';

const [receiver] = args;
await cryptoWaitReady();
const pair = new Keyring({ type: 'sr25519', ss58Format: 42 }).addFromUri('//Alice');
const seen = [];
let refuses = true;

// As the extension of polkadot-js signs: by the payload's fields, each of which is covered by the signature.
function sign(payload) {
  seen.push(payload);
  if (refuses) throw new Error('Cancelled');
  const registry = new TypeRegistry();
  registry.setSignedExtensions(payload.signedExtensions);
  return registry.createType('ExtrinsicPayload', payload, { version: payload.version }).sign(pair);
}

const prepare = async (context, page) => {
  await page.exposeFunction('signWith', sign);
  await page.addInitScript((address) => {
    window.asked = 0;
    window.injectedWeb3 = {
      'test-wallet': {
        version: '1',
        enable: async () => {
          window.asked += 1;
          return {
            accounts: { get: async () => [{ address, name: 'Alice', type: 'sr25519' }, { address: '0x00', name: 'other', type: 'ethereum' }] },
            signer: { signPayload: async (payload) => ({ id: 1, ...(await window.signWith(payload)) }) },
          };
        },
      },
    };
  }, pair.address);
};

const status = (page, text) => page.locator('#status', { hasText: text });

await tell(
  async (page) => {
    await visit(page, '', 'Chain');
    await page.locator('#height').waitFor();
    const askedBefore = await page.evaluate(() => window.asked);
    await visit(page, 'send', 'Send tokens');
    await page.click('text=Connect test-wallet');
    const accounts = await page.locator('#sender option').allInnerTexts();
    await page.fill('#to', receiver);
    await page.fill('#amount', 'one');
    await status(page, 'an amount such as 1.5').waitFor();
    await page.fill('#amount', '99999999999');
    await page.locator('.notice.bad', { hasText: 'too little' }).waitFor();
    const isHeldBack = await page.locator('#sign').isDisabled();
    await page.fill('#amount', '1.25');
    await page.locator('#fee').waitFor();
    const fee = await page.innerText('#fee');
    await page.waitForFunction(() => !document.querySelector('#sign').disabled);
    await shoot(page, 'send-wallet-light');
    await page.click('#sign');
    await status(page, 'Cancelled').waitFor();
    refuses = false;
    await page.fill('#amount', '1.250');
    await page.waitForFunction(() => document.querySelector('#fee') && !document.querySelector('#sign').disabled);
    await page.click('#sign');
    await status(page, 'final, for a fee of').waitFor();
    const sent = await page.innerText('#status');
    await shoot(page, 'sent-light');
    await page.click('#status a');
    await page.locator('details[open]').waitFor();
    const block = await page.innerText('details[open]');

    await page.click('nav a:has-text("Tasks")');
    await page.click('text=New task');
    await page.fill('#name', 'from a browser');
    await page.fill('#rounds', '3');
    await page.fill('#price', '0.5');
    await page.locator('#fee').waitFor();
    await page.waitForFunction(() => !document.querySelector('#sign').disabled);
    const offer = await page.innerText('.summary');
    await shoot(page, 'new-task-wallet-light');
    await page.click('#sign');
    await status(page, 'is created').waitFor();
    await page.click('#status a');
    await page.locator('h1', { hasText: 'from a browser' }).waitFor();
    await page.click('nav a:has-text("Tasks")');
    await page.locator('td', { hasText: '1 from a browser' }).waitFor();
    const tasks = await rows(page, 'Training tasks');
    return { askedBefore, accounts, isHeldBack, fee, sent, block, offer, tasks, methods: seen.map(({ method, address }) => [method, address]) };
  },
  { prepare },
);
