// One round of a task: each slot's worker, verdict and reward, and the arithmetic that the node computes from the chain.
import { h } from './dom.js';
import { amount, count, loss, percent, plural } from './format.js';
import { live } from './live.js';
import { phases } from './page-tasks.js';
import { verdict } from './page-task.js';
import { account, blockLink, facts, hash, loading, mark, notice, panel, pot, table } from './views.js';

export function roundPage([id, , number]) {
  const [task, round] = [Number(id), Number(number)];
  let found = null;
  let reward = null;
  const load = async () => {
    if (reward !== null) return;
    found = await live.request('training_round', [task, round]);
    if (found.phase === 'final') reward = await live.request('training_reward', [task, round]);
  };
  return { title: `Task ${id}, round ${number}`, load, refresh: load, draw: () => (found === null ? loading(`round ${number}`) : draw(found, reward)) };
}

function draw(round, reward) {
  const isFinal = round.phase === 'final';
  return [
    h('h1', null, `Round ${count(round.round)} `, h('small', null, h('a', { href: `#/task/${round.task}` }, `of task ${round.task}`))),
    h('nav', { class: 'steps', 'aria-label': 'Neighbours' }, round.round > 0 && h('a', { href: `#/task/${round.task}/round/${round.round - 1}` }, '← before'), isFinal && h('a', { href: `#/task/${round.task}/round/${round.round + 1}` }, 'after →')),
    !isFinal && [phases(round), notice('Rewards are known when the round is final.')],
    isFinal &&
      h('div', { class: 'panel' }, facts([
        ['Final in block', blockLink(round.finalisedAt)],
        ['Held-out loss', loss(round.loss)],
        ['Held-out accuracy', percent(round.accuracy, 2)],
        ['Began from', hash(round.startParamsRoot)],
        ['Became', hash(round.paramsRoot)],
        round.attempt > 0 && ['Attempts', count(round.attempt + 1)],
      ])),
    panel(
      'Slots',
      table(
        'Slots of this round',
        [{ label: 'Slot' }, { label: 'Worker' }, { label: 'Verdict' }, { label: 'Update' }, { label: 'Reward', number: true }],
        round.slots.map((slot) => ({ key: String(slot.slot), cells: [count(slot.slot), account(slot.worker), mark(...verdict(slot)), hash(slot.updateRoot), reward === null ? '–' : pot(reward.slots[slot.slot].reward)] })),
        'No worker was drawn yet.',
      ),
    ),
    reward && arithmetic(reward),
  ];
}

function arithmetic(reward) {
  const { paidSlots: slots } = reward;
  const workers = reward.slots.reduce((sum, slot) => sum + BigInt(slot.reward), 0n);
  const auditors = BigInt(reward.auditor) * BigInt(reward.auditors);
  const cap = String(reward.emission) === String(reward.emissionMax) ? 'new money, as much as the price' : `all that the emission budget held, of at most ${amount(reward.emissionMax)}`;
  const step = (name, sum, how, strong = false) => ({ key: name, class: strong ? 'total' : null, cells: [name, how, pot(sum)] });
  const steps = [
    step('Price', BigInt(reward.pricePerSlot) * BigInt(slots), [`${plural(slots, 'paid slot')} × ${amount(reward.pricePerSlot)}, burned from the escrow of `, account(reward.owner)]),
    step('Emission', BigInt(reward.emission) * BigInt(slots), `${plural(slots, 'paid slot')} × ${amount(reward.emission)}: ${cap}`),
    step('Worth', reward.worth, 'price and emission', true),
    step('Auditors', auditors, `${percent(reward.auditorsPpm / 1e6, 0)}, shared by ${reward.auditors} who agreed: ${amount(reward.auditor)} each`),
    step('Aggregator', reward.aggregator, BigInt(reward.aggregator) ? `${percent(reward.aggregatorPpm / 1e6, 0)} for the first to say this model` : 'nobody had said this model'),
    step('Workers', workers, `the rest, shared by ${plural(slots, 'slot')}`),
    step('Paid', workers + auditors + BigInt(reward.aggregator), 'to all of them, newly minted', true),
  ];
  return [
    panel(
      'Arithmetic',
      table('How the round was paid', [{ label: 'Part' }, { label: 'How', wide: true }, { label: 'Amount', number: true }], steps, ''),
      h('p', { id: 'agreement' }, reward.agrees ? mark('good', `the chain minted ${amount(reward.minted)}, as ${reward.paid === null ? 'its record says (the events of that block are pruned here)' : "its record and the block's events say"}`) : mark('bad', `the chain minted ${amount(reward.minted)}: something else. Is its runtime that of this node?`)),
      h('p', { class: 'muted' }, 'The same in a terminal: ', h('code', null, `potchain reward explain ${reward.task} ${reward.round}`)),
    ),
    panel(
      'Payments',
      table(
        'Who was paid',
        [{ label: 'Role' }, { label: 'Account' }, { label: 'Amount', number: true }],
        reward.payments.map((each) => ({ key: `${each.role} ${each.account}`, cells: [each.role, account(each.account), pot(each.amount)] })),
        'Nobody.',
      ),
    ),
  ];
}
