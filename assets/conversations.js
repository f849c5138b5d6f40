// The chat page's conversations, in this browser's IndexedDB. All its tabs share them: each conversation is a record of
// its own, its turns a tree (turns.js), and of one that two tabs write to, the turns of both are kept.
(() => {
  const STORE = "conversations", LAST = "studio-conversation", SETTINGS = "studio-chat-settings";
  const UNSAVED = "studio-unsaved", EVERY_MS = 300, DAY_MS = 86_400_000;
  const known = new Map(); // id -> {id, title, updated}: what the list shows
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("studio-conversations") : null;
  const memory = new Map(); // in place of a database that the browser does not give
  const name = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const first = name(); // for a question that is sent before any conversation was shown
  let shown = {id: first, seen: new Set()}; // the open conversation, and the turns of it that this page knows
  let path = []; // its turns as they stand on the page
  let place = null, trigger = () => {}, begun = false, early = false, ready = null, busy = false, pending = null, unsaved = null, saving = null;

  const local = (key, value) => {
    try {
      if (value === undefined) return JSON.parse(localStorage.getItem(key));
      localStorage.setItem(key, JSON.stringify(value));
    } catch { return null; }
  };
  const brief = (text) => (text = text.trim().replace(/\s+/g, " ")).length > 40 ? text.slice(0, 39) + "…" : text;

  const database = new Promise((done) => {
    try {
      const opening = indexedDB.open("puyu-studio", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, {keyPath: "id"});
      opening.onsuccess = () => done(opening.result);
      opening.onerror = () => done(null);
    } catch { done(null); }
  });
  const asked = (request) => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  const read = async (id) => {
    const open = await database;
    return open ? asked(open.transaction(STORE).objectStore(STORE).get(id)) : memory.get(id);
  };
  const all = async () => {
    const open = await database;
    return open ? asked(open.transaction(STORE).objectStore(STORE).getAll()) : [...memory.values()];
  };
  // `change` makes the new record of the old one, in one transaction: no other tab comes between. Undefined: none.
  const update = async (id, change) => {
    const open = await database;
    if (!open) {
      const made = change(memory.get(id));
      if (made) memory.set(id, made);
      return made;
    }
    return new Promise((done, failed) => {
      const transaction = open.transaction(STORE, "readwrite"), records = transaction.objectStore(STORE);
      let made;
      records.get(id).onsuccess = (event) => {
        made = change(event.target.result);
        if (made) records.put(made);
      };
      transaction.oncomplete = () => done(made);
      transaction.onerror = transaction.onabort = () => failed(transaction.error);
    });
  };

  const note = (record) => {
    if (!record) return;
    if (record.gone || !record.turns.length) known.delete(record.id);
    else known.set(record.id, {id: record.id, title: record.title, updated: record.updated});
    redraw();
  };
  const tell = (record) => {
    note(record);
    if (record && channel) channel.postMessage({id: record.id, writing: busy});
  };

  // Of what the server shows: the path's turns go into the record. True where the record knows more than is shown.
  const save = async ({id, title, turns: path, dropped = []}, seen) => {
    let stale = false;
    try {
      const record = await update(id, (old) => {
        if (old?.gone || (!old && !path.length)) return undefined;
        const turns = window.studio.turns.union(old, path, dropped), leaf = path.at(-1)?.id || "";
        stale = window.studio.turns.stale(turns, path);
        if (old?.leaf === leaf && JSON.stringify(turns) === JSON.stringify(old.turns)) return undefined;
        for (const turn of path) seen.add(turn.id);
        const settings = old?.settings || local(SETTINGS) || {};
        const kept = old?.named ? old.title : title || old?.title || brief(path[0]?.content || "");
        return {...old, id, title: kept, turns, leaf, settings, updated: Date.now()};
      });
      tell(record);
    } catch (error) {
      console.error("the conversation was not stored", error);
    }
    return stale;
  };
  const flush = () => {
    clearTimeout(saving);
    saving = null;
    const last = pending;
    pending = null;
    if (!last) return Promise.resolve(false);
    unsaved = last;
    return save(last, shown.seen).finally(() => { if (unsaved === last) unsaved = null; });
  };

  const redraw = () => {
    const nav = place?.querySelector("nav");
    if (!nav) return;
    const texts = JSON.parse(nav.dataset.texts);
    nav.setAttribute("aria-label", texts.conversations);
    const focused = document.activeElement?.dataset?.id;
    const rows = [...known.values()].sort((one, other) => other.updated - one.updated).map((record) => {
      const button = document.createElement("button");
      Object.assign(button, {type: "button", textContent: record.title || texts.untitled, title: record.title});
      button.dataset.id = record.id;
      if (record.id === shown.id) button.setAttribute("aria-current", "true");
      return button;
    });
    nav.replaceChildren(...rows);
    if (focused) rows.find((row) => row.dataset.id === focused)?.focus();
  };
  const show = (record, push = true, event = "select") => {
    shown = {id: record.id, seen: new Set((record.turns || []).map((turn) => turn.id))};
    local(LAST, record.id);
    window.studio.address({c: record.turns?.length ? record.id : ""}, push);
    redraw();
    trigger(event, {conversation: record});
  };
  const start = (push = true, event = "select") =>
    show({id: name(), title: "", turns: [], settings: local(SETTINGS) || {}}, push, event);
  const open = async (id, push = true, event = "select") => {
    await flush();
    const record = id && await read(id);
    if (record && !record.gone) show(record, push, event);
    else start(push, event);
  };
  // Another version of a turn, with what followed it.
  const choose = async (leaf) => {
    await flush();
    const record = await update(shown.id, (old) => old && !old.gone && {...old, leaf});
    if (record) show(record, false);
  };
  const remove = async (id) => {
    await flush();
    const whole = await read(id);
    tell(await update(id, (old) => old && {id, gone: true, turns: [], updated: Date.now()}));
    const over = () => trigger("delete", {conversation: id}); // what the server keeps of it
    if (!whole?.turns.length) over();
    else window.studio.undo(whole.title, async () => {
      tell(await update(id, () => ({...whole, updated: Date.now()})));
      await open(id);
    }, over);
    const next = [...known.values()].sort((one, other) => other.updated - one.updated)[0];
    await open(next?.id);
  };

  window.studio.conversations = {
    draw(element, raise, watch) {
      [place, trigger] = [element, raise];
      watch("value", redraw);
      redraw();
      this.begin();
    },
    // What the server has put on the page: stored a few times a second while an answer is written.
    keep(props, watch) {
      watch("value", async () => {
        if (!props.value?.turns) return;
        const value = {...props.value, id: props.value.id || first};
        if (!props.value.id && shown.id !== first) shown = {id: first, seen: new Set()};
        early ||= !props.value.id;
        ready?.();
        path = value.turns;
        if (props.value.shown) { // it came from here
          busy = false;
          return;
        }
        if (pending && pending.id !== value.id) flush();
        busy = value.writing;
        pending = value;
        if (busy) {
          saving ??= setTimeout(flush, EVERY_MS);
          if (value.id === shown.id && value.turns.length) window.studio.address({c: value.id}, false);
        } else if (await flush() && value.id === shown.id) await open(shown.id, false);
      });
    },
    // Once the page knows the visitor's language and the list is drawn.
    async begin(then) {
      if (then) ready = then;
      if (begun && then) then();
      if (begun || !place || !ready) return;
      begun = true;
      const cut = local(UNSAVED);
      localStorage.removeItem(UNSAVED);
      if (cut?.id) await save(cut, new Set(cut.turns.map((turn) => turn.id)));
      for (const record of await all()) {
        if (!record.gone) note(record);
        else if (record.updated < Date.now() - DAY_MS) (await database)?.transaction(STORE, "readwrite").objectStore(STORE).delete(record.id);
      }
      if (!early) await open(new URLSearchParams(location.search).get("c") || local(LAST), false, "input");
    },
    rename(title) {
      const id = shown.id;
      if (title.trim()) update(id, (old) => old && !old.gone && {...old, title: brief(title), named: true}).then(tell);
      return title.trim() ? brief(title) : known.get(id)?.title || "";
    },
    settings(names, values) {
      if (!begun) return;
      const settings = Object.fromEntries(names.map((key, at) => [key, values[at]]));
      local(SETTINGS, settings);
      update(shown.id, (old) => old && !old.gone && {...old, settings});
    },
    // Conversations of earlier versions, which kept them all in one value.
    adopt(old) {
      const records = (old?.conversations || []).filter((record) => record.turns?.length);
      records.forEach((record, at) => {
        const turns = record.turns.map((turn) => ({...turn, id: name(), whole: true}));
        update(record.id, (known) => known || {...record, turns, settings: {}, updated: Date.now() - at}).then(note);
      });
      return {};
    },
    // What was written in a row of the chatbot; under a question without answer stands a row that nobody has written.
    words(row) {
      const [kind, role] = row.classList.contains("user-row") ? ["user-row", "user"] : ["bot-row", "assistant"];
      const rows = [...document.querySelectorAll(`#chatbot .message-row.${kind}`)];
      const alone = (turn, at) => role === "assistant" && turn.role === "user" && path[at + 1]?.role !== "assistant";
      return path.filter((turn, at) => turn.role === role || alone(turn, at))[rows.indexOf(row)]?.content;
    },
    open,
    current: () => shown.id,
  };
  addEventListener("pagehide", () => { // a database may not answer any more
    const last = pending || unsaved;
    if (last?.turns.length) local(UNSAVED, last);
  });
  if (channel) channel.onmessage = async ({data: {id, writing}}) => {
    const record = await read(id);
    note(record);
    if (id !== shown.id || busy || pending || unsaved || writing) return;
    if (record?.gone) start(false);
    else if (record?.turns.some((turn) => !shown.seen.has(turn.id))) show(record, false);
  };
  document.addEventListener("click", (event) => {
    const version = event.target.closest?.('#chatbot a[href^="#version-"]');
    if (version) {
      event.preventDefault();
      event.stopPropagation(); // gradio folds what the link stands in
      choose(version.getAttribute("href").slice("#version-".length));
    }
  }, true);
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("#chat-list button[data-id]");
    if (chosen && chosen.dataset.id !== shown.id) open(chosen.dataset.id);
    if (event.target.closest?.("#chat-new")) flush().then(() => start());
    if (event.target.closest?.("#chat-delete")) remove(shown.id);
  });
})();
