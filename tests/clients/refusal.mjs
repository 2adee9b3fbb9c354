// What a wallet shows when things go wrong: a call that fails in its block, and transactions that never reach one.
import { first, free, key, send, tell } from './kit.mjs';

console.error = () => {}; // The library prints each refusal there before it rejects with it.

await tell(async (api) => {
  const charlie = key('//Charlie'), recipient = key('//Refusal').address;
  const transfer = (value) => api.tx.balances.transferKeepAlive(recipient, value);
  const before = await free(api, charlie.address);
  const failed = await send(transfer(10n ** 30n), charlie);
  const after = await free(api, charlie.address, failed.block);

  const refused = {};
  const submit = async (name, raw) => {
    refused[name] = await api.rpc.author.submitExtrinsic(raw).then(() => 'accepted', (error) => error.message);
  };
  const signed = async (options, signer = charlie, value = 10n ** 12n) =>
    (await transfer(value).signAsync(signer, { era: 0, nonce: -1, ...options })).toU8a();

  const forged = await signed({});
  forged[60] ^= 1;
  await submit('forged', forged);
  await submit('stale', await signed({ nonce: 0 }));
  await submit('unaffordable', await signed({}, key('//Penniless')));
  await submit('elsewhere', await signed({ genesisHash: '0x' + '11'.repeat(32) }));

  const [old] = await first(1, (seen) => api.rpc.chain.subscribeFinalizedHeads(seen));
  await first(6, (seen) => api.rpc.chain.subscribeFinalizedHeads(seen));
  const era = api.registry.createType('ExtrinsicEra', { current: old.number.toNumber(), period: 4 });
  await submit('expired', await signed({ blockHash: old.hash, era }));

  // Of two with one nonce, which waits for the nonce before it, the better stays.
  const nonce = (await api.rpc.system.accountNextIndex(charlie.address)).toNumber() + 1;
  const waiting = await signed({ nonce, tip: 10n ** 9n });
  await submit('waiting', waiting);
  await submit('again', waiting);
  await submit('cheaper', await signed({ nonce, tip: 0n }));
  return { failed, paid: before - after, refused };
});
