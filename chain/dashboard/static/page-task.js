// One task: its curves, its running round slot by slot, and every final round.
import { h } from './dom.js';
import { bytes, count, loss, percent, plural } from './format.js';
import { live } from './live.js';
import { curves, phases, roundOf, STATUS } from './page-tasks.js';
import { account, blockLink, facts, fields, hash, loading, mark, panel, pot, stats, table } from './views.js';

const ROUNDS_AT_ONCE = 20;
// Final rounds never change, and are asked for once: this many stay in memory.
const ROUNDS_KEPT_MAX = 400;

export function taskPage([id]) {
  const number = Number(id);
  const finals = new Map();
  let task = null;
  let round = null;
  let shown = ROUNDS_AT_ONCE;

  const load = async () => {
    task = await live.request('training_task', [number]);
    round = task.status === 'active' ? await roundOf(number) : null;
    const wanted = range(task.round, shown).filter((each) => !finals.has(each));
    const found = await Promise.all(wanted.map((each) => roundOf(number, each)));
    found.filter((each) => each?.phase === 'final').forEach((each) => finals.set(each.round, each));
    for (const old of finals.keys()) {
      if (finals.size <= ROUNDS_KEPT_MAX) break;
      finals.delete(old);
    }
  };
  const more = async () => {
    shown = Math.min(shown + ROUNDS_AT_ONCE, ROUNDS_KEPT_MAX);
    await load();
  };
  return { title: `Task ${id}`, load, refresh: load, draw: (act) => (task === null ? loading(`task ${id}`) : draw(task, round, range(task.round, shown).map((each) => finals.get(each)).filter(Boolean), shown, () => act(more))) };
}

const range = (rounds, most) => Array.from({ length: Math.min(rounds, most) }, (_, index) => rounds - 1 - index);

function draw(task, round, finals, shown, more) {
  const slots = task.policy.slots;
  const [kind, word] = STATUS[task.status] ?? ['none', task.status];
  return [
    h('h1', null, task.name, ' ', h('small', { class: 'muted' }, `task ${task.id}`)),
    stats([
      ['Status', mark(kind, word), task.status === 'active' ? 'rounds go on' : 'no rounds follow'],
      ['Rounds', `${count(task.round)} / ${count(task.rounds)}`, percent(task.round / task.rounds)],
      ['Loss', loss(task.latestLoss), 'held out'],
      ['Accuracy', percent(task.latestAccuracy, 2), 'held out'],
      ['Escrow left', pot(task.escrow, 4), 'comes back where it is not spent'],
      ['Paid so far', pot(task.minted, 4), 'to workers, validators, aggregators'],
      ['Price', pot(task.pricePerSlot, 4), `a slot, ${plural(slots, 'slot')} a round`],
    ]),
    panel('Curves', curves(task)),
    round && round.phase !== 'final' && panel('Running round', phases(round), round.trial && trial(round.trial), runningSlots(round), round.ahead && [h('h3', null, 'The round ahead of it'), phases(round.ahead), runningSlots(round.ahead)]),
    panel(
      'Final rounds',
      table(
        'Final rounds, the newest first',
        [{ label: 'Round' }, { label: 'Loss', number: true }, { label: 'Accuracy', number: true }, { label: 'Slots', wide: true }, { label: 'Paid', number: true }, { label: 'Final in block' }],
        finals.map((each) => ({
          key: String(each.round),
          cells: [h('a', { href: `#/task/${task.id}/round/${each.round}` }, count(each.round)), loss(each.loss), percent(each.accuracy, 2), h('span', { class: 'slots' }, each.slots.map(slotMark)), pot(each.minted, 4), blockLink(each.finalisedAt)],
        })),
        'No round is final yet.',
      ),
      finals.length < task.round && finals.length >= shown && h('p', null, h('button', { type: 'button', onclick: more, disabled: shown >= ROUNDS_KEPT_MAX }, 'Show earlier rounds')),
    ),
    panel(
      'Terms',
      facts([
        ['Owner', account(task.owner)],
        ['Parameters', hash(task.paramsRoot), `${count(task.storage.parameters)} of them`],
        ['Program', hash(task.programRoot), bytes(task.storage.programBytes)],
        ['Data set', hash(task.datasetRoot), bytes(task.storage.datasetBytes)],
        ['Blobs kept', task.storage.endedAt === null ? 'while it runs' : `until block ${count(task.storage.until)}`, bytes(task.storage.bytes)],
      ]),
      h('details', { 'data-key': 'optimizer' }, h('summary', null, 'Optimiser'), fields(task.optimizer)),
      h('details', { 'data-key': 'policy' }, h('summary', null, 'Policy'), fields(task.policy)),
      task.silos.length > 0 && table('Silos', [{ label: 'Silo' }, { label: 'Samples', number: true }, { label: 'At most', number: true }], task.silos.map((each) => ({ key: each.account, cells: [account(each.account), count(each.samples), count(each.samplesMax)] })), ''),
    ),
  ];
}

export function verdict(slot) {
  if (slot.planted && slot.accepted !== false) return ['warn', 'planted'];
  if (slot.accepted === true) return ['good', 'accepted'];
  if (slot.planted) return ['warn', 'planted'];
  if (slot.accepted === false) return slot.updateRoot === null ? ['bad', 'not revealed'] : ['bad', 'rejected'];
  if (slot.challenged) return ['warn', 'challenged'];
  if (slot.updateRoot !== null) return ['wait', 'revealed'];
  return slot.commitment === null ? ['wait', 'computing'] : ['wait', 'committed'];
}

function slotMark(slot) {
  const [kind, word] = verdict(slot);
  return h('span', { title: `slot ${slot.slot}: ${word}` }, mark(kind, h('span', { class: kind === 'good' ? 'hidden' : null }, word)));
}

// The sum of the round's updates is proven slice by slice, by validators that were drawn for it.
function trial({ aggregator, found, slices, checkers, disputes }) {
  const proven = Array.from({ length: slices }, (_, slice) => found.filter(({ right }) => right.includes(slice)).length).filter((words) => words >= checkers).length;
  return h('p', null, 'The model that ', account(aggregator), ' says is being proven: ', h('span', { class: 'number' }, `${proven} of ${plural(slices, 'slice')}`), disputes.length > 0 && [' ', mark('warn', `${disputes.length} disputed`)]);
}

function runningSlots(round) {
  const weighted = round.slots.some(({ weight }) => weight !== 1);
  return table(
    `Slots of round ${round.round}`,
    [{ label: 'Slot' }, { label: 'Worker' }, { label: 'State' }, weighted && { label: 'Weight', number: true }, { label: 'Update' }, { label: 'Audited by', wide: true }].filter(Boolean),
    round.slots.map((slot) => ({
      key: String(slot.slot),
      cells: [count(slot.slot), account(slot.worker), mark(...verdict(slot)), weighted && count(slot.weight), hash(slot.updateRoot), slot.auditors.length ? slot.auditors.map((each) => [account(each), ' ']) : h('span', { class: 'muted' }, round.phase === 'audit' ? 'nobody was drawn' : 'drawn after the reveals')].filter((cell) => cell !== false),
    })),
    'The round waits for workers.',
  );
}
