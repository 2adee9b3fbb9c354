// The chain's own calls, made from its metadata alone: a worker bonds itself, and a task is created and given up.
import { key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const worker = key('//Dave'), owner = key('//Eve');
  const digits = (await api.query.training.tasks(0)).unwrap();
  const { createTask, registerWorker, cancelTask } = api.tx.training;

  const bond = async () => [await send(registerWorker(1), worker), await send(registerWorker(1), worker)];
  const create = () => send(createTask(
    'a task from a wallet', digits.programRoot, digits.datasetRoot, digits.paramsRoot,
    {
      rule: { Sgd: { learningRate: 10n ** 10n, momentum: 9n * 10n ** 11n } },
      schedule: { warmupSteps: 10, decay: { Linear: { steps: 100, final: 0 } } }, clip: null, weightDecay: 0,
    },
    { ...digits.policy.toJSON(), slots: 2 },
    3, 10n ** 12n, { programBytes: 7_000, datasetBytes: 120_000, parameters: 20_000 },
  ), owner);
  const [[registered, again], created] = await Promise.all([bond(), create()]);
  const id = created.events.find(([, method]) => method === 'TaskCreated')[2][0];
  const task = (await api.query.training.tasks(id)).unwrap();
  const [notOwner, cancelled] = await Promise.all([send(cancelTask(id), worker), send(cancelTask(id), owner)]);
  return {
    docs: createTask.meta.docs.map((line) => line.toString()),
    args: createTask.meta.args.map(({ name, type }) => [name.toString(), type.toString()]),
    registered: registered.events,
    worker: (await api.query.training.workers(worker.address)).toHuman(),
    again: again.error,
    created: created.events,
    task: task.toHuman(),
    notOwner: notOwner.error,
    cancelled: cancelled.events,
  };
});
