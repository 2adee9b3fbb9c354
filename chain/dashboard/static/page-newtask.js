// The form of a training task: with program, data and terms of a task that is here, whose blobs nodes keep already.
import { h } from './dom.js';
import { count, percent, planck, tokenSymbol } from './format.js';
import { live } from './live.js';
import { field, Signing } from './signing.js';
import { loading, notice } from './views.js';
import { wallet } from './wallet.js';

export function newTaskPage() {
  let tasks = null;
  const form = { source: 0, name: '', rounds: '100', slots: '', price: '', goOn: false };
  const signing = new Signing(async (sender) => {
    if (!form.name.trim()) return null;
    const [rounds, slots] = [whole(form.rounds, 'rounds'), whole(form.slots, 'slots')];
    return live.request('explorer_prepareTask', [sender, form.source, form.name.trim(), rounds, slots, planck(form.price).toString(), form.goOn]);
  });

  async function choose(id) {
    const task = await live.request('training_task', [id]);
    Object.assign(form, { source: id, slots: String(task.policy.slots), price: price(task.pricePerSlot) });
    for (const name of ['slots', 'price']) {
      const input = document.getElementById(name);
      if (input) input.value = form[name];
    }
  }

  const load = async () => {
    if (!live.has('training_tasks') || tasks !== null) return;
    const found = (await live.request('training_tasks')).filter(({ status }) => status !== 'cancelled');
    if (found.length) await choose(found.at(-1).id);
    tasks = found;
  };
  const change = (name) => (text) => {
    form[name] = text;
    signing.changed();
  };
  return {
    title: 'New task',
    load,
    close: () => signing.close(),
    attached: (draw) => signing.drawsWith(draw),
    draw: (act) => {
      if (live.chain && !live.has('training_tasks')) return [h('h1', null, 'New task'), notice('This chain has no training.')];
      if (tasks === null) return loading('the tasks');
      if (!tasks.length) return [h('h1', null, 'New task'), notice('There is no task yet whose program and data a new one could use: ', h('code', null, 'potchain task new'), ' makes the first.')];
      const take = ({ target }) => act(async () => {
        await choose(Number(target.value));
        signing.changed();
      });
      return [
        h('h1', null, 'New task'),
        h('p', { class: 'muted' }, 'A browser cannot export a model: a new task takes program, data set, optimiser and policy from one that is on the chain. For a model of your own: ', h('code', null, 'potchain task new'), '.'),
        signing.chooser(),
        wallet() !== null && [
          h('div', { class: 'field' }, h('label', { for: 'source' }, 'Like'), h('select', { id: 'source', onchange: take, disabled: signing.isBusy }, [...tasks].reverse().map((task) => h('option', { value: task.id }, `task ${task.id} ${task.name}, ${task.latestAccuracy === null ? 'not trained yet' : percent(task.latestAccuracy)}`)))),
          field('name', 'Name', form.name, change('name'), { maxlength: 64, disabled: signing.isBusy }),
          h('div', { class: 'row' },
            field('rounds', 'Rounds', form.rounds, change('rounds'), { inputmode: 'numeric', disabled: signing.isBusy }),
            field('slots', 'Slots a round', form.slots, change('slots'), { inputmode: 'numeric', disabled: signing.isBusy }),
            field('price', `${tokenSymbol()} a slot`, form.price, change('price'), { inputmode: 'decimal', disabled: signing.isBusy })),
          h('div', { class: 'field check' }, h('input', { type: 'checkbox', id: 'goon', disabled: signing.isBusy, onchange: ({ target }) => change('goOn')(target.checked) }), h('label', { for: 'goon' }, 'Go on from the parameters that it has come to, not from those that it began with')),
          signing.prepared && auditing(signing.prepared),
        ],
        wallet() !== null ? signing.summary('Sign and create') : signing.status && h('p', { class: 'notice bad', role: 'alert' }, signing.status.text),
      ];
    },
  };
}

function whole(text, what) {
  if (!/^\d{1,9}$/.test(text.trim()) || Number(text) < 1) throw new Error(`${what}: a whole number above 0 is expected`);
  return Number(text);
}

const price = (sum) => {
  const digits = String(sum).padStart(13, '0');
  return `${digits.slice(0, -12)}.${digits.slice(-12)}`.replace(/\.?0+$/, '');
};

const auditing = ({ args }) => h('p', { class: 'muted' }, `${percent(Number(args.policy.auditedPpm) / 1e6, 0)} of all slots are audited, as the price asks for; ${count(args.rounds)} rounds in all.`);
