// Several calls in one transaction: all that succeed, one that stops the rest, all or nothing, and each for itself.
import { free, key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const alice = key('//Alice');
  const { batch, batchAll, forceBatch } = api.tx.utility;
  const recipients = ['//Batch//0', '//Batch//1'].map((secret) => key(secret).address);
  const transfer = (to, value) => api.tx.balances.transferKeepAlive(to, value);
  const pot = 10n ** 12n;
  const good = recipients.map((to) => transfer(to, pot));
  const bad = [good[0], transfer(recipients[0], 10n ** 30n), good[1]];

  const ran = async (tx) => {
    const quoted = (await tx.paymentInfo(alice)).partialFee.toBigInt();
    const { block, index, error, events } = await send(tx, alice);
    const { extrinsics, header } = (await api.rpc.chain.getBlock(block)).block;
    const gain = async (account) => (await free(api, account, block)) - (await free(api, account, header.parentHash));
    return {
      error,
      quoted,
      events,
      fee: BigInt(events.find(([, method]) => method === 'TransactionFeePaid')[2][1]),
      calls: extrinsics[index].method.args[0].map(({ section, method }) => `${section}.${method}`),
      got: await Promise.all(recipients.map(gain)),
    };
  };
  return {
    all: await ran(batch(good)),
    interrupted: await ran(batch(bad)),
    undone: await ran(batchAll(bad)),
    forced: await ran(forceBatch(bad)),
  };
});
