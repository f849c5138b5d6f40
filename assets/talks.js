// The Knowledge page's talks, in this browser's IndexedDB. Each exchange is a record of its own, so that no tab
// overwrites what another has written.
(() => {
  const {local} = window.studio;
  const RECORDS = "exchanges", OPEN = "studio-talk", EVERY_MS = 300, MOST = 50;
  const gone = new Set(); // talks that were deleted: what still comes of them is not stored
  const left = new Set(); // talks that the visitor has turned away from: what still comes of them does not lead back
  let at = local(OPEN) || {}; // {collection, talk}
  let place = null, raise = () => {}, isShown = false, pending = null, saving = null;

  const database = new Promise((done) => {
    try {
      const opening = indexedDB.open("puyu-studio-talks", 1);
      opening.onupgradeneeded = () =>
        opening.result.createObjectStore(RECORDS, {keyPath: "id"}).createIndex("collection", "collection");
      opening.onsuccess = () => done(opening.result);
      opening.onerror = () => done(null);
    } catch { done(null); }
  });
  // What `deed` asks for, in one transaction; a browser that gives no database keeps nothing.
  const within = async (deed) => {
    const open = await database;
    return open && new Promise((done, failed) => {
      const transaction = open.transaction(RECORDS, "readwrite");
      const request = deed(transaction.objectStore(RECORDS));
      transaction.oncomplete = () => done(request?.result);
      transaction.onabort = () => failed(transaction.error);
    });
  };
  const all = async (collection) =>
    ((await within((records) => records.index("collection").getAll(collection))) || [])
      .sort((one, other) => one.asked - other.asked);
  const remove = (records) => within((store) => { for (const record of records) store.delete(record.id); });
  const turnTo = (collection, talk) => {
    if (at.talk) left.add(at.talk);
    left.delete(talk);
    at = {collection, talk};
    local(OPEN, at);
  };
  const again = () => {
    isShown = false;
    raise("select", {});
  };

  const draw = async () => {
    const nav = place?.querySelector("nav");
    if (!nav || !at.collection) return;
    const titles = new Map(); // the talk that was last gone on with is the last
    for (const {talk, question} of await all(at.collection)) {
      const title = titles.get(talk) ?? question;
      titles.delete(talk);
      titles.set(talk, title);
    }
    const rows = [...titles].reverse().map(([talk, title]) => {
      const row = document.createElement("li"), open = document.createElement("button"), cross = document.createElement("button");
      Object.assign(open, {type: "button", textContent: title, title});
      open.dataset.talk = talk;
      if (talk === at.talk) open.setAttribute("aria-current", "true");
      Object.assign(cross, {type: "button", className: "asks-first can-undo cross", title: nav.dataset.remove});
      cross.dataset.gone = talk;
      cross.append(Object.assign(document.createElement("i"), {textContent: `${nav.dataset.remove} ${title}`}));
      row.append(open, cross);
      return row;
    });
    nav.querySelector("ul").replaceChildren(...rows);
    nav.hidden = !rows.length;
  };
  const flush = async () => {
    clearTimeout(saving);
    saving = null;
    const last = pending;
    pending = null;
    if (!last || gone.has(last.talk)) return;
    await within((records) => records.put(last));
    await draw();
  };
  const forget = async (talk) => {
    await flush();
    const mine = (await all(at.collection)).filter((record) => record.talk === talk), {collection} = at;
    gone.add(talk);
    await remove(mine);
    if (talk === at.talk) {
      turnTo(collection, null);
      again();
    } else await draw();
    window.studio.undo(mine[0].question, async () => {
      gone.delete(talk);
      await within((records) => { for (const record of mine) records.put(record); });
      if (at.collection !== collection) return;
      turnTo(collection, talk);
      again();
    }, () => {});
  };

  window.studio.talks = {
    list(element) {
      place = element;
      draw();
    },
    // What the server has put on the page: stored a few times a second while an answer is written.
    keep(props, trigger, watch) {
      raise = trigger;
      const take = async () => {
        const {collection, exchange, forget, deleted, fresh, asked} = props.value || {};
        if (pending && pending.id !== exchange?.id) await flush();
        if (exchange) {
          pending = exchange;
          const isNew = exchange.talk !== at.talk && !left.has(exchange.talk);
          if (collection === at.collection && isNew) turnTo(collection, exchange.talk);
          if (exchange.whole) await flush();
          else saving ??= setTimeout(flush, EVERY_MS);
          return;
        }
        if (deleted) await remove(await all(deleted));
        if (forget) await remove([{id: forget}]);
        if (fresh) turnTo(collection, null);
        else if (asked !== undefined && asked !== (at.collection ?? null)) again(); // another was chosen meanwhile
        else if (collection && collection !== at.collection) { // made or deleted, or the one chosen before is gone
          const first = !at.collection;
          turnTo(collection, null);
          if (!first) again();
        }
        await draw();
      };
      watch("value", take);
      take();
    },
    // The collection that is open, and its talk where the page does not show it yet.
    async open() {
      await flush();
      const records = isShown || !at.talk ? [] : (await all(at.collection)).filter((record) => record.talk === at.talk);
      const talk = isShown ? null : records.slice(-MOST);
      isShown = true;
      await draw();
      return {collection: at.collection, talk};
    },
    // Another collection, with its last talk.
    async choose(collection) {
      await flush();
      turnTo(collection, (await all(collection)).at(-1)?.talk);
      isShown = false;
      return this.open();
    },
  };
  addEventListener("pagehide", flush);
  document.addEventListener("click", async (event) => {
    const {talk, gone: deleted} = event.target.closest?.("#knowledge-talks button")?.dataset || {};
    if (deleted) await forget(deleted);
    if (!talk || talk === at.talk) return;
    await flush();
    turnTo(at.collection, talk);
    again();
  });
})();
