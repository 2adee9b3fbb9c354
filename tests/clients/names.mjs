// A module of somebody else's, on a chain of its own: called, read and refused as any other, from metadata alone.
import { key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const bob = key('//Bob'), charlie = key('//Charlie');
  const { claim, give, release } = api.tx.names;
  const name = 'from-a-wallet';
  const claimed = await send(claim(name), bob);
  const [taken, bad] = await Promise.all([send(claim(name), charlie), send(claim('No'), key('//Dave'))]);
  const held = (await api.query.names.holdings(name)).unwrap().toJSON();
  const given = await send(give(name, charlie.address), bob);
  const owner = (await api.query.names.holdings(name)).unwrap().owner.toString();
  const released = await send(release(name), charlie);
  return {
    chain: [api.runtimeVersion.specName.toString(), api.runtimeChain.toString()],
    modules: Object.keys(api.tx),
    constants: [api.consts.names.deposit.toBigInt(), api.consts.names.lengthMax.toNumber()],
    names: (await api.query.names.holdings.entries()).map(([{ args: [bytes] }]) => bytes.toUtf8()),
    claimed: claimed.events,
    taken: taken.error,
    held,
    bad: bad.error,
    given: given.error,
    owner,
    released: released.error,
    isFree: (await api.query.names.holdings(name)).isNone,
  };
});
