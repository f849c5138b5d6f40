// The turns of a conversation as a tree. A record keeps all of them in `turns`, each with an `id` and the id of its
// `parent` ("" before the first question; where it is missing, as in records of earlier versions, the turn before it in
// the list), and in `leaf` the last turn of the path that was shown last. Turns of one parent are versions of each
// other; the page's server is handed the record, shows the path through the leaf down to the newest turn below it
// (app/chat/conversations.py), and sends back that path alone, each turn with the `siblings` it knows, which are not
// stored.
(() => {
  const nodes = (record) =>
    (record?.turns || []).map((turn, at, all) => ({...turn, parent: turn.parent ?? (at ? all[at - 1].id : "")}));
  // All turns of the record and of the path, by id; without those that were taken back and what followed them.
  const union = (record, path, dropped, beside) => {
    const all = new Map(nodes(record).map((turn) => [turn.id, turn])), gone = new Set(dropped);
    path.forEach(({siblings, ...turn}, at) =>
      all.set(turn.id, {...turn, parent: all.get(turn.id)?.parent ?? (at ? path[at - 1].id : "")}));
    const parent = all.get(path.at(-1)?.id)?.parent; // answers of other models stand beside the last one
    for (const {siblings, ...turn} of beside) all.set(turn.id, {...turn, parent});
    for (const {id, parent} of all.values()) {
      if (gone.has(parent)) gone.add(id);
      if (gone.has(id)) all.delete(id);
    }
    return [...all.values()];
  };
  // Whether a turn of the path has versions of which the server has not told: of another tab, or from before.
  const stale = (turns, path) => {
    const parents = Object.fromEntries(turns.map((turn) => [turn.id, turn.parent]));
    return path.some(({id, siblings}) =>
      turns.filter((turn) => turn.parent === parents[id]).length > Math.max(1, siblings?.length || 0));
  };
  // The turns that are shown: through the leaf, or else the last, down to the newest below it.
  const path = (record) => {
    const turns = nodes(record), by = new Map(turns.map((turn) => [turn.id, turn])), shown = [];
    for (let turn = by.get(record.leaf) || turns.at(-1); turn && !shown.includes(turn); turn = by.get(turn.parent)) shown.unshift(turn);
    for (let turn; (turn = turns.findLast((one) => one.parent === shown.at(-1)?.id)) && !shown.includes(turn); ) shown.push(turn);
    return shown;
  };
  window.studio.turns = {nodes, union, stale, path};
})();
