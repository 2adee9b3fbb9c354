// What a search came to: it goes on to what was found, or says what was looked for and where.
import { h } from './dom.js';
import { live } from './live.js';
import { loading, notice } from './views.js';

export function searchPage([text]) {
  let isDone = false;
  const load = async () => {
    const found = await live.request('explorer_search', [text]);
    isDone = true;
    if (found !== null) location.replace(placeOf(found));
  };
  return {
    title: 'Search',
    load,
    draw: () =>
      isDone
        ? [h('h1', null, 'Nothing found'), notice(h('b', { class: 'wrap' }, text), ' is no height of this chain, no hash of a block, no transaction of the last 1,200 blocks, and no address.')]
        : loading('what that names'),
  };
}

function placeOf({ kind, block, index, account }) {
  if (kind === 'account') return `#/account/${account}`;
  return kind === 'transaction' ? `#/block/${block}/${index}` : `#/block/${block}`;
}
