// Every page of the testnet, once some rounds of it are final.
import { args, looks, rows, shoot, tell, visit } from './browse.mjs';

const [account] = args;
const PAGES = [
  ['chain', '', 'Chain'],
  ['block', 'block/3', 'Block 3'],
  ['validators', 'validators', 'Validators'],
  ['tasks', 'tasks', 'Tasks'],
  ['task', 'task/0', 'digits'],
  ['round', 'task/0/round/1', 'Round 1'],
  ['workers', 'workers', 'Workers'],
  ['accounts', 'accounts', 'Accounts'],
  ['account', `account/${account}`, 'Account'],
  ['search', 'search/0x12', 'Nothing found'],
  ['send', 'send', 'Send tokens'],
  ['new-task', 'tasks/new', 'New task'],
];

await tell(async (page) => {
  const wrong = await looks(page, PAGES);
  await visit(page, 'task/0/round/1', 'Round 1');
  await page.locator('#agreement').waitFor();
  const agreement = (await page.innerText('#agreement')).replace('\u00a0', ' ');
  const slots = await rows(page, 'Slots');
  await visit(page, 'validators', 'Validators');
  const validators = await rows(page, 'Validators of');
  await visit(page, 'workers', 'Workers');
  const workers = await rows(page, 'Workers by');
  return { flaws: wrong, agreement, slots, validators, workers };
});
