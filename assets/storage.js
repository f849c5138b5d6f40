// Where records are kept: in this browser's IndexedDB, or on the server for a visitor who has logged in. Both have the
// same functions: list() of briefs, read(id), update(id, change), search(words), leave(id, change), watch(changed).
// `update` makes the new record of the old one, and nobody comes between: undefined leaves it, one that is `gone` is
// deleted; it rejects with a sentence where a record cannot be kept.
(() => {
  const STORE = "conversations", BRIEFS = "briefs", WORDS = "words", DAY_MS = 86_400_000, LOOK_MS = 10_000, TRIES = 6;
  const words = (record) => [record.title, ...record.turns.map((turn) => turn.content)].join("\n");
  const briefOf = ({id, title = "", folder = "", pinned = false, updated = 0}) => ({id, title, folder, pinned, updated});
  const around = (text, word) => {
    const at = text.toLowerCase().indexOf(word);
    const start = Math.max(0, at - 30), found = text.slice(start, at + word.length + 60).replace(/\s+/g, " ").trim();
    return start ? found.replace(/^\S{0,12} /, "") : found; // not from the middle of a word
  };

  const memory = new Map(); // in place of a database that the browser does not give
  const database = new Promise((done) => {
    try {
      const opening = indexedDB.open("puyu-studio", 2);
      opening.onupgradeneeded = ({oldVersion}) => {
        if (!oldVersion) opening.result.createObjectStore(STORE, {keyPath: "id"});
        const briefs = opening.result.createObjectStore(BRIEFS, {keyPath: "id"});
        const told = opening.result.createObjectStore(WORDS); // apart: the list does without them
        opening.transaction.objectStore(STORE).openCursor().onsuccess = ({target: {result: found}}) => {
          if (!found) return;
          if (!found.value.gone) {
            briefs.put(briefOf(found.value));
            told.put(words(found.value), found.key);
          }
          found.continue();
        };
      };
      opening.onsuccess = () => {
        opening.result.onversionchange = () => opening.result.close(); // a newer page waits for it
        done(opening.result);
      };
      opening.onerror = () => done(null);
      opening.onblocked = () => window.studio.say(document.getElementById("button-names")?.dataset.other_tabs || "");
    } catch { done(null); }
  });
  const asked = (request) => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  const there = () => [...memory.values()].filter((record) => !record.gone);

  const browser = {
    everyMs: 300,
    async list() {
      const open = await database;
      if (!open) return there().map(briefOf);
      const found = await asked(open.transaction(BRIEFS).objectStore(BRIEFS).getAll());
      const listed = new Set(found.map((one) => one.id)); // what was deleted a day ago is forgotten by every tab
      const records = open.transaction(STORE, "readwrite").objectStore(STORE);
      for (const id of await asked(records.getAllKeys())) {
        if (listed.has(id)) continue;
        const old = await asked(records.get(id));
        if (old?.gone && old.updated < Date.now() - DAY_MS) records.delete(id);
      }
      return found;
    },
    async read(id) {
      const open = await database;
      return open ? asked(open.transaction(STORE).objectStore(STORE).get(id)) : memory.get(id);
    },
    async update(id, change) {
      const open = await database;
      if (!open) {
        const made = change(memory.get(id));
        if (made) memory.set(id, made);
        return made;
      }
      return new Promise((done, failed) => {
        const transaction = open.transaction([STORE, BRIEFS, WORDS], "readwrite");
        const [records, briefs, told] = [STORE, BRIEFS, WORDS].map((store) => transaction.objectStore(store));
        let made;
        records.get(id).onsuccess = (event) => {
          made = change(event.target.result);
          if (!made) return;
          records.put(made);
          if (made.gone) {
            briefs.delete(id);
            told.delete(id);
          } else {
            briefs.put(briefOf(made));
            told.put(words(made), id);
          }
        };
        transaction.oncomplete = () => done(made);
        transaction.onerror = transaction.onabort = () => failed(transaction.error);
      });
    },
    async forget(id) { // it has moved to the server
      const transaction = (await database)?.transaction([STORE, BRIEFS, WORDS], "readwrite");
      for (const store of [STORE, BRIEFS, WORDS]) transaction?.objectStore(store).delete(id);
    },
    async search(text) {
      const wanted = text.toLowerCase().split(/\s+/).filter(Boolean), open = await database;
      const told = open?.transaction(WORDS).objectStore(WORDS);
      const ids = told ? asked(told.getAllKeys()) : there().map((record) => record.id);
      const all = told ? asked(told.getAll()) : there().map(words);
      const [names, texts] = await Promise.all([ids, all]);
      const holds = (lower) => wanted.every((word) => lower.includes(word));
      return new Map(names.map((id, at) => [id, texts[at]]).filter(([, text]) => holds(text.toLowerCase()))
        .map(([id, text]) => [id, around(text, wanted[0])]));
    },
    leave: () => false,
    watch() {},
  };

  const ask = async (path, options = {}) => {
    const answer = await fetch(`history/${path}`, {headers: {"Content-Type": "application/json"}, ...options});
    const told = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(told.error), {status: answer.status, record: told.record});
    return told;
  };
  const server = (kind) => {
    const place = (id) => `${kind}/${encodeURIComponent(id)}`;
    const put = (record, options) =>
      ask(`${place(record.id)}?revision=${record.revision || 0}`, {method: "PUT", body: JSON.stringify(record), ...options});
    const own = new Map(); // revisions that this page has written or read
    let last = null, line = Promise.resolve(), seen = 0; // the record used last; updates go one after the other
    const held = (record) => {
      own.set(record.id, record.revision);
      return last = record;
    };
    const read = async (id) => {
      const record = await ask(place(id));
      return record ? held(record) : undefined;
    };
    const change = async (id, made) => {
      let old = last?.id === id ? last : await read(id);
      for (let tries = 0; tries < TRIES; tries++) {
        const record = made(old);
        if (!record) return undefined;
        try {
          if (record.gone) {
            await ask(place(id), {method: "DELETE"});
            last = null;
            return record;
          }
          return held({...record, ...await put({...record, revision: old?.revision})});
        } catch (error) {
          if (error.status !== 409) throw error;
          old = held(error.record); // another device has written meanwhile
        }
      }
      throw new Error("the record changes too often");
    };
    const changes = async () => {
      const told = await ask(`${kind}?since=${seen}`);
      seen = told.revision;
      return told.records;
    };
    return {
      everyMs: 1500,
      list: changes,
      read,
      update(id, made) {
        const done = line.then(() => change(id, made));
        line = done.catch(() => {});
        return done;
      },
      async search(text) {
        const found = await ask("found", {method: "POST", body: JSON.stringify({words: text})});
        return new Map(found.map(({id, excerpt}) => [id, excerpt]));
      },
      // The page goes: what can still be sent is sent.
      leave(id, made) {
        const record = last?.id === id && made(last);
        if (record) put({...record, revision: last.revision}, {keepalive: true}).catch(() => {});
        return true;
      },
      // Tells of what other devices write, while somebody looks.
      watch(changed) {
        const look = async () => {
          if (document.hidden) return;
          for (const brief of await changes().catch(() => []))
            if (own.get(brief.id) !== brief.revision) changed(brief);
        };
        setInterval(look, LOOK_MS);
        document.addEventListener("visibilitychange", look);
        addEventListener("focus", look);
      },
      link: (id, method = "GET", shown) => ask(`${place(id)}/link`, {method, body: shown && JSON.stringify(shown)}),
    };
  };

  let known = null;
  window.studio.storage = {
    chosen: new Promise((done) => { known = done; }),
    browser,
    conversations: browser,
    drafts: null, // on the server only
    login: false,
    // Once it is known whether somebody has logged in.
    choose(login) {
      if (login && !this.login) {
        this.login = true;
        this.conversations = server("conversation");
        this.drafts = server("draft");
      }
      known();
    },
    server,
  };
})();
