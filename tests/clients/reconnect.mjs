// A wallet that stays open while its node is stopped and started again: what it had subscribed to goes on by itself.
import { first, free, key, send, tell } from './kit.mjs';

console.error = () => {}; // The library prints there that its connection was lost.

await tell(async (api) => {
  const alice = key('//Alice'), to = key('//Reconnect').address;
  const pay = () => send(api.tx.balances.transferKeepAlive(to, 10n ** 12n), alice);
  let listener = () => {};
  await api.rpc.chain.subscribeFinalizedHeads(({ number }) => listener(number.toNumber()));
  await pay();
  const height = (await api.rpc.chain.getHeader()).number.toNumber();
  const again = new Promise((resolve) => api.once('disconnected', () => api.once('connected', resolve)));
  console.log(JSON.stringify({ height, free: (await free(api, to)).toString() }));

  await again;
  const heights = await first(3, async (seen) => {
    listener = seen;
    return () => {};
  });
  await pay();
  return { heights, free: await free(api, to) };
});
