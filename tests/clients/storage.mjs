// State: one value, many, a map by pages and whole, raw, and as it was at an earlier block.
import { first, free, key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const alice = key('//Alice'), fresh = key('//Storage');
  const account = api.query.system.account;
  const nonceAt = async (hash) => (await (await api.at(hash)).call.accountNonceApi.accountNonce(alice.address)).toNumber();
  const before = await api.rpc.chain.getFinalizedHead();
  const { block } = await send(api.tx.balances.transferKeepAlive(fresh.address, 10n ** 12n), alice);

  const paged = [];
  for (let startKey; ;) {
    const page = await account.entriesPaged({ args: [], pageSize: 300, startKey });
    paged.push(...page.map(([{ args: [id] }, info]) => [id.toString(), info.data.free.toBigInt()]));
    if (page.length < 300) break;
    startKey = page.at(-1)[0].toHex();
  }
  const entries = await account.entries();
  const all = entries.map(([{ args: [id] }]) => id);
  return {
    task: (await api.query.training.tasks(0)).toHuman(),
    none: (await api.query.training.tasks(4_000_000_000)).isNone,
    unknown: (await account(key('//Nobody').address)).toJSON(),
    multi: (await account.multi([fresh.address, key('//Nobody').address])).map(({ data }) => data.free.toBigInt()),
    paged,
    watched: (await first(1, (seen) => account.multi(all, seen)))[0].map(({ data }) => data.free.toBigInt()),
    entries: entries.map(([{ args: [id] }, info]) => [id.toString(), info.data.free.toBigInt()]),
    keys: (await account.keys()).map(({ args: [id] }) => id.toString()),
    atBlocks: [await free(api, fresh.address, before), await free(api, fresh.address, block)],
    nonceAt: await nonceAt(before),
    nonceNow: await nonceAt(block),
    raw: (await api.rpc.state.getStorage(account.key(fresh.address))).toHex(),
    size: (await account.size(fresh.address)).toNumber(),
    hash: (await account.hash(fresh.address)).toHex(),
  };
});
