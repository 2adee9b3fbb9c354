// Workers: how fast they are, what was accepted of them, what they lost and what they earned.
import { h } from './dom.js';
import { count, percent, plural, span } from './format.js';
import { blockTime, live } from './live.js';
import { account, loading, mark, notice, panel, pot, stats, table } from './views.js';

export function workersPage() {
  let workers = null;
  let recent = null;
  const load = async () => {
    if (!live.has('training_workers')) return;
    [workers, recent] = await Promise.all([live.request('training_workers'), live.request('training_recentWork')]);
  };
  return { title: 'Workers', load, refresh: load, draw: () => draw(workers, recent) };
}

function draw(workers, recent) {
  if (live.chain && !live.has('training_workers')) return [h('h1', null, 'Workers'), notice('This chain has no training, and so no workers.')];
  if (workers === null) return loading('the workers');
  const lately = new Map(recent.workers.map((each) => [each.account, each]));
  const time = blockTime(live.blocks, 60);
  const hours = time === null ? 0 : ((recent.to - recent.from) * time) / 3_600_000;
  const perHour = (slots) => (hours > 0 && slots ? count(Math.round(slots / hours)) : '–');
  const active = workers.filter((each) => each.active);
  const seats = active.reduce((sum, each) => sum + each.capacity, 0);
  const accepted = recent.workers.reduce((sum, each) => sum + each.accepted, 0);
  return [
    h('h1', null, 'Workers'),
    stats([
      ['Active', count(active.length), `of ${plural(workers.length, 'worker')} ever registered`],
      ['Capacity', plural(seats, 'slot'), 'at once'],
      ['Throughput', perHour(accepted), 'accepted slots an hour'],
      ['Measured over', recent.rounds ? plural(recent.rounds, 'round') : '–', hours > 0 ? `the last ${span(hours * 3_600_000)}` : 'no final round yet'],
    ]),
    panel(
      'All workers',
      table(
        'Workers by what they earned',
        [{ label: 'Worker' }, { label: 'State' }, { label: 'Capacity', number: true }, { label: 'Slots an hour', number: true }, { label: 'Accepted', number: true }, { label: 'Rejected', number: true }, { label: 'Bond', number: true }, { label: 'Slashed', number: true }, { label: 'Earned', number: true }],
        [...workers].sort((a, b) => (BigInt(b.earned) > BigInt(a.earned) ? 1 : -1)).map((each) => ({
          key: each.account,
          cells: [
            account(each.account),
            each.active ? mark('good', 'active') : BigInt(each.bond) > 0n ? mark('wait', 'retired') : mark('none', 'left'),
            count(each.capacity),
            perHour(lately.get(each.account)?.accepted ?? 0),
            count(each.accepted),
            each.rejected ? mark('bad', `${count(each.rejected)} (${percent(each.rejected / (each.rejected + each.accepted), 1)})`) : mark('none', '0'),
            pot(each.bond, 4),
            BigInt(each.slashed) > 0n ? mark('bad', pot(each.slashed, 4)) : mark('none', 'nothing'),
            pot(each.earned, 4),
          ],
        })),
        'Nobody has registered as a worker: `potchain worker` runs one.',
      ),
      h('p', { class: 'muted' }, 'Slashed is what a worker’s bond lacks of what it was registered with: it is burned when a slot is rejected or not revealed.'),
    ),
  ];
}
