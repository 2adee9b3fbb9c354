// What a block explorer asks: heads as they come, blocks with what became of each extrinsic, accounts, the node itself.
import { first, key, send, tell } from './kit.mjs';

const warned = [];
console.warn = (...words) => warned.push(words.slice(1).join(' ').trim());
const numbers = (heads) => heads.map(({ number }) => number.toNumber());

await tell(async (api) => {
  const { derive, query, rpc } = api;
  const alice = key('//Alice'), visited = key('//Explorer').address;
  const watched = first(2, (seen) => query.system.account(visited, seen));
  const sent = await send(api.tx.balances.transferKeepAlive(visited, 10n ** 12n), alice);

  const [heads, finalized, all, derived, blocks, together] = await Promise.all([
    first(3, (seen) => rpc.chain.subscribeNewHeads(seen)),
    first(3, (seen) => rpc.chain.subscribeFinalizedHeads(seen)),
    first(2, (seen) => rpc.chain.subscribeAllHeads(seen)),
    first(2, (seen) => derive.chain.subscribeNewHeads(seen)),
    first(2, (seen) => derive.chain.subscribeFinalizedBlocks(seen)),
    first(2, (seen) => api.queryMulti([query.timestamp.now, query.system.number, [query.system.account, visited]], seen)),
  ]);
  const block = await derive.chain.getBlock(sent.block);
  const header = await derive.chain.getHeader(sent.block);
  const owner = key('//Alice', 'ed25519').address; // of task 0, and so of its escrow
  const balances = await derive.balances.all(owner);
  const { nonce, mortalLength } = await derive.tx.signingInfo(alice.address);
  return {
    watched: (await watched).map(({ data }) => data.free.toBigInt()),
    heads: numbers(heads),
    finalized: numbers(finalized),
    all: numbers(all),
    derived: numbers(derived),
    blocks: blocks.map(({ block: { header }, events }) => [header.number.toNumber(), events.length]),
    together: together.map(([now, number, account]) => [now.toNumber(), number.toNumber(), account.data.free.toBigInt()]),
    lag: (await derive.chain.bestNumberLag()).toNumber(),
    missing: Object.entries({
      best: (await derive.chain.bestNumber()).toNumber() >= header.number.toNumber(),
      byNumber: (await derive.chain.getBlockByNumber(header.number)).block.hash.toHex() === sent.block,
      events: (await derive.tx.events(sent.block)).events.length === block.events.length,
      blockHash: (await query.system.blockHash(header.number)).toHex() === sent.block,
      account: (await derive.accounts.info(visited)).accountId.toString() === visited,
      nonce: nonce.toNumber() === (await rpc.system.accountNextIndex(alice.address)).toNumber(),
      mortal: mortalLength > 0,
      proof: (await rpc.state.getReadProof([query.system.account.key(visited)], sent.block)).proof.length > 0,
      changes: (await rpc.state.queryStorageAt([query.timestamp.now.key()], sent.block)).length === 1,
      version: (await rpc.state.getRuntimeVersion(sent.block)).specName.eq('potchain'),
    }).filter(([, does]) => !does).map(([name]) => name),
    extrinsics: block.extrinsics.map(({ extrinsic: { method }, dispatchInfo, dispatchError, events }) => [
      `${method.section}.${method.method}`, dispatchInfo.class.toString(), dispatchError ?? null,
      events.map(({ section, method }) => `${section}.${method}`),
    ]),
    balances: {
      reserved: balances.reservedBalance.toBigInt(),
      stored: (await query.system.account(owner)).data.reserved.toBigInt(),
      isTransferable: balances.freeBalance.eq(balances.availableBalance),
    },
    warned,
    system: {
      chainType: (await rpc.system.chainType()).toString(),
      health: (await rpc.system.health()).toJSON(),
      peers: (await rpc.system.peers()).length,
      roles: (await rpc.system.nodeRoles()).toJSON(),
      identity: (await rpc.system.localPeerId()).toString(),
      addresses: (await rpc.system.localListenAddresses()).toJSON(),
      isSynced: (await rpc.system.syncState()).currentBlock.toNumber() > 0,
      pending: (await rpc.author.pendingExtrinsics()).length,
    },
  };
});
