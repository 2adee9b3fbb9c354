// Root by the one account that has it: a call that needs root, one that fails inside, and one by somebody else.
import { free, key, send, tell } from './kit.mjs';

await tell(async (api) => {
  const root = key('//Alice', 'ed25519'), from = key('//Ferdie'), to = key('//Sudo').address;
  const { sudo } = api.tx.sudo;
  const forced = (value) => api.tx.balances.forceTransfer(from.address, to, value);
  const moved = await send(sudo(forced(10n ** 12n)), root);
  const [failed, direct, stranger] = await Promise.all([
    send(sudo(forced(10n ** 30n)), root),
    send(forced(10n ** 12n), from),
    send(sudo(forced(10n ** 12n)), key('//Eve')),
  ]);
  return {
    key: (await api.query.sudo.key()).toString(),
    isSudo: (await api.derive.accounts.flags(root.address)).isSudo,
    moved: moved.events,
    failed: failed.events,
    direct: direct.error,
    stranger: stranger.error,
    got: await free(api, to),
  };
});
