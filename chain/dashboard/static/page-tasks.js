// Training tasks: what is trained, how far it is, and what is left to pay for it.
import { h } from './dom.js';
import { count, loss, percent } from './format.js';
import { curve } from './curve.js';
import { live } from './live.js';
import { account, loading, mark, notice, panel, pot, table } from './views.js';

// Curves of so many running tasks are drawn in the overview; each is on its own page, too.
const CURVES_MAX = 4;

export const STATUS = { active: ['live', 'training'], completed: ['good', 'completed'], cancelled: ['none', 'cancelled'] };

export function tasksPage() {
  let tasks = null;
  let details = [];
  const load = async () => {
    if (!live.has('training_tasks')) return;
    tasks = await live.request('training_tasks');
    const running = tasks.filter(({ status }) => status === 'active').slice(-CURVES_MAX);
    const asked = running.map(async ({ id }) => {
      const [task, round] = await Promise.all([live.request('training_task', [id]), roundOf(id)]);
      return { task, round };
    });
    details = (await Promise.all(asked)).reverse();
  };
  return { title: 'Tasks', load, refresh: load, draw: () => draw(tasks, details) };
}

// The running round; null between two tasks' rounds, when there is none.
export async function roundOf(id, number = null) {
  try {
    return await live.request('training_round', [id, number]);
  } catch (error) {
    if (error.code === 9001) return null;
    throw error;
  }
}

function draw(tasks, details) {
  if (live.chain && !live.has('training_tasks')) return [h('h1', null, 'Tasks'), notice('This chain has no training: its runtime lacks the module Training.')];
  if (tasks === null) return loading('the tasks');
  return [
    h('h1', null, 'Tasks'),
    h('p', { class: 'actions' }, h('a', { class: 'button', href: '#/tasks/new' }, 'New task')),
    details.map(({ task, round }) => h('section', { class: 'panel', 'data-key': `task-${task.id}` }, h('h2', null, h('a', { href: `#/task/${task.id}` }, task.name), ' ', h('small', { class: 'muted' }, `task ${task.id}, round ${count(task.round)} of ${count(task.rounds)}`)), curves(task), round && phases(round))),
    panel(
      'All tasks',
      table(
        'Training tasks, the newest first',
        [{ label: 'Task' }, { label: 'Status' }, { label: 'Round', number: true }, { label: 'Loss', number: true }, { label: 'Accuracy', number: true }, { label: 'Price a slot', number: true }, { label: 'Escrow left', number: true }, { label: 'Paid', number: true }, { label: 'Owner' }],
        [...tasks].reverse().map((task) => ({
          key: String(task.id),
          cells: [
            h('a', { href: `#/task/${task.id}` }, `${task.id} ${task.name}`),
            mark(...(STATUS[task.status] ?? ['none', task.status])),
            `${count(task.round)} / ${count(task.rounds)}`,
            loss(task.latestLoss),
            percent(task.latestAccuracy, 2),
            pot(task.pricePerSlot, 4),
            pot(task.escrow, 4),
            pot(task.minted, 4),
            account(task.owner),
          ],
        })),
        'Nothing was ever trained here.',
      ),
    ),
  ];
}

export function curves(task) {
  if (!task.loss.length) return h('p', { class: 'empty' }, 'No round was evaluated yet: curves begin with the first.');
  return h(
    'div',
    { class: 'curves' },
    h('figure', null, h('figcaption', null, 'Held-out loss ', h('b', { class: 'number' }, loss(task.loss.at(-1)[1]))), curve({ points: task.loss, label: 'Held-out loss', format: decimals, unit: 'round' })),
    h('figure', null, h('figcaption', null, 'Held-out accuracy ', h('b', { class: 'number' }, percent(task.accuracy.at(-1)[1], 2))), curve({ points: task.accuracy, label: 'Held-out accuracy', format: shares, unit: 'round' })),
  );
}

// As many decimals as tell the lines of a scale apart.
const decimals = (value, range = 0) => value.toFixed(range > 4 ? 1 : range > 0.4 ? 2 : range > 0 ? 3 : 4);

const shares = (value, range = 0) => percent(value, range > 0.05 ? 0 : range > 0.005 || !range ? 1 : 2);

const PHASES = ['commit', 'reveal', 'audit'];

export function phases(round) {
  const at = PHASES.indexOf(round.phase);
  const slots = round.slots.length;
  const done = {
    commit: `${round.slots.filter(({ commitment }) => commitment !== null).length} of ${slots}`,
    reveal: `${round.slots.filter(({ updateRoot }) => updateRoot !== null).length} of ${slots}`,
    audit: `${round.attestations.length} attested`,
  };
  const left = round.deadline === null || live.node === null ? null : Math.max(0, round.deadline - live.node.height);
  return h(
    'div',
    { class: 'phases' },
    h('span', null, `Round ${count(round.round)}`, round.attempt > 0 && h('span', { class: 'tag' }, `attempt ${round.attempt + 1}`)),
    round.phase === 'idle'
      ? mark('wait', 'waits for free workers')
      : h('ol', null, PHASES.map((name, index) => h('li', { class: index < at ? 'done' : index === at ? 'now' : 'later', 'aria-current': index === at ? 'step' : null }, h('b', null, `${index < at ? '✓ ' : ''}${name}`), ' ', index <= at && h('span', { class: 'number' }, done[name])))),
    left !== null && round.phase !== 'idle' && h('span', { class: 'muted' }, `at most ${count(left)} blocks more`),
  );
}
